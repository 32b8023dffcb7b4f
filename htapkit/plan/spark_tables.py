"""The tables of a statement for Spark: one version of each, with the names and types of today."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from htapkit.model import ENDS, Column, LakeColumn, TableId
from htapkit.plan.literals import DAY_MICROS
from htapkit.plan.plan import SparkQuery, SparkType
from htapkit.plan.spark_types import column_type, null, quoted, spark_sql
from htapkit.plan.unproven import UnprovenError

WITH = "WITH "
CATALOG = "htapkit"
"""What Spark calls the lake's catalog."""

_ICEBERG: Mapping[str, frozenset[str]] = {
    "bool": frozenset({"boolean"}),
    "int2": frozenset({"int"}),
    "int4": frozenset({"int"}),
    "int8": frozenset({"int", "long"}),
    "float4": frozenset({"float"}),
    "float8": frozenset({"float", "double"}),
    "date": frozenset({"date"}),
    "timestamp": frozenset({"timestamp"}),
    "timestamptz": frozenset({"timestamptz"}),
    "bytea": frozenset({"binary"}),
    "text": frozenset({"string"}),
}


@dataclass(frozen=True, slots=True)
class SparkTable:
    """A version of a lake table, as a statement reads it under `name`."""

    name: str
    table: TableId
    identifier: tuple[str, ...]  # in the catalog, level by level
    snapshot: int
    columns: tuple[Column, ...]  # that are read, as the table has them now
    held: Mapping[int, LakeColumn]  # the version's own, by ordinal
    since: tuple[Column, int] | None = None  # no row whose time is below that (microseconds)
    now: int | None = None  # no row that has ended by then (microseconds); None: none ever ends


def with_tables(query: SparkQuery, tables: Sequence[SparkTable]) -> str:
    """The whole statement. Raises UnprovenError where a version's type is not today's."""
    items = [f"{quoted(each.name)} AS ({_rows(each)})" for each in tables]
    between = ", " if query.sql.startswith(WITH) else " "
    return f"{WITH}{', '.join(items)}{between}{query.sql.removeprefix(WITH)}"


def _rows(table: SparkTable) -> str:
    """The rows of a version."""
    columns = ", ".join(_column(table, column) for column in table.columns) or "1 AS `1`"
    place = ".".join(quoted(level) for level in (CATALOG, *table.identifier))
    rows = f"SELECT {columns} FROM {place} VERSION AS OF {table.snapshot}"  # noqa: S608 - quoted
    conditions = []
    if table.since is not None:
        column, since = table.since
        name = quoted(_held(table, column).name)
        conditions.append(f"{name} >= {_moment(column_type(column), since)}")
    if table.now is not None:
        name = quoted(_held(table, ENDS).name)
        conditions.append(f"({name} IS NULL OR {name} > {_moment(column_type(ENDS), table.now)})")
    return f"{rows} WHERE {' AND '.join(conditions)}" if conditions else rows


def _held(table: SparkTable, column: Column) -> LakeColumn:
    found = table.held.get(column.ordinal)
    if found is None:
        raise UnprovenError(f"table {table.table}", f"column {column.name} is not in the lake")
    return found


def _column(table: SparkTable, column: Column) -> str:
    """A column by its name and type of today; NULL where the version has none."""
    type_ = column_type(column)
    held = table.held.get(column.ordinal)
    if held is None:
        return f"{null(type_)} AS {quoted(column.name)}"
    if not _holds(held.type, type_):
        raise UnprovenError(
            f"column {column.name}", f"{held.type} in the lake's version of {table.table}"
        )
    return f"CAST({quoted(held.name)} AS {spark_sql(type_)}) AS {quoted(column.name)}"


def _holds(iceberg: str, type_: SparkType) -> bool:
    """Whether each value of the version's type is one of today's."""
    if type_.name != "decimal":
        return iceberg in _ICEBERG[type_.name]
    digits, _, scale = iceberg.removeprefix("decimal(").removesuffix(")").partition(", ")
    return scale == str(type_.scale) and digits.isdigit() and int(digits) <= type_.digits


def _moment(type_: SparkType, micros: int) -> str:
    """A time as a constant of the column's type."""
    if type_.name == "date":
        return f"date_from_unix_date({-(-micros // DAY_MICROS)})"
    made = f"timestamp_micros({micros})"
    return made if type_.name == "timestamptz" else f"CAST({made} AS TIMESTAMP_NTZ)"
