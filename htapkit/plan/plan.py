"""What the planner decides about one statement: frozen values, one class for each way to answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from htapkit.model import Access, Route, SqlType


@dataclass(frozen=True, slots=True)
class SessionView:
    """What of a client session changes the meaning of a statement."""

    source: str  # the database that the client is connected to
    search_path: tuple[str, ...] = (
        "public",
    )  # effective schemas, "$user" resolved, without pg_catalog
    time_zone: str = "UTC"
    route: str = "auto"  # htapkit.route: auto, hot, lake, union, source


class Effect(StrEnum):
    """What a relayed statement may do to the session and its transaction."""

    READ = "read"  # reads rows and changes nothing: later statements may still be answered locally
    BEGIN = "begin"  # opens a READ COMMITTED transaction
    END = "end"  # COMMIT or ROLLBACK of the whole transaction
    SETTINGS = (
        "settings"  # SET, RESET, DISCARD: settings are to be read again before a local answer
    )
    OTHER = "other"  # may write or lock, or nobody knows: an open transaction stays at the source


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
    """A placeholder of the local SQL: which of the client's parameters ($1 is 1), as which type."""

    number: int
    type: SqlType


@dataclass(frozen=True, slots=True)
class Finish:
    """What PostgreSQL itself computes on the small local result.

    `sql` is PostgreSQL's; its $1..$n are arrays, one for each column of the local result, in order.
    Client parameters do not occur in it (they are part of the local result where needed).
    """

    sql: str
    rows_max: int  # more local rows than this: the whole statement is relayed instead


@dataclass(frozen=True, slots=True)
class LocalQuery:
    """Run `sql` in the hot store; finish at the source where `finish` says so."""

    route: Route
    sql: str
    columns: tuple[OutColumn, ...]  # of `sql`'s result, before `finish`
    parameters: tuple[Parameter, ...]  # $1..$n of `sql`
    access: tuple[Access, ...]
    sources: tuple[str, ...]
    finish: Finish | None
    considered: tuple[Considered, ...]


@dataclass(frozen=True, slots=True)
class Relay:
    """Send the statement to the source unchanged."""

    effect: Effect
    considered: tuple[Considered, ...]


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
