"""Copies over CQL: ranges of tokens, what a page says, and what of the log is read again."""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Sequence
from itertools import pairwise

import pytest
from cassandra.protocol import ExecuteMessage, _ProtocolHandler

from htapkit.errors import SourceUnavailable
from htapkit.model import Position, TableId
from htapkit_cassandra import horizons as horizons_module
from htapkit_cassandra import scanned, tokens
from htapkit_cassandra.catalog import ColumnRow, table_schema
from htapkit_cassandra.cql import parse
from htapkit_cassandra.horizons import Horizons
from htapkit_cassandra.layout import Layout, cell_rank
from htapkit_cassandra.methods import chosen, unfit
from htapkit_cassandra.mutations import (
    Cell,
    LogChange,
    PartitionDeletion,
    RangeDeletion,
    Reset,
    RowWrite,
)
from htapkit_cassandra.named import Named
from htapkit_cassandra.places import Places
from htapkit_cassandra.ticks import Ticks
from htapkit_cassandra.tokens import Cluster
from htapkit_cassandra.undecoded import AtMoment

_TABLE = TableId("events", "ks", "t")
_KEY = ColumnRow("id", "partition_key", 0, "none", "int")
_CK = ColumnRow("ck", "clustering", 0, "asc", "int")
_UDT = {"place": (("street", "text"), ("n", "int"), ("z", "text"))}
_HORIZON = 1_000


def _layout(*columns: tuple[str, str] | ColumnRow, clustered: bool = True) -> Layout:
    own = [c if isinstance(c, ColumnRow) else ColumnRow(c[0], "regular", -1, "none", c[1])
           for c in columns]  # fmt: skip
    rows = [_KEY, *([_CK] if clustered else []), *own]
    types = {row.name: parse(row.type, _UDT) for row in rows}
    places = Places((("int", False),) if clustered else ())
    return Layout(table_schema(_TABLE, rows, _UDT), types, places)


def _cluster(version: tuple[int, ...] = (5, 0), partitioner: str = tokens.PARTITIONER) -> Cluster:
    return Cluster(version, partitioner, {"n": (0,)})


# -- ranges


@pytest.mark.parametrize("nodes", [0, 1, 3, 40])
@pytest.mark.parametrize("each", [0, 1, 16, 256])
def test_ranges_are_each_token_once(nodes: int, each: int) -> None:
    """From the smallest to the largest, without a gap, no more and no less than was said."""
    drawn = random.Random(nodes * 1000 + each)
    given = {
        f"n{n}": [drawn.randrange(tokens.SMALLEST, tokens.LARGEST) for _ in range(each)]
        for n in range(nodes)
    }
    found = tokens.ranges(given)
    assert (found[0].after, found[-1].upto) == (tokens.SMALLEST, tokens.LARGEST)
    assert all(a.upto == b.after for a, b in pairwise(found))
    assert all(each.after < each.upto for each in found)
    assert tokens.RANGES_MIN <= len(found) <= tokens.RANGES_MAX + tokens.RANGES_MIN
    assert {each.node for each in found} <= {*given, ""}
    assert [tokens.parse(str(each)) for each in found] == found


def test_a_range_is_read_from_its_first_replica() -> None:
    """A token's node has what lies before it; the first one's also what lies behind the last."""
    found = tokens.ranges({"a": [-(2**62)], "b": [2**62]}, least=1)
    assert [(r.after, r.upto, r.node) for r in found] == [
        (tokens.SMALLEST, -(2**62), "a"),
        (-(2**62), 2**62, "b"),
        (2**62, tokens.LARGEST, "a"),
    ]


def test_tokens_at_the_ends() -> None:
    """Neither a range of nothing nor a partition that is in none."""
    found = tokens.ranges({"a": [tokens.SMALLEST, tokens.LARGEST, 0]}, least=1)
    assert [(r.after, r.upto) for r in found] == [
        (tokens.SMALLEST, 0),
        (0, tokens.LARGEST),
    ]


