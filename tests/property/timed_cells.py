"""A reconciled table that can lie in a lake: random cells and deletions of it, and its rows.

Of one table: key (p, at), a and n of a row, m made of elements; the columns have names that the
statements' own have, too. Model and events are those of `reconciled_model`, less what rows share;
its `c` is the day of `at`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from htapkit.model import CellChanges, Column, SqlType, TableId, TableSchema, cells_arrow
from tests.property.reconciled_model import (
    A,
    Cell,
    Event,
    M,
    Model,
    N,
    S,
    changes,
    events,
)

TABLE = TableId("events", "demo", "timed")
AT = 2
_TEXT, _INT, _JSON = SqlType("text", 25), SqlType("int4", 23), SqlType("json", 114)
SCHEMA = TableSchema(
    TABLE,
    (
        Column("k1", _INT, 1, nullable=False),
        Column("c0", SqlType("timestamptz", 1184), AT, nullable=False),
        Column("place", _TEXT, A),
        Column("cell", _INT, N),
        Column("rank", _JSON, M, gathered="{}"),
    ),
    ("k1", "c0"),
    reconciled=True,
)
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
DAY_US = 86_400_000_000
FIRST_US = int(FIRST.timestamp()) * 1_000_000
Row = tuple[int, datetime, str | None, int | None, str | None]


def timed(rolled: random.Random, count: int, now: int) -> list[Event]:
    """Random ones of this table."""
    found: list[Event] = []
    while len(found) < count:
        found += [
            e for e in events(rolled, count, now) if not isinstance(e, Cell) or e.ordinal != S
        ]
    return found[:count]


def line(days: int) -> int:
    """So many days after the first, in microseconds."""
    return FIRST_US + days * DAY_US


def as_sent(found: Sequence[Event]) -> CellChanges:
    """As a source sends them."""
    sent = changes(list(found))
    arrow = cells_arrow(SCHEMA)
    days = sent.cells["k1"].to_pylist()
    times = pa.array([FIRST + timedelta(days=day) for day in days], arrow.field("k1").type)
    nothing = pa.nulls(sent.cells.num_rows, pa.binary())
    columns = [
        times if name == "k1" else nothing if name == "within" else sent.cells[name]
        for name in arrow.names
    ]
    return CellChanges(TABLE, pa.RecordBatch.from_arrays(columns, schema=arrow), sent.deletions)


def rows_of(model: Model, now: int, since: int | None = None) -> list[Row]:
    """What is read of the model; none below `since`."""
    found: list[Row] = []
    for p, c, _, *rest in model.rows(now):
        assert c is not None
        a, n, m = rest
        assert not isinstance(a, int)
        assert not isinstance(m, int)
        assert not isinstance(n, str)
        if since is None or line(c) >= since:
            found.append((p, FIRST + timedelta(days=c), a, n, m))
    return sorted(found, key=repr)
