"""Which Iceberg tables are read besides those of sources, and which version of each.

Only what there is to read is kept here: rows stay in the lake, and nothing is ever written there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from htapkit.hot.definitions import from_json, to_json
from htapkit.hot.names import statement
from htapkit.model import Import, Pin, TableId

if TYPE_CHECKING:
    from htapkit.hot.core import Core


def save(cursor: duckdb.DuckDBPyConnection, table: TableId, found: Import | None) -> None:
    """Write an import over the former one of that name; None: it goes."""
    names = [table.source, table.schema, table.name]
    cursor.execute(statement("forget_import"), names).fetchall()
    if found is not None:
        values = [
            *names,
            to_json(found.schema),
            json.dumps(found.identifier),
            found.time_column,
            found.pin.metadata,
            found.pin.snapshot,
            found.pin.rows,
            json.dumps(found.left_out),
            found.why,
        ]
        cursor.execute(statement("save_import"), values).fetchall()


def load(cursor: duckdb.DuckDBPyConnection) -> dict[TableId, Import]:
    """All imports of the file."""
    found = {}
    for row in cursor.execute("FROM htapkit.imports").fetchall():
        table = TableId(*row[:3])
        definition, identifier, time, metadata, snapshot, rows, left_out, why = row[3:]
        found[table] = Import(
            from_json(table, definition),
            tuple(json.loads(identifier)),
            time,
            Pin(metadata, snapshot, rows),
            tuple(json.loads(left_out)),
            why,
        )
    return found


@dataclass(frozen=True, slots=True)
class Imports:
    """The imports of one store."""

    core: Core

    def all(self) -> tuple[Import, ...]:
        """In the order of their names."""
        found = self.core.state.imports
        return tuple(found[table] for table in sorted(found))

    def put(self, found: Import) -> None:
        """Read this version from now on."""
        with self.core.operation(found.table.source) as transaction:
            transaction.put_import(found.table, found)

    def drop(self, table: TableId) -> None:
        """Read it no more. Safe when there is none."""
        with self.core.operation(table.source) as transaction:
            transaction.put_import(table, None)
