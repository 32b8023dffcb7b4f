"""A log told in blocks is the log told in lines: cells, what is read again, and places."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from htapkit.errors import SourceError
from htapkit.model import Broken, CellChanges, TableId
from htapkit_cassandra.blocks import block
from htapkit_cassandra.catalog import ColumnRow, table_schema
from htapkit_cassandra.cql import parse
from htapkit_cassandra.follow import Following, LogStream
from htapkit_cassandra.horizons import Horizons
from htapkit_cassandra.layout import Layout
from htapkit_cassandra.marks import Marks
from htapkit_cassandra.mutations import (
    Cell,
    LogChange,
    LogEvent,
    LogPosition,
    LogTable,
    Mutation,
    Ready,
    RowWrite,
)
from htapkit_cassandra.named import Named
from htapkit_cassandra.owed import Owed
from htapkit_cassandra.places import Places
from htapkit_cassandra.positions import Reached, reached
from htapkit_cassandra.rowreads import RowReads
from htapkit_cassandra.settings import Settings
from htapkit_cassandra.tails import Tails
from htapkit_cassandra.ticks import Ticks
from tests.cassandra.printed import printed

_TABLE, _COUNTED = TableId("events", "ks", "t"), TableId("events", "ks", "counted")
_ROWS = (
    ColumnRow("p", "partition_key", 0, "none", "int"),
    ColumnRow("c", "clustering", 0, "asc", "int"),
    ColumnRow("a", "regular", -1, "none", "text"),
    ColumnRow("b", "regular", -1, "none", "int"),
)
_COUNTERS = (_ROWS[0], ColumnRow("n", "regular", -1, "none", "counter"))
_TIMES = 1_000  # of writes
_OTHERS = "other"  # a table that is not followed


def _layout(table: TableId, rows: Sequence[ColumnRow]) -> Layout:
    clustering = tuple((row.type, False) for row in rows if row.kind == "clustering")
    types = {row.name: parse(row.type, {}) for row in rows}
    return Layout(table_schema(table, rows, {}), types, Places(clustering))


_LAYOUTS = {_TABLE: _layout(_TABLE, _ROWS), _COUNTED: _layout(_COUNTED, _COUNTERS)}


class _Reads:
    """Notes what is asked, and finds nothing."""

    def __init__(self) -> None:
        self.ticks = Ticks()
        self.scanned: dict[TableId, int] = {}
        self.asked: set[Named] = set()

    def read(
        self, _: Layout, wanted: Sequence[Named]
    ) -> tuple[dict[Named, list[LogChange]], SourceError | None]:
        self.asked |= set(wanted)
        return {name: [] for name in wanted}, None


class _Node:
    """A log, and the catalog of its node, which has truncated the table at a place."""

    dropped = 0
    queued_bytes = 0

    def __init__(self, events: Sequence[LogEvent], truncated: int) -> None:
        tables = {
            "t": ("ks", "t"),
            "n": ("ks", "counted"),
            _OTHERS: ("ks", _OTHERS),
            "m": ("htapkit", "marks"),
        }
        found = {name: LogTable(name, *of, (), (), (), ()) for name, of in tables.items()}
        self.events = [Ready(found), *events]
        self.truncated = truncated

    def next(self, _: float) -> tuple[str, LogEvent] | None:
        return ("node", self.events.pop(0)) if self.events else None

    def layouts(self) -> dict[TableId, Layout]:
        return _LAYOUTS

    def counts(self, table: TableId, _: str, __: str, end: LogPosition) -> bool:
        return table != _TABLE or end > LogPosition(1, self.truncated)

    def silent(self, _: str) -> str:
        return ""


def _int(number: int) -> bytes:
    return struct.pack(">i", number)


def _rolled(rolled: random.Random, table: str) -> RowWrite:
    """A row that is only written; now and then a value is taken away."""
    at = rolled.randrange(2, _TIMES)
    cells = [Cell("a", at, rolled.choice([b"x", b"yy"])), Cell("b", at, _int(at))]
    if table == "n":
        return RowWrite(table, (_int(at),), (), (Cell("n", at, b"context"),))
    if rolled.random() < 0.2:
        cells = [Cell("a", at, None, expires=at)]
    if rolled.random() < 0.2:
        cells[-1] = Cell("b", rolled.randrange(2, _TIMES), _int(1), None, 60, 10**9)
    written = at if rolled.random() < 0.5 else None
    key, within = _int(rolled.randrange(5)), _int(rolled.randrange(20))
    return RowWrite(table, (key,), (within,), tuple(cells), written=written)


def _log(rolled: random.Random) -> list[tuple[RowWrite, int]]:
    """Runs of several tables' rows, of which some are of one mutation, with their ends."""
    found: list[tuple[RowWrite, int]] = []
    for _ in range(12):
        table = rolled.choice(["t", "t", "n", _OTHERS])
        for _ in range(rolled.randrange(1, 40)):
            end = found[-1][1] if found else 0
            end += rolled.choice([0, 1, 9]) if found and found[-1][0].table == table else 1
            found.append((_rolled(rolled, table), end))
    return found


