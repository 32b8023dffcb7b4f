"""Lookups as CQL: what a key or an index serves, what is left to filter, what is refused."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

import pytest

from htapkit.errors import LookupRefused
from htapkit.lookups import Condition, Later, Lookup, Nearest
from htapkit.model import TableId
from htapkit_cassandra.catalog import ColumnRow, table_schema
from htapkit_cassandra.cql import parse
from htapkit_cassandra.keys import Index, Keys, read_index
from htapkit_cassandra.layout import Layout
from htapkit_cassandra.lookups import Statement, translated
from htapkit_cassandra.places import Places

TABLE = TableId("events", "demo", "t")
_COLUMNS = (
    ColumnRow("p", "partition_key", 0, "none", "text"),
    ColumnRow("q", "partition_key", 1, "none", "int"),
    ColumnRow("c", "clustering", 0, "desc", "timestamp"),
    ColumnRow("u", "clustering", 1, "asc", "timeuuid"),
    ColumnRow("kind", "regular", -1, "none", "text"),
    ColumnRow("color", "regular", -1, "none", "text"),
    ColumnRow("size", "regular", -1, "none", "int"),
    ColumnRow("e", "regular", -1, "none", "vector<float, 2>"),
)
_KEYS = Keys(
    Layout(
        table_schema(TABLE, _COLUMNS, {}),
        {each.name: parse(each.type, {}) for each in _COLUMNS},
        Places((("timestamp", True), ("timeuuid", False))),
    ),
    ("p", "q"),
    (("c", True), ("u", False)),
    (Index("kind", attached=True), Index("color", attached=False), Index("e", attached=True)),
)
_P, _Q = Condition("p", "=", ("x",)), Condition("q", "=", (1,))
_AT = datetime(2026, 1, 1, tzinfo=UTC)


def _asked(*conditions: Condition, **more: object) -> Statement:
    return translated(Lookup(TABLE, ("c", "size"), conditions, **more), _KEYS)  # type: ignore[arg-type]


def _where(made: Statement) -> str:
    return made.text.partition(" WHERE ")[2]


def test_a_partition() -> None:
    """Its key, in the key's order, as bytes."""
    made = _asked(_Q, _P)
    assert made.text == 'SELECT "p", "c", "size" FROM "demo"."t" WHERE "p" = ? AND "q" = ?'
    assert made.values == (b"x", b"\0\0\0\1")


def test_what_is_static_shows_a_partition_without_rows() -> None:
    """So it is always asked for."""
    columns = (*_COLUMNS, ColumnRow("s", "static", -1, "none", "int"))
    layout = Layout(table_schema(TABLE, columns, {}), _KEYS.layout.types, _KEYS.layout.places)
    keys = Keys(layout, _KEYS.partition, _KEYS.clustering)
    assert '"s"' in translated(Lookup(TABLE, ("p",), (_P, _Q)), keys).text


@pytest.mark.parametrize(
    ("conditions", "missing"),
    [((), "p and q of"), ((_P,), "CQL needs q of"),
     ((_Q, Condition("c", ">", (_AT,))), "needs p of"),
     ((_Q, Condition("p", ">", ("x",))), "needs p of"),
     ((Condition("size", "=", (1,)),), "p and q of")],
)  # fmt: skip
def test_refusals_name_the_missing_key(conditions: tuple[Condition, ...], missing: str) -> None:
    """And nothing else of it."""
    with pytest.raises(LookupRefused, match=missing):
        _asked(*conditions)


def test_ranges_end_the_key() -> None:
    """Behind a range, and of a time that no millisecond is, CQL is not asked."""
    made = _asked(_P, _Q, Condition("c", ">=", (_AT,)), Condition("c", "<", (Later(0),)))
    assert _where(made) == '"p" = ? AND "q" = ? AND "c" >= ? AND "c" < ?'
    assert made.values[2:] == (struct.pack(">q", 1_767_225_600_000), None)
    odd = _AT.replace(microsecond=1)
    assert _where(_asked(_P, _Q, Condition("c", ">", (odd,)))) == '"p" = ? AND "q" = ?'
    assert _asked(_P, _Q, Condition("c", "=", (odd,))).empty
    after = (
        Condition("c", "=", (_AT,)),
        Condition("u", ">", ("6ecd8c99-4036-403d-bf84-cf8400f67836",)),
    )
    assert _where(_asked(_P, _Q, *after)).endswith('"c" = ?')  # a uuid's order is another one


def test_values_that_no_row_has() -> None:
    """NULL, a number beyond the type: no row, and no error of the node's."""
    assert _asked(_P, Condition("q", "=", (None, 5_000_000_000))).empty
    assert _asked(_P, Condition("q", "=", (None, 5_000_000_000, 2))).values == (b"x", b"\0\0\0\2")
    assert _asked(_P, _Q, Condition("c", ">", (None,))).empty


