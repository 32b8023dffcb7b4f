"""Types: every value comes back as it went in, read by DuckDB by field id."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from htapkit.model import (
    DATE_INFINITY,
    TIMESTAMP_INFINITY,
    Column,
    Layout,
    SqlType,
    Storage,
    TableSchema,
)
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

_LONG = "x" * 15 + "\ud7ff" * 20
_VALUES: dict[str, tuple[Column, list[Any]]] = {
    "bool": (column("v", "bool", 3), [True, False]),
    "int2": (column("v", "int2", 3), [-(2**15), 0, 2**15 - 1]),
    "int4": (column("v", "int4", 3), [-(2**31), 0, 2**31 - 1]),
    "int8": (column("v", "int8", 3), [-(2**63), 0, 2**63 - 1]),
    "float4": (column("v", "float4", 3), [0.0, -1.5, float("inf"), float("-inf"), 2**-149]),
    "float8": (column("v", "float8", 3), [5e-324, -1.7976931348623157e308, float("inf")]),
    "date": (column("v", "date", 3), [-(2**31) + 1, -1, 0, 2_932_896, DATE_INFINITY]),
    "time": (column("v", "time", 3), [0, 1, DAY - 1, DAY]),
    "timestamp": (
        column("v", "timestamp", 3),
        [-TIMESTAMP_INFINITY, -210_866_803_200_000_000, -1, 0, TIMESTAMP_INFINITY],
    ),
    "timestamptz": (
        column("v", "timestamptz", 3),
        [-TIMESTAMP_INFINITY, -1, 0, 253_402_300_799_999_999, TIMESTAMP_INFINITY],
    ),
    "bytea": (column("v", "bytea", 3), [b"", b"\x00\xff", b"\xff" * 40]),
    "numeric_short": (
        numeric("v", 3, 4, 2),
        [Decimal("-99.99"), Decimal("0.00"), Decimal("99.99")],
    ),
    "numeric_middle": (numeric("v", 3, 18, 0), [Decimal(-(10**18) + 1), Decimal(10**18 - 1)]),
    "numeric_long": (
        numeric("v", 3, 38, 10),
        [Decimal("-9999999999999999999999999999.9999999999"), Decimal("1E-10")],
    ),
    "numeric_free": (column("v", "numeric", 3), ["NaN", "1" * 100, "-0.000"]),
    "text": (column("v", "text", 3), ["", "é\n'\"\\", _LONG, "\U0010ffff" * 20, "a" * 5000]),
    "bpchar": (Column("v", SqlType("bpchar", 1042, 9), 3), ["ab   ", "     "]),
    "uuid": (column("v", "uuid", 3), ["00000000-0000-0000-0000-000000000000"]),
    "jsonb": (column("v", "jsonb", 3), ['{"a": [1, null]}']),
    "int4_array": (column("v", "_int4", 3), ["{1,NULL,3}"]),
    "kept_as_text": (
        Column("v", SqlType("timestamptz", 1184), 3, storage=Storage.TEXT),
        ["294277-01-01 00:00:00+00", "infinity"],
    ),
}


def _array(values: list[Any], type_: pa.DataType) -> pa.Array:
    if pa.types.is_temporal(type_):
        whole = pa.int32() if pa.types.is_date32(type_) else pa.int64()
        return pa.array(values, whole).cast(type_)
    return pa.array(values, type_)


def _bits(column: pa.ChunkedArray) -> list[Any]:
    """The values with nothing between them and us: temporal ones as their numbers."""
    if pa.types.is_temporal(column.type):
        whole = pa.int32() if pa.types.is_date32(column.type) else pa.int64()
        return [n for chunk in column.chunks for n in chunk.view(whole).to_pylist()]
    return column.to_pylist()


@pytest.mark.parametrize("name", _VALUES)
def test_values_come_back(tmp_path: Path, name: str) -> None:
    """Extremes, NULL and all; once more after the file was written again by a delete."""
    kind, values = _VALUES[name]
    values = [*values, None]
    schema = TableSchema(
        TABLE, (column("id", "int8", 1), column("at", "timestamptz", 2), kind), ("id",)
    )
    rows = pa.RecordBatch.from_arrays(
        [
            pa.array(range(len(values)), pa.int64()),
            pa.array([0] * len(values), pa.int64()).cast(schema.arrow.field("at").type),
            _array(values, kind.arrow),
        ],
        schema=schema.arrow,
    )
    with lake_in(tmp_path) as lake:
        pin = lake.commit(run(1), schema, LAYOUT, None, None, [rows])
        found = arrow_rows(lake.files(TABLE, pin, None, None), schema).sort_by("id")
        assert _bits(found.column("v")) == values
        gone = pa.table({"id": pa.array([0], pa.int64())})
        pin = lake.commit(run(2), schema, LAYOUT, pin, gone, [])
        found = arrow_rows(lake.files(TABLE, pin, None, None), schema).sort_by("id")
        assert _bits(found.column("v")) == values[1:]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bool", "boolean"),
        ("int2", "int"),
        ("int4", "int"),
        ("int8", "long"),
        ("float4", "float"),
        ("float8", "double"),
        ("date", "date"),
        ("time", "time"),
        ("timestamp", "timestamp"),
        ("timestamptz", "timestamptz"),
        ("bytea", "binary"),
        ("numeric_short", "decimal(4, 2)"),
        ("numeric_free", "string"),
        ("text", "string"),
        ("uuid", "string"),
        ("kept_as_text", "string"),
    ],
)
def test_names_of_types(tmp_path: Path, name: str, expected: str) -> None:
    """What a reader is told is Iceberg's own name."""
    kind = _VALUES[name][0]
    schema = TableSchema(
        TABLE, (column("id", "int8", 1), column("at", "timestamptz", 2), kind), ("id",)
    )
    with lake_in(tmp_path) as lake:
        pin = lake.commit(run(1), schema, LAYOUT, None, None, [])
        assert lake.files(TABLE, pin, None, None).columns[3].type == expected


@pytest.mark.parametrize(
    ("kind", "partition"),
    [
        ("date", "day"),
        ("date", "month"),
        ("timestamp", "hour"),
        ("timestamp", "day"),
        ("timestamptz", "month"),
    ],
)
def test_time_columns(tmp_path: Path, kind: str, partition: str) -> None:
    """Rows before and after 1970 and at the edges of partitions are found by their time."""
    schema = TableSchema(TABLE, (column("id", "int8", 1), column("at", kind, 2)), ("id",))
    days = [-800, -31, -1, 0, 1, 30, 31, 59, 365, 10_000]
    numbers = days if kind == "date" else [n * DAY + e for n in days for e in (-1, 0, 1)]
    rows = pa.RecordBatch.from_arrays(
        [pa.array(range(len(numbers)), pa.int64()), _array(numbers, schema.arrow.field(1).type)],
        schema=schema.arrow,
    )
    with lake_in(tmp_path) as lake:
        layout = Layout("at", partition)
        pin = lake.commit(run(1), schema, layout, None, None, [rows])
        factor = DAY if kind == "date" else 1
        for wanted in numbers:
            files = lake.files(TABLE, pin, wanted * factor, wanted * factor + 1)
            found = arrow_rows(files, schema)
            assert wanted in _bits(found.column("at"))
            assert found.num_rows < rows.num_rows / 2