# -- which tables


@pytest.mark.parametrize(
    ("columns", "version", "said"),
    [
        ([("v", "text"), ("m", "map<text, int>"), ("u", "place"), ("s", "set<int>")], (5, 0), ""),
        ([("v", "text"), ("l", "frozen<list<int>>"), ("u", "frozen<place>")], (4, 1), ""),
        (
            [("v", "text"), ("l", "list<int>")],
            (5, 0),
            "elements of l lie, a list that is not frozen",
        ),
        ([("m", "map<text, int>")], (4, 1), "from Cassandra 5.0 on (map, not frozen)"),
        ([("u", "place")], (4, 1), "from Cassandra 5.0 on (place, not frozen)"),
        ([], (5, 0), "no columns of its own"),
        ([ColumnRow("s", "static", -1, "none", "int")], (5, 0), "no columns of its own"),
    ],
)
def test_what_cannot_be_exact(
    columns: Sequence[tuple[str, str] | ColumnRow], version: tuple[int, ...], said: str
) -> None:
    """It says the column, and what the node does not give."""
    found = unfit({_TABLE: _layout(*columns)}, _cluster(version))
    assert (said in found[_TABLE]) if said else not found


def test_other_partitioners() -> None:
    """Their tokens are not numbers that are known."""
    found = unfit({_TABLE: _layout(("v", "text"))}, _cluster(partitioner="x.RandomPartitioner"))
    assert "x.RandomPartitioner" in found[_TABLE]


def test_the_method_of_each_table() -> None:
    """Files where they can be read, unless it is set; never CQL where it is not exact."""
    other = TableId("events", "ks", "listed")
    counted = TableId("events", "ks", "counted")
    layouts = {
        _TABLE: _layout(("v", "text")),
        other: _layout(("l", "list<int>")),
        counted: _layout(("n", "counter")),
    }
    not_over_cql = unfit(layouts, _cluster())
    assert not_over_cql.keys() == {other}
    for snapshot, no_files, over_cql, neither in (
        ("auto", "", set(), set()),
        ("auto", "no JMX", {_TABLE}, {other}),
        ("files", "no JMX", set(), set()),
        ("cql", "", {_TABLE}, set()),
        ("cql", "no JMX", {_TABLE}, {other}),
    ):
        found = chosen(snapshot, layouts, not_over_cql, no_files)
        assert (set(found.over_cql), set(found.neither)) == (over_cql, neither), snapshot


# -- what a page says


def _int(number: int) -> bytes:
    return struct.pack(">i", number)


def _time(number: int) -> bytes:
    return struct.pack(">q", number)


def _list(*values: bytes | None) -> bytes:
    parts = [_int(-1) if v is None else _int(len(v)) + v for v in values]
    return _int(len(values)) + b"".join(parts)


def _tuple(*values: bytes | None) -> bytes:
    return _list(*values)[4:]


def test_values_with_their_times() -> None:
    """Also of elements; what has an end has the one that the node has."""
    layout = _layout(("m", "map<text, int>"), ("s", "set<int>"), ("u", "place"), ("v", "text"))
    row = [
        _int(1),
        _int(2),
        _list(b"a", _int(7), b"b", _int(8)),
        _list(_time(10), _time(20)),
        _list(None, _int(5)),
        _list(_int(3)),
        _list(_time(30)),
        _list(None),
        _tuple(None, _int(4)),
        _list(None, _time(40), None),
        _list(None, None, None),
        b"",
        _time(50),
        _int(60),
    ]
    assert scanned.select(layout).startswith('SELECT "id", "ck", "m", WRITETIME("m"), TTL("m"), ')
    (found,) = scanned.scanned(layout, [row], 1_000, 1)
    assert found == RowWrite(
        "",
        (_int(1),),
        (_int(2),),
        (
            Cell("m", 10, _int(7), b"a"),
            Cell("m", 20, _int(8), b"b", scanned.TTL_MAX, 1_005),
            Cell("s", 30, b"", _int(3)),
            Cell("u", 40, _int(4), b"\0\1"),
            Cell("v", 50, b"", None, scanned.TTL_MAX, 1_060),
        ),
    )


