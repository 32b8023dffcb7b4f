"""The contract's own copy: cells and deletions in any order and number, and a table that broke."""

from __future__ import annotations

from itertools import permutations

import pyarrow as pa
import pytest

from htapkit.model import (
    DELETIONS,
    Broken,
    ChangeBatch,
    Column,
    Position,
    SqlType,
    TableId,
    TableSchema,
    cells_arrow,
)
from htapkit.testing.follower import Follower, covers_nothing
from htapkit.testing.merged import MergedTable, Rows

V = 7
SCHEMA = TableSchema(
    TableId("events", "demo", "first"),
    (Column("id", SqlType("int4", 23), 1), Column("v", SqlType("text", 25), V)),
    ("id",),
    reconciled=True,
)


def _cell(
    id_: int, ordinal: int | None, rank: bytes, value: str | None, tie: bytes | None = None
) -> pa.RecordBatch:
    row = {"place": bytes([id_]), "k0": id_, "ordinal": ordinal, "rank": rank, "tie": tie}
    return pa.RecordBatch.from_pylist([{**row, "value": value}], schema=cells_arrow(SCHEMA))


def _gone(
    low: int, rank: bytes, *, high: int | None = None, ordinal: int | None = None
) -> pa.RecordBatch:
    end = None if high is None else bytes([high])
    row = {"low": bytes([low]), "high": end, "ordinal": ordinal, "rank": rank}
    return pa.RecordBatch.from_pylist([row], schema=DELETIONS)


@pytest.mark.parametrize(
    ("written", "rows"),
    [
        ([_cell(1, None, b"a", ""), _cell(1, V, b"a", "x")], {1: "x"}),
        ([_cell(1, V, b"a", "x"), _cell(1, V, b"b", "w"), _cell(1, V, b"aa", "z")], {1: "w"}),
        ([_cell(1, V, b"a", "x"), _cell(1, V, b"a", "y")], {1: "y"}),
        ([_cell(1, V, b"a", "x", b"2"), _cell(1, V, b"a", "y", b"1")], {1: "x"}),
        ([_cell(1, None, b"a", ""), _cell(1, V, b"b", None), _cell(1, V, b"a", "x")], {1: None}),
        ([_cell(1, V, b"b", None), _cell(1, V, b"a", "x")], {}),
        ([_cell(1, V, b"a", "x"), _gone(1, b"b"), _gone(1, b"0")], {}),
        ([_cell(1, V, b"b", "x"), _gone(1, b"b")], {1: "x"}),
        ([_cell(1, None, b"a", ""), _cell(1, V, b"a", "x"), _gone(1, b"b", ordinal=V)], {1: None}),
        (
            [_cell(1, V, b"a", "x"), _cell(2, V, b"a", "y"), _gone(0, b"b", high=2)],
            {2: "y"},
        ),
        (
            [_cell(1, None, b"a", ""), _cell(1, V, b"a", "x"), _gone(1, b"b", high=2, ordinal=V)],
            {1: None},
        ),
    ],
)
def test_order_and_repetition_do_not_matter(written: list[pa.RecordBatch], rows: Rows) -> None:
    """The largest rank and tie is read, unless a deletion is above it."""
    for order in permutations(written):
        merged = MergedTable(SCHEMA)
        for batch in (*order, order[0]):
            merged.load(batch)
        assert merged.rows() == rows


def test_a_broken_table_is_no_copy() -> None:
    """A stream that breaks a table of the contract does not pass as one without changes."""
    end = Position("1")
    batch = ChangeBatch("events", (Broken(SCHEMA.table, "odd"),), (end,), end, None)
    with pytest.raises(AssertionError, match="odd"):
        Follower([SCHEMA]).apply(batch, covers_nothing)
