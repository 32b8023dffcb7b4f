"""Ranges by key: which tables are cut, which keys are where, and what the server is asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from itertools import pairwise

import pyarrow as pa
import pytest

from htapkit.model import Column, Split, SqlType, Storage, TableId, TableSchema
from htapkit_postgres import ranges

TABLE = TableId("shop", "public", "t")


def splits(*bounds: str) -> list[Split]:
    ends = [None, *bounds, None]
    return [Split(TABLE, json.dumps({"low": low, "high": high}), 1) for low, high in pairwise(ends)]


def placed(bounds: Sequence[str], keys: Sequence[object], type_: pa.DataType) -> list[int]:
    batch = pa.record_batch([pa.array(keys, type_), pa.nulls(len(keys))], names=["k", "w"])
    found: list[int] = ranges.place(splits(*bounds), batch).to_pylist()
    return found


def test_a_bound_is_the_first_key_of_its_range() -> None:
    """And beyond the bounds there are ranges, too."""
    keys = [-(2**63), 9, 10, 19, 20, 2**63 - 1]
    assert placed(["10", "20"], keys, pa.int64()) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("bound", "below", "at", "type_"),
    [
        ("2026-01-02", date(2026, 1, 1), date(2026, 1, 2), pa.date32()),
        ("2026-01-02", -(2**31) + 1, 2**31 - 1, pa.date32()),
        (
            "2026-01-02 03:04:05.000001+00",
            datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            datetime(2026, 1, 2, 3, 4, 5, 1, tzinfo=UTC),
            pa.timestamp("us", "UTC"),
        ),
        ("2026-01-02 03:04:05.1", -(2**63) + 1, 2**63 - 1, pa.timestamp("us")),
        ("b", "B", "b", pa.string()),
        ("\U00010000", "\uffff", "\U00010000", pa.string()),
        (
            "80000000-0000-0000-0000-000000000000",
            "7fffffff-ffff-ffff-ffff-ffffffffffff",
            "80000000-0000-0000-0000-000000000000",
            pa.string(),
        ),
    ],
)
def test_types_are_placed_as_the_server_orders_them(
    bound: str, below: object, at: object, type_: pa.DataType
) -> None:
    """Infinities at the ends, text by its bytes."""
    assert placed([bound], [below, at], type_) == [0, 1]


def test_what_the_server_is_asked_for() -> None:
    """Quoted, and open at both ends."""
    column = Column('k"', SqlType("text", 25), 1)
    schema = TableSchema(TABLE, (column,), ('k"',))
    asked = [ranges.condition(schema, split.token) for split in splits("it's", "z")]
    assert asked == [
        """WHERE "k""" + '""" < ' + "'it''s'",
        """WHERE "k""" + '""" >= ' + "'it''s'" + ' AND "k""" < ' + "'z'",
        """WHERE "k""" + '""" >= ' + "'z'",
    ]
    assert ranges.condition(schema, "[[1, 2]]") is None


@pytest.mark.parametrize(
    ("column", "cut"),
    [
        (Column("k", SqlType("int4", 23), 1), True),
        (Column("k", SqlType("uuid", 2950), 1), True),
        (Column("k", SqlType("text", 25), 1), True),
        (Column("k", SqlType("text", 25), 1, binary_order=False), False),
        (Column("k", SqlType("text", 25), 1, deterministic=False), False),
        (Column("k", SqlType("bpchar", 1042, 9), 1), False),
        (Column("k", SqlType("numeric", 1700), 1), False),
        (Column("k", SqlType("timestamp", 1114), 1, storage=Storage.TEXT), False),
        (Column("k", SqlType("mood", 70000, category="e"), 1), False),
    ],
)
def test_only_orders_that_both_sides_share(column: Column, cut: bool) -> None:
    """Another order would put a changed row into the wrong range."""
    assert ranges.ordered(column) == cut
