"""Rows in the lake: types, keys and columns come back as they were, and values are looked up."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from htapkit.errors import LakeFailed, StoreFailed
from htapkit.hot import HotLimits, HotStore
from htapkit.hot.names import statement
from htapkit.model import (
    Column,
    SchemaChange,
    SqlType,
    TableSchema,
    TableState,
)
from tests.unit.htapkit.hot.building import (
    INT4,
    INT8,
    NUMERIC,
    TEXT,
    TIMESTAMPTZ,
    Rows,
    batch_of,
    covers,
    position,
    schema_of,
)
from tests.unit.htapkit.hot.lakes import (
    DAY,
    ROWS,
    TS,
    PlainLake,
    T,
    arm,
    at,
    boundary_of,
    opened,
    tier,
    whole_rows,
    write_run,
)
from tests.unit.htapkit.hot.test_store import follow, rows_of, state


def test_nothing_of_former_versions_stays_in_memory(path: Path, lake: PlainLake) -> None:
    """DuckDB's cache of Parquet footers would keep those of files that are long gone."""
    with opened(path, lake) as store:
        follow(store, T, ROWS)
        held = []
        for day in range(3, 9):
            tier(store, lake, T, day * DAY, TS)
            assert len(whole_rows(store, lake, T)) == len(ROWS)
            with store.read("SELECT * FROM duckdb_memory() WHERE tag = 'OBJECT_CACHE'") as read:
                held += [row for batch in read.batches() for row in batch.to_pylist()]
    assert held[-1] == held[0]


@pytest.mark.parametrize("as_rest", [False, True])
def test_unchanged_values_come_from_the_lake(path: Path, lake: PlainLake, *, as_rest: bool) -> None:
    lake.as_rest = as_rest
    with opened(path, lake) as store:
        follow(store, T, ROWS)
        tier(store, lake, T, 3 * DAY, TS)
        changes = Rows(T)
        changes.update(1, at(5), None, skip=["s"])  # in the lake
        changes.update(33, at(3), None, before=(3,), skip=["s"])  # hot
        changes.update(22, at(2), None, before=(2,), skip=["s"])  # in the lake, another key
        store.apply(batch_of(1, changes.changes()), covers)
        expected = [(1, at(5), "one"), (22, at(2), "two"), (33, at(3), "three"), ROWS[3]]
        assert whole_rows(store, lake, T) == expected
        # A row that is gone in the lake has no value any more.
        store.apply(batch_of(2, Rows(T).update(2, at(2), None, skip=["s"]).changes()), covers)
        assert state(store, T)[0] is TableState.COPYING


@pytest.mark.parametrize("count", [900, 1100])
def test_many_unchanged_values_of_odd_keys(store: HotStore, lake: PlainLake, count: int) -> None:
    schema = schema_of(
        "odd", {"k": TEXT, "n": NUMERIC, "ts": TIMESTAMPTZ, "s": TEXT}, key=("k", "n", "ts")
    )
    rows = [(f"it's\n{n % 7}", Decimal(n) / 100, at(n / 50), f"s{n}") for n in range(1200)]
    follow(store, schema, rows)
    tier(store, lake, schema, 40 * DAY, 3)
    changes = Rows(schema)
    for k, n, ts, _ in rows[:count]:
        changes.update(k, n + 100, ts, None, before=(k, n, ts), skip=["s"])
    store.apply(batch_of(1, changes.changes()), covers)
    assert state(store, schema) == (TableState.FOLLOWING, "")
    expected = [(k, n + 100, ts, s) for k, n, ts, s in rows[:count]] + rows[count:]
    assert whole_rows(store, lake, schema) == sorted(expected, key=str)


def test_a_lake_that_fails_loses_no_batch(path: Path, lake: PlainLake) -> None:
    batch = batch_of(1, Rows(T).update(1, at(5), None, skip=["s"]).changes())
    with opened(path, lake) as store:
        follow(store, T, ROWS)
        tier(store, lake, T, 3 * DAY, TS)
        lake.fails = True
        with pytest.raises(StoreFailed, match="does not answer") as failed:
            store.apply(batch, covers)
        assert failed.value.retry
        assert store.stored_position("shop") == position(0)
        assert state(store, T)[0] is TableState.FOLLOWING
        lake.fails = False
        for file in lake.folder.glob("*.parquet"):
            file.rename(file.with_suffix(".away"))
        with pytest.raises(StoreFailed, match="cannot be looked up"):
            store.apply(batch, covers)
        with pytest.raises(LakeFailed, match="cannot be read"):
            whole_rows(store, lake, T)
        assert rows_of(store, T) == ROWS[2:], "the file itself is well"
        for file in lake.folder.glob("*.away"):
            file.rename(file.with_suffix(".parquet"))
        assert store.apply(batch, covers) == position(1)
        assert (1, at(5), "one") in whole_rows(store, lake, T)
    with HotStore(path) as store, pytest.raises(StoreFailed, match="without one"):
        store.apply(batch_of(2, Rows(T).update(2, at(5), None, skip=["s"]).changes()), covers)


