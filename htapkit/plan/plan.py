"""What the planner decides about one statement: frozen values, one class for each way to answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from htapkit.model import Access, Boundary, Pin, Position, Route, SqlType, TableId


@dataclass(frozen=True, slots=True)
class SessionView:
    """What of a client session changes the meaning of a statement."""

    source: str  # the database that the client is connected to
    search_path: tuple[str, ...] = (
        "public",
    )  # effective schemas, "$user" resolved, without pg_catalog
    time_zone: str = "UTC"
    route: str = "auto"  # htapkit.route: auto, hot, lake, union, source
    as_of: str = ""  # htapkit.as_of: a time, of which all tables are read; "" = the present
    clock: bool = False  # the caller can ask the source for `LocalQuery.clocks`
    parts: bool = False  # the rows are wanted in parts, see `LocalQuery.parts`
    alone: bool = False  # the source answers no SQL, so nothing is faster there


@dataclass(frozen=True, slots=True)
class Cut:
    """What the lake had of a source's tables at one time: the only past that can be read."""

    position: Position
    at: datetime  # aware
    boundaries: Mapping[TableId, Boundary]


class Effect(StrEnum):
    """What a relayed statement may do to the session and its transaction."""

    READ = "read"  # reads rows and changes nothing: later statements may still be answered locally
    VIEW = "view"  # reads a relation of which nothing is known: a view's functions may do anything
    BEGIN = "begin"  # opens a READ COMMITTED transaction
    END = "end"  # COMMIT or ROLLBACK of the whole transaction
    SETTINGS = (
        "settings"  # SET, RESET, DISCARD: settings are to be read again before a local answer
    )
    RESET = "reset"  # RESET ALL, DISCARD ALL: so are ours, which become what they were at first
    OTHER = "other"  # may write or lock, or nobody knows: an open transaction stays at the source


READS = frozenset({Effect.READ, Effect.VIEW})
"""Effects of statements that may be answered locally as soon as tables or settings are others."""


@dataclass(frozen=True, slots=True)
class Considered:
    """One candidate path: chosen, or refused with the construct and the reason."""

    route: Route
    chosen: bool
    reason: str
    cost: float | None = None  # rough: rows to touch; None where it was refused before costing


@dataclass(frozen=True, slots=True)
class OutColumn:
    """A column of a local result."""

    name: str
    type: SqlType


@dataclass(frozen=True, slots=True)
class Parameter:
    """A placeholder of the local SQL: which of the client's parameters ($1 is 1), as which type.

    A negative number is one of `LocalQuery.clocks`: the first is -1.
    """

    number: int
    type: SqlType


@dataclass(frozen=True, slots=True)
class Clock:
    """A constant made of now() or its like, which only the source can compute.

    All of a statement are asked for at once (`SELECT sql, …`), in its transaction, before it runs.
    """

    sql: str  # PostgreSQL's
    type: SqlType


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound that a parameter's value decides: `time >= $1`, once its value is known."""

    parameter: Parameter
    upper: bool  # it ends the span; otherwise it begins it
    after: bool  # one microsecond later: of `time > $1` and `time <= $1`
    days: bool  # rounded up to a midnight: what is compared has no time of day


@dataclass(frozen=True, slots=True)
class LakeScan:
    """A table's rows in the lake, as the local SQL reads them: from a view called `name`.

    Only rows whose time is in the half-open [lower, upper) can have a say in the answer;
    microseconds, as in Boundary.below; None where nothing is known. `limits` may narrow that when
    the statement is run.
    """

    name: str  # unquoted
    table: TableId
    columns: frozenset[str]  # that the statement reads of the table
    lower: int | None
    upper: int | None
    limits: tuple[Limit, ...] = ()
    pin: Pin | None = None  # AS OF: this version, as it was; None: the present one with its patches


@dataclass(frozen=True, slots=True)
class Floor:
    """From where on the statement asks for a table's rows, where its horizon must be below that.

    As of LakeScan; `limits` may raise `lower` when the statement is run.
    """

    table: TableId
    lower: int | None
    limits: tuple[Limit, ...] = ()


@dataclass(frozen=True, slots=True)
class HotScan:
    """A table's hot rows, as a statement that is read in parts has them: from a view `name`."""

    name: str  # unquoted
    table: TableId


@dataclass(frozen=True, slots=True)
class Finish:
    """What PostgreSQL itself computes on the small local result.

    `sql` is PostgreSQL's; its $1..$n are arrays, one for each column of the local result, in order.
    Client parameters do not occur in it (they are part of the local result where needed).
    """

    sql: str
    rows_max: int  # more local rows than this: the whole statement is relayed instead
    shape: str = ""  # a FROM item `f` of the same columns, without parameters and rows


@dataclass(frozen=True, slots=True)
class LocalQuery:
    """Run `sql` in the hot store; finish at the source where `finish` says so.

    `cuts` are the boundaries (microseconds) of the tables that had one: the statement may have left
    out a lake because of it, so it holds only as long as they are the same. `as_of` is the position
    whose rows it reads, where that is not the present; the source must then never be asked instead.
    With `parts` it is run on parts of one table, whose results together are its rows.
    """

    route: Route
    sql: str
    columns: tuple[OutColumn, ...]  # of `sql`'s result, before `finish`
    parameters: tuple[Parameter, ...]  # $1..$n of `sql`
    access: tuple[Access, ...]
    sources: tuple[str, ...]
    finish: Finish | None
    considered: tuple[Considered, ...]
    scans: tuple[LakeScan, ...] = ()
    cuts: tuple[tuple[TableId, int], ...] = ()
    as_of: Position | None = None
    own_words: bool = False  # PostgreSQL would not understand the statement
    clocks: tuple[Clock, ...] = ()
    floors: tuple[Floor, ...] = ()  # where no row that a horizon hides may be asked for
    views: tuple[str, ...] = ()  # of schema htapkit
    parts: HotScan | None = None  # only where SessionView.parts asks for it, and it can be

    @property
    def only_views(self) -> bool:
        """Whether no table of any source is read: neither data nor rights are asked for."""
        return bool(self.views) and not self.access


@dataclass(frozen=True, slots=True)
class Relay:
    """Send the statement to the source unchanged."""

    effect: Effect
    considered: tuple[Considered, ...]
    shape: str = ""  # whatever has this skeleton is relayed alike; "": nothing is known of others


@dataclass(frozen=True, slots=True)
class Refuse:
    """Neither path may run it: a forced route, or a statement that PostgreSQL must never see."""

    sqlstate: str
    message: str
    considered: tuple[Considered, ...]


@dataclass(frozen=True, slots=True)
class SetOption:
    """SET htapkit.<name> = value; `value` None means the default (RESET, SET … TO DEFAULT)."""

    name: str
    value: str | None
    transaction: bool = False  # SET LOCAL


@dataclass(frozen=True, slots=True)
class ShowOption:
    """SHOW htapkit.<name>."""

    name: str


@dataclass(frozen=True, slots=True)
class ExplainRoute:
    """EXPLAIN (ROUTE) of a statement: answered with the plan itself."""

    plan: LocalQuery | Relay | Refuse


Plan = LocalQuery | Relay | Refuse | SetOption | ShowOption | ExplainRoute
