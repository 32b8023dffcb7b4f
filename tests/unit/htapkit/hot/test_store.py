"""The hot store's writer side: what is applied, kept aside, set aside, and what survives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from htapkit.errors import (
    CatalogChanged,
    LimitReached,
    Stale,
    StoreError,
    StoreLocked,
    TableSetAside,
)
from htapkit.hot import HotLimits, HotStore, table_query
from htapkit.model import (
    Broken,
    Column,
    SchemaChange,
    TableSchema,
    TableState,
    Truncate,
)
from tests.unit.htapkit.hot.building import (
    INT4,
    INT8,
    NUMERIC,
    TEXT,
    Rows,
    batch_of,
    covers,
    position,
    record_batch,
    schema_of,
)

T = schema_of()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hot.duckdb"


@pytest.fixture
def store(path: Path) -> Iterator[HotStore]:
    with HotStore(path, HotLimits(memory_bytes=2**29, disk_free_bytes=0)) as opened:
        yield opened


def follow(store: HotStore, schema: TableSchema, rows: list[tuple[Any, ...]], at: int = 0) -> None:
    """Have a table with these rows, at the n-th position."""
    if store.stored_position("shop") is None:
        store.apply(batch_of(at), covers)
    store.add_table(schema, "f")
    store.start_copy(schema, "f", position(at))
    store.load(schema.table, [record_batch(schema.arrow, rows)])
    store.finish_copy(schema.table, covers, timeout_seconds=0)


def rows_of(store: HotStore, schema: TableSchema) -> list[tuple[Any, ...]]:
    with store.read(table_query(schema)) as read:
        rows = [tuple(r.values()) for b in read.batches() for r in b.to_pylist()]
    return sorted(rows, key=str)


def state(store: HotStore, schema: TableSchema) -> tuple[TableState, str]:
    status = store.catalog.tables[schema.table]
    return status.state, status.why


def test_chain_of_key_moves_with_unchanged_values_in_one_batch(store: HotStore) -> None:
    follow(store, T, [(1, 10, "old"), (2, 20, "two")])
    rows = Rows(T)
    rows.update(5, 11, None, before=(1,), skip=["s"])
    rows.update(1, 21, None, before=(2,), skip=["s"])  # takes the key that became free
    rows.update(2, 12, None, before=(5,), skip=["s"])
    rows.insert(5, 0, "new").delete(5)
    store.apply(batch_of(1, rows.changes()), covers)
    assert rows_of(store, T) == [(1, 21, "two"), (2, 12, "old")]


def test_unchanged_value_of_a_row_that_the_copy_lacks_has_the_table_copied_again(
    store: HotStore,
) -> None:
    follow(store, T, [(1, 10, "old")])
    store.apply(batch_of(1, Rows(T).update(7, 1, None, skip=["s"]).changes()), covers)
    found, why = state(store, T)
    assert found is TableState.COPYING
    assert "exactly one such row" in why
    assert store.stored_position("shop") == position(1)


def test_delete_of_a_row_that_the_copy_lacks_has_the_table_copied_again(store: HotStore) -> None:
    follow(store, T, [(1, 10, "old")])
    store.apply(batch_of(1, Rows(T).delete(2).changes()), covers)
    assert state(store, T)[0] is TableState.COPYING


def test_of_identical_rows_one_goes(store: HotStore) -> None:
    whole = schema_of("w", {"a": INT4, "s": TEXT}, key=(), whole_rows=True)
    follow(store, whole, [(1, None), (1, None), (1, None), (2, "x")])
    rows = Rows(whole).delete(1, None).update(2, "y", before=(2, "x")).insert(3, "z").delete(3, "z")
    store.apply(batch_of(1, rows.changes()), covers)
    assert rows_of(store, whole) == [(1, None), (1, None), (2, "y")]


def test_rows_of_the_file_and_of_the_batch_go_in_one_statement(store: HotStore) -> None:
    whole = schema_of("w", {"a": INT4, "s": TEXT}, key=(), whole_rows=True)
    follow(store, whole, [(0, "v3")])
    rows = Rows(whole).update(1, "v2", before=(0, "v3")).delete(1, "v2").insert(None, "v2")
    store.apply(batch_of(1, rows.changes()), covers)
    assert rows_of(store, whole) == [(None, "v2")]
    assert state(store, whole)[0] is TableState.FOLLOWING


def test_truncate_is_a_barrier(store: HotStore) -> None:
    follow(store, T, [(1, 10, "old")])
    before = Rows(T).insert(2, 2, "gone").changes()
    after = Rows(T).insert(1, 1, "back").changes()
    store.apply(batch_of(1, before, Truncate((T.table,), 0), after), covers)
    assert rows_of(store, T) == [(1, 1, "back")]


def test_parts_of_a_large_transaction_show_only_with_the_last(store: HotStore) -> None:
    follow(store, T, [])
    part = Rows(T).insert(1, 1, "a").changes()
    assert store.apply(batch_of(1, part, complete=False), covers) is None
    assert rows_of(store, T) == []
    store.abort("shop")
    assert store.apply(batch_of(1, part, complete=False), covers) is None
    rest = Rows(T).update(1, 2, None, skip=["s"]).changes()
    assert store.apply(batch_of(1, rest), covers) == position(1)
    assert rows_of(store, T) == [(1, 2, "a")]


def test_a_batch_twice_is_applied_once(store: HotStore) -> None:
    follow(store, T, [])
    batch = batch_of(1, Rows(T).insert(1, 1, "a").changes())
    store.apply(batch, covers)
    assert store.apply(batch, covers) == position(1)
    assert rows_of(store, T) == [(1, 1, "a")]


def test_staged_changes_are_replayed_less_those_in_the_copy(store: HotStore, path: Path) -> None:
    store.apply(batch_of(0), covers)
    store.add_table(T, "f")
    changes = Rows(T).insert(1, 1, "in the copy", commit=0).insert(2, 2, "after it", commit=1)
    store.apply(batch_of(2, changes.changes(), commits=(1, 2)), covers)
    store.start_copy(T, "f", position(1))
    store.load(T.table, [record_batch(T.arrow, [(1, 1, "in the copy")])])
    store.finish_copy(T.table, covers, timeout_seconds=0)
    assert rows_of(store, T) == [(1, 1, "in the copy"), (2, 2, "after it")]
    assert store.sizes()["staged_bytes"] == 0


def test_a_copy_ahead_of_the_stream_is_not_swapped_in(store: HotStore, path: Path) -> None:
    store.apply(batch_of(1), covers)
    store.add_table(T, "f")
    store.start_copy(T, "f", position(3))
    with pytest.raises(Stale, match="not reached"):
        store.finish_copy(T.table, covers, timeout_seconds=0)
    store.apply(batch_of(3), covers)
    store.finish_copy(T.table, covers, timeout_seconds=0)
    assert state(store, T)[0] is TableState.FOLLOWING
    # What moved only in memory must be in the file, or the copy's commits would come again.
    store.close()
    with HotStore(path) as again:
        assert again.stored_position("shop") == position(3)


def test_changes_over_the_limit_set_the_table_aside(path: Path) -> None:
    with HotStore(path, HotLimits(staged_bytes=100, disk_free_bytes=0)) as store:
        other = schema_of("other")
        follow(store, other, [])
        store.add_table(T, "f")
        many = Rows(T)
        for n in range(100):
            many.insert(n, n, "x" * 100)
        rest = Rows(other).insert(1, 1, "stays").changes()
        store.apply(batch_of(1, many.changes(), rest), covers)
        found, why = state(store, T)
        assert found is TableState.SET_ASIDE
        assert "limits.staged" in why
        assert rows_of(store, other) == [(1, 1, "stays")]


def test_a_paused_table_resumes_with_what_was_kept_aside(store: HotStore, path: Path) -> None:
    follow(store, T, [(1, 1, "a")])
    store.set_state(T.table, TableState.PAUSED, "because")
    wider = TableSchema(T.table, (*T.columns, Column("n", TEXT, 4)), T.key)
    store.apply(
        batch_of(
            1,
            Rows(T).update(1, 2, None, skip=["s"]).changes(),
            SchemaChange(wider, faithful=True),
            Rows(wider).insert(2, 2, "b", "n").changes(),
        ),
        covers,
    )
    assert rows_of(store, T) == [(1, 1, "a")]
    store.set_state(T.table, TableState.FOLLOWING, "")
    assert store.catalog.readable(T.table) == wider
    assert rows_of(store, wider) == [(1, 2, "a", None), (2, 2, "b", "n")]


def test_schema_changes_by_ordinal(store: HotStore) -> None:
    follow(store, T, [(1, 10, "x")])
    swapped = TableSchema(
        T.table, (Column("id", INT8, 1), Column("s", INT8, 2), Column("a", TEXT, 3)), T.key
    )
    store.apply(
        batch_of(
            1, SchemaChange(swapped, faithful=True), Rows(swapped).insert(2, 2**40, "y").changes()
        ),
        covers,
    )
    assert rows_of(store, swapped) == [(1, 10, "x"), (2, 2**40, "y")]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Broken(T.table, "gone wrong"), TableState.COPYING),
        (Broken(T.table, "gone wrong", copy_again=False), TableState.SET_ASIDE),
        (SchemaChange(T, faithful=False, why="gone wrong"), TableState.COPYING),
    ],
)
def test_broken_tables_stop_alone(store: HotStore, change: Any, expected: TableState) -> None:
    other = schema_of("other")
    follow(store, T, [(1, 1, "a")])
    follow(store, other, [])
    version = store.catalog.version
    rest = Rows(other).insert(1, 1, "b").changes()
    assert store.apply(batch_of(1, change, rest), covers) == position(1)
    assert state(store, T) == (expected, "gone wrong")
    assert store.catalog.version > version
    assert store.catalog.tables[T.table].position == position(0)
    assert rows_of(store, other) == [(1, 1, "b")]


def test_rows_of_another_shape_have_the_table_copied_again(store: HotStore) -> None:
    follow(store, T, [])
    other = schema_of("t", {"id": INT8, "a": NUMERIC, "s": TEXT})
    store.apply(batch_of(1, Rows(other).insert(1, None, "x").changes()), covers)
    found, why = state(store, T)
    assert found is TableState.COPYING
    assert "a is decimal128(12, 2) instead of int32" in why


def test_names_that_differ_in_case_only_are_set_aside(store: HotStore) -> None:
    follow(store, T, [(1, 1, "a")])
    store.add_table(schema_of("T"), "f")
    found, why = state(store, schema_of("T"))
    assert found is TableState.SET_ASIDE
    assert "case" in why
    with pytest.raises(TableSetAside):
        store.start_copy(schema_of("T"), "f", position(0))


def test_a_copy_that_was_given_up_takes_no_rows(store: HotStore) -> None:
    store.apply(batch_of(0), covers)
    store.add_table(T, "f")
    store.start_copy(T, "f", position(0))

    def given_up() -> Iterator[pa.RecordBatch]:
        yield record_batch(T.arrow, [(1, 1, "late")])
        store.copy_again(T.table, "another reason")
        store.start_copy(T, "f", position(0))

    with pytest.raises(CatalogChanged):
        store.load(T.table, given_up())
    store.finish_copy(T.table, covers, timeout_seconds=0)
    assert rows_of(store, T) == []


def test_start_copy_needs_staging(store: HotStore) -> None:
    follow(store, T, [])
    with pytest.raises(StoreError, match="copy_again first"):
        store.start_copy(T, "f", position(0))


def test_everything_is_there_after_opening_again(path: Path) -> None:
    with HotStore(path) as store:
        follow(store, T, [(1, 1, "a")])
        store.keep_as_text(T.table, "a")
        store.remember_identity("shop", "server 7")
        store.apply(batch_of(4, Rows(T).insert(2, 2, "b").changes()), covers)
        catalog = store.catalog
    with HotStore(path) as store:
        assert store.catalog.version == catalog.version
        assert store.catalog.tables[T.table].schema == T
        assert store.fingerprint(T.table) == "f"
        assert store.text_columns(T.table) == {"a"}
        assert store.identity("shop") == "server 7"
        assert store.applied("shop").position == store.stored_position("shop") == position(4)
        assert rows_of(store, T) == [(1, 1, "a"), (2, 2, "b")]
        store.drop_source("shop")
        assert store.stored_position("shop") is None
        assert not store.catalog.tables


def test_a_position_without_changes_moves_in_memory_at_once(store: HotStore) -> None:
    follow(store, T, [(1, 1, "a")])
    store.apply(batch_of(1, Rows(T).insert(2, 2, "b").changes()), covers)
    assert store.apply(batch_of(2, marks=("m",)), covers) is None
    assert store.applied("shop").position == position(2)
    assert store.applied("shop").marks == {"m"}
    assert store.stored_position("shop") == position(1)
    with store.read(table_query(T)) as read:
        assert read.positions == {"shop": position(2)}


def test_on_another_server_only_what_is_stored_is_known(store: HotStore) -> None:
    """It may have other commits at positions that held none."""
    follow(store, T, [(1, 1, "a")])
    store.apply(batch_of(1, Rows(T).insert(2, 2, "b").changes()), covers)
    assert store.apply(batch_of(2), covers) is None
    store.remember_identity("shop", "the standby")
    assert store.identity("shop") == "the standby"
    assert store.applied("shop").position == position(1)


def test_a_second_owner_is_told_who_the_first_is(store: HotStore, path: Path) -> None:
    code = (
        "import sys, pathlib; from htapkit.hot import HotStore\n"
        "from htapkit.errors import StoreLocked\n"
        "try: HotStore(pathlib.Path(sys.argv[1]))\n"
        "except StoreLocked as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[4],
    )
    assert "is in use by process" in done.stdout
    with pytest.raises(StoreLocked):
        HotStore(path)


def test_the_disk_limit_stops_before_anything_is_done(path: Path) -> None:
    with HotStore(path, HotLimits(disk_bytes=1, disk_free_bytes=0)) as store:
        with pytest.raises(LimitReached, match=r"limits\.disk"):
            store.apply(batch_of(1), covers)
        assert store.applied("shop").position is None


def test_churned_tables_are_written_in_order_again(path: Path) -> None:
    limits = HotLimits(rewrite_rows_min=10, rewrite_share=0.1, disk_free_bytes=0)
    with HotStore(path, limits) as store:
        follow(store, T, [(n, n, "a") for n in range(20)])
        changes = Rows(T)
        for n in range(15):
            changes.update(n, 100 - n, "b")
        store.apply(batch_of(1, changes.changes()), covers)
        before = rows_of(store, T)
        store.maintain()
        with store.read('SELECT id FROM "shop.public".t') as read:
            ids = [i for b in read.batches() for i in b.column(0).to_pylist()]
        assert ids == sorted(ids)
        assert rows_of(store, T) == before
        store.apply(batch_of(2, Rows(T).delete(3).changes()), covers)
        assert len(rows_of(store, T)) == 19
