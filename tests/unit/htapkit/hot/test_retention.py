"""The horizon: what lies below it is seen by nobody, and no later change brings it back."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from htapkit.errors import CatalogChanged, StoreError
from htapkit.hot import HotStore, less_old
from htapkit.model import Horizon, SchemaChange, SqlType, TableState
from tests.unit.htapkit.hot.building import (
    INT8,
    TEXT,
    TIMESTAMPTZ,
    Rows,
    batch_of,
    covers,
    position,
    record_batch,
    schema_of,
)
from tests.unit.htapkit.hot.lakes import (
    DAY,
    ROWS,
    TS,
    PlainLake,
    T,
    at,
    opened,
    tier,
    whole_rows,
)
from tests.unit.htapkit.hot.test_store import follow, rows_of, state

SINCE = Horizon(TS, 2 * DAY)
YOUNG = ROWS[1:]


def test_old_rows_leave_hot_and_are_hidden_in_the_lake(store: HotStore, lake: PlainLake) -> None:
    follow(store, T, [*ROWS, (5, at(1.5), "late")])
    tier(store, lake, T, 3 * DAY, TS)
    store.apply(batch_of(1, Rows(T).insert(6, at(0.5), "later").changes()), covers)
    version = store.catalog.version
    assert store.retain(T.table, SINCE) == 1, "6 was hot"
    assert store.catalog.version > version, "plans were made without the horizon"
    assert store.catalog.tables[T.table].horizon == SINCE
    assert whole_rows(store, lake, T) == YOUNG
    assert rows_of(store, T) == ROWS[2:]


@pytest.mark.parametrize("tiered", [True, False])
def test_changes_below_the_horizon_are_not_taken_in(
    store: HotStore, lake: PlainLake, *, tiered: bool
) -> None:
    follow(store, T, ROWS)
    if tiered:
        tier(store, lake, T, 3 * DAY, TS)
    store.retain(T.table, SINCE)
    changes = Rows(T)
    changes.insert(7, at(1), "late")
    changes.update(1, at(0), "still old")
    changes.update(2, at(1), "became old")
    changes.delete(7)
    changes.insert(8, at(-3), "late, too")
    changes.insert(9, at(2), "just young enough")
    store.apply(batch_of(1, changes.changes()), covers)
    expected = [*ROWS[2:], (9, at(2), "just young enough")]
    assert whole_rows(store, lake, T) == expected
    # What was dropped changes, goes, and becomes young again.
    changes = Rows(T)
    changes.delete(8)
    changes.update(1, at(9), "young again")
    changes.update(10, at(9), "moved", before=(2,))
    store.apply(batch_of(2, changes.changes()), covers)
    expected += [(1, at(9), "young again"), (10, at(9), "moved")]
    assert whole_rows(store, lake, T) == sorted(expected, key=str)
    assert state(store, T)[0] is TableState.FOLLOWING
    tier(store, lake, T, 3 * DAY, TS)
    assert whole_rows(store, lake, T) == sorted(expected, key=str)


def test_a_value_that_was_not_sent_of_a_row_that_was_dropped(
    store: HotStore, lake: PlainLake
) -> None:
    """The lake still has the row, but not the value that it had in the end."""
    follow(store, T, ROWS)
    tier(store, lake, T, 4 * DAY, TS)
    store.retain(T.table, SINCE)
    store.apply(batch_of(1, Rows(T).update(2, at(1), "other").changes()), covers)
    old = Rows(T).update(2, at(0), None, skip=["s"])
    store.apply(batch_of(2, old.changes()), covers)
    assert state(store, T)[0] is TableState.FOLLOWING, "nobody needs the value of an old row"
    young = Rows(T).update(3, at(5), None, skip=["s"])
    store.apply(batch_of(3, young.changes()), covers)
    assert whole_rows(store, lake, T) == [(3, at(5), "three"), ROWS[3]]
    young = Rows(T).update(2, at(5), None, skip=["s"])
    store.apply(batch_of(4, young.changes()), covers)
    assert state(store, T)[0] is TableState.COPYING


def test_one_batch_in_which_a_value_is_not_sent(store: HotStore, lake: PlainLake) -> None:
    """Of two rows that leave a value out only one comes in: its value is the one it had."""
    follow(store, T, ROWS)
    tier(store, lake, T, 4 * DAY, TS)
    store.retain(T.table, SINCE)
    changes = Rows(T)
    changes.update(1, at(1), None, skip=["s"])
    changes.update(2, at(1), None, skip=["s"])
    changes.update(3, at(6), None, skip=["s"])
    changes.update(4, at(7), None, skip=["s"])
    store.apply(batch_of(1, changes.changes()), covers)
    assert whole_rows(store, lake, T) == [(3, at(6), "three"), (4, at(7), "four")]


def test_a_new_copy_has_no_old_rows(store: HotStore, lake: PlainLake) -> None:
    follow(store, T, ROWS)
    store.retain(T.table, SINCE)
    follow(store, T, ROWS)
    assert rows_of(store, T) == YOUNG
    # On somebody's word it may begin earlier, or have everything.
    store.copy_from(T.table, Horizon(TS, DAY), "asked")
    assert state(store, T)[0] is TableState.COPYING
    store.start_copy(T, "", position(0))
    store.load(T.table, [record_batch(T.arrow, [*ROWS, (5, at(0.5), "old")])])
    store.finish_copy(T.table, covers)
    assert rows_of(store, T) == ROWS
    assert store.catalog.tables[T.table].horizon == Horizon(TS, DAY)


def test_changes_beside_a_copy(store: HotStore, lake: PlainLake) -> None:
    """What is kept aside meanwhile is judged as everything else."""
    follow(store, T, ROWS)
    store.retain(T.table, SINCE)
    store.copy_again(T.table, "asked")
    store.start_copy(T, "", position(0))
    changes = Rows(T).insert(8, at(1), "late").update(1, at(0), "old").update(2, at(1), "old")
    store.apply(batch_of(1, changes.changes()), covers)
    store.load(T.table, [record_batch(T.arrow, ROWS)])
    store.finish_copy(T.table, covers)
    assert rows_of(store, T) == ROWS[2:]


def test_the_horizon_only_moves_forward(store: HotStore, lake: PlainLake, tmp_path: Path) -> None:
    follow(store, T, ROWS)
    store.retain(T.table, SINCE)
    assert store.retain(T.table, Horizon(TS, DAY)) == 0
    assert store.catalog.tables[T.table].horizon == SINCE
    with pytest.raises(StoreError, match="another time column"):
        store.retain(T.table, Horizon(1, 9 * DAY))
    store.set_state(T.table, TableState.PAUSED, "asked")
    with pytest.raises(CatalogChanged, match="paused"):
        store.retain(T.table, Horizon(TS, 9 * DAY))
    store.set_state(T.table, TableState.FOLLOWING, "")
    store.close()
    with opened(tmp_path / "hot.duckdb", lake) as again:
        assert again.catalog.tables[T.table].horizon == SINCE
        again.apply(batch_of(1, Rows(T).insert(7, at(1), "late").changes()), covers)
        assert rows_of(again, T) == YOUNG
        again.drop_table(T.table)
        follow(again, T, ROWS, at=1)
        assert rows_of(again, T) == ROWS


def test_the_column_goes(store: HotStore, lake: PlainLake) -> None:
    """Without it nothing can be said of the rows that were dropped: they come back."""
    follow(store, T, ROWS)
    store.retain(T.table, SINCE)
    without = schema_of("t", {"id": INT8, "s": TEXT})
    store.change_schema(SchemaChange(without, faithful=True))
    assert state(store, T)[0] is TableState.COPYING
    follow(store, without, [(row[0], row[2]) for row in ROWS])
    assert len(rows_of(store, without)) == len(ROWS)
    assert store.catalog.tables[T.table].horizon is None


@pytest.mark.parametrize(
    ("type_", "values", "kept"),
    [
        (
            SqlType("date", 1082),
            [date(1970, 1, 2), date(1970, 1, 3), date(1, 1, 1), None],
            [date(1970, 1, 3), None],
        ),
        (
            TIMESTAMPTZ,
            [datetime(1970, 1, 2, 23, 59, 59, 999_999, UTC), at(2), None],
            [at(2), None],
        ),
    ],
)
def test_which_values_are_too_old(type_: SqlType, values: list[Any], kept: list[Any]) -> None:
    schema = schema_of("t", {"id": INT8, "ts": type_})
    rows = record_batch(schema.arrow, [(n, value) for n, value in enumerate(values)])
    assert less_old(schema, SINCE, rows).column(1).to_pylist() == kept
    assert less_old(schema, None, rows) is rows


def test_infinite_times_are_kept() -> None:
    schema = schema_of("t", {"id": INT8, "ts": TIMESTAMPTZ, "day": SqlType("date", 1082)})
    endless = 2**63 - 1
    times = pa.array([endless, -endless, -endless + 1], pa.int64()).cast(schema.arrow.types[1])
    days = pa.array([2**31 - 1, -(2**31) + 1, -(2**31) + 2], pa.int32()).cast(pa.date32())
    rows = pa.record_batch([pa.array([1, 2, 3]), times, days], schema=schema.arrow)
    for ordinal in (2, 3):
        young = less_old(schema, Horizon(ordinal, 2 * DAY), rows)
        assert young.column(0).to_pylist() == [1, 2]
