"""A Cassandra node as a Source: its tables, its log, its files, put together.

The log is followed before any file is read, and every cell has its time: so what comes twice or in
another order does no harm, and the hot store merges both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from htapkit.errors import SourceRefused
from htapkit.model import Broken, Finding, Position, Severity, Storage, TableId, TableSchema
from htapkit.spi import Discovered, SourceOptions
from htapkit_cassandra import catalog, marks, preflight
from htapkit_cassandra.cells import Layout
from htapkit_cassandra.cluster import session, translated
from htapkit_cassandra.files import Asked, FilesSnapshot
from htapkit_cassandra.follow import Following, LogStream
from htapkit_cassandra.jars import classpath, missing
from htapkit_cassandra.marks import Marks
from htapkit_cassandra.mutations import LogPosition
from htapkit_cassandra.positions import LogOrder, Reached, reached
from htapkit_cassandra.settings import parse_settings
from htapkit_cassandra.tail import LogTail, Program, newest


class CassandraSource:
    """The factory under the entry point `htapkit.sources`, and the spi.Source that it makes."""

    positions: LogOrder
    head: Marks
    origin: None

    def __init__(self, options: SourceOptions) -> None:
        """Check the settings; nothing is connected yet. Raises ConfigError."""
        self._settings = parse_settings(options)
        self.positions = LogOrder()
        self.head = self._marks = Marks(self._settings)
        self.origin = None
        self._known: Mapping[TableId, catalog.Known] = {}  # as last discovered
        self._options = options

    def identity(self, known: str = "", _: Position | None = None, /) -> str:
        """The node whose log is read: its host id."""
        with session(self._settings) as opened, translated(self._settings):
            (local,) = opened.execute("SELECT host_id FROM system.local")
        now, name = str(local.host_id), self._settings.source
        if known not in ("", now):
            raise SourceRefused(
                f"{name}: another node answers at its address ({now}, not {known}); mend "
                f"sources.{name}.hosts, or start over with `htapkit detach {name}`"
            )
        return now

    def check(self) -> Sequence[Finding]:
        """The preflight. Changes nothing."""
        return preflight.check(self._settings)

    def discover(self) -> Sequence[Discovered]:
        """The tables that the configuration's patterns match now."""
        with session(self._settings) as opened, translated(self._settings):
            found = catalog.describe(opened, self._settings)
        self._known = {each.schema.table: catalog.known(each) for each in found}
        return found

    def compare(self, schema: TableSchema, fingerprint: str, now: Discovered) -> Broken | None:
        """What became of a table since it was copied as (`schema`, `fingerprint`)."""
        return catalog.compare(schema, fingerprint, now)

    def follow(self, start: Position | None, tables: Sequence[TableSchema]) -> LogStream:
        """Make the table of marks, and read the node's log from `start`.

        Raises SourceRefused where that log would not have every change, such as with several nodes.
        """
        settings = self._settings
        found = list(preflight.program_findings(settings, missing()))
        node = self.identity()
        with session(settings) as opened, translated(settings):
            for finding in [*found, *preflight.node_findings(opened, settings)]:
                if finding.severity is Severity.ERROR:
                    raise SourceRefused(f"{settings.source}: {finding.subject}: {finding.message}")
            marks.create(opened)
        begun = reached(start) if start is not None else self._now(node)
        self._marks.begin_after(begun.mark)
        folder = Path(settings.cdc_raw)
        following = Following(
            settings.source,
            node,
            folder,
            settings.delete_cdc_raw,
            self._options.batch_rows_max,
            self._options.batch_bytes_max,
        )
        tail = self.log(begun.nodes.get(node))
        stream = LogStream(following, tail, begun, self._marks, self._layouts, self._known_of)
        stream.expect(tables)
        return stream

    def _now(self, node: str) -> Reached:
        """Where the log ends as far as it is synced; a copy will have what lies before."""
        end = newest(Path(self._settings.cdc_raw)) if self._settings.cdc_raw else None
        return Reached({node: end} if end is not None else {})

    def _known_of(self, table: TableId) -> catalog.Known | None:
        return self._known.get(table)

    def _layouts(self) -> dict[TableId, Layout]:
        return {found.schema.table: catalog.layout(found) for found in self.discover()}

    def snapshot(
        self, tables: Sequence[TableId], as_text: Mapping[TableId, frozenset[str]]
    ) -> FilesSnapshot:
        """The node's files of these tables."""
        settings = self._settings
        with session(settings) as opened, translated(settings):
            found = {d.schema.table: d for d in catalog.describe(opened, settings)}
            schema = catalog.helper_schema(opened)
        kept = {t: _with_text(found[t], as_text.get(t, frozenset())) for t in tables if t in found}
        pace = self._options.snapshot_rows_per_second_max
        asked = Asked(self._program(), schema, settings.jmx_port, pace)
        layouts = {table: catalog.layout(each) for table, each in kept.items()}
        return FilesSnapshot(asked, kept, layouts, self._marks.head)

    def log(self, start: LogPosition | None = None) -> LogTail:
        """The node's changes as it logged them. Raises SourceRefused."""
        return LogTail(self._program(), self._schema, start)

    def _program(self) -> Program:
        settings = self._settings
        if not settings.cdc_raw:
            raise SourceRefused(f"sources.{settings.source}.cdc_raw is not set: see `check`")
        return Program(
            classpath(settings.cassandra_home),
            Path(settings.cdc_raw),
            settings.helper_memory,
            self._options.batch_bytes_max,
            self._options.folder,
        )

    def _schema(self) -> str:
        with session(self._settings) as opened, translated(self._settings):
            return catalog.helper_schema(opened)

    def detach(self) -> None:
        """Remove the table of marks."""
        with session(self._settings) as opened, translated(self._settings):
            marks.remove(opened)

    def close(self) -> None:
        """Let go of the connection that writes marks."""
        self._marks.close()


def _with_text(found: Discovered, names: frozenset[str]) -> Discovered:
    columns = tuple(
        replace(c, storage=Storage.TEXT) if c.name in names else c for c in found.schema.columns
    )
    return replace(found, schema=replace(found.schema, columns=columns))
