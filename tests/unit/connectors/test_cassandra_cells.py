"""Places, ranks and values of the Cassandra connector: pure, against their plain definitions."""

from __future__ import annotations

import random
import struct
from itertools import product

import pytest

from htapkit_cassandra import cql
from htapkit_cassandra.layout import cell_rank, deletion_rank
from htapkit_cassandra.mutations import Cell
from htapkit_cassandra.places import ORDERED, Places


def _int(number: int) -> bytes:
    return struct.pack(">i", number)


def test_ranges_cover_what_lies_between_their_prefixes() -> None:
    """Every pair of bounds over two columns, one descending: as comparing the values says."""
    places = Places((("int", False), ("text", True)))
    key = [b"p\0", b"q"]
    numbers, texts = (-2, 0, 3), ("", "a", "a\0", "b")
    rows = list(product(numbers, texts))
    placed = {row: places.row(key, [_int(row[0]), row[1].encode()]) for row in rows}
    order: dict[int | str, int] = {number: number for number in numbers}
    order |= {text: -n for n, text in enumerate(texts)}  # descending

    def sides(row: tuple[int | str, ...], bound: tuple[int | str, ...]) -> int:
        """-1: the row lies before all with that prefix, 0: it has it, 1: behind."""
        for mine, theirs in zip(row, bound, strict=False):
            if mine != theirs:
                return -1 if order[mine] < order[theirs] else 1
        return 0

    prefixes: list[tuple[int | str, ...]] = [(), *((n,) for n in numbers), *rows]
    checked = covered = 0
    for start, end, first, last in product(prefixes, prefixes, (True, False), (True, False)):
        low, high = places.between(key, (_bytes(start), first), (_bytes(end), last))
        for row in rows:
            after = sides(row, start) > 0 or (sides(row, start) == 0 and (first or not start))
            before = sides(row, end) < 0 or (sides(row, end) == 0 and (last or not end))
            inside = low <= placed[row] < high
            assert inside == (after and before), (row, start, first, end, last)
            checked, covered = checked + 1, covered + inside
    assert 0 < covered < checked
    low, high = places.whole(key)
    assert all(low <= place < high for place in [*placed.values(), places.partition(key)])
    assert not low <= places.partition([b"p", b"\0q"]) < high
    low, _ = places.between(key, ((), True), ((), True))
    assert places.partition(key) < low, "a range of rows spares what they share"


def _bytes(bound: tuple[int | str, ...]) -> list[bytes]:
    return [_int(part) if isinstance(part, int) else part.encode() for part in bound]


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        ("int", [b"", _int(-(2**31)), _int(-1), _int(0), _int(2**31 - 1)]),
        ("bigint", [struct.pack(">q", n) for n in (-(2**63), -1, 0, 1)]),
        ("date", [struct.pack(">I", n) for n in (0, 2**31, 2**32 - 1)]),
        ("varint", [n.to_bytes(5, "big", signed=True) for n in (-70000, -129, -128, -1, 0, 127)]),
        ("varint", [b"\x7f", b"\x00\x80", b"\x01\x00", b"\x01\x00\x00"]),
        ("blob", [b"", b"\0", b"\0\0", b"\x01", b"\xff"]),
    ],
)
def test_ordered_bytes_sort_as_their_type(type_: str, values: list[bytes]) -> None:
    """Those given are in the type's order."""
    places = Places(((type_, False),))
    placed = [places.row([b"k"], [value]) for value in values]
    assert placed == sorted(set(placed))
    turned = [Places(((type_, True),)).row([b"k"], [value]) for value in values]
    assert turned == sorted(set(turned), reverse=True)


def test_timeuuids_sort_by_their_time() -> None:
    """Which is not how their bytes sort."""
    early = bytes.fromhex("ffffffff000011 e1".replace(" ", "")) + bytes([0x80] * 8)
    late = bytes.fromhex("00000000000111e1") + bytes([0x80] * 8)
    assert early > late
    for name in ("timeuuid", "uuid"):
        assert ORDERED[name](early) < ORDERED[name](late)


def test_ranks_as_bytes_sort_as_ranks() -> None:
    """Over random cells with many equal parts; a deletion is above all of its time."""
    rolled = random.Random(11)
    cells = []
    for _ in range(600):
        written = rolled.choice([-(2**63), -1, 0, 1, 2**62])
        value = rolled.choice([None, b"", b"\0", b"a", b"ab"])
        ends = rolled.choice([None, 0, 5, 2**32 - 1])
        ttl = 0 if value is None or ends is None else rolled.choice([1, 2, 2**31 - 1])
        cells.append(Cell("c", written, value, ttl=ttl, expires=ends))
    assert sorted(cells, key=_order) == sorted(cells, key=lambda c: (c.rank, c.rank))
    assert [_order(c) for c in sorted(cells, key=lambda c: c.rank)] == sorted(map(_order, cells))
    for cell in cells:
        assert _order(cell) < deletion_rank(cell.written)
        if cell.written > -(2**63):
            assert cell_rank(cell) > deletion_rank(cell.written - 1)


