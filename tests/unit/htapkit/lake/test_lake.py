"""The lake: commits, what they build upon, what is found again, and what a failure leaves."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from htapkit.errors import LakeFailed, LakeRefused
from htapkit.lake import Lake, WriteLimits
from htapkit.model import TIMESTAMP_INFINITY, Layout, TableId, TableSchema
from tests.unit.htapkit.lake.building import (
    DAY,
    LAYOUT,
    ORDERS,
    TABLE,
    Rows,
    arrow_rows,
    batch,
    column,
    keys,
    lake_in,
    model,
    numeric,
    other_engine,
    parquet_files,
    rows_of,
    run,
)

FIRST = [(n, n % 5 * DAY + n, "a" * (n % 7)) for n in range(1, 101)]


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with lake_in(tmp_path) as opened:
        yield opened


def test_first_commit_makes_the_table(lake: Lake) -> None:
    """What went in is what the files give."""
    pin = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    assert rows_of(lake, pin, ORDERS) == model(FIRST)
    assert pin.rows == len(FIRST)
    assert lake.tables() == (TABLE,)
    files = lake.files(TABLE, pin, None, None)
    assert files.rows == len(FIRST)
    assert files.rest is None
    assert len(files.paths) == 5  # one for each day


def test_other_engines_read_the_same(lake: Lake, tmp_path: Path) -> None:
    """The table is plain Iceberg, with its partitions, its order, and the run in its summary."""
    lake.commit(run(1, below=7 * DAY), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    table = other_engine(tmp_path)
    found = table.scan().to_arrow()
    assert sorted(found.column("id").to_pylist()) == [row[0] for row in FIRST]
    pruned = table.scan(row_filter="at < '1970-01-02T00:00:00+00:00'")
    assert len(list(pruned.plan_files())) == 1
    assert str(table.spec().fields[0].transform) == "day"
    assert [field.source_id for field in table.sort_order().fields] == [1, 2]
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    said = snapshot.summary.additional_properties
    assert (said["htapkit.run"], said["htapkit.position"]) == ("run-1", "0/1")
    assert said["htapkit.below"] == str(7 * DAY)
    assert (
        table.metadata.refs[f"htapkit-{snapshot.snapshot_id}"].snapshot_id == snapshot.snapshot_id
    )


def test_gone_keys_leave_and_rows_come(lake: Lake) -> None:
    """A key that is not there is harmless; one that is replaced is there once, as it is now."""
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    new = [(7, 3 * DAY, "moved"), (1000, 9 * DAY, "new")]
    gone = keys(ORDERS, [7, 8, 5000])
    pin = lake.commit(run(2), ORDERS, LAYOUT, base, gone, [batch(ORDERS, new)])
    expected = model(row for row in FIRST if row[0] not in {7, 8}) | model(new)
    assert rows_of(lake, pin, ORDERS) == expected
    assert pin.rows == len(expected)
    assert rows_of(lake, base, ORDERS) == model(FIRST), "a pinned version never changes"


def test_files_without_hits_stay_as_they_are(lake: Lake) -> None:
    """Only the file of the key's day is written again."""
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    pin = lake.commit(run(2), ORDERS, LAYOUT, base, keys(ORDERS, [6]), [])
    before = set(lake.files(TABLE, base, None, None).paths)
    after = set(lake.files(TABLE, pin, None, None).paths)
    assert len(before & after) == 4
    assert len(after - before) == 1


def test_every_row_of_a_file_can_go(lake: Lake) -> None:
    """A file without rows is not written; a table without rows is a version like any other."""
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    gone = keys(ORDERS, [row[0] for row in FIRST])
    pin = lake.commit(run(2), ORDERS, LAYOUT, base, gone, [])
    assert rows_of(lake, pin, ORDERS) == {}
    assert pin.rows == 0
    again = lake.commit(run(3), ORDERS, LAYOUT, pin, None, [batch(ORDERS, FIRST)])
    assert rows_of(lake, again, ORDERS) == model(FIRST)


def test_a_commit_without_rows(lake: Lake) -> None:
    """An empty first run makes an empty version that the next one can build upon."""
    pin = lake.commit(run(1), ORDERS, LAYOUT, None, None, [])
    assert (pin.rows, lake.files(TABLE, pin, None, None).paths) == (0, ())
    assert lake.find(run(1), TABLE) is not None
    pin = lake.commit(run(2), ORDERS, LAYOUT, pin, keys(ORDERS, [1]), [batch(ORDERS, FIRST)])
    assert rows_of(lake, pin, ORDERS) == model(FIRST)


