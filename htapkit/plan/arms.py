"""The two arms of a table in FROM: its hot rows, and its rows in the lake where they are needed.

The predicate always stays in the SQL. A span only says which lake rows need not be looked at: a
wider one is always right, a narrower one is a wrong answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from htapkit.model import (
    IMPORTED,
    OWN,
    Boundary,
    Column,
    TableId,
    TableStatus,
    hot_relation,
    view_relation,
)
from htapkit.plan.literals import DAY_MICROS, moment_text
from htapkit.plan.names import quote
from htapkit.plan.plan import Floor, LakeScan, Limit, Parameter


@dataclass(frozen=True, slots=True)
class Span:
    """The times that count, half-open, in microseconds; None: open on that side."""

    lower: int | None = None
    upper: int | None = None
    limits: tuple[Limit, ...] = ()

    def cut(self, other: Span) -> Span:
        """The times that are in both."""
        lowers = [each for each in (self.lower, other.lower) if each is not None]
        uppers = [each for each in (self.upper, other.upper) if each is not None]
        return Span(
            max(lowers, default=None),
            min(uppers, default=None),
            tuple(dict.fromkeys(self.limits + other.limits)),
        )

    def touches(self, below: int) -> bool:
        """Whether a time below the boundary can be in it."""
        if self.lower is None:
            return True
        return self.lower < (below if self.upper is None else min(below, self.upper))

    def __str__(self) -> str:
        """`[2024-01-01 00:00:00, …)`; parameters are not spelled out."""
        lower = "-infinity" if self.lower is None else moment_text(self.lower)
        upper = "infinity" if self.upper is None else moment_text(self.upper)
        tail = " and the parameters' bounds" if self.limits else ""
        return f"[{lower}, {upper}){tail}"


def edge(micros: int, *, after: bool, days: bool) -> int:
    """Where the span of a comparison with this moment begins or ends; see Limit."""
    micros += after
    return -(-micros // DAY_MICROS) * DAY_MICROS if days else micros


def settled(
    asked: LakeScan | Floor, parameters: Sequence[Parameter], values: Sequence[object]
) -> tuple[int | None, int | None]:
    """(lower, upper) of what is asked once the parameters have values: dates, datetimes or NULL."""
    span = Span(asked.lower, asked.upper if isinstance(asked, LakeScan) else None)
    for limit in asked.limits:
        micros = _micros(values[parameters.index(limit.parameter)])
        if micros is not None:
            at = edge(micros, after=limit.after, days=limit.days)
            span = span.cut(Span(upper=at) if limit.upper else Span(lower=at))
    return span.lower, span.upper


def _micros(value: object) -> int | None:
    """Microseconds since 1970; None of what is not a moment."""
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    if isinstance(value, date):
        return (value - date(1970, 1, 1)).days * DAY_MICROS
    return None


@dataclass(slots=True)
class Reference:
    """A table where it stands in one FROM, and what that query says of its time column."""

    status: TableStatus
    alias: str
    boundary: Boundary | None
    past: bool = False  # only the lake is read, as it was at the boundary's cut
    span: Span = Span()
    scan: str = ""  # the view of its lake rows; "" = none, or not decided yet
    hot: str = ""  # the view of its hot rows; "" = the relation itself
    lake_alone: bool = False  # its hot rows are left out: who reads it looks that none counts

    @property
    def table(self) -> TableId:
        """Which one."""
        return self.status.schema.table

    @property
    def imported(self) -> bool:
        """Whether all of its rows lie in the lake, and it is no source's."""
        return self.table.source in IMPORTED

    @property
    def time_column(self) -> Column | None:
        """The column that the boundary, or else the horizon, is about."""
        line = self.boundary or self.status.horizon
        if line is None:
            return None
        ordinal = line.column
        return next((c for c in self.status.schema.columns if c.ordinal == ordinal), None)

    def is_time(self, sql: str) -> bool:
        """Whether this text is the time column of this reference."""
        column = self.time_column
        return column is not None and sql == f"{self.alias}.{quote(column.name)}"

    def narrow(self, span: Span) -> None:
        """One more condition that holds for every row that counts."""
        self.span = self.span.cut(span)

    def reads_lake(self) -> bool:
        """Whether rows of the lake can have a say."""
        if self.imported:
            return True
        return self.boundary is not None and self.span.touches(self.boundary.below)

    def above_horizon(self) -> bool:
        """Whether no row that is too old to be kept can have a say, if the values agree."""
        horizon, column = self.status.horizon, self.time_column
        if horizon is None:
            return True
        if column is None or column.ordinal != horizon.column:
            return False
        if self.span.lower is not None and self.span.lower >= horizon.since:
            return True
        return any(not limit.upper for limit in self.span.limits)

    def floor(self) -> Floor:
        """What must be above the horizon when the statement runs."""
        return Floor(self.table, self.span.lower, self.span.limits)

    def sql(self) -> str:
        """The FROM item."""
        if self.table.source == OWN:
            return f"{quote(view_relation(self.table.name))} AS {self.alias}"
        hot = ".".join(
            quote(part) for part in ([self.hot] if self.hot else hot_relation(self.table))
        )
        if not self.scan:
            return f"{hot} AS {self.alias}"
        if self.past or self.imported or self.lake_alone:
            return f"{quote(self.scan)} AS {self.alias}"
        columns = ", ".join(quote(column.name) for column in self.status.schema.columns)
        lake = quote(self.scan)
        return (
            f"(SELECT {columns} FROM {hot} UNION ALL SELECT {columns} FROM {lake}) AS {self.alias}"  # noqa: S608 - quoted names
        )

    def lake_scan(self, columns: Iterable[str]) -> LakeScan:
        """What the view has to give."""
        span = self.span
        pin = self.boundary.pin if self.past and self.boundary is not None else None
        return LakeScan(
            self.scan, self.table, frozenset(columns), span.lower, span.upper, span.limits, pin
        )

    def why(self) -> str:
        """Why the lake is read, or is not; "" for a table that has no part there."""
        horizon = self.status.horizon
        since = f", kept since {moment_text(horizon.since)}" if horizon is not None else ""
        if self.imported:
            return f"{self.table}: imported, times in {self.span}"
        if self.boundary is None:
            return f"{self.table}: times in {self.span}{since}" if since else ""
        below = moment_text(self.boundary.below)
        times = f"times in {self.span}, and its boundary is {below}{since}"
        if self.past:
            return f"{self.table}: its lake as it was, {times}"
        if not self.scan:
            return f"{self.table}: no lake, {times}"
        if self.lake_alone:
            return f"{self.table}: its lake alone, {times}"
        forced = "" if self.reads_lake() else ", which is forced"
        return f"{self.table}: with its lake{forced}, {times}"


def reasons(references: Sequence[Reference]) -> str:
    """What there is to say of all of them."""
    return "; ".join(dict.fromkeys(text for each in references if (text := each.why())))