def _order(cell: Cell) -> bytes:
    """As the copy compares writes: the rank, then the value."""
    return cell_rank(cell) + (cell.value or b"")


def test_types_are_taken_apart() -> None:
    """Nested, frozen, a user's own, a quoted name."""
    types = {"place": (("street", "text"), ("at", 'frozen<"My Type">')), "My Type": (("x", "int"),)}
    found = cql.parse("map<text, frozen<list<place>>>", types)
    assert (found.brackets, found.arguments[1].frozen) == ("{}", True)
    assert found.arguments[1].arguments[0].fields == ("street", "at")
    assert cql.parse("place", types).brackets == "{}"
    assert cql.parse("frozen<set<int>>", types).brackets == ""
    assert cql.parse("vector<float, 3>", types).length == 3
    with pytest.raises(ValueError, match="not a type"):
        cql.parse("list<int", types)


def test_values_that_no_column_can_hold() -> None:
    """They are named, not changed."""
    with pytest.raises(ValueError, match="NUL"):
        cql.as_text(cql.Cql("text"), b"a\0b")
    with pytest.raises(ValueError, match="exponent"):
        cql.as_text(cql.Cql("decimal"), struct.pack(">i", 5000) + b"\x01")
    far = {"timestamp": (2**63 - 1, -(2**63), -(2**58)), "date": (0, 2**32 - 1)}
    for name, numbers in far.items():
        for number in numbers:
            value = struct.pack(">q" if name == "timestamp" else ">I", number)
            for held in (cql.as_text, cql.as_json):
                with pytest.raises(ValueError, match=f"a {name} of a year"):
                    held(cql.Cql(name), value)
    with pytest.raises(ValueError, match="fixed size"):
        cql.as_json(cql.Cql("vector", (cql.Cql("text"),), length=1), b"abc")


def test_first_and_last_days_that_can_be_held() -> None:
    """PostgreSQL's in a column of their own, ISO 8601's in json."""
    day, date_, timestamp = 86_400_000, cql.Cql("date"), cql.Cql("timestamp")

    def days(number: int) -> bytes:
        return struct.pack(">I", number + 2**31)

    assert cql.as_text(date_, days(-2_440_588)) == "-2440588"
    with pytest.raises(ValueError, match="year"):
        cql.as_text(date_, days(-2_440_589))
    assert cql.as_json(date_, days(-719_162)) == '"0001-01-01"'
    assert cql.as_json(date_, days(2_932_896)) == '"9999-12-31"'
    for beyond in (-719_163, 2_932_897):
        with pytest.raises(ValueError, match="year"):
            cql.as_json(date_, days(beyond))
    last = struct.pack(">q", 2_932_897 * day - 1)
    assert cql.as_json(timestamp, last) == '"9999-12-31 23:59:59.999Z"'
    with pytest.raises(ValueError, match="year"):
        cql.as_json(timestamp, struct.pack(">q", 2_932_897 * day))


def test_a_field_that_is_newer_than_what_is_known_of_its_type() -> None:
    """It is left out, until its tables are copied again."""
    place = cql.Cql("place", (cql.Cql("text"),), frozen=True, fields=("street",))
    value = struct.pack(">i", 1) + b"s" + struct.pack(">i", 4) + _int(5)
    assert cql.as_json(place, value) == '{"street": "s"}'
    assert cql.field_of(place, 1, _int(5)) is None


def test_odd_values_in_json() -> None:
    """Not numbers, empty ones, negative durations."""
    nan = struct.pack(">d", float("nan"))
    assert cql.as_json(cql.Cql("double"), nan) == '"nan"'
    assert cql.as_json(cql.Cql("double"), struct.pack(">d", float("-inf"))) == '"-Infinity"'
    assert cql.as_json(cql.Cql("int"), b"") == "null"
    assert cql.as_json(cql.Cql("text"), 'q"ü'.encode()) == '"q\\"ü"'
    assert cql.as_text(cql.Cql("duration"), b"\x01\x03\x80\xff") == "-1mo-2d-128ns"
    assert cql.as_text(cql.Cql("decimal"), struct.pack(">i", -3) + b"\x05") == "5000"
