"""Columns: field ids stay with the source's columns, through every change of its schema."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.types import ListType

from htapkit.errors import LakeRefused
from htapkit.lake import Lake
from htapkit.model import Column, Layout, SqlType, TableSchema
from tests.unit.htapkit.lake.building import (
    DAY,
    LAYOUT,
    ORDERS,
    TABLE,
    batch,
    column,
    keys,
    lake_in,
    model,
    numeric,
    other_engine,
    rows_of,
    run,
)

FIRST = [(1, 0, "one"), (2, DAY, "two")]
ID, AT, NOTE = ORDERS.columns


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with lake_in(tmp_path) as opened:
        yield opened


def with_columns(*columns: Column) -> TableSchema:
    return replace(ORDERS, columns=columns)


def test_added_renamed_dropped(lake: Lake) -> None:
    """Old files are read under the new names; an added column is NULL in them."""
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    renamed = with_columns(ID, AT, replace(NOTE, name="remark"), column("n", "int4", 4))
    pin = lake.commit(run(2), renamed, LAYOUT, base, None, [batch(renamed, [(3, 0, "three", 3)])])
    assert rows_of(lake, pin, renamed) == model(
        [(1, 0, "one", None), (2, DAY, "two", None), (3, 0, "three", 3)]
    )
    shorter = with_columns(ID, AT, column("n", "int4", 4))
    pin = lake.commit(run(3), shorter, LAYOUT, pin, keys(ORDERS, [2]), [])
    assert rows_of(lake, pin, shorter) == model([(1, 0, None), (3, 0, 3)])
    assert set(lake.files(TABLE, pin, None, None).columns) == {1, 2, 4}
    assert rows_of(lake, base, ORDERS) == model(FIRST)


def test_dropped_and_added_again_is_another_column(lake: Lake) -> None:
    """The same name with another ordinal does not show the old values."""
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    again = with_columns(ID, AT, column("note", "text", 7))
    pin = lake.commit(run(2), again, LAYOUT, base, None, [batch(again, [(3, 0, "new")])])
    assert rows_of(lake, pin, again) == model([(1, 0, None), (2, DAY, None), (3, 0, "new")])
    fields = lake.files(TABLE, pin, None, None).columns
    assert fields[7].field != lake.files(TABLE, base, None, None).columns[3].field


def test_names_can_be_swapped(lake: Lake) -> None:
    """Two columns that exchange their names keep their values."""
    schema = with_columns(ID, AT, column("a", "text", 3), column("b", "text", 4))
    base = lake.commit(run(1), schema, LAYOUT, None, None, [batch(schema, [(1, 0, "x", "y")])])
    swapped = with_columns(ID, AT, column("b", "text", 3), column("a", "text", 4))
    pin = lake.commit(run(2), swapped, LAYOUT, base, None, [batch(swapped, [(2, 0, "x", "y")])])
    assert rows_of(lake, pin, swapped) == model([(1, 0, "x", "y"), (2, 0, "x", "y")])


def test_the_key_and_the_time_can_be_renamed(lake: Lake) -> None:
    """Partitions, statistics and keys go by field id."""
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    renamed = replace(
        ORDERS,
        columns=(replace(ID, name="number"), replace(AT, name="moment"), NOTE),
        key=("number",),
    )
    pin = lake.commit(
        run(2),
        renamed,
        Layout("moment"),
        base,
        keys(renamed, [1]),
        [batch(renamed, [(3, 2 * DAY, "three")])],
    )
    assert rows_of(lake, pin, renamed) == model([(2, DAY, "two"), (3, 2 * DAY, "three")])
    assert len(lake.files(TABLE, pin, DAY, 2 * DAY).paths) == 1


@pytest.mark.parametrize(
    ("old", "value", "new", "expected"),
    [
        (column("v", "int2", 3), 5, column("v", "int8", 3), "long"),
        (column("v", "int4", 3), 2**31 - 1, column("v", "int8", 3), "long"),
        (column("v", "float4", 3), 0.5, column("v", "float8", 3), "double"),
        (numeric("v", 3, 5, 2), 7, numeric("v", 3, 20, 2), "decimal(20, 2)"),
        (column("v", "int8", 3), 5, column("v", "int4", 3), "long"),
        (numeric("v", 3, 20, 2), 7, numeric("v", 3, 5, 2), "decimal(20, 2)"),
        (column("v", "varchar", 3), "x", column("v", "text", 3), "string"),
    ],
)
def test_types_that_fit(lake: Lake, old: Column, value: object, new: Column, expected: str) -> None:
    """Wider types are promoted, narrower ones stay wide; old and new files read alike."""
    before, after = with_columns(ID, AT, old), with_columns(ID, AT, new)
    base = lake.commit(run(1), before, LAYOUT, None, None, [batch(before, [(1, 0, value)])])
    pin = lake.commit(run(2), after, LAYOUT, base, None, [batch(after, [(2, 0, value)])])
    assert rows_of(lake, pin, after) == model([(1, 0, value), (2, 0, value)])
    assert lake.files(TABLE, pin, None, None).columns[3].type == expected
    assert lake.files(TABLE, base, None, None).columns[3].type != ""
    pin = lake.commit(run(3), after, LAYOUT, pin, keys(after, [9]), [batch(after, [(3, 0, None)])])
    pin = lake.compact(TABLE, pin)
    assert rows_of(lake, pin, after) == model([(1, 0, value), (2, 0, value), (3, 0, None)])


def test_a_promoted_key_is_still_found(lake: Lake) -> None:
    """Statistics that were written with 4 bytes are compared with 8-byte keys."""
    small = replace(ORDERS, columns=(replace(ID, type=column("id", "int4", 1).type), AT, NOTE))
    rows = [(-5, 0, ""), (2, 0, ""), (2**31 - 1, DAY, "")]
    base = lake.commit(run(1), small, LAYOUT, None, None, [batch(small, rows)])
    pin = lake.commit(run(2), ORDERS, LAYOUT, base, keys(ORDERS, [-5, 2**31 - 1, 2**40]), [])
    assert rows_of(lake, pin, ORDERS) == model([(2, 0, "")])


UNPROMOTABLE = [
    (column("v", "int4", 3), column("v", "text", 3)),
    (numeric("v", 3, 5, 2), numeric("v", 3, 5, 3)),
    (column("v", "timestamp", 3), column("v", "timestamptz", 3)),
]


@pytest.mark.parametrize(("old", "new"), UNPROMOTABLE)
def test_types_that_do_not_fit_are_refused(lake: Lake, old: Column, new: Column) -> None:
    """Rows that are there would lose their values; nothing happens."""
    before, after = with_columns(ID, AT, old), with_columns(ID, AT, new)
    base = lake.commit(run(1), before, LAYOUT, None, None, [batch(before, [(1, 0, None)])])
    with pytest.raises(LakeRefused, match="copy the table again"):
        lake.commit(run(2), after, LAYOUT, base, None, [])
    assert lake.find(run(2), TABLE) is None


@pytest.mark.parametrize(("old", "new"), UNPROMOTABLE)
def test_anew_every_type_fits(lake: Lake, old: Column, new: Column) -> None:
    """A table that was copied again starts with a new field; the old version keeps its own."""
    before, after = with_columns(ID, AT, old), with_columns(ID, AT, new)
    base = lake.commit(run(1), before, LAYOUT, None, None, [batch(before, [(1, 0, None)])])
    pin = lake.commit(run(2), after, LAYOUT, None, None, [batch(after, [(2, 0, None)])])
    first, second = (lake.files(TABLE, each, None, None).columns[3] for each in (base, pin))
    assert first.field != second.field
    assert first.type != second.type
    # And back again, on top of the old version, as if the second run had never been.
    third = lake.commit(run(3), before, LAYOUT, base, None, [batch(before, [(3, 0, None)])])
    assert lake.files(TABLE, third, None, None).columns[3] == first
    assert rows_of(lake, third, before) == model([(1, 0, None), (3, 0, None)])


def test_partition_and_order_can_change(lake: Lake) -> None:
    """Old files keep their partitions, and are pruned and written again all the same."""
    rows = [(n, n * DAY // 4, "") for n in range(40)]
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, rows)])
    monthly = Layout("at", "month", sort=("at",))
    pin = lake.commit(run(2), ORDERS, monthly, base, keys(ORDERS, [0, 39]), [])
    assert rows_of(lake, pin, ORDERS) == model(rows[1:-1])
    assert len(lake.files(TABLE, pin, 4 * DAY, 5 * DAY).paths) == 1
    back = lake.commit(run(3), ORDERS, LAYOUT, pin, keys(ORDERS, [1]), [])
    assert rows_of(lake, back, ORDERS) == model(rows[2:-1])


def test_another_time_column(lake: Lake) -> None:
    """A table whose time column changes starts anew, with another partition field."""
    schema = with_columns(ID, AT, column("seen", "timestamp", 3))
    row = pa.RecordBatch.from_arrays(
        [
            pa.array([1], pa.int64()),
            *(
                pa.array([n], pa.int64()).cast(schema.arrow.field(i).type)
                for i, n in ((1, 5 * DAY), (2, 0))
            ),
        ],
        schema=schema.arrow,
    )
    first = lake.commit(run(1), schema, LAYOUT, None, None, [row])
    second = lake.commit(run(2), schema, Layout("seen"), None, None, [row])
    assert len(lake.files(TABLE, first, 5 * DAY, None).paths) == 1
    assert len(lake.files(TABLE, second, 5 * DAY, None).paths) == 0
    without = with_columns(ID, column("seen", "timestamp", 3))
    third = lake.commit(run(3), without, Layout("seen"), second, keys(ORDERS, [1]), [])
    assert third.rows == 0


def test_vectors_are_lists_whose_elements_keep_their_ids(lake: Lake, tmp_path: Path) -> None:
    """Of a column that came later, too, and of a second one, whatever their names become."""
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    first = with_columns(ID, AT, NOTE, _vector("v", 4, 2))
    rows = [(3, 0, "three", [0.5, -0.0]), (4, DAY, "four", None)]
    pin = lake.commit(run(2), first, LAYOUT, base, None, [batch(first, rows)])
    assert _lists(tmp_path) == {"v": (4, 5)}
    second = with_columns(ID, AT, _vector("w", 5, 3), _vector("renamed", 4, 2))
    added = batch(second, [(5, 0, [1.0, 2.0, 3.0], [4.0, 5.0])])
    lake.commit(run(3), second, LAYOUT, pin, keys(ORDERS, [2]), [added])
    assert _lists(tmp_path) == {"renamed": (4, 5), "w": (6, 7)}
    found = other_engine(tmp_path).scan().to_arrow().sort_by("id").to_pylist()
    assert [(row["id"], row["w"], row["renamed"]) for row in found] == [
        (1, None, None),
        (3, None, [0.5, -0.0]),
        (4, None, None),
        (5, [1.0, 2.0, 3.0], [4.0, 5.0]),
    ]


def _vector(name: str, ordinal: int, size: int) -> Column:
    return Column(name, SqlType("json", 114, size, "v"), ordinal)


def _lists(folder: Path) -> dict[str, tuple[int, int]]:
    """The field ids of each list and of its elements."""
    fields = other_engine(folder).schema().fields
    return {
        field.name: (field.field_id, field.field_type.element_id)
        for field in fields
        if isinstance(field.field_type, ListType)
    }
