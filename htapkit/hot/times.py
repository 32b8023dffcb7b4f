"""The time column of a table in DuckDB's SQL: literals and ranges. Pure.

Bounds are microseconds since 1970 (of a timestamptz: UTC; of a date: its midnight) and half-open.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa

from htapkit.errors import StoreError
from htapkit.hot.names import duckdb_type, quote
from htapkit.model import Column, TableSchema

_DAY = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """Since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def time_column(schema: TableSchema, ordinal: int) -> Column:
    """The column with this ordinal. Raises StoreError where it is no date or timestamp."""
    found = next((c for c in schema.columns if c.ordinal == ordinal), None)
    if found is None:
        raise StoreError(f"{schema.table} has no column with the number {ordinal}")
    if not (pa.types.is_date(found.arrow) or pa.types.is_timestamp(found.arrow)):
        raise StoreError(
            f"{schema.table}, column {found.name}: it is kept as {found.arrow}, and history is cut "
            "by a date or a timestamp; choose another time column"
        )
    return found


def in_range(column: Column, lower: int | None, upper: int | None) -> str:
    """The condition lower <= time < upper; neither NULL nor infinite times meet it."""
    name, kind = quote(column.name), duckdb_type(column)
    low = moment(column, lower) if lower is not None else None
    high = moment(column, upper) if upper is not None else None
    return " AND ".join(
        [
            f"{name} >= {low}" if low else f"{name} > CAST('-infinity' AS {kind})",
            f"{name} < {high}" if high else f"{name} < CAST('infinity' AS {kind})",
        ]
    )


def moment(column: Column, microseconds: int) -> str:
    """A constant of the column's type."""
    if pa.types.is_date(column.arrow):
        # The first midnight at or after it: both `>=` and `<` then mean the same for dates.
        return f"(DATE '1970-01-01' + ({-(-microseconds // _DAY)}))"
    make = "make_timestamptz" if column.arrow.tz else "make_timestamp"
    return f"{make}(CAST({microseconds} AS BIGINT))"
