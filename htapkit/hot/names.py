"""Names and types as DuckDB wants them: the one place where identifiers are quoted."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from htapkit.model import Column, TableId, TableSchema, hot_relation
from htapkit.sqlfiles import sql

_TYPES: dict[pa.DataType, str] = {
    pa.bool_(): "BOOLEAN",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME",
    pa.timestamp("us"): "TIMESTAMP",
    pa.timestamp("us", "UTC"): "TIMESTAMP WITH TIME ZONE",
    pa.binary(): "BLOB",
    pa.string(): "VARCHAR",
}

# Longer than any name of a source, so that a shadow never meets a table.
_GENERATION_DIGITS = 64


def quote(identifier: str) -> str:
    """The identifier, quoted."""
    doubled = identifier.replace('"', '""')
    return f'"{doubled}"'


def name_list(names: Iterable[str]) -> str:
    """Quoted names, separated by commas."""
    return ", ".join(quote(name) for name in names)


def relation(table: TableId) -> str:
    """The quoted, qualified name of a table's rows."""
    schema, name = hot_relation(table)
    return f"{quote(schema)}.{quote(name)}"


def shadow_name(table: TableId, generation: int) -> str:
    """The unqualified name of the copy that is being made.

    Each copy has its own, so that a reader of the source that was left over from an earlier copy
    can never write into a later one.
    """
    return f"{table.name}$copy{generation:0{_GENERATION_DIGITS}d}"


def shadow(table: TableId, generation: int) -> str:
    """The quoted, qualified name of the copy that is being made."""
    return f"{quote(hot_relation(table)[0])}.{quote(shadow_name(table, generation))}"


def tombstones(table: TableId) -> str:
    """The quoted, qualified name of the keys whose row in the lake no longer counts."""
    return beside(table, "gone")


def touched(table: TableId) -> str:
    """The quoted, qualified name of the keys that changed since a run began."""
    return beside(table, "touched")


def leaving(table: TableId) -> str:
    """The quoted, qualified name of the rows of a reconciled table that a run takes."""
    return beside(table, "leaving")


def beside(table: TableId, purpose: str, generation: int = 0) -> str:
    """The quoted, qualified name of a relation beside a table's rows."""
    name = f"{table.name}${purpose}{generation:0{_GENERATION_DIGITS}d}"
    return f"{quote(hot_relation(table)[0])}.{quote(name)}"


def key_columns(schema: TableSchema) -> list[tuple[str, Column]]:
    """The columns of a relation of keys: its name there, which no rename changes, and ours."""
    return [(f"k{column.ordinal}", column) for column in schema.key_columns]


def key_definitions(schema: TableSchema) -> str:
    """The inside of CREATE TABLE's parentheses for a relation of keys."""
    return ", ".join(f"{quote(name)} {duckdb_type(c)}" for name, c in key_columns(schema))


def same_key(schema: TableSchema, keys: str, rows: str) -> str:
    """That the alias `keys` (of a relation of keys) and the alias `rows` (of rows) agree."""
    pairs = key_columns(schema)
    return " AND ".join(f"{keys}.{quote(name)} = {rows}.{quote(c.name)}" for name, c in pairs)


def statement(name: str, **parts: str) -> str:
    """The SQL of `sql/hot/<name>.sql` with its quoted names filled in."""
    return sql(f"hot/{name}").strip().format(**parts)


def duckdb_type(column: Column) -> str:
    """The type of a column in the hot store."""
    arrow = column.arrow
    if pa.types.is_decimal128(arrow):
        return f"DECIMAL({arrow.precision},{arrow.scale})"
    if pa.types.is_fixed_size_list(arrow):
        return f"{_TYPES[arrow.value_type]}[{arrow.list_size}]"
    return _TYPES[arrow]


def column_definitions(schema: TableSchema) -> str:
    """The inside of CREATE TABLE's parentheses. No key, no index: they cost more than scans."""
    return ", ".join(f"{quote(c.name)} {duckdb_type(c)}" for c in schema.columns)


def table_query(schema: TableSchema) -> str:
    """All rows of a table, with the columns of its schema in order."""
    return statement(
        "select_all",
        columns=name_list(c.name for c in schema.columns),
        table=relation(schema.table),
    )


def clash(schema: TableSchema, others: Iterable[TableId]) -> str:
    """Why DuckDB, which ignores the case of letters, cannot hold these names. "" = it can."""
    seen: dict[str, str] = {}
    for column in schema.columns:
        twin = seen.setdefault(column.name.lower(), column.name)
        if twin != column.name:
            return f"columns {twin} and {column.name} differ only in the case of letters"
    if schema.whole_rows and "rowid" in seen:
        return f"a table without a key cannot have a column named {seen['rowid']}"
    if not schema.columns:
        return "it has no columns"
    mine = tuple(part.lower() for part in hot_relation(schema.table))
    for other in others:
        if other != schema.table and tuple(p.lower() for p in hot_relation(other)) == mine:
            return f"its name and {other} differ only in the case of letters"
    return ""
