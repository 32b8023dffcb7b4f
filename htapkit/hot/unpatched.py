"""Whether a range of a table lies in the lake alone: nothing of it changed since the last run."""

from __future__ import annotations

from htapkit.hot.names import quote, relation, statement, tombstones
from htapkit.hot.times import moment, time_column
from htapkit.model import TableSchema


def changed_query(schema: TableSchema, ordinal: int, lower: int | None, upper: int) -> str:
    """Two truth values: any row of the lake counts no more; any hot row has a time in the range.

    The range is half-open, in microseconds, and `-infinity` is below every time. A NULL is in no
    range. `ordinal` is the time column's.
    """
    column = time_column(schema, ordinal)
    condition = f"{quote(column.name)} < {moment(column, upper)}"
    if lower is not None:
        condition += f" AND {quote(column.name)} >= {moment(column, lower)}"
    return statement(
        "changed_below",
        tombstones=tombstones(schema.table),
        rows=relation(schema.table),
        condition=condition,
    )