def _lines(log: Sequence[tuple[RowWrite, int]]) -> Iterator[Mutation]:
    for end in dict.fromkeys(end for _, end in log):
        yield Mutation(tuple(row for row, of in log if of == end), LogPosition(1, end))


def _blocks(log: Sequence[tuple[RowWrite, int]]) -> Iterator[Mutation]:
    while log:
        table, last = log[0][0].table, log[0][1]
        run: list[tuple[RowWrite, int]] = []
        for row, end in log:
            if row.table != table or (len(run) >= 25 and end != last):
                break
            run.append((row, end))
            last = end
        log = log[len(run) :]
        rows, ends = zip(*run, strict=True)
        yield Mutation((), LogPosition(1, last), 0, (block(printed(rows, ends)),))


def _followed(
    events: Sequence[LogEvent], truncated: int, horizon: int
) -> tuple[list[str], set[Named], Reached]:
    reads, node = _Reads(), _Node(events, truncated)
    horizons = Horizons(Ticks())
    horizons.told(_TABLE, horizon)
    owed = Owed(cast("RowReads", reads), horizons)
    following = Following("events", {}, deletes_files=False, batch_rows_max=9, batch_bytes_max=99)
    start, marks = Reached({"node": LogPosition(0, 0)}), Marks(Settings("events"), Ticks())
    marks.begin_after(start, ["node"])
    stream = LogStream(following, cast("Tails", node), start, marks, node, owed)
    stream.expect([layout.schema for layout in _LAYOUTS.values()])
    found: list[str] = []
    left = 3  # batches after the log's end, in which what was named is read
    while left:
        batch, left = stream.next(0), left if node.events else left - 1
        for change in batch.changes if batch else ():
            assert isinstance(change, CellChanges)
            assert not change.deletions.num_rows
            found += [f"{change.table} {cell}" for cell in change.cells.to_pylist()]
    owed.came(reads.ticks.next())
    return sorted(found), reads.asked, owed.held(stream._reached)


@pytest.mark.parametrize("horizon", [0, 1, _TIMES // 2])
@pytest.mark.parametrize("cut", [0.0, 0.4, 1.0])
def test_blocks_and_lines_end_the_same(horizon: int, cut: float) -> None:
    """Also where a TRUNCATE lies within one, where counters are, and behind a copy over CQL."""
    seed = int(os.environ.get("FOLLOW_SEED", "0")) or random.randrange(2**32)
    print(f"FOLLOW_SEED={seed}")
    log = _log(random.Random(seed))
    truncated = int(cut * log[-1][1])
    expected = _followed([*_lines(log)], truncated, horizon)
    assert _followed([*_blocks(log)], truncated, horizon) == expected
    assert expected[2].nodes == {"node": LogPosition(1, log[-1][1])}


def test_a_mark_in_a_block_counts() -> None:
    """The newest of those of our own."""
    marks = Marks(Settings("events"), Ticks())
    ours = marks._reader.encode()

    def mark(reader: bytes, number: int) -> RowWrite:
        return RowWrite("m", (reader,), (), (Cell("mark", 1, struct.pack(">q", number)),))

    rows = [mark(ours, 4), mark(ours, 5), mark(b"another", 6)]
    told = Mutation((), LogPosition(1, 9), 0, (block(printed(rows)),))
    assert marks.of(told, "m") == 5
    assert marks.of(told, "t") == 0


def test_a_value_that_cannot_be_held_breaks_its_table_alone() -> None:
    """As it does in a line."""
    bad = RowWrite("t", (_int(1),), (_int(1),), (Cell("a", 1, b"a\0b"),))
    node = _Node([Mutation((), LogPosition(1, 2), 0, (block(printed([bad, bad])),))], 0)
    start, marks = Reached({"node": LogPosition(0, 0)}), Marks(Settings("events"), Ticks())
    owed = Owed(cast("RowReads", _Reads()), Horizons(Ticks()))
    following = Following("events", {}, deletes_files=False, batch_rows_max=9, batch_bytes_max=99)
    stream = LogStream(following, cast("Tails", node), start, marks, node, owed)
    stream.expect([_LAYOUTS[_TABLE].schema])
    stream.next(0)
    batch: Any = stream.next(0)
    (broken,) = batch.changes
    assert isinstance(broken, Broken)
    assert "NUL" in broken.why
    assert reached(batch.end).nodes["node"] == LogPosition(1, 2)
