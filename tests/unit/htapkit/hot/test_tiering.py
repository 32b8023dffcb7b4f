"""Runs, boundaries and tombstones: hot rows and lake rows together are the table at all times."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from htapkit.errors import CatalogChanged, StoreError
from htapkit.hot import HotStore
from htapkit.model import (
    Column,
    Pin,
    RunState,
    SchemaChange,
    TableSchema,
    TableState,
    Truncate,
)
from tests.unit.htapkit.hot.building import (
    INT4,
    INT8,
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
    beside,
    boundary_of,
    tier,
    whole_rows,
    write_run,
)
from tests.unit.htapkit.hot.test_store import follow, rows_of, state


def test_a_run_moves_what_is_below_the_line(store: HotStore, lake: PlainLake) -> None:
    follow(store, T, ROWS)
    version = store.catalog.version
    export = store.begin_run("a", {T.table: 3 * DAY}, {T.table: TS})
    assert store.catalog.version == version, "nothing that can be read changed"
    assert export.run.position == position(0)
    assert export.count(T.table) == 2
    assert store.runs() == (export.run,)
    pins = write_run(lake, export, [T.table])
    export.close()
    assert whole_rows(store, lake, T) == ROWS
    store.finish_run("a", pins)
    assert store.runs() == ()
    assert store.catalog.version > version
    boundary = boundary_of(store)
    assert (boundary.column, boundary.below, boundary.pin) == (TS, 3 * DAY, pins[T.table])
    assert boundary.position == position(0)
    assert rows_of(store, T) == ROWS[2:]
    assert store.catalog.tables[T.table].rows == 2
    assert whole_rows(store, lake, T) == ROWS
    assert store.patches(T.table) == (0, 0)


def test_changes_of_tiered_rows(store: HotStore, lake: PlainLake) -> None:
    follow(store, T, ROWS)
    tier(store, lake, T, 3 * DAY, TS)
    changes = Rows(T)
    changes.delete(1)
    changes.update(7, at(9), "moved", before=(2,))  # the key and the time leave the lake
    changes.update(2, at(1), "back", before=(3,))  # into the key that became free, and late
    store.apply(batch_of(1, changes.changes()), covers)
    expected = [(2, at(1), "back"), (4, None, "four"), (7, at(9), "moved")]
    assert whole_rows(store, lake, T) == expected
    assert store.patches(T.table) == (2, 1)
    # A fold brings it all into the lake.
    tier(store, lake, T, 3 * DAY, TS)
    assert whole_rows(store, lake, T) == expected
    assert store.patches(T.table) == (0, 0)
    assert rows_of(store, T) == expected[1:]
    assert boundary_of(store).pin.rows == 1


def test_a_row_that_is_neither_hot_nor_in_the_lake_any_more(
    store: HotStore, lake: PlainLake
) -> None:
    follow(store, T, ROWS)
    tier(store, lake, T, 3 * DAY, TS)
    store.apply(batch_of(1, Rows(T).delete(1).changes()), covers)
    assert state(store, T)[0] is TableState.FOLLOWING
    store.apply(batch_of(2, Rows(T).delete(1).changes()), covers)
    assert state(store, T)[0] is TableState.COPYING
    assert boundary_of(store) is None
    follow(store, T, ROWS, at=2)
    assert whole_rows(store, lake, T) == ROWS


def test_a_deleted_key_comes_back_and_goes_again(store: HotStore, lake: PlainLake) -> None:
    follow(store, T, ROWS)
    tier(store, lake, T, 3 * DAY, TS)
    for number in range(1, 7, 2):
        store.apply(batch_of(number, Rows(T).delete(1).changes()), covers)
        assert whole_rows(store, lake, T) == ROWS[1:]
        again = Rows(T).insert(1, at(1), "one").changes()
        store.apply(batch_of(number + 1, again), covers)
        assert whole_rows(store, lake, T) == ROWS
    assert store.patches(T.table) == (1, 1)


def test_what_changes_during_a_run_stays_hot(store: HotStore, lake: PlainLake) -> None:
    follow(store, T, [(n, at(n / 10), f"v{n}") for n in range(10)])
    model = {n: (n, at(n / 10), f"v{n}") for n in range(10)}
    tier(store, lake, T, DAY // 2, TS)
    store.apply(batch_of(1, Rows(T).delete(0).changes()), covers)
    del model[0]
    export = store.begin_run("b", {T.table: DAY}, {T.table: TS})
    changes = Rows(T)
    changes.insert(0, at(0), "again")  # it has a tombstone, which the run folds
    changes.delete(1)  # in the lake
    changes.update(2, at(0.2), "two")  # in the lake
    changes.delete(6)  # exported
    changes.update(7, at(0.7), "seven")  # exported
    changes.update(88, at(0.8), "moved", before=(8,))
    changes.insert(20, at(0.3), "late")
    store.apply(batch_of(2, changes.changes()), covers)
    assert export.count(T.table) == 5
    pins = write_run(lake, export, [T.table])
    export.close()
    store.finish_run("b", pins)
    for key in (1, 6, 8):
        del model[key]
    model |= {0: (0, at(0), "again"), 2: (2, at(0.2), "two"), 7: (7, at(0.7), "seven")}
    model |= {88: (88, at(0.8), "moved"), 20: (20, at(0.3), "late")}
    assert whole_rows(store, lake, T) == sorted(model.values(), key=str)
    assert len(rows_of(store, T)) == 5
    store.apply(batch_of(3, Rows(T).delete(88).delete(9).changes()), covers)
    del model[88], model[9]
    assert whole_rows(store, lake, T) == sorted(model.values(), key=str)
    tier(store, lake, T, DAY, TS)
    assert whole_rows(store, lake, T) == sorted(model.values(), key=str)
    assert rows_of(store, T) == []


def test_a_run_sees_nothing_of_a_transaction_that_comes_later(
    store: HotStore, lake: PlainLake
) -> None:
    follow(store, T, ROWS)
    with store.begin_run("a", {T.table: 9 * DAY}, {T.table: TS}) as export:
        store.apply(batch_of(1, Rows(T).delete(1).insert(9, at(1), "").changes()), covers)
        keys = [k for b in export.rows(T.table) for k in b.column(0).to_pylist()]
        assert keys == [1, 2, 3]
        assert export.tombstones(T.table).num_rows == 0


def test_a_run_waits_until_a_large_transaction_has_ended(store: HotStore, lake: PlainLake) -> None:
    follow(store, T, ROWS)
    begun = threading.Event()
    exports = []

    def begin() -> None:
        begun.set()
        exports.append(store.begin_run("a", {T.table: 9 * DAY}, {T.table: TS}))

    thread = threading.Thread(target=begin)
    store.apply(batch_of(1, Rows(T).delete(1).changes(), complete=False), covers)
    with pytest.raises(StoreError, match="large transaction"):
        store.begin_run("b", {T.table: 9 * DAY}, {T.table: TS})
    thread.start()
    begun.wait()
    store.apply(batch_of(1, Rows(T).insert(9, at(1), "").changes()), covers)
    thread.join()
    with exports[0] as export:
        assert export.run.position == position(1)
        keys = [k for b in export.rows(T.table) for k in b.column(0).to_pylist()]
    assert keys == [2, 3, 9]
    assert [run.id for run in store.runs()] == ["a"]


WIDER = TableSchema(T.table, (*T.columns, Column("n", INT4, 9)), T.key)


def end(store: HotStore, how: str) -> list[tuple[Any, ...]]:
    """Do what ends the boundary, or only a run; the rows that the table has then."""
    if how == "truncate":
        store.apply(batch_of(2, Truncate((T.table,), 0)), covers)
        return []
    if how == "schema":
        store.apply(batch_of(2, SchemaChange(WIDER, faithful=True)), covers)
        return [(*row, None) for row in ROWS]
    if how == "new copy":
        store.set_state(T.table, TableState.PAUSED, "a test")
        store.start_copy(T, "f", position(1))
        store.load(T.table, [record_batch(T.arrow, ROWS)])
        store.apply(batch_of(2), covers)
        store.finish_copy(T.table, covers)
    elif how == "drop":
        store.drop_table(T.table)
    else:
        store.copy_again(T.table, "a test")
    return ROWS


@pytest.mark.parametrize("during_run", [False, True])
@pytest.mark.parametrize("how", ["truncate", "copy again", "new copy", "drop", "schema"])
def test_what_ends_a_boundary_or_a_run(
    store: HotStore, lake: PlainLake, how: str, *, during_run: bool
) -> None:
    follow(store, T, ROWS)
    tier(store, lake, T, 2 * DAY, TS)
    store.apply(batch_of(1, Rows(T).update(1, at(1), "one").changes()), covers)
    pins = {}
    if during_run:
        with store.begin_run("b", {T.table: 3 * DAY}, {T.table: TS}) as export:
            pins = write_run(lake, export, [T.table])
    expected = end(store, how)
    assert len(store.runs()) == during_run
    for run in store.runs():
        assert run.state is RunState.VOID
        assert str(T.table) in run.why
        with pytest.raises(CatalogChanged, match=r"shop\.public\.t"):
            store.finish_run("b", pins)
        store.drop_run("b")
    assert store.runs() == ()
    if how == "schema":
        assert boundary_of(store).below == 2 * DAY
        assert whole_rows(store, lake, WIDER) == expected
        return
    assert beside(store) == []
    if how in {"copy again", "drop"}:
        store.apply(batch_of(2), covers)
        follow(store, T, ROWS, at=2)
    elif how == "new copy":
        store.set_state(T.table, TableState.FOLLOWING, "")
    assert boundary_of(store) is None
    assert rows_of(store, T) == expected
    tier(store, lake, T, 3 * DAY, TS)
    assert whole_rows(store, lake, T) == expected


def test_a_paused_table_resumes_with_another_name_of_its_key(
    store: HotStore, lake: PlainLake
) -> None:
    follow(store, T, ROWS)
    tier(store, lake, T, 3 * DAY, TS)
    store.set_state(T.table, TableState.PAUSED, "a test")
    named = TableSchema(T.table, (Column("key", INT8, 1), *T.columns[1:]), ("key",))
    changes = Rows(named).delete(1).update(2, at(9), None, skip=["s"])
    renamed = SchemaChange(named, faithful=True)
    store.apply(batch_of(1, Rows(T).delete(3).changes(), renamed, changes.changes()), covers)
    store.set_state(T.table, TableState.FOLLOWING, "")
    assert state(store, named) == (TableState.FOLLOWING, "")
    assert whole_rows(store, lake, named) == [(2, at(9), "two"), ROWS[3]]


def test_a_dropped_run_leaves_nothing(store: HotStore, lake: PlainLake) -> None:
    follow(store, T, ROWS)
    store.begin_run("a", {T.table: 9 * DAY}, {T.table: TS}).close()
    store.apply(batch_of(1, Rows(T).delete(1).changes()), covers)
    store.drop_run("a")
    store.drop_run("a")
    assert store.runs() == ()
    with pytest.raises(CatalogChanged):
        store.finish_run("a", {})
    tier(store, lake, T, 9 * DAY, TS)
    assert whole_rows(store, lake, T) == ROWS[1:]


def test_what_cannot_be_tiered_is_refused(store: HotStore, lake: PlainLake) -> None:
    follow(store, T, ROWS)
    whole = schema_of("w", {"a": INT4, "ts": TIMESTAMPTZ}, key=(), whole_rows=True)
    follow(store, whole, [])
    for schema, column, why in ((whole, 2, "no key"), (T, 3, "kept as string"), (T, 8, "number 8")):
        with pytest.raises(StoreError, match=why):
            store.begin_run("x", {schema.table: DAY}, {schema.table: column})
    tier(store, lake, T, 2 * DAY, TS)
    with pytest.raises(StoreError, match="back"):
        store.begin_run("x", {T.table: DAY}, {T.table: TS})
    store.begin_run("b", {T.table: 3 * DAY}, {T.table: TS}).close()
    with pytest.raises(StoreError, match="in the run b"):
        store.begin_run("x", {T.table: 3 * DAY}, {T.table: TS})
    store.drop_run("b")
    store.set_state(T.table, TableState.PAUSED, "")
    with pytest.raises(CatalogChanged, match="paused"):
        store.begin_run("x", {T.table: 3 * DAY}, {T.table: TS})
    assert store.runs() == ()


def test_a_paused_table_goes_on_with_its_boundary(store: HotStore, lake: PlainLake) -> None:
    follow(store, T, ROWS)
    tier(store, lake, T, 3 * DAY, TS)
    with store.begin_run("b", {T.table: 4 * DAY}, {T.table: TS}) as export:
        pins = write_run(lake, export, [T.table])
    store.set_state(T.table, TableState.PAUSED, "a test")
    changes = Rows(T).delete(1).update(2, at(2), None, skip=["s"]).delete(3)
    store.apply(batch_of(1, changes.changes()), covers)
    store.finish_run("b", pins)
    store.set_state(T.table, TableState.FOLLOWING, "")
    assert whole_rows(store, lake, T) == [ROWS[1], ROWS[3]]
    assert store.patches(T.table) == (3, 1)


def test_another_pin_with_the_same_rows(store: HotStore, lake: PlainLake) -> None:
    follow(store, T, ROWS)
    tier(store, lake, T, 3 * DAY, TS)
    old = boundary_of(store).pin
    new = lake.same(T.table, old)
    version = store.catalog.version
    store.set_pin(T.table, old, new)
    assert boundary_of(store).pin == new
    assert whole_rows(store, lake, T) == ROWS
    with pytest.raises(CatalogChanged):
        store.set_pin(T.table, old, Pin("x", 1, 1))
    with pytest.raises(CatalogChanged):
        store.read("SELECT 1", catalog_version=version)


def test_a_boundary_is_only_dropped_where_nothing_is_lost(store: HotStore, lake: PlainLake) -> None:
    follow(store, T, ROWS)
    tier(store, lake, T, 0, TS)
    store.drop_boundary(T.table, "a test")
    assert state(store, T)[0] is TableState.FOLLOWING
    assert boundary_of(store) is None
    tier(store, lake, T, 3 * DAY, TS)
    store.drop_boundary(T.table, "a test")
    assert state(store, T) == (TableState.COPYING, "a test")
