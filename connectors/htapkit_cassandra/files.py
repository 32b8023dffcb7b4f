"""A copy of a table: all that the nodes' files have of it, with every time and every tombstone.

A node flushes the table and links its files to a snapshot, which the log's reader prints in the
same lines as the log. Nothing is merged here, for the hot store does that, between nodes as well.
While it is read, the logs are being followed already. Some tables are read over CQL instead: those
of counters, and what a `scan` is given for.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from htapkit.errors import CatalogChanged, SourceRefused, SourceUnavailable, TableSetAside
from htapkit.model import Position, Split, TableId
from htapkit.spi import Discovered
from htapkit_cassandra.catalog import with_horizon
from htapkit_cassandra.cells import Collector
from htapkit_cassandra.counters import counts
from htapkit_cassandra.layout import Layout
from htapkit_cassandra.machine import Copied, Machine
from htapkit_cassandra.mutations import LogChange, Mutation
from htapkit_cassandra.pace import Pace
from htapkit_cassandra.rowreads import RowReads
from htapkit_cassandra.scan import Scan
from htapkit_cassandra.tail import UNKNOWN_TABLE, Ended, Run

BATCH_ROWS = 50_000
SCAN_BATCH_ROWS = 10_000
_COUNTERS = "counters"  # no address of a node
_SILENT_SECONDS_MAX = 600.0


@dataclass(frozen=True, slots=True)
class Asked:
    """How a node's files of a table are read."""

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


class _Tables(Mapping[TableId, Discovered]):
    """Those of a snapshot. A copy over CQL begins where its table is looked up.

    Not where the snapshot is opened: a table that was copied before it may have taken hours.
    """

    def __init__(self, found: Mapping[TableId, Discovered], over_cql: OverCql | None) -> None:
        self._found = found
        self._over_cql = over_cql
        self.position: Position | None = None  # what the copy that has begun covers

    def __getitem__(self, table: TableId) -> Discovered:
        found, self.position = self._found[table], None
        if self._over_cql is None or table not in self._over_cql.tables:
            return found
        horizon, self.position = self._over_cql.begin(table)
        return with_horizon(found, horizon)

    def __iter__(self) -> Iterator[TableId]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


class FilesSnapshot:
    """The spi.Snapshot of tables whose cells may be merged in any order."""

    def __init__(
        self,
        asked: Mapping[str, Asked],
        found: Mapping[TableId, Discovered],
        layouts: Mapping[TableId, Layout],
        head: Callable[[], Position],
        reads: RowReads,
        over_cql: OverCql | None = None,
    ) -> None:
        """`asked` by the name of each node.

        `head` gives a position that covers everything acknowledged before it is called;
        `reads` reads tables of counters, of which files have no number.
        """
        self._asked = asked
        self._layouts = layouts
        self._head = head
        self._reads = reads
        self._over_cql = over_cql
        self._found = found
        self.tables = _Tables(found, over_cql)

    @property
    def position(self) -> Position:
        """Where the log ends now: asked after `read`, it covers what was read.

        Before a table is read over CQL: what the log had given out when its copy began.
        """
        begun, self.tables.position = self.tables.position, None
        return begun if begun is not None else self._head()

    def splits(self, table: TableId) -> Sequence[Split]:
        """One for each node: its files of the table; of counters one, for all of them.

        Over CQL one for each range of tokens.
        """
        if counts(self._layouts[table]):
            return [Split(table, _COUNTERS, self._found[table].rows_estimate)]
        if self._over_cql is not None and table in self._over_cql.tables:
            return self._over_cql.scan.splits(table)
        return [Split(table, node, self._found[table].rows_estimate) for node in self._asked]

    def read(self, split: Split) -> Iterator[pa.RecordBatch]:
        """Cells and deletions. Raises TableSetAside, CatalogChanged, SourceError."""
        if split.token == _COUNTERS:
            pace = Pace(next(iter(self._asked.values())).rows_per_second_max)
            pages = self._reads.scan(self._layouts[split.table])
            yield from self._from_pages(split.table, pages, 1, pace)
            return
        if self._over_cql is not None and split.table in self._over_cql.tables:
            # The scan has a pace of its own, for all ranges of a node together.
            pages = self._over_cql.scan.read(self._layouts[split.table], split)
            yield from self._from_pages(split.table, pages, SCAN_BATCH_ROWS, Pace(None))
            return
        if self._over_cql is not None and split.table in self._over_cql.neither:
            raise CatalogChanged(f"{split.table}: {self._over_cql.neither[split.table]}")
        collector, size = Collector(self._layouts[split.table]), 0
        asked = self._asked[split.token]
        pace = Pace(asked.rows_per_second_max)
        for mutation in self._mutations(split):
            with _holding(split.table):
                for change in mutation.changes:
                    collector.take(change)
                for block in mutation.blocks:
                    collector.take_block(block)
            size += mutation.size
            if collector.count >= BATCH_ROWS or size >= asked.queue_bytes_max:
                count, size = collector.count, 0
                yield from _batches(collector)
                pace.passed(count)
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

    def _mutations(self, split: Split) -> Iterator[Mutation]:
        table, asked = split.table, self._asked[split.token]
        tag = f"htapkit-{table.source}-{table.name}-{secrets.token_hex(4)}"
        copied = Copied(table.schema, table.name, tag)
        run = Run(asked.machine.read_table(asked.schema, copied), asked.queue_bytes_max)
        try:
            while not isinstance(event := _event(run, table), Ended):
                if isinstance(event, SourceRefused):
                    raise event
                if isinstance(event, Mutation):
                    yield event
        finally:
            run.stop()
        if event.code == UNKNOWN_TABLE:
            raise CatalogChanged(f"{table} is gone: {event.said}")
        if event.code:
            raise SourceUnavailable(f"{table} cannot be copied from {split.token}: {event.said}")

    def close(self) -> None:
        """Let go of connections. Each read clears its own snapshot at the node."""
        if self._over_cql is not None:
            self._over_cql.scan.close()


@contextmanager
def _holding(table: TableId) -> Iterator[None]:
    """A value that no column can hold sets its table aside."""
    try:
        yield
    except ValueError as error:
        raise TableSetAside(table, f"it cannot be held: {error}") from error


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
