"""What the planner decides about one statement: frozen values, one class for each way to answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from htapkit.lookups import Lookup
from htapkit.model import Access, Boundary, Pin, Position, Route, SqlType, TableId


@dataclass(frozen=True, slots=True)
class SessionView:
    """What of a client session changes the meaning of a statement."""

    source: str  # the database that the client is connected to
    search_path: tuple[str, ...] = (
        "public",
    )  # effective schemas, "$user" resolved, without pg_catalog
    time_zone: str = "UTC"
    route: str = "auto"  # htapkit.route: auto, hot, lake, union, source, spark
    as_of: str = ""  # htapkit.as_of: a time, of which all tables are read; "" = the present
    clock: bool = False  # the caller can ask the source for `LocalQuery.clocks`
    parts: bool = False  # the rows are wanted in parts, see `LocalQuery.parts`
    alone: bool = False  # the source answers no SQL, so nothing is faster there
    spark: bool = False  # statements can be handed to a Spark
    zones: bool = False  # the caller can compare editions of `LocalQuery.zones`, and ask `probes`
    beyond: bool = False  # so are those that read more of the lake than they may here
    lookups: tuple[str, ...] = ()  # sources that answer lookups themselves
    copies: bool = False  # the caller can give rows as COPY does


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
class Probe:
    """A question whose answer shows that the source computes as DuckDB does."""

    sql: str  # PostgreSQL's, of one value; reads no table
    answer: str  # its text


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
class SortKey:
    """One item of an ORDER BY, over a column of the local result.

    `ranks` is PostgreSQL's: it takes one array of texts and gives a row with an int4 for each, its
    rank. "": the values themselves are compared.
    """

    column: int
    descending: bool
    nulls_first: bool
    ranks: str = ""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The order of a local result, where only PostgreSQL knows the order of texts.

    The result has the statement's columns first, then those that are only sorted by.
    """

    keys: tuple[SortKey, ...]
    rows_max: int  # more rows than this: the whole statement is relayed instead
    limit: int | None
    offset: int


@dataclass(frozen=True, slots=True)
class SparkType:
    """A type of a column that Spark computes: PostgreSQL's name, or `decimal` with its size."""

    name: str
    digits: int = 0
    scale: int = 0


@dataclass(frozen=True, slots=True)
class SparkQuery:
    """A statement as Spark runs it.

    `sql` names each table as its LakeScan is called; whoever runs it says which rows those are, and
    what `$1` and so on are: values of LocalQuery.parameters.
    """

    sql: str
    columns: tuple[SparkType, ...]  # of its result


class CopyFormat(StrEnum):
    """How rows are written."""

    TEXT = "text"
    CSV = "csv"
    BINARY = "binary"


@dataclass(frozen=True, slots=True)
class CopyOut:
    """COPY (`query`) TO STDOUT, with the options that PostgreSQL's page of COPY has for it."""

    query: str
    format: CopyFormat = CopyFormat.TEXT
    header: bool = False
    delimiter: str = ""  # "": the format's own
    null: str | None = None  # None: the format's own


LOOKED_UP = "htapkit hot 1"
"""The view (unquoted) that stands for a table whose rows are given."""


@dataclass(frozen=True, slots=True)
class LocalQuery:
    """Run `sql` in the hot store; `finish` at the source, or sort by `ranking`, where it is there.

    `cuts` are the boundaries (microseconds) of the tables that had one: the statement may have left
    out a lake because of it, so it holds only as long as they are the same. `as_of` is the position
    whose rows it reads, where that is not the present; the source must then never be asked instead.
    With `parts` it is run on parts of one table, whose results together are its rows. With `spark`
    a Spark runs it, and `sql` is only what that was made of. Where it reads more of the lake than
    it may, `beyond` is run in its place: the same for a Spark, or why there is none.
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
    ranking: Ranking | None = None  # never beside `finish`
    spark: SparkQuery | None = None  # instead of `sql`: its lake scans are all that it reads
    zones: tuple[str, ...] = ()  # time zones of which the source's edition must be DuckDB's
    probes: tuple[Probe, ...] = ()  # that the source must answer so
    beyond: LocalQuery | Refuse | None = None  # only where SessionView.beyond asks for it
    lookup: Lookup | None = None  # what `sql` reads in the place of the copy's rows: LOOKED_UP
    there: LocalQuery | None = None  # the same by a lookup, for when the copy is not fresh enough
    copied: CopyOut | None = None  # its rows go out as COPY gives them

    @property
    def completed(self) -> bool:
        """Whether the source has a part in its answer, for which all local rows are needed."""
        return self.finish is not None or self.ranking is not None

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