def test_an_unfinished_run_is_left_behind(lake: Lake) -> None:
    """The next run builds on the pinned version, not on the head."""
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    lake.commit(run(2), ORDERS, LAYOUT, base, keys(ORDERS, [1]), [batch(ORDERS, [(901, 0, "x")])])
    pin = lake.commit(
        run(3), ORDERS, LAYOUT, base, keys(ORDERS, [2]), [batch(ORDERS, [(902, 0, "y")])]
    )
    assert rows_of(lake, pin, ORDERS) == model([*(r for r in FIRST if r[0] != 2), (902, 0, "y")])


def test_without_a_base_the_content_starts_anew(lake: Lake) -> None:
    """The table was copied again: nothing of before counts, and what is pinned stays readable."""
    old = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    new = [(1, 0, "only")]
    pin = lake.commit(run(2), ORDERS, LAYOUT, None, None, [batch(ORDERS, new)])
    assert rows_of(lake, pin, ORDERS) == model(new)
    assert pin.rows == 1
    assert rows_of(lake, old, ORDERS) == model(FIRST)


def test_find(lake: Lake, tmp_path: Path) -> None:
    """A run is found by another process as well, whatever came after it."""
    assert lake.find(run(1), TABLE) is None
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    lake.commit(run(2), ORDERS, LAYOUT, base, keys(ORDERS, [1]), [])
    with lake_in(tmp_path) as second:
        found = second.find(run(1), TABLE)
        assert found is not None
        assert (found.snapshot, found.rows) == (base.snapshot, len(FIRST))
        assert rows_of(second, found, ORDERS) == model(FIRST)
        assert second.find(run(3), TABLE) is None


@pytest.mark.parametrize(
    ("schema", "layout", "said"),
    [
        (ORDERS, Layout("id"), "int8"),
        (ORDERS, Layout("missing"), "no usable time column"),
        (ORDERS, Layout("at", "week"), "week"),
        (ORDERS, Layout("at", sort=("missing",)), "missing"),
        (
            TableSchema(TABLE, (column("id", "int8", 1), column("d", "date", 2)), ("id",)),
            Layout("d", "hour"),
            "no hours",
        ),
    ],
)
def test_what_cannot_be_laid_out_is_refused(
    lake: Lake, schema: TableSchema, layout: Layout, said: str
) -> None:
    """Before anything is made."""
    with pytest.raises(LakeRefused, match=said):
        lake.commit(run(1), schema, layout, None, None, [])
    assert lake.tables() == ()


@pytest.mark.parametrize(
    ("time", "said"),
    [
        (None, "without a time"),
        (TIMESTAMP_INFINITY, "infinite time"),
        (-TIMESTAMP_INFINITY, "infinite time"),
    ],
)
def test_a_row_without_a_finite_time_is_refused(lake: Lake, time: int | None, said: str) -> None:
    """It has no partition; the hot store keeps it."""
    with pytest.raises(LakeRefused, match=said):
        lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, [(1, time, "")])])


def test_a_pin_that_is_gone(lake: Lake) -> None:
    """Somebody removed the snapshot by force: a clear error, not another version's rows."""
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    lost = replace(base, snapshot=base.snapshot + 1)
    with pytest.raises(LakeFailed, match="no longer has the snapshot"):
        lake.files(TABLE, lost, None, None)
    with pytest.raises(LakeRefused, match="copy the table again"):
        lake.commit(run(2), ORDERS, LAYOUT, lost, None, [])


def test_a_pinned_metadata_file_that_is_gone(lake: Lake, tmp_path: Path) -> None:
    """Another engine cleans up metadata files: newer metadata still has the tagged snapshot."""
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    wide = replace(ORDERS, columns=(*ORDERS.columns, column("extra", "int4", 4)))
    lake.commit(run(2), wide, LAYOUT, base, keys(ORDERS, [1]), [])
    Path(base.metadata.removeprefix("file://")).unlink()
    with lake_in(tmp_path) as second:
        assert rows_of(second, base, ORDERS) == model(FIRST)
        assert set(second.files(TABLE, base, None, None).columns) == {1, 2, 3}


