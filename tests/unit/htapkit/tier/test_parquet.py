"""Parquet of others: which files are read, what of them is taken, in how much memory."""

from __future__ import annotations

import gc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from htapkit.errors import ConfigError
from htapkit.model import DATE_INFINITY, TIMESTAMP_INFINITY, Column, SqlType, TableId, TableSchema
from htapkit.tier.parquet import Taken, Wanted, batches_of, files_of

DAY = 86_400_000_000
EVENTS = TableSchema(
    TableId("shop", "public", "events"),
    (
        Column("id", SqlType("int8", 20), 1, nullable=False),
        Column("at", SqlType("timestamp", 1114), 2, nullable=False),
        Column("day", SqlType("date", 1082), 3),
        Column("kind", SqlType("text", 25), 4),
    ),
    ("id",),
)
UTF8_NOT = b"\xff\xfe"


def taken(
    path: Path,
    time: str = "at",
    lower: int | None = None,
    upper: int | None = None,
    **columns: pa.Array,
) -> Taken:
    """What comes of a file with these columns; the others have a value that fits."""
    count = len(next(iter(columns.values())))
    made = {
        "id": pa.array(range(count), pa.int64()),
        "at": pa.array([DAY] * count, pa.timestamp("us")),
        **columns,
    }
    pq.write_table(pa.table(made), path / "1.parquet")
    (found,) = batches_of(path / "1.parquet", Wanted(EVENTS, time, lower, upper))
    return found


def days(*numbers: int) -> pa.Array:
    """Dates, also those that Python does not have."""
    return pa.array(numbers, pa.int32()).view(pa.date32())


def test_a_folder_as_spark_leaves_it(tmp_path: Path) -> None:
    """A folder may be called like a file; what a writer has not finished is left alone."""
    wanted = [tmp_path / "a.parquet" / "part-0.parquet", tmp_path / "b.parquet"]
    others = ["a.parquet/_temporary/0/part-1.parquet", "a.parquet/.part-2.parquet", "a.csv"]
    for path in [*wanted, *(tmp_path / other for other in others)]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert files_of(tmp_path, ".") == tuple(wanted)
    assert files_of(tmp_path, "a.parquet") == (wanted[0],)


def test_no_link_leads_out(tmp_path: Path) -> None:
    """Neither as the path itself nor inside of a folder; one that stays below it is followed."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside / "a", inside / "b", outside):
        folder.mkdir(parents=True)
    (outside / "x.parquet").touch()
    (inside / "b" / "x.parquet").touch()
    (inside / "b" / "link.parquet").symlink_to(inside / "b" / "x.parquet")
    assert len(files_of(inside, "b")) == 2
    (inside / "a" / "link.parquet").symlink_to(outside / "x.parquet")
    with pytest.raises(ConfigError, match="a link that leaves"):
        files_of(inside, "a")
    for path in ("a/link.parquet", "../out", "a\0b", "x" * 5000, "nothing"):
        with pytest.raises(ConfigError, match="no such file or folder"):
            files_of(inside, path)


def test_values_that_no_row_of_postgresql_has(tmp_path: Path) -> None:
    """Text that is no UTF-8, and times before 4714 BC, are rejected; infinite ones are values."""
    offsets = pa.array([0, 2, 3], pa.int32()).buffers()[1]
    text = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(UTF8_NOT + b"b")])
    found = taken(tmp_path, kind=text)
    assert (found.lines, [line for line, _ in found.rejected]) == ((2,), [1])
    assert found.rows["kind"].to_pylist() == ["b"]
    first = -2_440_588
    dates = days(first, first - 1, DATE_INFINITY, -DATE_INFINITY, -(2**31), 2_145_042_906)
    found = taken(tmp_path, day=dates)
    assert found.lines == (1, 3, 4)
    times = [first * DAY, first * DAY - 1, TIMESTAMP_INFINITY, -TIMESTAMP_INFINITY, -(2**63)]
    found = taken(tmp_path, at=pa.array(times, pa.timestamp("us")))
    assert found.lines == (1,)  # where it is the time column, an infinite one has no place
    assert [line for line, _ in found.rejected] == [2, 3, 4, 5]


def test_dates_of_a_range(tmp_path: Path) -> None:
    """Half-open, by days, also for dates whose microseconds no int64 holds."""
    dates = days(0, 1, 2, 213_503_984, 2_000_000_000)
    found = taken(tmp_path, "day", DAY, 3 * DAY, day=dates)
    assert (found.lines, found.outside, found.rejected) == ((2, 3), 3, ())
    found = taken(tmp_path, "day", DAY + 1, 2 * DAY + 1, day=dates)
    assert found.lines == (3,)


def test_what_is_outside_is_not_looked_at(tmp_path: Path) -> None:
    """A bad row of another range is left alone; one without a time is nobody's."""
    at = pa.array([0, 5, None, 5], pa.timestamp("us"))
    found = taken(tmp_path, lower=3, upper=9, at=at, kind=pa.array(["a\0", "a\0", "a", "a"]))
    assert (found.lines, found.outside) == ((4,), 1)
    assert [line for line, _ in found.rejected] == [2, 3]


def test_a_large_row_group_is_read_in_pieces(tmp_path: Path) -> None:
    """Memory is that of some pages, not of the row group."""
    path, count = tmp_path / "1.parquet", 300_000
    kind = pa.array([f"{n:0200}" for n in range(count)])
    table = pa.table(
        {
            "id": pa.array(range(count), pa.int64()),
            "at": pa.array(range(count), pa.timestamp("us")),
            "kind": kind,
        }
    )
    pq.write_table(table, path, row_group_size=count, use_dictionary=False, compression="none")
    assert path.stat().st_size > 60_000_000
    del table, kind
    gc.collect()  # what earlier tests left is not freed on the way
    before, most, rows = pa.total_allocated_bytes(), 0, 0
    for found in batches_of(path, Wanted(EVENTS, "at", None, None)):
        rows += found.rows.num_rows
        most = max(most, pa.total_allocated_bytes() - before)
    assert rows == count
    assert most < 30_000_000
