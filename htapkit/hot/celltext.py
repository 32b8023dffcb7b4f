"""How cells hold values: as texts, in DuckDB's SQL, from a column's values and back. Pure."""

from __future__ import annotations

import pyarrow as pa

from htapkit.hot.names import duckdb_type
from htapkit.model import Column


def from_text(column: Column, text: str) -> str:
    """An expression for a value of the column's type, from one for how cells hold it."""
    arrow = column.arrow
    if pa.types.is_binary(arrow):
        return f"from_hex({text})"
    if pa.types.is_date(arrow):
        return f"CAST('1970-01-01' AS DATE) + CAST({text} AS INTEGER)"
    if pa.types.is_timestamp(arrow):
        make = "make_timestamp" if arrow.tz is None else "make_timestamptz"
        return f"{make}(CAST({text} AS BIGINT))"
    return text if pa.types.is_string(arrow) else f"CAST({text} AS {duckdb_type(column)})"


def as_text(column: Column, value: str) -> str:
    """An expression for how cells hold the value of a column; of some types, for another text.

    `from_text` makes the same value of it.
    """
    arrow = column.arrow
    if pa.types.is_binary(arrow):
        return f"lower(hex({value}))"
    if pa.types.is_date(arrow):
        return f"CAST({value} - CAST('1970-01-01' AS DATE) AS VARCHAR)"
    if pa.types.is_timestamp(arrow):
        return f"CAST(epoch_us({value}) AS VARCHAR)"
    return value if pa.types.is_string(arrow) else f"CAST({value} AS VARCHAR)"