DATE, TIMESTAMP = SqlType("date", 1082), SqlType("timestamp", 1114)
NAIVE = datetime(1970, 1, 3)  # noqa: DTZ001 - a timestamp without time zone


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        (DATE, [date(1970, 1, 2), date(1970, 1, 3), date(1969, 12, 30), 2**31 - 1, -(2**31) + 1]),
        (TIMESTAMP, [NAIVE - timedelta(microseconds=1), NAIVE, 2**63 - 1, -(2**63) + 1]),
        (TIMESTAMPTZ, [at(2) - timedelta(microseconds=1), at(2), 2**63 - 1, -(2**63) + 1, None]),
    ],
)
def test_only_finite_times_below_the_line_leave(
    store: HotStore, lake: PlainLake, kind: SqlType, rows: list[Any]
) -> None:
    schema = schema_of("kinds", {"id": INT8, "d": kind})
    arrow = schema.arrow.field("d").type
    width = pa.int32() if kind is DATE else pa.int64()
    raw = [v if isinstance(v, int) else pa.scalar(v, arrow).cast(width).as_py() for v in rows]
    follow(store, schema, [])
    ids = pa.array(range(len(rows)), pa.int64())
    times = pa.array(raw, width).cast(arrow)
    store.copy_again(schema.table, "")
    store.start_copy(schema, "f", position(0))
    store.load(schema.table, [pa.RecordBatch.from_arrays([ids, times], schema=schema.arrow)])
    store.finish_copy(schema.table, covers)

    def seen(sql: str, *arms: Any) -> dict[int, int | None]:
        with store.read(sql, lake=arms) as read:
            table = pa.Table.from_batches(read.batches(), read.schema)
        assert table.schema.field("d").type == arrow
        pairs = zip(table["id"].to_pylist(), table["d"].cast(width).to_pylist(), strict=True)
        return dict(pairs)

    tier(store, lake, schema, 2 * DAY, 2)
    hot = seen('SELECT * FROM "shop.public".kinds')
    cold = seen('SELECT * FROM "htapkit lake 1"', arm(store, lake, schema.table))
    day = 2 if kind is DATE else 2 * DAY
    finite = 2**31 - 1 if kind is DATE else 2**63 - 1
    left = {i for i, v in enumerate(raw) if v is not None and v < day and abs(v) != finite}
    assert left
    assert set(cold) == left
    assert {**hot, **cold} == dict(enumerate(raw))
    assert len(hot) + len(cold) == len(raw)


def test_a_line_within_a_day_keeps_that_day_of_dates_hot(store: HotStore, lake: PlainLake) -> None:
    schema = schema_of("kinds", {"id": INT8, "d": DATE})
    follow(store, schema, [(1, date(1970, 1, 2)), (2, date(1970, 1, 3))])
    tier(store, lake, schema, DAY + 1, 2)
    assert rows_of(store, schema) == [(2, date(1970, 1, 3))]


def test_composite_and_text_keys(store: HotStore, lake: PlainLake) -> None:
    schema = schema_of("pairs", {"v": NUMERIC, "ts": TIMESTAMPTZ, "dev": TEXT}, key=("dev", "ts"))
    rows = [(Decimal(f"{n}.25"), at(n), f"it's {n}") for n in range(1, 6)]
    follow(store, schema, rows)
    tier(store, lake, schema, 4 * DAY, 2)
    changes = Rows(schema)
    changes.delete(None, at(1), "it's 1")
    changes.update(Decimal("7.75"), at(2), "it's 2")
    changes.update(rows[2][0], at(8), "it's 3", before=("it's 3", at(3)))
    store.apply(batch_of(1, changes.changes()), covers)
    expected = [(Decimal("7.75"), at(2), "it's 2"), *rows[3:], (rows[2][0], at(8), "it's 3")]
    assert whole_rows(store, lake, schema) == sorted(expected, key=str)
    assert store.patches(schema.table) == (3, 1)
    tier(store, lake, schema, 5 * DAY, 2)
    assert whole_rows(store, lake, schema) == sorted(expected, key=str)