def test_a_row_without_values_has_a_marker_that_any_deletion_takes() -> None:
    """What partitions share comes once, and alone where there is no row."""
    shared = ColumnRow("sh", "static", -1, "none", "int")
    layout = _layout(shared, ("v", "text"))
    rows = [
        [_int(1), _int(1), _int(9), _time(5), None, None, None, None],
        [_int(1), _int(2), _int(9), _time(5), None, b"x", _time(6), None],
        [_int(2), None, _int(8), _time(7), None, None, None, None],
    ]
    # In the order of `SELECT *`: static columns are before the others.
    assert scanned.select(layout).split(", ")[2] == '"sh"'
    found = list(scanned.scanned(layout, rows, 0, 1))
    assert [(c.key, c.clustering) for c in found if isinstance(c, RowWrite)] == [
        ((_int(1),), None),
        ((_int(1),), (_int(1),)),
        ((_int(1),), (_int(2),)),
        ((_int(2),), None),
    ]
    first, empty, full, alone = (c for c in found if isinstance(c, RowWrite))
    assert (first.cells, alone.cells) == ((Cell("sh", 5, _int(9)),), (Cell("sh", 7, _int(8)),))
    assert (first.written, full.written, alone.written) == (None, None, None)
    assert empty.cells == ()
    assert empty.written is not None
    assert empty.written < -(2**61)


def test_what_was_read_later_counts() -> None:
    """Whether a row without values is there, as it was read one time after the other."""
    layout = _layout(("v", "text"))
    name = Named((_int(1),), (_int(1),))
    row = [_int(1), _int(1), None, None, None]
    (there,) = scanned.read_again(layout, name, [row], 0, 1)
    (gone,) = scanned.read_again(layout, name, [], 0, 2)
    (again,) = scanned.read_again(layout, name, [row], 0, 3)
    assert isinstance(there, RowWrite)
    assert isinstance(gone, RowWrite)
    assert isinstance(again, RowWrite)
    assert there.written is not None
    assert gone.deleted is not None
    assert again.written is not None
    assert there.written < gone.deleted < again.written < 0
    assert scanned.read_again(layout, Named((_int(1),)), [], 0, 1) == []


def test_an_end_that_was_computed_never_wins_over_the_exact_one() -> None:
    """They are of one cell, of which only the log says how long it had to live."""
    seen = Cell("v", 5, b"x", None, scanned.TTL_MAX, 100)
    assert cell_rank(seen) < cell_rank(Cell("v", 5, b"x", None, 90, 100))
    assert cell_rank(seen) > cell_rank(Cell("v", 5, b"x", None, 90, 99))


# -- what of the log is read again


def _row(*cells: Cell, **more: object) -> RowWrite:
    return RowWrite("t", (b"k",), (b"c",), cells, **more)  # type: ignore[arg-type]


_NAME = Named((b"k",), (b"c",))
_NEW, _OLD = Cell("v", _HORIZON + 1, b"x"), Cell("w", _HORIZON, b"y")
_GONE = Cell("v", 3, None, expires=1)
_ENDS = Cell("v", 5, b"x", None, 60, 2_000_000_000)
_OVER = Cell("v", 5, b"x", None, scanned.TTL_MAX, 1)  # wins over what is older only


