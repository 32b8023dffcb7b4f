"""Cassandra's nodes as a Source: their tables, their logs, their files, put together.

The logs are followed before any file is read, and every cell has its time: so what comes twice,
from several replicas or in another order does no harm, and the hot store merges all of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import pyarrow as pa

from htapkit.errors import PositionLost, SourceRefused, SourceUnavailable
from htapkit.model import Broken, Finding, Position, Storage, TableId, TableSchema
from htapkit.spi import Discovered, SourceOptions
from htapkit_cassandra import catalog, marks, preflight
from htapkit_cassandra.cluster import Sessions, session, translated
from htapkit_cassandra.counters import counts
from htapkit_cassandra.files import Asked, FilesSnapshot, OverCql
from htapkit_cassandra.follow import Following, LogStream, NodeLog
from htapkit_cassandra.horizons import Horizons
from htapkit_cassandra.layout import Layout
from htapkit_cassandra.machine import Machine
from htapkit_cassandra.machines import machine
from htapkit_cassandra.marks import Marks
from htapkit_cassandra.methods import Methods, chosen, unfit
from htapkit_cassandra.mutations import LogPosition
from htapkit_cassandra.owed import Owed
from htapkit_cassandra.pace import Pace
from htapkit_cassandra.placements import digests
from htapkit_cassandra.positions import LOG_START, LogOrder, Reached, reached
from htapkit_cassandra.reads import Reads, indexes
from htapkit_cassandra.ring import Ring, cluster, members, placed, whole
from htapkit_cassandra.rowreads import RowReads
from htapkit_cassandra.scan import Asking, Scan
from htapkit_cassandra.settings import Settings, parse_settings
from htapkit_cassandra.starts import COUNTERS, CQL, FILES, Start
from htapkit_cassandra.tail import LogTail
from htapkit_cassandra.tails import Tails
from htapkit_cassandra.ticks import Ticks
from htapkit_cassandra.truncations import Truncations

_log = logging.getLogger(__name__)


class CassandraSource:
    """The factory under the entry point `htapkit.sources`, and the spi.Source that it makes."""

    positions: LogOrder
    head: Marks
    origin: None

    def __init__(self, options: SourceOptions) -> None:
        """Check the settings; nothing is connected yet. Raises ConfigError."""
        self._settings = parse_settings(options)
        self.positions = LogOrder()
        self._ticks = Ticks()
        self.head = self._marks = Marks(self._settings, self._ticks)
        self._row_reads = RowReads(self._settings, self._ticks)
        self._horizons = Horizons(self._ticks)
        self.origin = None
        self._ids: Mapping[TableId, str] = {}  # as last discovered
        self._truncations = Truncations()
        self._silent: dict[str, str] = {}
        self._sessions = Sessions(self._settings)
        self._options = options
        self._reads = Reads(self._settings)
        self.explain, self.look_up = self._reads.explain, self._reads.look_up

    def identity(self, known: str = "", _: Position | None = None, /) -> str:
        """The nodes whose logs are read: their host ids.

        Where some are the same, it is the same ring, of which other nodes are read now.
        """
        now, name = self._ring().identity, self._settings.source
        if known and not set(known.split(",")) & set(now.split(",")):
            key = "nodes" if self._settings.nodes else "hosts"
            raise SourceRefused(
                f"{name}: another node answers at its address ({now}, not {known}); mend "
                f"sources.{name}.{key}, or start over with `htapkit detach {name}`"
            )
        return now

    def _ring(self) -> Ring:
        with self._sessions.first() as opened:
            return whole(self._settings, placed(self._settings, members(opened)))

    def check(self) -> Sequence[Finding]:
        """The preflight. Changes nothing."""
        return preflight.check(self._settings)

    def discover(self) -> Sequence[Discovered]:
        """The tables that the configuration's patterns match now."""
        settings = self._settings
        with self._sessions.first() as opened:
            ring = placed(settings, members(opened))
        self._look_at_truncations(ring)
        with self._sessions.first() as opened:
            found = catalog.describe(opened, settings, self._truncations)
            self._reads.remember(found, indexes(opened))
        self._ids = {each.schema.table: catalog.table_id(each) for each in found}
        return found

    def _look_at_truncations(self, ring: Ring) -> None:
        """Of each node that answers; nothing is truncated while one does not."""
        for node, settings in ring.nodes.items():
            try:
                with self._sessions.of(settings) as opened:
                    self._truncations.look(node, opened)
                self._silent.pop(node, None)
            except SourceUnavailable as error:
                self._silent[node] = str(error)  # what is known of it stays

    def compare(self, schema: TableSchema, fingerprint: str, now: Discovered) -> Broken | None:
        """What became of a table since it was copied as (`schema`, `fingerprint`)."""
        self._horizons.told(schema.table, catalog.horizon(fingerprint))
        return catalog.compare(schema, fingerprint, now)

    def follow(self, start: Position | None, tables: Sequence[TableSchema]) -> LogStream:
        """Make the table of marks, and read the nodes' logs from `start`.

        Raises SourceRefused where a log would not have every change, or the ring has nodes that are
        not configured; PositionLost where other nodes are read now. A node (or an agent) that does
        not answer is no hindrance while another does: its log is read on once it answers, and until
        then nothing is said to be fresh.
        """
        settings = self._settings
        with self._sessions.first() as opened:
            ring = placed(settings, members(opened))
        machines = {node: self._machine(one) for node, one in ring.nodes.items()}
        self._refuse_errors(ring, machines)
        with self._sessions.first() as opened:
            marks.create(opened, ring.members)
        begun = self._begun(start, ring, machines)
        self._marks.begin_after(begun, ring.nodes)
        self._ticks.after(begun.read)
        following = Following(
            settings.source,
            {node: NodeLog(one.hosts[0], machines[node]) for node, one in ring.nodes.items()},
            settings.delete_cdc_raw,
            self._options.batch_rows_max,
            self._options.batch_bytes_max,
        )
        news = threading.Event()
        tails = {
            node: LogTail(
                machines[node],
                partial(self._schema, node, one, machines[node]),
                None if begun.nodes[node] == LOG_START else begun.nodes[node],
                queue_bytes_max=self._queue_bytes(ring),
                news=news,
            )
            for node, one in ring.nodes.items()
        }
        stream = LogStream(
            following,
            Tails(tails, news),
            begun,
            self._marks,
            self,
            Owed(self._row_reads, self._horizons),
        )
        stream.expect(tables)
        return stream

    def _refuse_errors(self, ring: Ring, machines: Mapping[str, Machine]) -> None:
        """Outside of any session, which an agent that is away would be taken for a fault of."""
        found = list(preflight.ring_findings(self._settings, ring))
        away: list[SourceUnavailable] = []
        for node, one in ring.nodes.items():
            try:
                found += preflight.machine_errors(one, machines[node])
            except SourceUnavailable as error:
                away.append(error)
        preflight.refuse_errors(self._settings, found)
        if len(away) == len(machines):
            raise away[0]

    def _begun(
        self, start: Position | None, ring: Ring, machines: Mapping[str, Machine]
    ) -> Reached:
        """Where each log is read from: without `start` from its end as far as it is synced.

        A copy will have what lies before. Raises SourceUnavailable: an agent does not answer.
        """
        begun = reached(start) if start is not None else None
        if begun is not None and len(ring.nodes) == 1 and not begun.nodes:
            return Reached(dict.fromkeys(ring.nodes, LOG_START), begun.mark)
        if begun is not None and begun.nodes.keys() != ring.nodes.keys():
            raise PositionLost(
                f"{self._settings.source}: the logs of other nodes are read now "
                f"({ring.identity}, not {','.join(sorted(begun.nodes))})"
            )
        if begun is not None:
            return begun
        return Reached({node: _end(machines[node]) for node in ring.nodes})

    def counts(self, table: TableId, table_id: str, node: str, end: LogPosition) -> bool:
        """Whether what a node's log has there is of the table as it was last found."""
        if self._ids.get(table, table_id) != table_id:
            return False
        return not self._truncations.gone(node, table_id, end)

    def silent(self, node: str) -> str:
        """Why a node did not answer when it was last asked, "" = it did."""
        return self._silent.get(node, "")

    def layouts(self) -> dict[TableId, Layout]:
        """What it takes to read the nodes' bytes of the tables as they are now."""
        return {found.schema.table: catalog.layout(found) for found in self.discover()}

    def snapshot(
        self, tables: Sequence[TableId], as_text: Mapping[TableId, frozenset[str]]
    ) -> FilesSnapshot:
        """These tables, from all nodes' files or over CQL.

        Raises SourceUnavailable where a node is missing.
        """
        settings = self._settings
        ring, asked = self._ring(), {}
        for node, one in ring.nodes.items():
            with self._sessions.of(one) as opened:
                self._truncations.look(node, opened)
                asked[node] = Asked(
                    one.hosts[0],
                    self._machine(one),
                    catalog.helper_schema(opened),
                    self._queue_bytes(ring),
                    self._options.snapshot_rows_per_second_max,
                )
        with self._sessions.first() as opened:
            described = catalog.describe(opened, settings, self._truncations)
            placed, graces = digests(opened), catalog.graces(opened)
        found = {d.schema.table: d for d in described}
        kept = {t: _with_text(found[t], as_text.get(t, frozenset())) for t in tables if t in found}
        layouts = {table: catalog.layout(each) for table, each in kept.items()}
        methods, over_cql = self._methods(ring, layouts), None
        self._horizons.forget(layouts.keys() - methods.over_cql)
        if methods.over_cql or methods.neither:
            over_cql = self._over_cql(ring, methods)
        alone = len(ring.nodes) == 1
        begun = {
            table: _start(
                layout,
                over_cql,
                placed[table.schema],
                None if alone else graces[table.schema, table.name],
            )
            for table, layout in layouts.items()
        }
        head, reads = self._marks.head, self._row_reads
        return FilesSnapshot(asked, kept, layouts, begun, head, reads, over_cql=over_cql)

    def rows(
        self, schema: TableSchema, keys: pa.Table | None = None, /
    ) -> Generator[pa.RecordBatch]:
        """See lookups.ReadsRows; no faster than a copy may read."""
        pace = Pace(self._options.snapshot_rows_per_second_max)
        for batch in self._reads.rows(schema, keys):
            yield batch
            pace.passed(batch.num_rows * len(schema.columns))

    def _methods(self, ring: Ring, layouts: Mapping[TableId, Layout]) -> Methods:
        """How each table is copied now."""
        snapshot = self._settings.snapshot
        if snapshot == "files":
            return Methods()
        with self._sessions.first() as opened:
            not_over_cql = unfit(layouts, cluster(opened))
        no_files = ""
        if snapshot == "auto" or not_over_cql:
            looks = (
                preflight.files_problem(one, self._machine(one)) for one in ring.nodes.values()
            )
            no_files = next(filter(None, looks), "")
        if no_files:
            _log.warning(
                "%s: copied over CQL where that can be: %s", self._settings.source, no_files
            )
        return chosen(snapshot, layouts, not_over_cql, no_files)

    def _over_cql(self, ring: Ring, methods: Methods) -> OverCql:
        """What reads them."""
        with self._sessions.first() as opened:
            asking = Asking(ring.nodes, cluster(opened).tokens)
        scan = Scan(asking, self._row_reads, self._options.snapshot_rows_per_second_max)
        begin = partial(self._horizons.begin, now=self._marks.head)
        return OverCql(scan, methods.over_cql, begin, methods.neither)

    def log(self, start: LogPosition | None = None) -> LogTail:
        """The changes of the only node as it logged them. Raises SourceRefused."""
        ring = self._ring()
        ((node, settings),) = ring.nodes.items()
        beside = self._machine(settings)
        schema = partial(self._schema, node, settings, beside)
        return LogTail(beside, schema, start, queue_bytes_max=self._queue_bytes(ring))

    def _queue_bytes(self, ring: Ring) -> int:
        """The nodes' readers share what may be read ahead."""
        return self._options.batch_bytes_max // len(ring.nodes)

    def _machine(self, node: Settings) -> Machine:
        """With the files of one of the nodes."""
        folder = self._options.folder
        if folder is not None and self._settings.nodes:
            folder = folder / f"node-{node.hosts[0].replace(':', '-')}"
        return machine(node, folder)

    def _schema(self, node: str, settings: Settings, beside: Machine) -> str:
        """For the reader of a node's log: that node's word, as no other one knows what is in it.

        Raises SourceRefused where the log would not have every change.
        """
        seen = beside.look()
        with self._sessions.of(settings) as opened:
            (here, *_) = members(opened)
            if here.host_id != node:
                raise SourceUnavailable(
                    f"{settings.hosts[0]} is another node by now ({here.host_id}, not {node})"
                )
            found = preflight.node_findings(opened, settings, seen)
            preflight.refuse_errors(settings, found)
            # Before the first mutation is taken: what was truncated is not to come back.
            self._truncations.look(node, opened)
            return catalog.helper_schema(opened)

    def detach(self) -> None:
        """Remove the table of marks."""
        with session(self._settings) as opened, translated(self._settings):
            marks.remove(opened)

    def close(self) -> None:
        """Let go of the connections to the nodes."""
        self._marks.close()
        self._reads.close()
        self._row_reads.close()
        self._sessions.close()


def _end(beside: Machine) -> LogPosition:
    seen = beside.look()
    if not seen.readable:
        raise SourceRefused(f"cannot read {beside.name}")
    return seen.segments.end or LOG_START


def _start(layout: Layout, over_cql: OverCql | None, placed: str, grace: int | None) -> Start:
    """How a copy of a table begins now."""
    if counts(layout):
        return Start(COUNTERS)
    if over_cql is not None and layout.schema.table in over_cql.tables:
        return Start(CQL, boots=over_cql.scan.boots)
    return Start(FILES, placed, at=int(time.time()), grace=grace)


def _with_text(found: Discovered, names: frozenset[str]) -> Discovered:
    columns = tuple(
        replace(c, storage=Storage.TEXT) if c.name in names else c for c in found.schema.columns
    )
    return replace(found, schema=replace(found.schema, columns=columns))
