"""A block's cells are those that its rows give one by one: random rows over many types."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from htapkit.model import TableId
from htapkit_cassandra.blocks import block
from htapkit_cassandra.catalog import ColumnRow, table_schema
from htapkit_cassandra.cells import Collector
from htapkit_cassandra.cql import as_text, parse
from htapkit_cassandra.layout import Layout
from htapkit_cassandra.mutations import Cell, RowWrite
from htapkit_cassandra.places import Places
from htapkit_cassandra.wholes import whole
from tests.cassandra.printed import end_of, printed

_TABLE = TableId("events", "ks", "t")
_PLACE = (("street", "text"), ("number", "int"))
_COLUMNS = {
    "a": "text",
    "b": "int",
    "c": "timestamp",
    "d": "decimal",
    "e": "blob",
    "f": "double",
    "g": "map<text, int>",
    "h": "set<int>",
    "i": "list<text>",
    "j": "place",
    "k": "frozen<list<int>>",
    "l": "uuid",
}
_ELEMENTS = frozenset("ghij")
_ROWS = (
    ColumnRow("p1", "partition_key", 0, "none", "text"),
    ColumnRow("p2", "partition_key", 1, "none", "bigint"),
    ColumnRow("c1", "clustering", 0, "asc", "timestamp"),
    ColumnRow("c2", "clustering", 1, "desc", "text"),
    *(ColumnRow(name, "regular", -1, "none", type_) for name, type_ in _COLUMNS.items()),
)


def _layout(*more: ColumnRow) -> Layout:
    rows, types = (*_ROWS, *more), {"place": _PLACE}
    parsed = {row.name: parse(row.type, types) for row in rows}
    places = Places((("timestamp", False), ("text", True)))
    return Layout(table_schema(_TABLE, rows, types), parsed, places)


@pytest.mark.parametrize("more", [(), (ColumnRow("s", "static", -1, "none", "text"),)])
def test_blocks_give_what_their_rows_give(more: tuple[ColumnRow, ...]) -> None:
    """The same cells, in whatever order; with static columns rows name what they lie within."""
    seed = int(os.environ.get("BLOCKS_SEED", "0")) or random.randrange(2**32)
    print(f"BLOCKS_SEED={seed}")
    rolled, layout = random.Random(seed), _layout(*more)
    rows = [_row(rolled) for _ in range(400)]
    one_by_one, together = Collector(layout), Collector(layout)
    for row in rows:
        one_by_one.take(row)
    for begin in range(0, len(rows), 150):
        together.take_block(block(printed(rows[begin : begin + 150])))
    assert one_by_one.count == together.count
    expected, found = one_by_one.changes(), together.changes()
    assert found.cells.schema == expected.cells.schema
    assert found.cells.num_rows > 2_000
    assert _sorted(found.cells.to_pylist()) == _sorted(expected.cells.to_pylist())
    assert together.count == 0


def test_a_block_gives_its_rows_back_from_any_of_them_on() -> None:
    """With the place of each in the log."""
    seed = int(os.environ.get("BLOCKS_SEED", "0")) or random.randrange(2**32)
    print(f"BLOCKS_SEED={seed}")
    rolled = random.Random(seed)
    rows = [_row(rolled) for _ in range(40)]
    whole = block(printed(rows))
    for first in (0, 1, 17, 40):
        there = whole.since(first)
        assert list(there.writes()) == rows[first:]
        assert there.end.tolist() == [end_of(row) for row in range(first, 40)]
        taken, expected = Collector(_layout()), Collector(_layout())
        taken.take_block(there)
        for row in rows[first:]:
            expected.take(row)
        found, wanted = taken.changes().cells, expected.changes().cells
        assert _sorted(found.to_pylist()) == _sorted(wanted.to_pylist())


_EXTREMES = {
    "bigint": [bytes(8), b"\x7f" + b"\xff" * 7, b"\x80" + bytes(7), b"\xff" * 8],
    "int": [bytes(4), b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff" * 4],
    "smallint": [b"\0\0", b"\x7f\xff", b"\x80\0"],
    "tinyint": [b"\0", b"\x7f", b"\x80"],
    "timestamp": [bytes(8), b"\xff" * 8, struct.pack(">q", -210_866_803_199_999)],
    "text": [b"x", "é\U0001f600".encode(), b"\x7f"],
}


@pytest.mark.parametrize("name", _EXTREMES)
def test_a_column_at_once_is_its_values_one_by_one(name: str) -> None:
    """With empty ones and such that are not there, whole or a part of it."""
    type_ = parse(name, {})
    there = [None, b"", *_EXTREMES[name], b"", None, *_EXTREMES[name]]
    for first in range(len(there)):
        found = whole(type_, pa.array(there, pa.binary())[first:])
        assert found is not None
        expected = [None if v is None else as_text(type_, v) for v in there[first:]]
        assert found.cast(pa.string()).to_pylist() == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("int", b"\1\2\3"),
        ("timestamp", b"\x7f" + b"\xff" * 7),
        ("timestamp", b"\x80" + bytes(7)),
        ("text", b"a\0b"),
        ("text", b"\xff"),
        ("double", bytes(8)),
    ],
)
def test_what_is_not_plain_is_left_to_be_read_by_itself(name: str, value: bytes) -> None:
    """There it is an error, or not."""
    assert whole(parse(name, {}), pa.array([value, None], pa.binary())) is None


def test_columns_that_the_copy_does_not_have_are_left_out() -> None:
    """They are newer than it; a block of nothing else is empty."""
    made = Collector(_layout())
    row = RowWrite("t", (b"p", bytes(8)), (bytes(8), b"c"), (Cell("newer", 1, b"x"),))
    made.take_block(block(printed([row])))
    assert made.changes().cells.num_rows == 0


def test_a_value_that_no_column_can_hold_is_an_error() -> None:
    """As it is in a row."""
    made = Collector(_layout())
    row = RowWrite("t", (b"p", bytes(8)), (bytes(8), b"c"), (Cell("a", 1, b"a\0b"),))
    with pytest.raises(ValueError, match="NUL"):
        made.take_block(block(printed([row])))


def _row(rolled: random.Random) -> RowWrite:
    key = (rolled.choice([b"x", b"y\1", b""]), struct.pack(">q", rolled.randrange(-2, 3)))
    moment = struct.pack(">q", rolled.randrange(-(10**6), 10**6))
    clustering = (rolled.choice([moment, moment, b""]), rolled.choice([b"", b"u", b"\1v"]))
    written = rolled.randrange(-3, 10**6)
    cells = []
    for name in rolled.sample(sorted(_COLUMNS), rolled.randrange(8)):
        for _ in range(rolled.randrange(1, 4) if name in _ELEMENTS else 1):
            path, value = _VALUES[name](rolled)
            at = written if rolled.random() < 0.8 else rolled.randrange(10**6)
            ends = rolled.choice([0, 0, 0, 60])
            if rolled.random() < 0.1:
                cells.append(Cell(name, at, None, path, 0, rolled.randrange(10**9)))
            else:
                until = rolled.randrange(10**9) if ends else None
                cells.append(Cell(name, at, value, path, ends, until))
    row = RowWrite("t", key, clustering, tuple(cells))
    if rolled.random() < 0.3:
        return row
    ttl = rolled.choice([0, 0, 90])
    return replace(row, written=written, ttl=ttl, expires=10**9 if ttl else None)


def _int(number: int) -> bytes:
    return struct.pack(">i", number)


def _sized(*parts: bytes) -> bytes:
    return b"".join(_int(len(part)) + part for part in parts)


def _time_uuid(rolled: random.Random) -> bytes:
    return rolled.randbytes(6) + b"\x11\xe1" + rolled.randbytes(8)


_VALUES: dict[str, Callable[[random.Random], tuple[bytes | None, bytes]]] = {
    "a": lambda r: (None, r.choice(["", "é", "text"]).encode()),
    "b": lambda r: (None, r.choice([b"", _int(r.randrange(-9, 9))])),
    "c": lambda r: (None, struct.pack(">q", r.randrange(10**12))),
    "d": lambda r: (None, _int(r.randrange(-2, 4)) + r.choice([b"\x01", b"\xff\x00"])),
    "e": lambda r: (None, r.randbytes(r.randrange(3))),
    "f": lambda r: (None, struct.pack(">d", r.choice([0.1, -0.0, float("nan"), 1e300]))),
    "g": lambda r: (r.choice([b"", b"a", b"\xc3\xa9"]), r.choice([b"", _int(r.randrange(9))])),
    "h": lambda r: (_int(r.randrange(-3, 3)), b""),
    "i": lambda r: (_time_uuid(r), r.choice([b"", b"one"])),
    "j": lambda r: (r.choice([b"\0\0", b"\0\1"]), b"\0\0\0\7"),
    "k": lambda r: (None, _int(2) + _sized(_int(1), _int(r.randrange(5)))),
    "l": lambda r: (None, r.randbytes(16)),
}


def _sorted(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(map(repr, rows))