@pytest.mark.parametrize(
    ("change", "kept", "name"),
    [
        (_row(_NEW), _row(_NEW), None),
        (_row(_NEW, _OLD), _row(_NEW), _NAME),
        (_row(_OLD), _row(), _NAME),
        (_row(_ENDS), _row(_OVER), _NAME),
        (_row(_NEW, written=_HORIZON, ttl=5, expires=9), _row(_NEW), _NAME),
        (_row(written=_HORIZON + 1, ttl=5, expires=9), _row(written=_HORIZON + 1, ttl=5, expires=9),
         None),
        (_row(_GONE), _row(_GONE), _NAME),
        (_row(_GONE, _OLD), _row(_GONE), _NAME),
        (_row(_GONE, Cell("w", _HORIZON + 1, b"y")), _row(_GONE, Cell("w", _HORIZON + 1, b"y")),
         None),
        (_row(resets=(Reset("m", 2),)), _row(resets=(Reset("m", 2),)), _NAME),
        (_row(deleted=2), _row(deleted=2), None),
        (PartitionDeletion("t", (b"k",), 1), PartitionDeletion("t", (b"k",), 1), None),
        (RangeDeletion("t", (b"k",), (), True, (), True, 1),
         RangeDeletion("t", (b"k",), (), True, (), True, 1), None),
        (RowWrite("t", (b"k",), None, (_GONE,)), RowWrite("t", (b"k",), None, (_GONE,)), None),
        (RowWrite("t", (b"k",), None, (_OLD,)), RowWrite("t", (b"k",), None, ()), Named((b"k",))),
    ],
)  # fmt: skip
def test_what_counts_for_itself(
    change: LogChange, kept: LogChange | None, name: Named | None
) -> None:
    """Late writes are read; deletions count; where values are taken away the row is read, too."""
    assert scanned.judged(change, _HORIZON) == (kept, name)


def test_a_copy_begins_between_two_batches() -> None:
    """What the stream takes behind the position is judged by the copy's horizon."""
    horizons = Horizons(Ticks())
    horizons.opened()
    horizons.round(Position("before"))
    found: list[tuple[int, Position]] = []
    copier = threading.Thread(
        target=lambda: found.append(horizons.begin(_TABLE, lambda: Position("none")))
    )
    copier.start()
    for number in range(1_000_000):
        known = horizons.of(_TABLE)
        horizons.round(Position(str(number)))
        if known:
            break
    copier.join(10)
    ((horizon, position),) = found
    assert horizons.of(_TABLE) == horizon
    assert position != "before"
    assert int(position) <= number


def test_horizons_only_grow_until_files_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept with an older copy says nothing of one that has begun."""
    horizons = Horizons(Ticks())
    horizon, position = horizons.begin(_TABLE, lambda: Position("now"))
    assert position == "now"
    horizons.told(_TABLE, horizon - 1)
    horizons.told(_TABLE, 0)
    assert horizons.of(_TABLE) == horizon
    horizons.told(_TABLE, horizon + 1)
    assert horizons.of(_TABLE) == horizon + 1
    horizons.forget([_TABLE])
    assert horizons.of(_TABLE) == 0
    monkeypatch.setattr(horizons_module, "WAIT_SECONDS_MAX", 0.01)
    horizons.opened()
    with pytest.raises(SourceUnavailable, match="no log was read"):
        horizons.begin(_TABLE, lambda: Position("now"))


def test_the_node_is_told_the_moment() -> None:
    """As the last of the parameters, with its flag; all else is as the driver writes it."""
    message = ExecuteMessage(b"id", [b"v"], 5, fetch_size=9, result_metadata_id=b"m")
    plain = _ProtocolHandler.encode_message(message, 1, 5, None, False)
    told = AtMoment(1_234_567_890).encode_message(message, 1, 5, None, False)
    assert told[9:].endswith(plain[9:][-4:] + _int(1_234_567_890))
    at = 9 + 4 + 3 + 2  # header, both ids, consistency
    (before,), (after,) = (struct.unpack_from(">I", each, at) for each in (plain, told))
    assert after == before | 0x100
    assert len(told) == len(plain) + 4
    assert type(message) is ExecuteMessage
