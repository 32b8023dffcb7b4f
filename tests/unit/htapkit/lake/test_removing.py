"""Removing by key: for keys of every type, exactly the rows with these keys go."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    DecimalType,
    DoubleType,
    IcebergType,
    LongType,
    NestedField,
    StringType,
)

from htapkit.errors import LakeRefused
from htapkit.lake import removing
from htapkit.lake.bounds import file_statistics, whole_number
from htapkit.lake.types import arrow_type
from htapkit.model import Column, TableSchema
from tests.unit.htapkit.lake.building import (
    DAY,
    LAYOUT,
    TABLE,
    arrow_rows,
    column,
    lake_in,
    numeric,
    run,
)

Make = Callable[[random.Random], Any]


def _text(chance: random.Random) -> str:
    edges = ["\ud7ff", "\U0010ffff", "é", "a"]
    start = chance.choice(["", "x" * 15, "same beginning of all "])
    return start + "".join(chance.choices([*edges, *string.ascii_lowercase], k=chance.randrange(6)))


def _bytes(chance: random.Random) -> bytes:
    return b"\xff" * chance.choice([0, 15, 16]) + chance.randbytes(chance.randrange(4))


KEYS: dict[str, list[tuple[Column, Make]]] = {
    "int2": [(column("k", "int2", 1), lambda c: c.randrange(-300, 300))],
    "int8": [(column("k", "int8", 1), lambda c: c.randrange(-(2**63), 2**63))],
    "text": [(column("k", "text", 1), _text)],
    "bytea": [(column("k", "bytea", 1), _bytes)],
    "numeric_short": [
        (numeric("k", 1, 6, 2), lambda c: Decimal(c.randrange(-(10**6) + 1, 10**6)).scaleb(-2))
    ],
    "numeric_long": [
        (numeric("k", 1, 38, 5), lambda c: Decimal(c.randrange(-(10**28), 10**28)).scaleb(-5))
    ],
    "date": [(column("k", "date", 1), lambda c: c.randrange(-1000, 1000))],
    "float8": [(column("k", "float8", 1), lambda c: c.choice([0.5, -0.0, c.random()]))],
    "bool_and_text": [
        (column("k", "bool", 1), lambda c: c.random() < 0.5),
        (column("l", "text", 3), _text),
    ],
    "time_and_int": [
        (column("k", "timestamptz", 1), lambda c: c.randrange(-DAY, DAY)),
        (column("l", "int4", 3), lambda c: c.randrange(5)),
    ],
}


def _array(values: list[Any], type_: pa.DataType) -> pa.Array:
    if pa.types.is_temporal(type_):
        whole = pa.int32() if pa.types.is_date32(type_) else pa.int64()
        return pa.array(values, whole).cast(type_)
    return pa.array(values, type_)


@pytest.mark.parametrize("name", KEYS)
def test_random_keys(tmp_path: Path, name: str) -> None:
    """Two commits, so that files overlap; then some of the keys go, and some that never were."""
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    parts = KEYS[name]
    schema = TableSchema(
        TABLE,
        (*(c for c, _ in parts), column("at", "timestamptz", 9)),
        tuple(c.name for c, _ in parts),
    )

    def batch(keys: list[tuple[Any, ...]]) -> pa.RecordBatch:
        times = [chance.randrange(4) * DAY for _ in keys]
        rows = [(*key, time) for key, time in zip(keys, times, strict=True)]
        by_column = [list(values) for values in zip(*rows, strict=True)]
        arrays = [_array(v, f.type) for v, f in zip(by_column, schema.arrow, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=schema.arrow)

    found = dict.fromkeys(tuple(make(chance) for _, make in parts) for _ in range(120))
    there, absent = list(found)[:100], list(found)[100:]
    half = len(there) // 2
    with lake_in(tmp_path) as lake:
        pin = lake.commit(run(1), schema, LAYOUT, None, None, [batch(there[:half])])
        pin = lake.commit(run(2), schema, LAYOUT, pin, None, [batch(there[half:])])
        going = chance.sample(there, 30) + absent
        chance.shuffle(going)
        gone = pa.Table.from_batches([batch(going)]).select(list(schema.key))
        pin = lake.commit(run(3), schema, LAYOUT, pin, gone, [])
        left = arrow_rows(lake.files(TABLE, pin, None, None), schema).select(list(schema.key))
    expected = [key for key in there if key not in set(going)]
    assert pin.rows == left.num_rows == len(expected)
    wanted = pa.Table.from_batches([batch(expected)]).select(list(schema.key))
    order = [(name, "ascending") for name in schema.key]
    assert left.sort_by(order).equals(wanted.sort_by(order))


@pytest.mark.parametrize(
    ("type_", "make"),
    [
        (StringType(), _text),
        (BinaryType(), _bytes),
        (LongType(), lambda c: c.randrange(-(2**63), 2**63)),
        (DecimalType(9, 0), lambda c: c.randrange(-(10**9) + 1, 10**9)),
        (DecimalType(18, 0), lambda c: c.randrange(-(10**18) + 1, 10**18)),
        (DecimalType(38, 0), lambda c: c.randrange(-(10**38) + 1, 10**38)),
    ],
)
def test_bounds_hold_all_values(tmp_path: Path, type_: IcebergType, make: Make) -> None:
    """As other engines compare them: bytes by bytes, numbers as Iceberg writes them."""
    schema = Schema(NestedField(1, "v", type_, required=False))
    for _ in range(60):
        seed = random.getrandbits(32)
        chance = random.Random(seed)
        values = [make(chance) for _ in range(chance.randrange(1, 5))]
        decimal = isinstance(type_, DecimalType)
        given = [Decimal(v) for v in values] if decimal else values
        path = tmp_path / "file.parquet"
        table = pa.table({"v": pa.array([*given, None], arrow_type(type_))})
        pq.write_table(table, path, row_group_size=2, store_decimal_as_integer=True)
        statistics = file_statistics(pq.read_metadata(path), schema)
        low, high = statistics.lower_bounds[1], statistics.upper_bounds.get(1)
        assert statistics.null_value_counts == {1: 1}
        assert statistics.value_counts == {1: len(values) + 1}
        if isinstance(type_, StringType | BinaryType):
            raw = [v.encode() if isinstance(v, str) else v for v in values]
            assert low <= min(raw), seed
            assert high is None or max(raw) <= high, seed
            assert len(low.decode() if isinstance(type_, StringType) else low) <= 16
        else:
            assert high is not None
            assert (whole_number(type_, low), whole_number(type_, high)) == (
                min(values),
                max(values),
            ), seed


def test_files_of_nothing_have_no_bounds(tmp_path: Path) -> None:
    """NULL everywhere; NaN everywhere, and beside numbers."""
    schema = Schema(NestedField(1, "v", DoubleType(), required=False))
    nan = float("nan")
    for values, bounds in (([None], 0), ([nan], 0), ([nan, 1.0], 1), ([None, nan, 2.0], 1)):
        path = tmp_path / "file.parquet"
        pq.write_table(pa.table({"v": pa.array(values, pa.float64())}), path)
        assert len(file_statistics(pq.read_metadata(path), schema).lower_bounds) == bounds


def test_large_files_are_looked_through_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positions count from the file's beginning, whichever part a row is found in."""
    monkeypatch.setattr(removing, "_BATCH_ROWS", 7)
    monkeypatch.setattr(removing, "_JOINED_ROWS", 20)
    schema = TableSchema(TABLE, (column("k", "int8", 1), column("at", "timestamptz", 2)), ("k",))
    rows = pa.RecordBatch.from_arrays(
        [
            pa.array(range(100), pa.int64()),
            pa.array([0] * 100, pa.int64()).cast(pa.timestamp("us", "UTC")),
        ],
        schema=schema.arrow,
    )
    going = [0, 6, 7, 19, 20, 21, 27, 28, 63, 99]
    with lake_in(tmp_path) as lake:
        pin = lake.commit(run(1), schema, LAYOUT, None, None, [rows])
        pin = lake.commit(
            run(2), schema, LAYOUT, pin, pa.table({"k": pa.array(going, pa.int64())}), []
        )
        left = arrow_rows(lake.files(TABLE, pin, None, None), schema)
    assert left.column("k").to_pylist() == [n for n in range(100) if n not in going]


def test_keys_that_are_there_twice_are_an_error(tmp_path: Path) -> None:
    """More rows than keys: something is wrong with the table, and no row is removed for it."""
    schema = TableSchema(TABLE, (column("k", "int8", 1), column("at", "timestamptz", 2)), ("k",))
    rows = pa.RecordBatch.from_arrays(
        [
            pa.array([1, 1], pa.int64()),
            pa.array([0, 0], pa.int64()).cast(pa.timestamp("us", "UTC")),
        ],
        schema=schema.arrow,
    )
    with lake_in(tmp_path) as lake:
        pin = lake.commit(run(1), schema, LAYOUT, None, None, [rows])
        gone = pa.table({"k": pa.array([1], pa.int64())})
        with pytest.raises(LakeRefused, match="not unique"):
            lake.commit(run(2), schema, LAYOUT, pin, gone, [])
        assert lake.find(run(2), TABLE) is None
