"""What the configuration asks of a table's history, and where its line should be now. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from htapkit.config import TableConfig
from htapkit.errors import ConfigError
from htapkit.model import (
    ARCHIVE,
    DELETED_AT,
    NUMBER,
    Boundary,
    Column,
    Horizon,
    Layout,
    TableSchema,
    stays_hot,
)

TIME_TYPES = frozenset({"date", "timestamp", "timestamptz"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NUMPY_UNITS = {"hour": "h", "day": "D", "month": "M"}


@dataclass(frozen=True, slots=True)
class Rule:
    """How one table is tiered."""

    column: Column
    layout: Layout
    hot_seconds: float | None  # None: only when asked for
    retention_seconds: float | None = None  # None: rows are never too old

    def line(self, now: datetime, seconds: float) -> int:
        """The newest line below which only whole periods older than that lie, in microseconds."""
        return microseconds(floor(now - timedelta(seconds=seconds), self.layout.partition))

    def horizon(self, now: datetime) -> Horizon | None:
        """How far back the table is kept now; None: as far as it goes."""
        if self.retention_seconds is None:
            return None
        return Horizon(self.column.ordinal, self.line(now, self.retention_seconds))


def rule_of(schema: TableSchema, config: TableConfig) -> Rule:
    """How this table, or the archive of one, is tiered.

    Raises ConfigError where it cannot be, with the reason.
    """
    table = schema.table
    if table.source == ARCHIVE:
        return _archive_rule(schema, config)
    if not schema.key or schema.whole_rows:
        raise ConfigError(f"{table} has no key, so its rows stay in the hot store")
    why = stays_hot(schema) if schema.reconciled else ""
    if why:
        raise ConfigError(
            f"{table} is kept cell by cell, and {why}, so its rows stay in the hot store"
        )
    column = _time_column(schema, config)
    for name in config.sort:
        if schema.column(name) is None:
            raise ConfigError(f"tables.{table}.sort: there is no column {name}")
    layout = Layout(column.name, config.partition, config.sort or (*schema.key, column.name))
    return Rule(column, layout, config.hot, config.retention)


def _archive_rule(schema: TableSchema, config: TableConfig) -> Rule:
    """By the time of the deletion, as long as its table is kept hot, and never dropped."""
    column = schema.column(DELETED_AT)
    assert column is not None
    return Rule(column, Layout(DELETED_AT, config.partition, (NUMBER,)), config.hot)


def _time_column(schema: TableSchema, config: TableConfig) -> Column:
    key = f"tables.{schema.table}.time_column"
    usable = [c for c in schema.columns if c.type.name in TIME_TYPES and c.computable]
    if schema.reconciled:
        # Any other time a late write may change, of a row that nobody has looked at for years.
        usable = [c for c in usable if c.name in schema.key]
        if not usable:
            raise ConfigError(
                f"{schema.table} is kept cell by cell, and no date or timestamp is in its key, so "
                "its rows stay in the hot store"
            )
    if config.time_column is not None:
        found = next((c for c in usable if c.name == config.time_column), None)
        if found is None:
            names = ", ".join(c.name for c in usable) or "none"
            wanted = "date or timestamp of the key" if schema.reconciled else "date or timestamp"
            raise ConfigError(f"{key}: {config.time_column} is no {wanted}; there is {names}")
        return found
    certain = [c for c in usable if not c.nullable]
    if len(certain) != 1:
        names = ", ".join(c.name for c in usable) or "none"
        raise ConfigError(f"{key} is needed: choose one of the dates and timestamps ({names})")
    return certain[0]


def text_of(schema: TableSchema, boundary: Boundary) -> str:
    """The condition that a row lies below a boundary, in PostgreSQL's words."""
    column = next(each for each in schema.columns if each.ordinal == boundary.column)
    form = "%Y-%m-%d" if column.type.name == "date" else "%Y-%m-%d %H:%M:%S.%f"
    zone = "+00" if column.type.name == "timestamptz" else ""
    doubled = column.name.replace('"', '""')
    return f"\"{doubled}\" < '{boundary.moment.strftime(form)}{zone}'"


def floor(moment: datetime, unit: str) -> datetime:
    """The start of the hour, day or month (UTC) that `moment` lies in."""
    start = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if unit == "hour":
        return start
    start = start.replace(hour=0)
    return start if unit == "day" else start.replace(day=1)


def after(period: int, unit: str) -> int:
    """The end of the period that starts at `period`; both in microseconds since 1970.

    For any time that PostgreSQL has, also those that Python's own datetime does not reach.
    """
    start = np.datetime64(period, "us").astype(f"datetime64[{_NUMPY_UNITS[unit]}]")
    return int((start + 1).astype("datetime64[us]").astype(np.int64))


def microseconds(moment: datetime) -> int:
    """Since 1970, UTC."""
    return (moment - _EPOCH) // _MICROSECOND


def next_line(periods: Iterable[tuple[int, int]], unit: str, target: int, rows_max: int) -> int:
    """How far one run moves the line: whole periods of at most `rows_max` rows, but at least one.

    `periods` are (start, rows) in order, as the hot store has them.
    """
    moved = 0
    line = target
    for period, rows in periods:
        end = after(period, unit)
        if end > target:
            break
        if moved and moved + rows > rows_max:
            return line
        moved += rows
        line = end
    return target
