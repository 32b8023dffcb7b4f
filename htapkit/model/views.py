"""Schema `htapkit`: what the port tells of itself as views, which no PostgreSQL ever sees.

Here stand their columns, for the planner and for whoever fills them. To the planner they are tables
of one more source, called `htapkit` like the schema.
"""

from __future__ import annotations

from collections.abc import Mapping

from htapkit.model.catalog import TableState, TableStatus
from htapkit.model.tables import Column, SqlType, TableId, TableSchema

OWN = "htapkit"
"""The schema, and the source that it is of. No configured source has that name."""

_TYPES = {
    "text": SqlType("text", 25),
    "int8": SqlType("int8", 20),
    "float8": SqlType("float8", 701),
    "timestamptz": SqlType("timestamptz", 1184),
}

_COLUMNS = {
    "sources": """
        source text, state text, why text, position text, lag_bytes int8, lag_ms float8,
        rows_per_second float8, rows_applied int8, tables int8, tables_following int8, warnings text
    """,
    "tables": """
        table_schema text, table_name text, state text, rows int8, lake_rows int8,
        lake_below text, why text, position text, archived_rows int8
    """,
    "routes": "at timestamptz, route text, reason text, statement text",
    "jobs": """
        id text, kind text, subject text, state text, step text, done int8, total int8, why text,
        queued_at timestamptz, ended_at timestamptz
    """,
    "limits": "name text, value int8, used int8, unit text",
}


def _status(name: str, columns: str) -> TableStatus:
    made = []
    for number, text in enumerate(columns.split(","), 1):
        column, type_ = text.split()
        made.append(Column(column, _TYPES[type_], number))
    return TableStatus(TableSchema(TableId(OWN, OWN, name), tuple(made)), TableState.FOLLOWING, 100)


VIEWS: Mapping[TableId, TableStatus] = {
    status.schema.table: status
    for status in (_status(name, columns) for name, columns in _COLUMNS.items())
}
"""All of them. Their text sorts by its bytes."""


def view_relation(name: str) -> str:
    """What the local SQL calls a view, unquoted."""
    return f"{OWN} {name}"
