"""A block's cells are those that its rows give one by one: random rows over many types."""

from __future__ import annotations

import os
import random
import struct
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from htapkit.model import TableId
from htapkit_cassandra.blocks import block
from htapkit_cassandra.catalog import ColumnRow, table_schema
from htapkit_cassandra.cells import Collector
from htapkit_cassandra.cql import parse
from htapkit_cassandra.layout import Layout
from htapkit_cassandra.mutations import Cell, RowWrite
from htapkit_cassandra.places import Places

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
        together.take_block(block(_printed(rows[begin : begin + 150])))
    assert one_by_one.count == together.count
    expected, found = one_by_one.changes(), together.changes()
    assert found.cells.schema == expected.cells.schema
    assert found.cells.num_rows > 2_000
    assert _sorted(found.cells.to_pylist()) == _sorted(expected.cells.to_pylist())
    assert together.count == 0


def test_columns_that_the_copy_does_not_have_are_left_out() -> None:
    """They are newer than it; a block of nothing else is empty."""
    made = Collector(_layout())
    row = RowWrite("t", (b"p", bytes(8)), (bytes(8), b"c"), (Cell("newer", 1, b"x"),))
    made.take_block(block(_printed([row])))
    assert made.changes().cells.num_rows == 0


def test_a_value_that_no_column_can_hold_is_an_error() -> None:
    """As it is in a row."""
    made = Collector(_layout())
    row = RowWrite("t", (b"p", bytes(8)), (bytes(8), b"c"), (Cell("a", 1, b"a\0b"),))
    with pytest.raises(ValueError, match="NUL"):
        made.take_block(block(_printed([row])))


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


def _printed(rows: Sequence[RowWrite]) -> dict[str, Any]:
    """As the reader prints them: markers and cells in the order of the rows."""
    names = sorted({cell.column for row in rows for cell in row.cells})
    cells: list[tuple[int, int, Cell]] = []
    for number, row in enumerate(rows):
        if row.written is not None:
            marker = Cell("", row.written, b"", None, row.ttl, row.expires)
            cells.append((number, -1, marker))
        cells += [(number, names.index(cell.column), cell) for cell in row.cells]
    return {
        "table": "t",
        "columns": names,
        "key": [_values(part) for part in zip(*(row.key for row in rows), strict=True)],
        "clustering": [
            _values(part) for part in zip(*(row.clustering or () for row in rows), strict=True)
        ],
        "row": _numbers("i", [number for number, _, _ in cells]),
        "column": _numbers("i", [column for _, column, _ in cells]),
        "written": _numbers("q", [cell.written for _, _, cell in cells]),
        "ttl": _numbers("i", [cell.ttl for _, _, cell in cells]),
        "expires": _numbers("q", [-1 if c.expires is None else c.expires for _, _, c in cells]),
        "value": _values([cell.value for _, _, cell in cells]),
        "path": _values([cell.path for _, _, cell in cells]),
    }


def _numbers(form: str, numbers: Sequence[int]) -> str:
    return b64encode(struct.pack(f"<{len(numbers)}{form}", *numbers)).decode()


def _values(values: Sequence[bytes | None]) -> dict[str, str]:
    offsets = [0]
    for value in values:
        offsets.append(offsets[-1] + len(value or b""))
    return {
        "offsets": _numbers("i", offsets),
        "there": b64encode(bytes(value is not None for value in values)).decode(),
        "data": b64encode(b"".join(value or b"" for value in values)).decode(),
    }


def _sorted(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(map(repr, rows))