def test_keys_of_several_columns(lake: Lake) -> None:
    """Each part has to be equal; -0.0 is 0.0, and a NaN is a NaN, as in PostgreSQL."""
    nan = float("nan")
    schema = TableSchema(
        TABLE,
        (
            column("at", "timestamptz", 1),
            column("f", "float8", 2),
            column("t", "text", 3),
            numeric("n", 4, 12, 2),
        ),
        ("f", "t", "n"),
    )
    times = pa.array([0, 1, 2, 3], pa.int64()).cast(pa.timestamp("us", "UTC"))
    decimals = pa.array([1, 1, 2, 1], pa.int32()).cast(pa.decimal128(12, 2))
    rows = pa.RecordBatch.from_arrays(
        [times, pa.array([0.0, nan, 0.0, 1.5]), pa.array(["a", "b", "a", "a"]), decimals],
        schema=schema.arrow,
    )
    gone = pa.table(
        {
            "f": pa.array([-0.0, nan, 1.5]),
            "t": pa.array(["a", "b", "b"]),
            "n": pa.array([1, 1, 1], pa.int32()).cast(pa.decimal128(12, 2)),
        }
    )
    base = lake.commit(run(1), schema, LAYOUT, None, None, [rows])
    pin = lake.commit(run(2), schema, LAYOUT, base, gone, [])
    assert pin.rows == 2
    left = arrow_rows(lake.files(TABLE, pin, None, None), schema)
    assert sorted(left.column("at").cast(pa.int64()).to_pylist()) == [2, 3]


def test_several_threads(lake: Lake) -> None:
    """Commits to different tables and reads at the same time."""
    tables = [replace(ORDERS, table=replace(TABLE, name=f"t{n}")) for n in range(4)]
    failures: list[BaseException] = []

    def work(schema: TableSchema) -> None:
        try:
            pin, rows = None, []
            for number in range(3):
                new = [(number * 10 + n, n * DAY, "") for n in range(10)]
                rows += new
                pin = lake.commit(
                    run(number, table=schema.table), schema, LAYOUT, pin, None, [batch(schema, new)]
                )
                assert rows_of(lake, pin, schema) == model(rows)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=work, args=(schema,)) for schema in tables]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert lake.tables() == tuple(sorted(schema.table for schema in tables))


@pytest.mark.parametrize("name", ["a/b", "..", "a.b", "é % #?", "x*[y]"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    """Whatever a table is called, its files lie in its own folder inside the warehouse."""
    table = TableId("shop", name, name)
    schema = replace(ORDERS, table=table)
    with lake_in(tmp_path) as lake:
        pin = lake.commit(run(1, table=table), schema, LAYOUT, None, None, [batch(schema, FIRST)])
        assert rows_of(lake, pin, schema) == model(FIRST)
        assert lake.tables() == (table,)
        folders = {path.parents[2].name for path in parquet_files(tmp_path)}
        assert len(folders) == 1
        for path in lake.files(table, pin, None, None).paths:
            assert (tmp_path / "warehouse") in Path(path).resolve().parents


def test_random_histories(tmp_path: Path) -> None:
    """Any sequence of runs, finished or not, gives the rows of a dict."""
    for _ in range(3):
        seed = random.getrandbits(32)
        print(f"seed {seed}")
        _history(tmp_path / str(seed), random.Random(seed))


def _history(folder: Path, chance: random.Random) -> None:
    limits = WriteLimits(buffer_bytes=chance.choice([1, 2000, 2**20]), open_files=2)
    expected: Rows = {}
    pin = None
    with lake_in(folder, limits) as lake:
        for number in range(10):
            if chance.random() < 0.1:
                pin, expected = None, {}
            gone = [k for k in expected if chance.random() < 0.2] + [10**6 + number]
            after = {k: row for k, row in expected.items() if k not in gone}
            new = [
                (key, chance.randrange(-2 * DAY, 6 * DAY), "n" * chance.randrange(3))
                for key in chance.sample(range(500), chance.randrange(60))
                if key not in after
            ]
            batches = [batch(ORDERS, new[n : n + 7]) for n in range(0, len(new), 7)]
            removed = keys(ORDERS, gone) if chance.random() < 0.9 else None
            if removed is None:
                after = dict(expected)
                batches = [batch(ORDERS, [r for r in new if r[0] not in after])]
                new = [r for r in new if r[0] not in after]
            made = lake.commit(run(number), ORDERS, LAYOUT, pin, removed, batches)
            assert rows_of(lake, made, ORDERS) == after | model(new)
            assert made.rows == len(after | model(new))
            if chance.random() < 0.7:  # else the run is never finished
                pin, expected = made, after | model(new)
            if pin is not None and chance.random() < 0.3:
                pin = lake.compact(TABLE, pin)
                assert rows_of(lake, pin, ORDERS) == expected
