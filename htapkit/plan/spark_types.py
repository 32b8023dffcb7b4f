"""Types of a statement that Spark runs: which there are, and Spark's names of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlglot import exp

from htapkit.model import DECIMAL_DIGITS_MAX, Column, Storage
from htapkit.plan.plan import SparkType
from htapkit.plan.unproven import UnprovenError

INTEGERS: Mapping[str, int] = {"int2": 5, "int4": 10, "int8": 19}
"""Digits that hold each of their values, as Spark counts them when it compares with decimals."""

ORDERED = frozenset({*INTEGERS, "decimal", "date", "timestamp", "timestamptz", "text"})
"""Equal and ordered in Spark as in PostgreSQL. Not floats: Iceberg skips files whose greatest
value is too small though they have a NaN, which is greater than all; nor booleans, by whose order
nothing is asked."""

EQUAL = ORDERED | {"bool"}

_SPARK: Mapping[str, str] = {
    "bool": "BOOLEAN",
    "int2": "SMALLINT",
    "int4": "INT",
    "int8": "BIGINT",
    "float4": "FLOAT",
    "float8": "DOUBLE",
    "date": "DATE",
    "timestamp": "TIMESTAMP_NTZ",
    "timestamptz": "TIMESTAMP_LTZ",
    "bytea": "BINARY",
    "text": "STRING",
}
_T = exp.DType
_DUCKDB: Mapping[exp.DType, str] = {
    _T.BOOLEAN: "bool",
    _T.SMALLINT: "int2",
    _T.INT: "int4",
    _T.BIGINT: "int8",
    _T.FLOAT: "float4",
    _T.DOUBLE: "float8",
    _T.DATE: "date",
    _T.TIMESTAMP: "timestamp",
    _T.TIMESTAMPNTZ: "timestamp",
    _T.TIMESTAMPTZ: "timestamptz",
    _T.BLOB: "bytea",
    _T.VARBINARY: "bytea",
    _T.TEXT: "text",
    _T.VARCHAR: "text",
}


@dataclass(frozen=True, slots=True)
class Typed:
    """A piece of Spark's SQL, and its type."""

    sql: str
    type: SparkType


def only(node: exp.Expression, *parts: str) -> None:
    """Refuse a node that carries anything else."""
    for name, value in node.args.items():
        if value and name not in parts:
            raise UnprovenError(
                type(node).__name__.upper(), f"with {name.strip('_')}, not proven equal in Spark"
            )


def spark_sql(type_: SparkType) -> str:
    """The type as Spark's grammar spells it."""
    if type_.name == "decimal":
        return f"DECIMAL({type_.digits},{type_.scale})"
    return _SPARK[type_.name]


def quoted(name: str) -> str:
    """An identifier of Spark's."""
    return "`" + name.replace("`", "``") + "`"


def text_literal(value: str) -> str:
    """A text of Spark's, whatever its letters; never read with escapes."""
    if not set(value) & set("\\'$") and value.isprintable():
        return f"'{value}'"
    return f"CAST(X'{value.encode().hex()}' AS STRING)"


def null(type_: SparkType) -> str:
    """A NULL of that type."""
    return f"CAST(NULL AS {spark_sql(type_)})"


def decimal(digits: int, scale: int) -> SparkType:
    """A decimal of that size."""
    return SparkType("decimal", digits, scale)


def column_type(column: Column) -> SparkType:
    """The type of a table's column. Raises UnprovenError where Spark has none for it."""
    if column.storage is Storage.NATIVE and column.type.decimal is not None and column.computable:
        return decimal(*column.type.decimal)
    if not column.computable or column.type.name in {"varchar", "bpchar", "name", "uuid"}:
        return SparkType("text")
    if column.type.name not in _SPARK:
        raise UnprovenError(f"column {column.name}", f"Spark does not read {column.type.name}")
    return SparkType(column.type.name)


def cast_type(node: exp.Expression) -> SparkType:
    """The type that a cast of DuckDB's names. Raises UnprovenError."""
    kind = node.this
    if kind is _T.DECIMAL and len(node.expressions) == 2:
        return decimal(*(int(str(part.this.this)) for part in node.expressions))
    if kind not in _DUCKDB or node.expressions:
        raise UnprovenError("a cast", f"to {node.sql('duckdb')}, not proven equal in Spark")
    return SparkType(_DUCKDB[kind])


def comparable(left: SparkType, right: SparkType, allowed: frozenset[str], what: str) -> None:
    """Raise UnprovenError unless Spark compares the two as they are, without losing a digit."""
    for side in (left, right):
        if side.name not in allowed:
            raise UnprovenError(f"{what} of {side.name}", "not proven equal in Spark")
    if left.name == right.name and left.name != "decimal":
        return
    if left.name in INTEGERS and right.name in INTEGERS:
        return
    sizes = [size for side in (left, right) if (size := _size(side)) is not None]
    if len(sizes) == 2:
        whole = max(digits - scale for digits, scale in sizes)
        if whole + max(scale for _, scale in sizes) <= DECIMAL_DIGITS_MAX:
            return
    raise UnprovenError(f"{what} of {left.name} and {right.name}", "not proven equal in Spark")


def _size(type_: SparkType) -> tuple[int, int] | None:
    """Digits and scale of an exact number; None of other types."""
    if type_.name == "decimal":
        return type_.digits, type_.scale
    if type_.name in INTEGERS:
        # Spark takes 20 digits for a bigint.
        return (20, 0) if type_.name == "int8" else (INTEGERS[type_.name], 0)
    return None
