"""What is owed of counters: read in the order in which it was named, and never passed by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import cast

import pytest

from htapkit.errors import SourceError, SourceRefused, SourceUnavailable
from htapkit.model import Broken, TableId
from htapkit_cassandra import owed as owed_module
from htapkit_cassandra.catalog import ColumnRow, table_schema
from htapkit_cassandra.cells import Collector
from htapkit_cassandra.counters import counts, named
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
    PartitionDeletion,
    Ready,
    RowWrite,
)
from htapkit_cassandra.named import Named
from htapkit_cassandra.owed import Owed
from htapkit_cassandra.places import Places
from htapkit_cassandra.positions import LogOrder, Reached, reached
from htapkit_cassandra.rowreads import RowReads
from htapkit_cassandra.settings import Settings
from htapkit_cassandra.tails import Tails
from htapkit_cassandra.ticks import Ticks

_TABLE = TableId("events", "ks", "counted")
_ROWS = (
    ColumnRow("id", "partition_key", 0, "none", "int"),
    ColumnRow("n", "regular", -1, "none", "counter"),
)


def _layout(rows: Sequence[ColumnRow] = _ROWS) -> Layout:
    types = {row.name: parse(row.type, {}) for row in rows}
    return Layout(table_schema(_TABLE, rows, {}), types, Places(()))


def _write(number: int) -> RowWrite:
    return RowWrite("t", (number.to_bytes(4, "big"),), (), ())


def _at(offset: int) -> Reached:
    return Reached({"node": LogPosition(1, offset)}, offset)


class _Reads(RowReads):
    """Of a node that may be down."""

    def __init__(self) -> None:
        super().__init__(Settings("events"), Ticks())
        self.problem: SourceError | None = None
        self.asked: list[Named] = []
        self.bad = b""  # the key of which nothing can be said

    def read(
        self, layout: Layout, wanted: Sequence[Named]
    ) -> tuple[dict[Named, list[LogChange]], SourceError | None]:
        assert counts(layout)
        self.asked += wanted
        good = [w for w in wanted if self.problem is None or (self.bad and w.key != (self.bad,))]
        cell = Cell("n", 5, (7).to_bytes(8, "big"))
        found: dict[Named, list[LogChange]] = {
            each: [RowWrite("", each.key, each.clustering, (cell,))] for each in good
        }
        return found, self.problem


@pytest.fixture
def reads() -> _Reads:
    return _Reads()


@pytest.fixture
def collectors() -> dict[TableId, Collector]:
    return {_TABLE: Collector(_layout())}


@pytest.fixture
def owed(reads: _Reads, collectors: dict[TableId, Collector]) -> Owed:
    made = Owed(reads, Horizons(reads.ticks))
    made.expect(collectors)
    return made


def test_a_row_is_read_once_for_all_that_named_it(
    owed: Owed, reads: _Reads, collectors: dict[TableId, Collector]
) -> None:
    """And then nothing is held."""
    for offset in range(5):
        assert owed.owe(_TABLE, _write(offset % 2), _at(offset)) is None
    assert owed.held(_at(9)) == _at(0)
    assert owed.settle(collectors) == []
    assert reads.asked == [named(_write(0)), named(_write(1))]
    owed.came(reads.ticks.next())
    assert owed.held(_at(9)) == _at(9)
    assert collectors[_TABLE].changes().cells.column("value").to_pylist() == ["7", "7"]


def test_what_cannot_be_read_holds_the_place(
    owed: Owed,
    reads: _Reads,
    collectors: dict[TableId, Collector],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Others are read; that one is tried again."""
    monkeypatch.setattr(owed_module, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(owed_module, "SECONDS_AT_ONCE", 0.001)
    reads.problem, reads.bad = SourceUnavailable("a replica is down"), _write(1).key[0]
    for offset in range(3):
        owed.owe(_TABLE, _write(offset), _at(offset))
    assert owed.settle(collectors) == []
    assert owed.held(_at(9)) == replace(_at(1), nodes=_at(0).nodes)
    owed.came(reads.ticks.next())
    assert owed.held(_at(9)) == _at(1)
    assert "a replica is down" in owed.why
    owed.owe(_TABLE, _write(1), _at(7))
    assert owed.held(_at(9)) == _at(1), "the older place counts"
    reads.problem = None
    assert owed.settle(collectors) == []
    owed.came(reads.ticks.next())
    assert (owed.held(_at(9)), owed.why) == (_at(9), "")


def test_what_was_read_is_in_doubt_until_a_later_mark_came(
    owed: Owed, reads: _Reads, collectors: dict[TableId, Collector]
) -> None:
    """It may have been lost by its node: a restart names it again, freshness is not held."""
    early = reads.ticks.next()
    for offset in range(2):
        owed.owe(_TABLE, _write(offset), _at(offset))
    owed.settle(collectors)
    owed.came(early)
    assert owed.held(_at(9)) == replace(_at(9), nodes=_at(0).nodes)
    owed.owe(_TABLE, _write(0), _at(8))
    assert owed.held(_at(9)) == replace(_at(8), nodes=_at(1).nodes), "the newer reading counts"
    owed.settle(collectors)
    assert owed.held(_at(9)) == replace(_at(9), nodes=_at(1).nodes)
    owed.came(reads.ticks.next())
    assert owed.held(_at(9)) == _at(9)


def test_what_is_in_doubt_is_read_again_where_a_log_begins_a_segment(
    owed: Owed, reads: _Reads, collectors: dict[TableId, Collector]
) -> None:
    """Its node may have been killed and have lost what it had shown."""
    owed.owe(_TABLE, _write(0), _at(0))
    owed.settle(collectors)
    owed.came(reads.ticks.next())
    owed.owe(_TABLE, _write(1), _at(1))
    owed.settle(collectors)
    assert owed.doubt(_at(5), collectors) == []
    assert owed.held(_at(9)) == replace(_at(5), nodes=_at(1).nodes), "nor is anything fresher"
    reads.asked.clear()
    owed.settle(collectors)
    assert reads.asked == [named(_write(1))]


@pytest.mark.parametrize("missing", [False, True])
def test_a_scan_in_doubt_is_made_again(
    owed: Owed, reads: _Reads, collectors: dict[TableId, Collector], missing: bool
) -> None:
    """Where a log begins a segment before a mark came through all that was written after it."""
    reads.scanned[_TABLE] = reads.ticks.next()
    covered = reads.ticks.next()
    assert owed.doubt(replace(_at(5), mark=covered), collectors) == []
    doubtful = replace(_at(5), mark=covered, heard=5) if missing else _at(5)
    (broken,) = owed.doubt(doubtful, collectors)
    assert isinstance(broken, Broken)
    assert (broken.table, broken.copy_again) == (_TABLE, True)


def test_nothing_is_asked_while_it_rests(
    owed: Owed, reads: _Reads, collectors: dict[TableId, Collector]
) -> None:
    """A node that is down is not asked in a loop."""
    reads.problem = SourceUnavailable("down")
    owed.owe(_TABLE, _write(1), _at(1))
    for _ in range(5):
        owed.settle(collectors)
    assert len(reads.asked) == 1


def test_a_table_that_may_not_be_read_breaks_alone(
    owed: Owed,
    reads: _Reads,
    collectors: dict[TableId, Collector],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is held for it any more; so it is with one of which too much is owed."""
    reads.problem = SourceRefused("no right")
    owed.owe(_TABLE, _write(1), _at(1))
    (broken,) = owed.settle(collectors)
    assert isinstance(broken, Broken)
    assert "no right" in broken.why
    assert (owed.held(_at(9)), collectors) == (_at(9), {})
    assert owed.owe(_TABLE, _write(1), _at(1)) == _write(1)
    again = {_TABLE: Collector(_layout())}
    owed.expect(again)
    monkeypatch.setattr(owed_module, "OWED_MAX", 1)
    for offset in range(2):
        owed.owe(_TABLE, _write(offset), _at(offset))
    assert len(owed.settle(again)) == 1


class _Node:
    """A log with some changes of the table, and the catalog of its node."""

    dropped = 0
    queued_bytes = 0

    def __init__(self, count: int) -> None:
        table = LogTable("t", "ks", "counted", (), (), (), ())
        mark = LogTable("m", "htapkit", "marks", (), (), (), ())
        ready: list[LogEvent] = [Ready({"t": table, "m": mark})]
        self.events = ready + [Mutation((_write(n),), LogPosition(1, n)) for n in range(count)]

    def next(self, _: float) -> tuple[str, LogEvent] | None:
        return ("node", self.events.pop(0)) if self.events else None

    def layouts(self) -> dict[TableId, Layout]:
        return {_TABLE: _layout()}

    def counts(self, *_: object) -> bool:
        return True

    def silent(self, _: str) -> str:
        return ""


def test_no_position_passes_what_is_owed(
    owed: Owed, reads: _Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches go on, behind what was stored; the place follows once all is read."""
    monkeypatch.setattr(owed_module, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(owed_module, "SECONDS_AT_ONCE", 0.001)
    node, start = _Node(9), Reached({"node": LogPosition(0, 0)})
    following = Following("events", {}, deletes_files=False, batch_rows_max=4, batch_bytes_max=99)
    marks = Marks(Settings("events"), Ticks())
    marks.begin_after(start, ["node"])
    stream = LogStream(following, cast("Tails", node), start, marks, node, owed)
    stream.expect([_layout().schema])
    assert stream.next(0) is not None  # the place that it begins with
    reads.problem, reads.bad = SourceUnavailable("a replica is down"), _write(1).key[0]
    places, ends = [], []
    for turn in range(7):
        if turn == 4:
            reads.problem = None
        if turn == 6:
            node.events = [Mutation((RowWrite("m", (), None, ()),), LogPosition(1, 9))]
            monkeypatch.setattr(marks, "of", lambda *_: reads.ticks.next())
        batch = stream.next(0)
        if batch is not None:
            places.append(reached(batch.end).nodes["node"].offset)
            ends.append(batch.end)
    assert places == [0, 0, 0, 0, 9]
    order = LogOrder()
    assert not any(order.covers(a, b) for a, b in pairwise(ends)), "each of them is news"


def test_what_only_breaks_a_table_is_news_as_well(owed: Owed) -> None:
    """A batch with nothing of any log is not one that the copy has already."""
    node, start = _Node(0), Reached({"node": LogPosition(0, 0)})
    following = Following("events", {}, deletes_files=False, batch_rows_max=4, batch_bytes_max=99)
    marks = Marks(Settings("events"), Ticks())
    stream = LogStream(following, cast("Tails", node), start, marks, node, owed)
    stream.expect([_layout().schema])
    begun = stream.next(0)
    node.dropped = 1
    broken = stream.next(0)
    assert begun is not None
    assert broken is not None
    assert [type(change) for change in broken.changes] == [Broken]
    assert not LogOrder().covers(begun.end, broken.end)


def test_names() -> None:
    """Whatever deletes more than a row names its partition."""
    assert named(PartitionDeletion("t", (b"a",), 1)) == Named((b"a",), whole=True)
    assert named(RowWrite("t", (b"a",), None, ())) == Named((b"a",))
    assert named(RowWrite("t", (b"a",), (b"b",), ())) == Named((b"a",), (b"b",))


def test_other_tables_owe_nothing(owed: Owed) -> None:
    """Their numbers are in the log."""
    plain = ColumnRow("n", "regular", -1, "none", "bigint")
    owed.expect({_TABLE: Collector(_layout((_ROWS[0], plain)))})
    assert owed.owe(_TABLE, _write(1), _at(1)) == _write(1)
    assert not owed.any_tables


def test_ticks_only_grow() -> None:
    """Behind what is stored, too."""
    ticks = Ticks()
    first = ticks.next()
    ticks.after(first + 10**12)
    assert ticks.next() == first + 10**12 + 1
    ticks.after(5)
    assert ticks.next() == ticks.last == first + 10**12 + 2
