"""Table schemas as JSON text, for the control tables."""

from __future__ import annotations

import json
from typing import Any

from htapkit.model import Column, SqlType, Storage, TableId, TableSchema


def to_json(schema: TableSchema) -> str:
    """The schema as text. The table's own name is not in it."""
    return json.dumps(
        {
            "columns": [
                {
                    "name": c.name,
                    "type": [c.type.name, c.type.oid, c.type.typmod, c.type.category],
                    "ordinal": c.ordinal,
                    "nullable": c.nullable,
                    "storage": c.storage.value,
                    "binary_order": c.binary_order,
                    "deterministic": c.deterministic,
                    "collation": c.collation,
                    "shared": c.shared,
                    "gathered": c.gathered,
                    "follows": c.follows,
                }
                for c in schema.columns
            ],
            "key": list(schema.key),
            "whole_rows": schema.whole_rows,
            "append_only": schema.append_only,
            "reconciled": schema.reconciled,
        }
    )


def from_json(table: TableId, text: str) -> TableSchema:
    """The schema that `to_json` wrote."""
    found: dict[str, Any] = json.loads(text)
    return TableSchema(
        table,
        tuple(_column(column) for column in found["columns"]),
        tuple(found["key"]),
        whole_rows=found["whole_rows"],
        append_only=found["append_only"],
        reconciled=found.get("reconciled", False),  # older files do not have it
    )


def _column(found: dict[str, Any]) -> Column:
    return Column(
        found["name"],
        SqlType(*found["type"]),
        found["ordinal"],
        nullable=found["nullable"],
        storage=Storage(found["storage"]),
        binary_order=found["binary_order"],
        deterministic=found["deterministic"],
        collation=found.get("collation", ""),  # older files do not have these four
        shared=found.get("shared", False),
        gathered=found.get("gathered", ""),
        follows=found.get("follows"),
    )
