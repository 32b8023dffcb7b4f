"""A copy of a table: all that the nodes' files have of it, with every time and every tombstone.

A node flushes the table and links its files to a snapshot, which the log's reader prints in the
same lines as the log, range of tokens by range. Nothing is merged here, for the hot store does
that, between nodes as well. While it is read, the logs are being followed already. Some tables are
read over CQL instead: those of counters, and what a `scan` is given for.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import pyarrow as pa

from htapkit.errors import CatalogChanged, SourceRefused, SourceUnavailable, TableSetAside
from htapkit.model import Position, Split, TableId
from htapkit.resumable import Begun
from htapkit.spi import Discovered
from htapkit_cassandra import starts
from htapkit_cassandra.cells import Collector
from htapkit_cassandra.layout import Layout
from htapkit_cassandra.machine import Copied, Machine
from htapkit_cassandra.mutations import LogChange, Mutation, Part
from htapkit_cassandra.pace import Pace
from htapkit_cassandra.rowreads import RowReads
from htapkit_cassandra.scan import Scan
from htapkit_cassandra.starts import Start
from htapkit_cassandra.tail import UNKNOWN_TABLE, Ended, Run
from htapkit_cassandra.tokens import LARGEST, SMALLEST

BATCH_ROWS = 50_000
SCAN_BATCH_ROWS = 10_000
_SILENT_SECONDS_MAX = 600.0


@dataclass(frozen=True, slots=True)
class Asked:
    """How a node's files of a table are read."""

    name: str  # its address
    machine: Machine
    schema: str  # of the node, for the reader
    queue_bytes_max: int  # of what it has read and nobody has taken
    rows_per_second_max: int | None


@dataclass(frozen=True, slots=True)
class OverCql:
    """Tables that are read over CQL, and why others cannot be read at all."""

    scan: Scan
    tables: frozenset[TableId]
    begin: Callable[[TableId], tuple[int, Position]]  # see Horizons
    neither: Mapping[TableId, str]