def test_renamed_widened_and_new_columns(store: HotStore, lake: PlainLake) -> None:
    small = SqlType("int2", 21)
    narrow = schema_of("t", {"id": INT4, "ts": TIMESTAMPTZ, "a": small, "gone": TEXT})
    follow(store, narrow, [(1, at(1), 7, "x"), (2, at(9), 8, "y")])
    tier(store, lake, narrow, 2 * DAY, TS)
    store.apply(batch_of(1, Rows(narrow).delete(1).changes()), covers)
    columns = (
        Column("key", INT8, 1),
        Column("gone", INT4, 3),
        Column("at", TIMESTAMPTZ, 2),
        Column("new", NUMERIC, 9),
    )
    wide = TableSchema(narrow.table, columns, ("key",))
    far = 2**40
    changes = Rows(wide).insert(far, 9, at(1), Decimal("1.25")).insert(1, 1, at(1), None)
    store.apply(batch_of(2, SchemaChange(wide, faithful=True), changes.changes()), covers)
    tier(store, lake, wide, 2 * DAY, TS)
    store.apply(batch_of(3, Rows(wide).delete(far).changes()), covers)
    expected = [(1, 1, at(1), None), (2, 8, at(9), None)]
    assert whole_rows(store, lake, wide) == expected
    assert store.patches(wide.table) == (1, 0)
    by_name = replace(wide, key=("key", "gone"))
    store.apply(batch_of(4, SchemaChange(by_name, faithful=True)), covers)
    assert state(store, wide) == (TableState.COPYING, "other columns than before identify its rows")
    assert boundary_of(store) is None


def test_digests_of_hot_and_lake_rows_agree(store: HotStore, lake: PlainLake) -> None:
    small = SqlType("int2", 21)
    schema = schema_of("t", {"id": INT8, "ts": TIMESTAMPTZ, "a": small, "n": NUMERIC})
    follow(store, schema, [(n, at(n), n, Decimal(n) / 4) for n in range(50)])
    table = schema.table
    with store.begin_run("a", {table: 20 * DAY}, {table: TS}) as export:
        expected = export.digest(table)
        pins = write_run(lake, export, [table])
    first = lake.files(table, pins[table], None, None)
    assert expected[0] == 20
    assert store.lake_digest(schema, first, TS, None, 20 * DAY) == expected
    store.finish_run("a", pins)
    store.apply(batch_of(1, Rows(schema).update(3, at(3), 4, None).delete(5).changes()), covers)
    with store.begin_run("b", {table: 30 * DAY}, {table: TS}) as export:
        moved, above = export.digest(table), export.digest(table, 20 * DAY)
        gone = export.tombstones(table)
        pins = write_run(lake, export, [table])
    second = lake.files(table, pins[table], None, None)
    kept = store.lake_digest(schema, first, TS, None, None, without=gone)
    assert (kept[0], above[0], moved[0]) == (18, 10, 11)
    whole = store.lake_digest(schema, second, TS, None, None)
    assert whole == (29, (kept[1] + moved[1]) % 2**64)
    assert store.lake_digest(schema, second, TS, 20 * DAY, 30 * DAY) == above
    assert store.lake_digest(schema, second, TS, 21 * DAY, 30 * DAY) != above


def test_tables_are_written_in_order_again_with_a_boundary(path: Path, lake: PlainLake) -> None:
    limits = HotLimits(rewrite_rows_min=5, rewrite_share=0.1, disk_free_bytes=0)
    with HotStore(path, limits, warehouse=str(lake.folder), lake=lake) as store:
        follow(store, T, [(n, at(n), "a") for n in range(20)])
        tier(store, lake, T, 10 * DAY, TS)
        export = store.begin_run("b", {T.table: 15 * DAY}, {T.table: TS})
        changes = Rows(T)
        for n in reversed(range(5, 15)):
            changes.update(n, at(n), "b")
        store.apply(batch_of(1, changes.changes()), covers)
        store.maintain()
        assert [r[0] for r in rows_of_in_order(store)] == list(range(5, 20))
        store.finish_run("b", write_run(lake, export, [T.table]))
        export.close()
        expected = [(n, at(n), "b" if 5 <= n < 15 else "a") for n in range(20)]
        assert whole_rows(store, lake, T) == sorted(expected, key=str)


def rows_of_in_order(store: HotStore) -> list[tuple[Any, ...]]:
    with store.read('SELECT * FROM "shop.public".t') as read:
        return [tuple(r.values()) for b in read.batches() for r in b.to_pylist()]


def test_of_places_on_a_grid_only_their_rows_are_handed_on() -> None:
    """Of 10,000 rows that have one of the wanted values in each column of the key, the 100 wanted.

    As DuckDB's own profile counts them.
    """
    parts = {
        "rows": "SELECT encode(a.i || ':' || b.i) AS place, a.i AS p"
        " FROM range(100) AS a(i), range(100) AS b(i)",
        "condition": "(kept.p IN (SELECT k0 FROM wanted)) IS TRUE",
        "place": "place",
        "wanted": "wanted",
    }
    with duckdb.connect() as plain:
        plain.execute(
            "CREATE TABLE wanted AS SELECT encode(i || ':' || i) AS place, i AS k0"
            " FROM range(100) AS t(i)"
        )
        text = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement('lake_at', **parts)}"
        (profile,) = (row[1] for row in plain.execute(text).fetchall())
    (collected,) = json.loads(profile)["operator"]
    (common,) = collected["children"][0]["children"]
    assert common["type"] == "CTE"
    assert common["children"][0]["intermediate_rows"] == 100
