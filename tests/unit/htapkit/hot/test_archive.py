"""Archives: each row that the source deleted is there once, as it was, with the time of that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from htapkit.errors import StoreFailed
from htapkit.hot import HotStore, table_query
from htapkit.model import (
    DELETED_AT,
    NUMBER,
    Broken,
    Column,
    Horizon,
    SchemaChange,
    TableSchema,
    TableState,
    Truncate,
    archive_of,
)
from tests.unit.htapkit.hot.building import (
    INT4,
    INT8,
    TEXT,
    Rows,
    batch_of,
    covers,
    position,
    record_batch,
    schema_of,
)
from tests.unit.htapkit.hot.lakes import DAY, ROWS, TS, PlainLake, T, at, opened, tier, whole_rows
from tests.unit.htapkit.hot.test_store import follow, rows_of, state

PLAIN = schema_of("plain")
OLD = [(1, 10, "one"), (2, 20, "two"), (3, 30, None)]


def archived(store: HotStore, schema: TableSchema) -> list[tuple[Any, ...]]:
    """(row, position at which it was deleted; None: not known), in the order of numbers."""
    found = store.catalog.tables[archive_of(schema.table)].schema
    with store.read(f"{table_query(found)} ORDER BY {NUMBER}") as read:
        rows = [row for batch in read.batches() for row in batch.to_pylist()]
    numbers = [row.pop(NUMBER) for row in rows]
    assert len(set(numbers)) == len(numbers)
    times = [row.pop(DELETED_AT) for row in rows]
    return [
        (*row.values(), time and time.microsecond) for row, time in zip(rows, times, strict=True)
    ]


def keep(store: HotStore, schema: TableSchema, rows: list[tuple[Any, ...]]) -> None:
    store.archives.keep(frozenset({schema.table}))
    follow(store, schema, rows)


def test_a_row_is_archived_as_it_was_and_the_table_is_as_ever(store: HotStore) -> None:
    keep(store, PLAIN, OLD)
    store.apply(batch_of(5, Rows(PLAIN).delete(1).update(2, 21, "two").changes()), covers)
    assert archived(store, PLAIN) == [(1, 10, "one", 5)]
    assert rows_of(store, PLAIN) == [(2, 21, "two"), (3, 30, None)]


def test_each_deletion_of_a_batch_is_there_with_the_time_of_its_own_transaction(
    store: HotStore,
) -> None:
    keep(store, PLAIN, OLD)
    rows = Rows(PLAIN)
    rows.insert(7, 70, "came and went", commit=0).delete(7, commit=0)
    rows.delete(1, commit=0).insert(1, 11, "again", commit=1)
    rows.update(1, 12, None, skip=["s"], commit=1).delete(1, commit=2)
    rows.update(9, 22, None, before=(2,), skip=["s"], commit=2).delete(9, commit=3)
    store.apply(batch_of(8, rows.changes(), commits=[5, 6, 7, 8]), covers)
    assert archived(store, PLAIN) == [
        (7, 70, "came and went", 5),
        (1, 10, "one", 5),
        (1, 12, "again", 7),
        (9, 22, "two", 8),
    ]
    assert rows_of(store, PLAIN) == [(3, 30, None)]


def test_a_change_of_the_key_is_no_deletion(store: HotStore) -> None:
    keep(store, PLAIN, OLD)
    store.apply(batch_of(1, Rows(PLAIN).update(4, 10, "one", before=(1,)).changes()), covers)
    assert archived(store, PLAIN) == []


@pytest.mark.parametrize("as_rest", [False, True])
def test_rows_of_the_lake_are_archived_from_there(
    store: HotStore, lake: PlainLake, as_rest: bool
) -> None:
    keep(store, T, ROWS)
    tier(store, lake, T, 3 * DAY, TS)
    lake.as_rest = as_rest
    store.apply(batch_of(1, Rows(T).update(2, at(2), "other").changes()), covers)
    store.apply(batch_of(2, Rows(T).delete(1).changes()), covers)
    assert archived(store, T) == [(1, at(1), "one", 2)]
    store.apply(
        batch_of(4, Rows(T).insert(5, at(1), "late").changes(), Truncate((T.table,), 0)), covers
    )
    left = sorted(archived(store, T)[1:])
    assert left == [
        (2, at(2), "other", 4),
        (3, at(3), "three", 4),
        (4, None, "four", 4),
        (5, at(1), "late", 4),
    ]


def test_while_the_lake_cannot_be_read_the_batch_comes_again(
    store: HotStore, lake: PlainLake
) -> None:
    keep(store, T, ROWS)
    tier(store, lake, T, 3 * DAY, TS)
    lake.fails = True
    for change in (Rows(T).delete(1).changes(), Truncate((T.table,), 0)):
        with pytest.raises(StoreFailed):
            store.apply(batch_of(1, change), covers)
    lake.fails = False
    store.apply(batch_of(1, Rows(T).delete(1).changes()), covers)
    assert archived(store, T) == [(1, at(1), "one", 1)]


def copied_again(
    store: HotStore, schema: TableSchema, rows: list[tuple[Any, ...]], at: int
) -> None:
    """A new copy, with these rows at the n-th position."""
    store.start_copy(schema, "g", position(at))
    store.load(schema.table, [record_batch(schema.arrow, rows)])
    store.finish_copy(schema.table, covers, timeout_seconds=0)


def test_deletions_during_a_new_copy_are_archived_when_they_come_and_never_twice(
    store: HotStore, lake: PlainLake
) -> None:
    keep(store, T, ROWS)
    tier(store, lake, T, 3 * DAY, TS)
    store.copy_again(T.table, "a test")
    store.apply(batch_of(1, Rows(T).delete(1).insert(1, at(9), "again").changes()), covers)
    store.start_copy(T, "g", position(1))
    store.load(T.table, [record_batch(T.arrow, [(1, at(9), "again"), *ROWS[1:]])])
    store.apply(batch_of(2, Rows(T).delete(1).delete(3).changes()), covers)
    seen = [(1, at(1), "one", 1), (1, at(9), "again", 2), (3, at(3), "three", 2)]
    assert archived(store, T) == seen
    store.copy_again(T.table, "given up")
    copied_again(store, T, [ROWS[1], ROWS[3]], 2)
    assert archived(store, T) == seen
    assert whole_rows(store, lake, T) == [ROWS[1], ROWS[3]]


def test_what_went_unseen_is_found_by_the_new_copy_without_a_time(
    store: HotStore, lake: PlainLake
) -> None:
    keep(store, T, ROWS)
    tier(store, lake, T, 3 * DAY, TS)
    store.apply(batch_of(1, Broken(T.table, "a test")), covers)
    store.add_table(T, "g", "a test")
    store.apply(batch_of(2, Rows(T).delete(1).delete(4).changes()), covers)
    assert archived(store, T) == [], "what it was does not follow any more"
    copied_again(store, T, [(2, at(2), "changed"), (3, at(3), "three")], 2)
    assert sorted(archived(store, T)) == [(1, at(1), "one", None), (4, None, "four", None)]
    store.apply(batch_of(3, Rows(T).delete(2).changes()), covers)
    assert archived(store, T)[2:] == [(2, at(2), "changed", 3)]


def test_after_a_lost_position_what_the_table_was_stays_as_it_was(store: HotStore) -> None:
    keep(store, PLAIN, OLD)
    store.forget_position("shop")
    store.copy_again(PLAIN.table, "a test")
    # Nobody saw that 1 was deleted, and came again.
    rows = Rows(PLAIN).insert(1, 11, "again").delete(1).delete(2)
    store.apply(batch_of(9, rows.changes()), covers)
    assert archived(store, PLAIN) == []
    copied_again(store, PLAIN, [OLD[2]], 9)
    assert sorted(archived(store, PLAIN)) == [(1, 10, "one", None), (2, 20, "two", None)]


def test_an_inconsistent_change_archives_what_it_deletes_once(store: HotStore) -> None:
    keep(store, PLAIN, OLD)
    store.apply(batch_of(1, Rows(PLAIN).delete(1).delete(99).changes()), covers)
    assert state(store, PLAIN)[0] is TableState.COPYING
    assert archived(store, PLAIN) == [(1, 10, "one", 1)]
    copied_again(store, PLAIN, [(3, 30, None)], 1)
    assert archived(store, PLAIN)[1:] == [(2, 20, "two", None)]


def test_rows_without_a_key_are_missed_as_a_multiset(store: HotStore) -> None:
    whole = schema_of("whole", {"a": INT4, "s": TEXT}, key=(), whole_rows=True)
    keep(store, whole, [(1, "x"), (1, "x"), (2, None), (2, None)])
    store.apply(
        batch_of(1, Rows(whole).insert(5, "y").delete(5, "y").delete(1, "x").changes()), covers
    )
    assert archived(store, whole) == [(5, "y", 1), (1, "x", 1)]
    store.set_state(whole.table, TableState.SET_ASIDE, "a test")
    store.add_table(whole, "g")
    copied_again(store, whole, [(1, "x"), (2, None)], 1)
    assert archived(store, whole)[2:] == [(2, None, None)]


def test_what_is_kept_aside_while_paused_is_archived_with_its_time(store: HotStore) -> None:
    keep(store, PLAIN, OLD)
    for resumes in (True, False):
        store.set_state(PLAIN.table, TableState.PAUSED, "a test")
        number = 1 if resumes else 3
        rows = Rows(PLAIN).delete(number).insert(9, 0, "short").delete(9)
        store.apply(batch_of(number, rows.changes()), covers)
        if resumes:
            assert archived(store, PLAIN) == []
            store.set_state(PLAIN.table, TableState.FOLLOWING, "")
        else:
            store.copy_again(PLAIN.table, "a test")
    seen = [(1, 10, "one", 1), (9, 0, "short", 1), (3, 30, None, 3), (9, 0, "short", 3)]
    assert archived(store, PLAIN) == seen
    copied_again(store, PLAIN, [OLD[1]], 3)
    assert archived(store, PLAIN) == seen
    store.set_state(PLAIN.table, TableState.PAUSED, "a test")
    store.apply(batch_of(6, Rows(PLAIN).insert(5, 50, "new").changes()), covers)
    store.apply(batch_of(7, Truncate((PLAIN.table,), 0)), covers)
    store.set_state(PLAIN.table, TableState.FOLLOWING, "")
    assert sorted(archived(store, PLAIN)[4:]) == [(2, 20, "two", 7), (5, 50, "new", 7)]


def with_columns(schema: TableSchema, *columns: Column) -> SchemaChange:
    return SchemaChange(replace(schema, columns=columns), faithful=True)


def columns_of(store: HotStore, schema: TableSchema) -> list[str]:
    return [c.name for c in store.catalog.tables[archive_of(schema.table)].schema.columns][:-2]


def test_the_archive_follows_the_columns_and_loses_none(store: HotStore) -> None:
    keep(store, PLAIN, OLD)
    store.apply(batch_of(1, Rows(PLAIN).delete(1).changes()), covers)
    key, number, text = PLAIN.columns
    renamed = with_columns(
        PLAIN, key, replace(number, name="b", type=INT8), text, Column("n", TEXT, 9)
    )
    store.apply(batch_of(2, renamed, Rows(renamed.schema).delete(2).changes()), covers)
    assert columns_of(store, PLAIN) == ["id", "b", "s", "n"]
    assert archived(store, PLAIN) == [(1, 10, "one", None, 1), (2, 20, "two", None, 2)]
    # `s` goes, and another column gets its name.
    dropped = with_columns(renamed.schema, key, Column("s", INT4, 10))
    store.change_schema(dropped)
    store.apply(batch_of(3, Rows(dropped.schema).delete(3).changes()), covers)
    assert columns_of(store, PLAIN) == ["id", "s", "b", "s_text", "n"]
    assert archived(store, PLAIN) == [
        (1, None, 10, "one", None, 1),
        (2, None, 20, "two", None, 2),
        (3, None, None, None, None, 3),
    ]


def test_a_column_that_becomes_another_type_starts_anew_with_the_new_copy(store: HotStore) -> None:
    keep(store, PLAIN, OLD)
    store.apply(batch_of(1, Rows(PLAIN).delete(1).changes()), covers)
    key, number, text = PLAIN.columns
    now = replace(PLAIN, columns=(key, replace(number, type=TEXT), text))
    change = SchemaChange(now, faithful=False, why="rewritten")
    store.apply(batch_of(2, Rows(PLAIN).delete(2).changes(), change), covers)
    copied_again(store, now, [], 2)
    assert columns_of(store, now) == ["id", "a", "s", "a_int4"]
    assert archived(store, now) == [
        (1, None, "one", 10, 1),
        (2, None, "two", 20, 2),
        (3, None, None, 30, None),
    ]


def test_a_table_with_a_column_of_the_archives_own_has_none(store: HotStore) -> None:
    bad = schema_of("bad", {"id": INT8, DELETED_AT: TEXT})
    keep(store, bad, [(1, "x")])
    store.apply(batch_of(1, Rows(bad).delete(1).changes()), covers)
    assert state(store, bad) == (TableState.FOLLOWING, "")
    assert rows_of(store, bad) == []
    assert archive_of(bad.table) not in store.catalog.tables


def test_turned_off_it_stays_and_turned_on_again_it_goes_on(path: Path, lake: PlainLake) -> None:
    with opened(path, lake) as store:
        keep(store, PLAIN, OLD)
        store.apply(batch_of(1, Rows(PLAIN).delete(1).changes()), covers)
        store.archives.keep(frozenset())
        store.apply(batch_of(2, Rows(PLAIN).delete(2).changes()), covers)
    with opened(path, lake) as store:
        assert archived(store, PLAIN) == [(1, 10, "one", 1)]
        store.archives.keep(frozenset({PLAIN.table}))
        store.apply(batch_of(3, Rows(PLAIN).delete(3).changes()), covers)
        assert archived(store, PLAIN) == [(1, 10, "one", 1), (3, 30, None, 3)]
        store.drop_table(PLAIN.table)
        follow(store, PLAIN, OLD, at=3)
        assert len(archived(store, PLAIN)) == 2
        store.drop_source("shop")
        assert archive_of(PLAIN.table) not in store.catalog.tables


def test_what_lies_below_the_horizon_is_not_archived(store: HotStore, lake: PlainLake) -> None:
    keep(store, T, ROWS)
    tier(store, lake, T, 3 * DAY, TS)
    store.retain(T.table, Horizon(TS, 3 * DAY))
    store.apply(batch_of(1, Rows(T).delete(1).insert(7, at(1), "late").delete(7).changes()), covers)
    store.apply(batch_of(2, Truncate((T.table,), 0)), covers)
    assert sorted(archived(store, T)) == [
        (3, at(3), "three", 2),
        (4, None, "four", 2),
    ]


def test_a_store_that_is_opened_again_goes_on_where_a_copy_was(path: Path, lake: PlainLake) -> None:
    with opened(path, lake) as store:
        keep(store, PLAIN, OLD)
        store.copy_again(PLAIN.table, "a test")
        store.apply(batch_of(1, Rows(PLAIN).delete(1).changes()), covers)
    with opened(path, lake) as store:
        store.archives.keep(frozenset({PLAIN.table}))
        store.apply(batch_of(2, Rows(PLAIN).delete(2).changes()), covers)
        copied_again(store, PLAIN, [OLD[2]], 2)
        assert archived(store, PLAIN) == [(1, 10, "one", 1), (2, 20, "two", 2)]


def test_no_copy_is_swapped_in_while_the_lake_that_it_is_compared_with_is_away(
    store: HotStore, lake: PlainLake
) -> None:
    keep(store, T, ROWS)
    tier(store, lake, T, 3 * DAY, TS)
    store.copy_again(T.table, "a test")
    lake.fails = True
    with pytest.raises(StoreFailed):
        copied_again(store, T, ROWS[1:], 0)
    assert state(store, T)[0] is TableState.COPYING
    lake.fails = False
    store.finish_copy(T.table, covers, timeout_seconds=0)
    assert archived(store, T) == [(1, at(1), "one", None)]
    assert whole_rows(store, lake, T) == ROWS[1:]


def test_turned_off_while_the_table_is_copied_again(store: HotStore, lake: PlainLake) -> None:
    keep(store, T, ROWS)
    tier(store, lake, T, 3 * DAY, TS)
    store.copy_again(T.table, "a test")
    store.archives.keep(frozenset())
    store.apply(batch_of(1, Rows(T).delete(1).changes()), covers)
    copied_again(store, T, ROWS[1:], 1)
    assert archived(store, T) == []
    assert whole_rows(store, lake, T) == ROWS[1:]
    tier(store, lake, T, 3 * DAY, TS)
    assert whole_rows(store, lake, T) == ROWS[1:]
