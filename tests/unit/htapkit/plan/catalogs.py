"""Small catalogs for the planner's tests, built from column lists."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from htapkit.model import (
    Boundary,
    Catalog,
    Column,
    Pin,
    Position,
    SqlType,
    Storage,
    TableId,
    TableSchema,
    TableState,
    TableStatus,
    native_arrow,
)
from htapkit.plan.types import OIDS, numeric_typmod

_LENGTHS = {"varchar", "bpchar"}


def sql_type(text: str) -> SqlType:
    """A type from `numeric(15,2)`, `bpchar(10)`, `int4` `vector(3)` or `enum:mood`."""
    if text.startswith("enum:"):
        return SqlType(text.removeprefix("enum:"), 20_001, -1, "e")
    name, _, rest = text.partition("(")
    if name == "vector":
        return SqlType(name, OIDS["json"], int(rest.rstrip(")")), "v")
    if not rest:
        return SqlType(name, OIDS.get(name, 20_000))
    numbers = [int(number) for number in rest.rstrip(")").split(",")]
    typmod = numbers[0] + 4 if name in _LENGTHS else numeric_typmod(numbers[0], numbers[1])
    return SqlType(name, OIDS[name], typmod)


def status(
    name: str,
    columns: str,
    key: str = "id",
    *,
    source: str = "shop",
    state: TableState = TableState.FOLLOWING,
    binary_order: bool = True,
) -> TableStatus:
    """A table from `id int4, t text`."""
    parts = [part.split() for part in columns.split(", ")]
    made = []
    for at, (column, type_) in enumerate(parts, 1):
        known = sql_type(type_)
        storage = Storage.NATIVE if native_arrow(known) is not None else Storage.TEXT
        made.append(Column(column, known, at, True, storage, binary_order))
    schema = TableSchema(TableId(source, "public", name), tuple(made), tuple(key.split()))
    return TableStatus(schema, state, 1000)


def catalog(*tables: TableStatus) -> Catalog:
    """A catalog of these tables."""
    return Catalog(1, {table.schema.table: table for table in tables})


def micros(moment: str) -> int:
    """Microseconds since 1970 of a UTC time in ISO form."""
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def tiered(table: TableStatus, column: str, below: str, rows: int = 5000) -> TableStatus:
    """The table with its rows before that time of `column` in the lake."""
    found = table.schema.column(column)
    assert found is not None
    pin = Pin(f"lake/{table.schema.table}.json", 1, rows)
    return replace(table, boundary=Boundary(found.ordinal, micros(below), pin, Position("0/10")))


ORDERS = status(
    "orders",
    "id int8, customer int4, total numeric(15,2), placed date, note text, f float8, j jsonb, "
    "c bpchar(5)",
)
LINES = status("lines", "id int8, line int4, price numeric(15,2), seen timestamp", "id line")
EVENTS = status("events", "id int8, name text", source="other")
COPYING = status("busy", "id int8", state=TableState.COPYING)
SHOP = catalog(ORDERS, LINES, EVENTS, COPYING)

VISITS = tiered(status("visits", "id int8, at timestamp, page text, took int4"), "at", "2024-06-01")
SALES = tiered(status("sales", "id int8, day date, sum numeric(15,2)"), "day", "2024-03-01")
BEATS = tiered(status("beats", "id int8, seen timestamptz, host text"), "seen", "2024-06-01")
TIERED = catalog(VISITS, SALES, BEATS, ORDERS, EVENTS)
"""Three tables with a part in the lake, by each type of time; orders has none."""
