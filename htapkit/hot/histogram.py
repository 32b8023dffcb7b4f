"""How many rows of a table lie in each period of time."""

from __future__ import annotations

from htapkit.hot.names import quote, relation
from htapkit.model import Column, TableId

_UNITS = frozenset({"hour", "day", "month"})


def histogram_query(table: TableId, column: Column, unit: str) -> str:
    """SQL for (start of the period in microseconds since 1970, rows), in order.

    `unit` is hour, day or month, in UTC; rows without a finite time are left out.
    """
    assert unit in _UNITS, "the configuration allows no other"
    name = quote(column.name)
    moment = f"timezone('UTC', {name})" if column.type.name == "timestamptz" else name
    return (
        f"SELECT epoch_us(date_trunc('{unit}', CAST({moment} AS TIMESTAMP))) AS period, "  # noqa: S608 - quoted
        f"count(*) AS rows FROM {relation(table)} "
        f"WHERE {name} IS NOT NULL AND isfinite({name}) GROUP BY 1 ORDER BY 1"
    )