class FilesSnapshot:
    """The spi.Snapshot of tables whose cells may be merged in any order; it is Resumable."""

    def __init__(
        self,
        asked: Mapping[str, Asked],
        found: Mapping[TableId, Discovered],
        layouts: Mapping[TableId, Layout],
        begun: Mapping[TableId, Start],
        head: Callable[[], Position],
        reads: RowReads,
        *,
        over_cql: OverCql | None = None,
    ) -> None:
        """`asked` by the host id of each node; `begun`: how a copy of each table is begun now.

        `head` gives a position that covers everything acknowledged before it is called;
        `reads` reads tables of counters, of which files have no number.
        """
        self._asked = asked
        self._layouts = layouts
        self._starts = begun
        self._head = head
        self._reads = reads
        self._over_cql = over_cql
        self.tables = found

    @property
    def position(self) -> Position:
        """Where the log ends now: asked after `read`, it covers what was read."""
        return self._head()

    def begin(self, table: TableId) -> Begun:
        """A copy from files covers what was acknowledged before; one over CQL has a horizon."""
        found, start = self.tables[table], self._starts[table]
        if start.method == starts.CQL and self._over_cql is not None:
            horizon, position = self._over_cql.begin(table)
            return Begun(starts.noted(found, start, horizon), position)
        return Begun(starts.noted(found, start, 0), self._head())

    def goes_on(self, table: TableId, fingerprint: str) -> str:
        """Why a copy cannot, "" = it can (`starts`)."""
        now = self._starts[table]
        why = starts.hindrance(starts.start(fingerprint), now)
        if not why and now.method == starts.CQL:
            # What an earlier process read of it is as sure, or not, as what this one reads.
            self._reads.was_scanned(table, now.boots)
        return why

    def splits(self, table: TableId) -> Sequence[Split]:
        """One for each node: its files of the table; of counters one, for all of them.

        Over CQL one for each range of tokens.
        """
        method, estimate = self._starts[table].method, self.tables[table].rows_estimate
        if method == starts.COUNTERS:
            return [Split(table, starts.COUNTERS, estimate)]
        if method == starts.CQL and self._over_cql is not None:
            return self._over_cql.scan.splits(table)
        return [_behind(table, node, SMALLEST, estimate) for node in self._asked]

    def read(self, split: Split) -> Iterator[pa.RecordBatch]:
        """Cells and deletions. Raises TableSetAside, CatalogChanged, SourceError."""
        with closing(self.parts(split)) as parts:
            yield from (part for part in parts if isinstance(part, pa.RecordBatch))

    def parts(self, split: Split) -> Generator[pa.RecordBatch | Split, None, None]:
        """The same, and of files, now and then, what is left of them: a range of tokens is read."""
        layout, method = self._layouts[split.table], self._starts[split.table].method
        if method == starts.COUNTERS:
            pace = Pace(next(iter(self._asked.values())).rows_per_second_max)
            yield from self._from_pages(split.table, self._reads.scan(layout), 1, pace)
        elif method == starts.CQL and self._over_cql is not None:
            # The scan has a pace of its own, for all ranges of a node together.
            pages = self._over_cql.scan.read(layout, split)
            yield from self._from_pages(split.table, pages, SCAN_BATCH_ROWS, Pace(None))
        elif self._over_cql is not None and split.table in self._over_cql.neither:
            raise CatalogChanged(f"{split.table}: {self._over_cql.neither[split.table]}")
        else:
            yield from self._from_files(split)

    def _from_files(self, split: Split) -> Iterator[pa.RecordBatch | Split]:
        node, _, after = split.token.partition(" ")
        asked, collector = self._asked[node], Collector(self._layouts[split.table])
        size = cells = 0
        pace = Pace(asked.rows_per_second_max)
        for event in _events(split.table, asked, int(after)):
            if isinstance(event, Mutation):
                with _holding(split.table):
                    for change in event.changes:
                        collector.take(change)
                    for block in event.blocks:
                        collector.take_block(block)
                size += event.size
            part = isinstance(event, Part)
            if part or collector.count >= BATCH_ROWS or size >= asked.queue_bytes_max:
                count, size = collector.count, 0
                cells += count
                yield from _batches(collector)
                pace.passed(count)
            if isinstance(event, Part):
                left = cells * (LARGEST - event.upto) // (event.upto - int(after))
                yield _behind(split.table, node, event.upto, left)
        yield from _batches(collector)

    def _from_pages(
        self, table: TableId, pages: Iterator[list[LogChange]], least: int, pace: Pace
    ) -> Iterator[pa.RecordBatch]:
        """What came over CQL, in batches of at least so many cells, but for the last."""
        collector = Collector(self._layouts[table])
        while True:
            with _holding(table):
                page = next(pages, None)
                for change in page or ():
                    collector.take(change)
            if page is None:
                break
            if (count := collector.count) >= least:
                yield from _batches(collector)
                pace.passed(count)
        yield from _batches(collector)

    def close(self) -> None:
        """Let go of connections. Each read clears its own snapshot at the node."""
        if self._over_cql is not None:
            self._over_cql.scan.close()


def _behind(table: TableId, node: str, token: int, estimate: int) -> Split:
    """What a node's files have behind a token."""
    return Split(table, f"{node} {token}", estimate)


@contextmanager
def _holding(table: TableId) -> Iterator[None]:
    """A value that no column can hold sets its table aside."""
    try:
        yield
    except ValueError as error:
        raise TableSetAside(table, f"it cannot be held: {error}") from error


def _events(table: TableId, asked: Asked, after: int) -> Iterator[Mutation | Part]:
    tag = f"htapkit-{table.source}-{table.name}-{secrets.token_hex(4)}"
    copied = Copied(table.schema, table.name, tag, after)
    run = Run(asked.machine.read_table(asked.schema, copied), asked.queue_bytes_max)
    try:
        while not isinstance(event := _event(run, table), Ended):
            if isinstance(event, SourceRefused):
                raise event
            if isinstance(event, (Mutation, Part)):
                yield event
    finally:
        run.stop()
    if event.code == UNKNOWN_TABLE:
        raise CatalogChanged(f"{table} is gone: {event.said}")
    if event.code:
        raise SourceUnavailable(f"{table} cannot be copied from {asked.name}: {event.said}")


def _event(run: Run, table: TableId) -> object:
    event = run.events.get(_SILENT_SECONDS_MAX)
    if event is None:
        raise SourceUnavailable(f"copying {table}: nothing came for {_SILENT_SECONDS_MAX:g} s")
    return event


def _batches(collector: Collector) -> Iterator[pa.RecordBatch]:
    changes = collector.changes()
    for batch in (changes.cells, changes.deletions):
        if batch.num_rows:
            yield batch
