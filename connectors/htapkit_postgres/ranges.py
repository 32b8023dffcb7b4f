"""Ranges of a table by a column of its key: the first, for tables too large for one snapshot.

The order must be the same for the server, which reads a range, and for us, who say which range a
changed row is in: only types whose order is that of the values we keep. The first column leads
the key's index, so that reading a range need not read the table; the column that a table is
partitioned by may be another one of the key.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from psycopg.sql import SQL, Identifier

from htapkit.model import Column, Doubt, Split, Storage, TableId, TableSchema
from htapkit.sqlfiles import sql
from htapkit_postgres.connection import Connection, literal
from htapkit_postgres.types import quoted

Span = tuple[str | None, str | None]
"""From the first value on, below the second; None: without end. As the server prints them."""

_ORDERED: Final = frozenset({"int2", "int4", "int8", "date", "timestamp", "timestamptz", "uuid"})
_TEXTS: Final = frozenset({"text", "varchar"})
_SAMPLED_PAGES: Final = 100
"""Of each range: its size is then as asked for within a tenth or two."""


def large(
    connection: Connection, tables: Sequence[TableId], rows: int
) -> Mapping[TableId, tuple[float, float]]:
    """(pages, rows) of those tables that have more than so many rows."""
    asked = {(table.schema, table.name): table for table in tables}
    parameters = {
        "schemas": [schema for schema, _ in asked],
        "names": [name for _, name in asked],
        "rows": rows,
    }
    found: list[Any] = connection.execute(sql("source/large"), parameters).fetchall()
    return {asked[schema, name]: (pages, count) for schema, name, pages, count in found}


def cut(
    connection: Connection, schema: TableSchema, pages: float, rows: float, range_rows: int
) -> list[Split]:
    """A table in ranges of about `range_rows` rows; [] where its key does not allow that."""
    column = schema.column(schema.key[0]) if schema.key else None
    if column is None or not ordered(column):
        return []
    count = max(2, round(rows / range_rows))
    percent = min(100.0, 100.0 * count * _SAMPLED_PAGES / max(pages, 1.0))
    query = SQL(sql("source/bounds")).format(
        column=Identifier(column.name), table=Identifier(schema.table.schema, schema.table.name)
    )
    parameters = {"fractions": [n / count for n in range(1, count)], "percent": percent}
    row: Any = connection.execute(query, parameters).fetchone()
    bounds = _usable(column, row[0] or [])
    if not bounds:
        return []
    estimate = round(rows / (len(bounds) + 1))
    return [
        Split(schema.table, json.dumps({"low": low, "high": high}), estimate)
        for low, high in pairwise([None, *bounds, None])
    ]


def place(ranges: Sequence[Split], keys: pa.RecordBatch) -> pa.Array:
    """The index of the range that each key is in."""
    values = keys.column(json.loads(ranges[0].token).get("place", 0))
    lows = [str(json.loads(split.token)["low"]) for split in ranges[1:]]
    return pc.search_sorted(pa.array(lows, pa.string()).cast(values.type), values, side="right")


def around(schema: TableSchema, ordinal: int, spans: Collection[Span]) -> Doubt | None:
    """The table in ranges of this column, those that the spans are in doubt; None: it cannot be.

    Pure.
    """
    column = next((c for c in schema.columns if c.ordinal == ordinal), None)
    if column is None or column.name not in schema.key or not ordered(column):
        return None
    texts = {text for span in spans for text in span if text is not None}
    if len(_usable(column, list(texts))) < len(texts):
        return None
    values = {text: pa.scalar(text).cast(column.arrow).as_py() for text in texts}
    bounds = [None, *sorted(texts, key=values.__getitem__), None]
    ranges = list(pairwise(bounds))
    places = {low: n for n, low in enumerate(bounds[:-1])}
    ends = {high: n for n, high in enumerate(bounds[1:])}
    doubtful = {n for low, high in spans for n in range(places[low], ends[high] + 1)}
    if len(doubtful) == len(ranges):
        return None
    place = schema.key.index(column.name)
    tokens = [json.dumps({"low": low, "high": high, "place": place}) for low, high in ranges]
    return Doubt(tuple(Split(schema.table, t, 0) for t in tokens), frozenset(doubtful))


def condition(schema: TableSchema, token: str) -> str | None:
    """The WHERE clause of a range; None where the token is of another kind of split."""
    bounds = json.loads(token)
    if not isinstance(bounds, dict):
        return None
    name = quoted(schema.key[bounds.get("place", 0)])
    parts = [f"{name} >= {literal(bounds['low'])}"] if bounds["low"] is not None else []
    parts += [f"{name} < {literal(bounds['high'])}"] if bounds["high"] is not None else []
    return "WHERE " + " AND ".join(parts)


def ordered(column: Column) -> bool:
    """Whether the server orders its values as we order what we keep of them."""
    if column.storage is not Storage.NATIVE or column.type.category:
        return False
    name = column.type.name
    return name in _ORDERED or (name in _TEXTS and column.binary_order and column.deterministic)


def _usable(column: Column, found: Sequence[str | None]) -> list[str]:
    """The bounds as text, ascending; without those that only the server can read (BC, infinity)."""
    bounds: list[str] = []
    for text in found:
        if text is None or text in bounds:
            continue
        try:
            pa.scalar(text).cast(column.arrow)
        except pa.ArrowInvalid:
            continue
        bounds.append(text)
    return bounds
