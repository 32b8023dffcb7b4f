"""Tables, runs and rows for tests of the lake, and a reader that knows nothing of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from pyiceberg.catalog import load_catalog
from pyiceberg.table import Table

from htapkit.lake import Lake, LakeSettings, WriteLimits
from htapkit.model import (
    Column,
    LakeFiles,
    Layout,
    Pin,
    Position,
    RunState,
    SqlType,
    TableId,
    TableSchema,
    TieringRun,
)

DAY = 86_400_000_000
TABLE = TableId("shop", "public", "orders")
LAYOUT = Layout("at")

_OIDS = {"int8": 20, "int4": 23, "text": 25, "timestamptz": 1184, "numeric": 1700}
_DUCKDB = {
    "boolean": "BOOLEAN",
    "int": "INTEGER",
    "long": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "date": "DATE",
    "time": "TIME",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMPTZ",
    "string": "VARCHAR",
    "binary": "BLOB",
}

_READER = duckdb.connect()

Rows = dict[Any, tuple[Any, ...]]


def column(name: str, type_: str, ordinal: int, typmod: int = -1) -> Column:
    """A column of a source."""
    return Column(name, SqlType(type_, _OIDS.get(type_, 0), typmod), ordinal)


def numeric(name: str, ordinal: int, precision: int, scale: int) -> Column:
    """A NUMERIC column with its modifier."""
    return column(name, "numeric", ordinal, (precision << 16 | scale) + 4)


ORDERS = TableSchema(
    TABLE,
    (column("id", "int8", 1), column("at", "timestamptz", 2), column("note", "text", 3)),
    key=("id",),
)


def run(number: int, below: int = 100 * DAY, table: TableId = TABLE) -> TieringRun:
    """A run of one table."""
    return TieringRun(
        f"run-{number}", "shop", Position(f"0/{number}"), {table: below}, RunState.EXPORTING
    )


def batch(schema: TableSchema, rows: Iterable[Sequence[Any]]) -> pa.RecordBatch:
    """Rows of a table as they travel; times as numbers."""
    by_column = list(zip(*rows, strict=True)) or [()] * len(schema.columns)
    arrays = [
        pa.array(list(values), pa.int64()).cast(field.type)
        if pa.types.is_timestamp(field.type)
        else pa.array(list(values), field.type)
        for values, field in zip(by_column, schema.arrow, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema.arrow)


def keys(schema: TableSchema, found: Iterable[Any]) -> pa.Table:
    """Keys of one column that go."""
    name = schema.key[0]
    return pa.table({name: pa.array(list(found), schema.arrow.field(name).type)})


def lake_in(folder: Path, limits: WriteLimits | None = None) -> Lake:
    """A lake of its own."""
    return Lake(LakeSettings.local(folder), limits)


def other_engine(folder: Path, table: TableId = TABLE) -> Table:
    """The table as another program sees it, through its own catalog."""
    settings = LakeSettings.local(folder)
    properties = {**settings.catalog, "warehouse": settings.warehouse}
    catalog = load_catalog("htapkit", **properties)
    return catalog.load_table((table.source, table.schema, table.name))


def type_name(name: str) -> str:
    """DuckDB's name of an Iceberg type."""
    return _DUCKDB.get(name, name.upper())


def relation(files: LakeFiles, schema: TableSchema) -> str:
    """The FROM item that reads the paths of `files` by field id, with the columns of `schema`."""
    parts = [
        f"{there.field}: {{name: 'c{ordinal}', type: '{type_name(there.type)}', "
        "default_value: NULL}"
        for ordinal, there in files.columns.items()
    ]
    paths = ", ".join("'" + path.replace("'", "''") + "'" for path in files.paths)
    columns = ", ".join(
        f'c{c.ordinal} AS "{c.name}"' if c.ordinal in files.columns else f'NULL AS "{c.name}"'
        for c in schema.columns
    )
    return (
        f"(SELECT {columns} FROM read_parquet([{paths}], schema=MAP{{{', '.join(parts)}}}, "
        "hive_partitioning=false))"
    )


def arrow_rows(files: LakeFiles, schema: TableSchema) -> pa.Table:
    """All rows of `paths` and `rest`, read by DuckDB, in the types of `schema`."""
    parts = []
    if files.paths:
        with _READER.cursor() as cursor:
            cursor.execute("SET TimeZone = 'UTC'")
            found = cursor.sql(f"SELECT * FROM {relation(files, schema)}").to_arrow_table()
            parts.append(found.cast(schema.arrow))
    if files.rest is not None:
        for each in files.rest():
            arrays = [
                each.column(str(c.ordinal)).cast(c.arrow)
                if c.ordinal in files.columns
                else pa.nulls(each.num_rows, c.arrow)
                for c in schema.columns
            ]
            parts.append(pa.table(arrays, schema=schema.arrow))
    return pa.concat_tables(parts) if parts else schema.arrow.empty_table()


def rows_of(lake: Lake, pin: Pin, schema: TableSchema) -> Rows:
    """The rows of a version by the first key column: each key once, times as numbers."""
    found = arrow_rows(lake.files(schema.table, pin, None, None), schema)
    plain = [
        column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
        for column in found.columns
    ]
    position = [c.name for c in schema.columns].index(schema.key[0])
    result: Rows = {}
    for row in zip(*(column.to_pylist() for column in plain), strict=True):
        assert row[position] not in result, f"twice: {row[position]}"
        result[row[position]] = row
    assert len(result) == found.num_rows
    return result


def model(rows: Iterable[Sequence[Any]]) -> Rows:
    """What `rows_of` has to give for these rows."""
    return {row[0]: tuple(row) for row in rows}


def parquet_files(folder: Path) -> set[Path]:
    """All Parquet files below a folder."""
    return set(folder.rglob("*.parquet"))