def test_keys_that_the_node_has_not() -> None:
    """An empty one, or one of too many bytes, would be its error beside others, too."""
    keys = Keys(_KEYS.layout, ("p",))

    def values(*given: str) -> tuple[Statement, tuple[bytes | None, ...]]:
        made = translated(Lookup(TABLE, ("p",), (Condition("p", "=", given),)), keys)
        return made, made.values

    made, found = values("", "x", "y" * 65_536)
    assert (found, made.empty) == ((b"x",), False)
    assert values("")[0].empty
    assert values("y" * 65_535)[1] == (b"y" * 65_535,)


def test_limits_only_where_nothing_is_left_to_filter() -> None:
    """And only in the order in which the rows lie, or the other way."""

    def tail(*conditions: Condition, **more: object) -> str:
        return _where(_asked(_P, _Q, *conditions, limit=5, **more)).partition('"q" = ?')[2]

    assert tail() == " LIMIT 5"
    assert tail(complete=False) == ""
    assert tail(Condition("size", "=", (1,))) == ""
    assert tail(order=(("c", True),)) == ' ORDER BY "c" DESC LIMIT 5'
    assert tail(order=(("q", True), ("c", False))) == ' ORDER BY "c" ASC LIMIT 5'
    assert tail(order=(("size", True),)) == ""
    assert tail(order=(("c", True), ("u", False))) == ""  # by a timeuuid's time, there
    assert tail(order=(("c", True), ("size", False))) == ""
    several = (_P, Condition("q", "=", (1, 2)))
    assert "LIMIT" not in _asked(*several, limit=5, order=(("c", True),)).text
    assert "LIMIT" not in _asked(_P, _Q, limit=0).text


def test_many_keys_are_refused() -> None:
    """Each is a question of its own for the node."""
    with pytest.raises(LookupRefused, match="101 keys"):
        _asked(_P, Condition("q", "=", tuple(range(101))))


def test_indexes() -> None:
    """Storage-attached ones before one of another kind; equality only."""
    kind, color = Condition("kind", "=", ("a",)), Condition("color", "=", ("r",))
    assert _where(_asked(color, kind, limit=3)) == '"kind" = ?'
    assert _where(_asked(color, limit=3)) == '"color" = ? LIMIT 3'
    for refused in (Condition("kind", ">", ("a",)), Condition("kind", "=", ("a", "b"))):
        with pytest.raises(LookupRefused, match="p and q"):
            _asked(refused)
    for odd in ("", "x" * 1001):
        with pytest.raises(LookupRefused, match="may not hold"):
            _asked(Condition("kind", "=", (odd,)))


def test_which_indexes_mean_equality() -> None:
    """Not those of words, of a collection's parts, or of an unknown kind."""
    attached = {"class_name": "StorageAttachedIndex", "target": "e"}
    assert read_index("COMPOSITES", {"target": '"Odd"'}) == Index("Odd", attached=False)
    assert read_index("CUSTOM", attached) == Index("e", attached=True)
    near = read_index("CUSTOM", {**attached, "similarity_function": "EUCLIDEAN"})
    assert near == Index("e", attached=True, similarity="euclidean")
    assert read_index("CUSTOM", {**attached, "case_sensitive": "false"}) is None
    assert read_index("COMPOSITES", {"target": "values(tags)"}) is None
    sasi = {**attached, "class_name": "org.apache.cassandra.index.sasi.SASIIndex"}
    assert read_index("CUSTOM", sasi) is None


def test_the_nearest() -> None:
    """By the index whose function the operator is; in one partition exactly, without it."""
    nearest = Nearest("e", "<=>", "[1, .5]")
    made = _asked(nearest=nearest, limit=3)
    assert made.text.endswith('FROM "demo"."t" ORDER BY "e" ANN OF ? LIMIT 3')
    assert made.values == (struct.pack(">2f", 1, 0.5),)
    assert made.approximate
    exact = _asked(_P, _Q, nearest=nearest, limit=3)
    assert "LIMIT" not in exact.text
    assert not exact.approximate
    refused: list[tuple[str, dict[str, object], tuple[Condition, ...]]] = [
        ("its own is cosine", {"nearest": Nearest("e", "<->", "[1, 2]"), "limit": 3}, ()),
        ("LIMIT from 1", {"nearest": nearest}, ()),
        ("LIMIT from 1", {"nearest": nearest, "limit": 1001}, ()),
        ("only be filtered", {"nearest": nearest, "limit": 3}, (Condition("size", "=", (1,)),)),
        ("only be filtered", {"nearest": nearest, "limit": 3, "complete": False}, ()),
    ]
    for why, more, conditions in refused:
        with pytest.raises(LookupRefused, match=why):
            _asked(*conditions, **more)
