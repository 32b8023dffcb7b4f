"""One round of a feed: a session of the sink and a stream of the source, until either breaks.

It alone decides what is committed with which position. For one thread.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import structlog

from htapkit import failpoints
from htapkit.errors import CatalogChanged, TableSetAside, UnfaithfulValue
from htapkit.feed.catalog import compared, gone
from htapkit.feed.parts import Tables, as_text, commits_of, take, text_columns
from htapkit.feed.reader import Reader
from htapkit.model import ChangeBatch, Position, TableId, TableSchema
from htapkit.sinks import FedTable, Part, Progress, SinkSession, Stage
from htapkit.spi import ChangeStream, Discovered, Gathers, Snapshot

_log = structlog.get_logger("htapkit.feed")
POLL_SECONDS = 0.5
GATHER_SECONDS = 0.1  # a transaction of the sink costs about the same however much is in it
MOVE_SECONDS = 1.0  # how often a position is stored that moved without changes

Counted = Callable[[int, int], None]
"""Told of (rows, transactions of the source) that were committed in the sink."""


class Round:
    """What there is while one session and one stream are open."""

    def __init__(
        self,
        source: Reader,
        session: SinkSession,
        counted: Counted,
        copy_rows: int,
        *,
        anew_for: str = "",
        ended: Callable[[], bool] = lambda: False,
    ) -> None:
        """Begin where the session was. `anew_for`: why that is of no use any more.

        `copy_rows`: of a copy, in one transaction of the sink. `ended`: whether a copy is to be
        left as it is, because the round ends; it is asked often, since a copy may take hours.

        Raises SourceError: another server is behind the address.
        """
        self._source = source
        self._session = session
        self._counted = counted
        before = session.progress
        if anew_for:
            before = anew(before, anew_for)
        self._copy_rows_max = copy_rows
        self._ended = ended
        self._identity = source.identity(before.identity, before.position)
        self.position = before.position
        self.tables: Tables = dict(before.tables)
        self._stream: ChangeStream | None = None
        self._begun: Position | None = None  # what the open transaction is called
        self._expected: tuple[TableSchema, ...] = ()
        self._stored, self._stored_at = before.position, 0.0
        self._rows = self._transactions = 0

    @property
    def whole(self) -> bool:
        """Whether no transaction is open of which a part was sent."""
        return self._begun is None

    @property
    def stored(self) -> Position | None:
        """The position that the sink has."""
        return self._stored

    def lag_bytes(self) -> int:
        """Of the stream; 0 while there is none."""
        return self._stream.lag_bytes() if self._stream is not None else 0

    def look(self, patterns: Sequence[str]) -> bool:
        """Compare the tables with the source's catalog; whether there are new ones."""
        return compared(self._source, self.tables, patterns)

    def open(self) -> None:
        """Open the stream. Raises PositionLost, SourceError."""
        self._expected = self._schemas()
        self._stream = stream = self._source.follow(self.position, self._expected)
        if self.position is not None:
            stream.confirm(self.position)
        if isinstance(stream, Gathers):
            stream.gather(GATHER_SECONDS)
        stream.nudge()

    def step(self) -> None:
        """Copy what is to be copied, or send the next batch. Raises SourceError, SinkFailed."""
        stream = self._stream
        assert stream is not None, "it is opened first"
        # Before a position is stored, rows that were copied would not be known after a crash.
        if self.whole and self.position is not None:
            for table, fed in list(self.tables.items()):
                if fed.stage is Stage.COPYING:
                    self._copy(table)
                    return
        self._expect(stream)
        try:
            batch = stream.next(POLL_SECONDS)
        except UnfaithfulValue as error:
            self._keep_as_text(error)
            return
        if batch is not None:
            self._send(stream, batch)
            return
        stream.nudge()  # a quiet source moves on, too, and says so when it is asked
        if self.whole and self.position not in {None, self._stored}:
            self._store(stream)

    def leave(self) -> None:
        """Let go of the stream alone, from any thread."""
        if self._stream is not None:
            self._stream.close()

    def close(self) -> None:
        """Let go of the stream and the session."""
        try:
            self.leave()
        finally:
            self._session.close()

    # -- changes --

    def _expect(self, stream: ChangeStream) -> None:
        schemas = self._schemas()
        if schemas != self._expected:
            stream.expect(schemas)
            self._expected = schemas

    def _schemas(self) -> tuple[TableSchema, ...]:
        left_out = {Stage.SET_ASIDE, Stage.GONE}
        return tuple(
            fed.schema for _, fed in sorted(self.tables.items()) if fed.stage not in left_out
        )

    def _send(self, stream: ChangeStream, batch: ChangeBatch) -> None:
        commits = commits_of(batch, self._begun)
        changes, left_out = take(batch, self.tables, self._source.positions)
        if left_out:
            self._expected = ()  # the stream must be told again what to decode
        else:
            self._expected = self._schemas()  # as the stream itself has them
        if changes:
            self._session.write(Part(commits, changes))
            self._rows += sum(c.rows.rows.num_rows if c.rows is not None else 1 for c in changes)
        if not batch.complete:
            self._begun = commits[-1].position
            failpoints.reach("sink.part")
            return
        self._begun = None
        self._transactions += len(commits)
        idle = not self._rows and self.position is not None
        self.position = batch.end
        if idle and time.monotonic() - self._stored_at < MOVE_SECONDS:
            return
        failpoints.reach("sink.written")
        self._store(stream)

    def _store(self, stream: ChangeStream) -> None:
        self._commit()
        failpoints.reach("sink.committed")
        assert self.position is not None, "a batch has an end"
        # Only now: the source may recycle its log up to here.
        stream.confirm(self.position)
        failpoints.reach("sink.confirmed")

    def _commit(self, tables: Tables | None = None) -> None:
        known = dict(self.tables) if tables is None else tables
        self._session.commit(Progress(self.position, self._identity, known))
        self._stored, self._stored_at = self.position, time.monotonic()
        self._counted(self._rows, self._transactions)
        self._rows = self._transactions = 0

    def _keep_as_text(self, error: UnfaithfulValue) -> None:
        table = error.table
        if not isinstance(table, TableId) or table not in self.tables:
            raise error
        _log.warning("column sent as text", table=str(table), column=error.column, why=error.why)
        fed = self.tables[table]
        schema = as_text(fed.schema, frozenset({error.column}))
        self.tables[table] = dataclasses.replace(fed, schema=schema)

    # -- copies --

    def _copy(self, table: TableId) -> None:
        """Send all rows of a table. What is wrong with it alone has its consequence for it alone.

        Whatever stops it half-way: it is marked as begun, so the next copy says `truncate` first.
        """
        wanted = {table: text_columns(self.tables[table].schema)}
        snapshot = self._source.snapshot([table], wanted)
        try:
            found = snapshot.tables.get(table)
            if found is None:
                gone(self.tables, table)  # meanwhile; the next look knows more
            elif found.problem:
                self._set_aside(table, found.problem)
            else:
                self._copy_rows(snapshot, found)
        except UnfaithfulValue as error:
            self._keep_as_text(error)
        except TableSetAside as error:
            self._set_aside(table, error.why)
        except CatalogChanged as error:
            _log.info("copy given up", table=str(table), why=str(error))
        finally:
            snapshot.close()

    def _copy_rows(self, snapshot: Snapshot, found: Discovered) -> None:
        schema, table, at = found.schema, found.schema.table, snapshot.position
        if self.tables[table].begun:
            self._session.truncate(schema, at)
        self.tables[table] = FedTable(schema, found.fingerprint, Stage.COPYING, begun=True)
        sent = 0
        for rows in self._pieces(snapshot, table):
            if self._ended():
                return  # what is not committed goes with the session; the next copy truncates
            self._session.copy(schema, rows, at)
            self._rows += rows.num_rows
            sent += rows.num_rows
            if self._rows >= self._copy_rows_max:
                self._commit()
                failpoints.reach("sink.copying")
        fed = dataclasses.replace(self.tables[table], stage=Stage.FOLLOWING, copied_at=at)
        self._commit({**self.tables, table: fed})
        self.tables[table] = fed  # only now: whoever looks may count on it
        failpoints.reach("sink.copied")
        _log.info("table copied to the sink", table=str(table), rows=sent)

    def _pieces(self, snapshot: Snapshot, table: TableId) -> Iterator[pa.RecordBatch]:
        size = self._copy_rows_max
        for split in snapshot.splits(table):
            for rows in snapshot.read(split):
                for first in range(0, rows.num_rows, size):
                    yield rows.slice(first, size)

    def _set_aside(self, table: TableId, why: str) -> None:
        fed = self.tables[table]
        self.tables[table] = dataclasses.replace(fed, stage=Stage.SET_ASIDE, why=why)
        _log.warning("table set aside", table=str(table), why=why)


def anew(before: Progress, why: str) -> Progress:
    """As if nothing had been sent, but for the truncates that those who read on need."""
    tables = {
        table: dataclasses.replace(fed, stage=Stage.COPYING, copied_at=None, why=why)
        for table, fed in before.tables.items()
    }
    return Progress(None, "", tables)
