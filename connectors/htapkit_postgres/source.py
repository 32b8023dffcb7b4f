"""One PostgreSQL database as a Source: puts the parts together and holds no knowledge of its own.

Connections: one for the head, one short-lived for each catalog reading or act of attaching, one
for the stream, and those of a snapshot while it is read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import pyarrow as pa

from htapkit.errors import ConfigError, SourceRefused, SourceUnavailable
from htapkit.model import (
    Broken,
    Finding,
    Position,
    SchemaChange,
    Split,
    Storage,
    TableId,
    TableSchema,
)
from htapkit.spi import HEAD_SECONDS, Discovered, Origin, SourceOptions
from htapkit_postgres import fingerprint as fingerprints
from htapkit_postgres import preflight, publications, ranges, slot
from htapkit_postgres.catalog import describe, without_rights
from htapkit_postgres.chunk import Limits
from htapkit_postgres.connection import (
    Connection,
    Impatient,
    connect,
    parse_settings,
    translated,
)
from htapkit_postgres.head import PostgresHead
from htapkit_postgres.line import Identity, parse_identity, read_line
from htapkit_postgres.origin import PostgresOrigin
from htapkit_postgres.pace import Pace
from htapkit_postgres.pgoutput import format_lsn, position_lsn
from htapkit_postgres.receiver import Receiver
from htapkit_postgres.snapshot import PostgresSnapshot
from htapkit_postgres.stream import Look, PostgresStream


class LsnOrder:
    """Positions are log positions, and compare as numbers."""

    def covers(self, have: Position, want: Position) -> bool:
        """Whether all commits at or before `want` are at or before `have`."""
        return position_lsn(have) >= position_lsn(want)


class PostgresSource:
    """The factory under the entry point `htapkit.sources`, and the spi.Source that it makes."""

    positions: LsnOrder
    head: PostgresHead
    origin: Origin | None

    def __init__(self, options: SourceOptions) -> None:
        """Check the settings; nothing is connected yet. Raises ConfigError."""
        self._options = options
        self._settings = parse_settings(options)
        self._pace = Pace(careful=options.snapshot_careful)
        self._attached = threading.Event()
        self._named: Identity | None = None  # what `identity` said last
        self._followed: Identity | None = None  # all else is held to it
        self._refused = ""  # why `identity` refused the server; nothing is asked of it then
        self.positions = LsnOrder()
        self.head = PostgresHead(self._settings, partial(self._connect, HEAD_SECONDS))
        self._asking = PostgresOrigin(
            self._settings.source,
            self._settings.dsn,
            options.connections_max,
            partial(connect, self._settings, HEAD_SECONDS),
        )
        self.origin = self._asking

    def check(self) -> Sequence[Finding]:
        """The preflight. Changes nothing."""
        return preflight.check(self._settings, self._options)

    def discover(self) -> Sequence[Discovered]:
        """The tables that the configuration's patterns match now."""
        with self._connect() as connection:
            return self._described(connection, None)

    def compare(
        self, schema: TableSchema, fingerprint: str, now: Discovered
    ) -> SchemaChange | Broken | None:
        """What became of a table since it was copied as (`schema`, `fingerprint`)."""
        return fingerprints.compare(schema, fingerprint, now)

    def identity(self, known: str = "", position: Position | None = None, /) -> str:
        """Which server and database this is, and the line of its history, as spi.Source."""
        settings = self._settings
        with connect(settings) as connection:
            server = self._server(connection)
        # A standby's history is its primary's: it is refused as a standby, when it is followed.
        line = read_line(settings, server.timeline) if server.timeline else None
        now = Identity(server.system, server.database, line)
        self._refused = _other(settings.source, known, now, position) if known else ""
        if self._refused:
            raise SourceRefused(self._refused)
        self._named = now
        return str(now) if line else known or str(now)

    def _server(self, connection: Connection) -> slot.Server:
        with translated(self._settings, "identify the server"):
            return slot.read_server(connection)

    def _connect(self, answer_seconds: float | None = None) -> Impatient:
        """A connection to the server that is followed, whatever answers at its address now."""
        connection = connect(self._settings, answer_seconds)
        try:
            self._check_followed(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_followed(self, connection: Connection) -> None:
        if self._refused:
            raise SourceRefused(self._refused)
        followed = self._followed
        if followed is None:
            return
        name, server = self._settings.source, self._server(connection)
        now = Identity(server.system, server.database).name
        if now != followed.name:
            raise SourceRefused(_another(name, now, followed.name))
        if server.timeline not in {0, followed.timeline}:
            raise SourceUnavailable(
                f"{name}: the server began timeline {server.timeline}; nothing is asked of it "
                "before the stream has begun again"
            )

    def follow(self, start: Position | None, tables: Sequence[TableSchema]) -> PostgresStream:
        """Attach and stream from `start`."""
        settings, options = self._settings, self._options
        if self._named is None:
            self.identity()
        # Whoever follows has agreed to the server that was named.
        self._followed = named = self._named
        assert named is not None, "identity() names it"
        self.head.reached = position_lsn(start) if start is not None else 0
        with self._connect() as connection:
            if start is not None:
                publications.check_publications(connection, settings, tables)
            publications.ensure_published(connection, settings, tables)
            at = slot.ensure_slot(connection, settings, position_lsn(start) if start else None)
        self._attached.set()
        limits = Limits(options.batch_rows_max, options.batch_bytes_max, options.queue_batches_max)
        receiver = Receiver(
            slot.start_replication(settings, named, at),
            at,
            limits,
            partial(slot.stream_error, settings),
        )
        try:
            return PostgresStream(settings.source, receiver, self._look, tables, self.head)
        except BaseException:
            receiver.stop()
            raise

    def snapshot(
        self, tables: Sequence[TableId], as_text: Mapping[TableId, frozenset[str]]
    ) -> PostgresSnapshot:
        """Open a snapshot of these tables."""

        def described(
            connection: Connection, chosen: Sequence[TableId]
        ) -> Mapping[TableId, Discovered]:
            self._check_followed(connection)
            found = describe(connection, self._settings, chosen)
            return {
                d.schema.table: _with_text(d, as_text.get(d.schema.table, frozenset()))
                for d in found
            }

        with self._connect() as connection:
            # Only what is published before the snapshot is taken has no gap behind it.
            with translated(self._settings, "describe the tables"):
                found = describe(connection, self._settings, tables)
            publishable = [d.schema for d in found if not d.problem]
            publications.ensure_published(connection, self._settings, publishable)
        return PostgresSnapshot(
            self._settings,
            tables,
            described,
            rows_per_second_max=self._options.snapshot_rows_per_second_max,
            pace=self._pace,
        )

    def reader(self, name: str) -> PostgresSource:
        """The same database by a slot of its own, as sinks.SeveralReaders."""
        slot_name = slot.reader_name(self._settings, name)
        if len(slot_name) > slot.NAME_MAX:
            raise ConfigError(
                f"sinks.{name}: its replication slot would be called {slot_name}, which is longer "
                f"than {slot.NAME_MAX} characters; give it a shorter name"
            )
        settings = {**self._options.settings, "slot": slot_name}
        return _Reader(replace(self._options, settings=settings))

    def pace(self) -> tuple[float, str]:
        """How fast copies may read, as spi.Paced."""
        return self._pace.share, self._pace.why()

    def ranges(self, tables: Sequence[TableId], rows: int) -> Mapping[TableId, Sequence[Split]]:
        """Cut very large tables by their keys, as spi.Ranged."""
        with self._connect() as connection, translated(self._settings, "look for large tables"):
            sizes = ranges.large(connection, tables, rows)
            found = describe(connection, self._settings, list(sizes)) if sizes else []
            schemas = {d.schema.table: d.schema for d in found if not d.problem}
            cut = {t: ranges.cut(connection, s, *sizes[t], rows) for t, s in schemas.items()}
        return {table: splits for table, splits in cut.items() if splits}

    def place(self, splits: Sequence[Split], keys: pa.RecordBatch) -> pa.Array:
        """The index of the range that each key is in. Pure."""
        return ranges.place(splits, keys)

    def retained_bytes(self) -> int:
        """What the slot keeps, as spi.Retains."""
        return self.head.retained()

    def spilled_bytes(self) -> int:
        """What decoding for the slot wrote to files, as spi.Retains."""
        return self.head.spilled()

    def let_go(self) -> None:
        """Drop the slot, as spi.Retains; publications stay."""
        with self._connect() as connection, translated(self._settings, "let the slot go"):
            slot.drop_slot(connection, self._settings)

    def detach(self) -> None:
        """Remove what attaching created. Safe to call when it is already gone."""
        self._forget()
        with connect(self._settings) as connection:
            slot.detach(connection, self._settings)

    def _forget(self) -> None:
        """Whatever was followed, or refused."""
        self._attached.clear()
        self._followed, self._refused = None, ""
        self.head.reached = 0
        self.head.close()

    def close(self) -> None:
        """Let go of our own connections. Clients' sessions are theirs."""
        self.head.close()
        self._asking.close()

    def _described(
        self, connection: Connection, tables: Sequence[TableId] | None
    ) -> list[Discovered]:
        settings = self._settings
        with translated(settings, "read the catalog"):
            found = describe(connection, settings, tables)
            allowed = without_rights(connection, settings, found)
        harmed = [d.schema.table for d in found if d.problem and _published(d)]
        if harmed and self._attached.is_set():
            # A table that lost its key could not be updated at the source while we publish it.
            publications.unpublish(connection, settings, harmed)
        return allowed

    def _look(self, tables: Sequence[TableId]) -> Look:
        begun = time.monotonic()
        with self._connect() as connection:
            found = {d.schema.table: d for d in self._described(connection, tables)}
            return Look(begun, self._server(connection).end, found)


class _Reader(PostgresSource):
    """One more reader of a database whose publications are the copy's."""

    def detach(self) -> None:
        """Drop its slot alone, whatever answers at the address now."""
        self._forget()
        with connect(self._settings) as connection, translated(self._settings, "drop the slot"):
            slot.drop_slot(connection, self._settings)


def _another(source: str, now: str, known: str) -> str:
    return (
        f"{source}: another server or database answers at its address ({now}, not {known}); mend "
        f"sources.{source}.dsn, or start over with `htapkit detach {source}`"
    )


def _other(source: str, stored: str, now: Identity, position: Position | None) -> str:
    """Why `now` is not what had all up to `position` when it was `stored`; "" = it is. Pure."""
    known = parse_identity(stored)
    if known is None or known.name != now.name:
        return _another(source, now.name, known.name if known else stored)
    if position is None or known.line is None or now.line is None:
        return ""
    at = position_lsn(position)
    if known.line.goes_on_as(now.line, at):
        return ""
    return (
        f"{source}: the copy is at {format_lsn(at)} of timeline {known.line}, and the server's "
        f"history is another one before that (timeline {now.line}): it was restored from a backup, "
        f"or a standby took over that had less; run `htapkit detach {source}` and start again"
    )


def _with_text(found: Discovered, names: frozenset[str]) -> Discovered:
    """The same table with these columns kept as PostgreSQL prints them."""
    columns = tuple(
        replace(c, storage=Storage.TEXT) if c.name in names else c for c in found.schema.columns
    )
    return replace(found, schema=replace(found.schema, columns=columns))


def _published(found: Discovered) -> bool:
    fingerprint = fingerprints.parse(found.fingerprint)
    return fingerprint is not None and fingerprint.publication != ""


__all__ = ["LsnOrder", "PostgresSource"]
