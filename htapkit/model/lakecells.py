"""What the lake has of a reconciled table beside its rows, and which such tables go there at all.

Each row has its place, its end and the ranks of its cells in columns of our own, which statements
never see: of the row the largest rank, and by cell what differs from that and from what the row
itself shows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pyarrow as pa

from htapkit.model.tables import Column, SqlType, TableSchema

LAKE_PLACE: Final = "htapkit_place"
"""Where the row lies: `place` of `cells_arrow`."""
LAKE_RANK: Final = "htapkit_rank"
"""The largest rank of the row's cells."""
LAKE_ENDS: Final = "htapkit_ends"
"""When nothing of the row is there any more, though no change says so; NULL: never by itself."""
LAKE_CELLS: Final = "htapkit_cells"
"""The row's cells, separated by `;`, each `ordinal,path,rank,tie,value`.

Bytes, and texts as UTF-8, are `x` and hexadecimal digits, and what is empty is NULL; but an empty
`ordinal` is the row's own existence, an empty `rank` is LAKE_RANK, an empty `value` is what the
row's column shows, and the value `-` is NULL: nothing is there. All others end at LAKE_ENDS.
"""

_BYTES, _TEXT = SqlType("bytea", 17), SqlType("text", 25)
ENDS: Final = Column(LAKE_ENDS, SqlType("timestamptz", 1184), -4)
"""LAKE_ENDS as a column. Versions from before it was there have none, and no row that ends."""
_OWN: Final = (
    Column(LAKE_PLACE, _BYTES, -1),  # no source counts its columns like that
    Column(LAKE_RANK, _BYTES, -2),
    Column(LAKE_CELLS, _TEXT, -3),
    ENDS,
)


def lake_schema(schema: TableSchema) -> TableSchema:
    """The columns that a table has in the lake."""
    if not schema.reconciled:
        return schema
    return replace(schema, columns=(*schema.columns, *_OWN))


def stays_hot(schema: TableSchema) -> str:
    """Why no row of a reconciled table can leave for the lake; "" = they can."""
    if schema.sharing:
        return "it has columns that several rows share"
    for column in schema.columns:
        arrow = column.arrow
        if column.name in schema.key and pa.types.is_floating(arrow):
            return f"its key has {column.name}, and floating point numbers may be equal and differ"
        if (
            column.name in schema.key
            and column.type.name == "numeric"
            and pa.types.is_string(arrow)
        ):
            return f"its key has {column.name}, and decimals may be equal and differ (10 and 1E+1)"
        if column.name.lower() in {c.name for c in _OWN}:
            return f"its column {column.name} has a name that is ours in the lake"
    return ""
