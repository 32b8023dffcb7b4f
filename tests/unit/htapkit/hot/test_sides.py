"""Readings of one table: which keys they do not have in common."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from htapkit.hot import Sides
from htapkit.model import Column, SqlType, TableId, TableSchema

_INT, _TEXT = SqlType("int4", 23), SqlType("text", 25)
SCHEMA = TableSchema(
    TableId("events", "demo", "t"),
    (Column("p", _INT, 1, nullable=False), Column("c", _INT, 2), Column("v", _TEXT, 3)),
    ("p", "c"),
    reconciled=True,
)
Row = tuple[int, int | None, str | None]
ROWS: Sequence[Row] = [(1, 1, "a"), (1, 2, None), (2, None, "shared"), (3, 0, "same")]


def _batch(rows: Sequence[Row]) -> pa.RecordBatch:
    names = SCHEMA.arrow.names
    return pa.RecordBatch.from_pylist(
        [dict(zip(names, row, strict=True)) for row in rows], schema=SCHEMA.arrow
    )


def _unequal(one: Sequence[Row], other: Sequence[Row], most: int = 9) -> list[tuple[object, ...]]:
    with Sides(SCHEMA) as sides:
        for name, rows in (("one", one), ("other", other)):
            sides.begin(name)
            for row in rows:  # in any number of batches
                sides.take(name, _batch([row]))
            assert sides.rows(name) == len(rows)
        found = sides.unequal("one", "other", most)
    assert found.schema == pa.schema([SCHEMA.arrow.field(name) for name in SCHEMA.key])
    return sorted((tuple(row.values()) for row in found.to_pylist()), key=repr)


def test_the_same_rows_in_another_order() -> None:
    assert _unequal(ROWS, ROWS[::-1]) == []
    assert _unequal([], []) == []


def test_rows_that_differ_by_their_keys() -> None:
    """Another value, also NULL; on one side only, also with a key that is not whole; twice."""
    other = [(1, 1, "b"), (1, 2, ""), (3, 0, "same"), (3, 0, "same"), (4, 4, "new")]
    expected = sorted([(1, 1), (1, 2), (2, None), (3, 0), (4, 4)], key=repr)
    assert _unequal(ROWS, other) == expected
    assert _unequal(other, ROWS) == expected
    assert len(_unequal(ROWS, other, most=2)) == 2


def test_only_wanted_rows_are_taken() -> None:
    """By their whole key, of which a part may be NULL."""
    wanted = pa.Table.from_batches([_batch([ROWS[1], ROWS[2]])]).select(["p", "c"])
    with Sides(SCHEMA, pa.concat_tables([wanted, wanted])) as sides:
        for name in ("one", "other"):
            sides.begin(name)
        sides.take("one", _batch(ROWS))
        assert sides.rows("one") == 2
        found = sides.unequal("one", "other", 9).to_pylist()
    assert sorted(found, key=repr) == [{"p": 1, "c": 2}, {"p": 2, "c": None}]
