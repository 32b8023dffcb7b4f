"""A bound expression: its PostgreSQL type, and the DuckDB text proven to give the same value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from htapkit.model import SqlType, TableId
from htapkit.plan.types import OIDS, decimal_sql
from htapkit.plan.unproven import UnprovenError


@dataclass(frozen=True, slots=True)
class Vector:
    """What is behind the json text of a vector."""

    dimensions: int
    elements: str  # DuckDB SQL of a FLOAT[dimensions] …
    shown: str  # … and of its text


@dataclass(frozen=True, slots=True)
class Cased:
    """The result of `lower` or `upper`, where it is only compared with a constant of ASCII."""

    shown: str  # DuckDB SQL of the text, which is an error where letters beyond ASCII are …
    compared: str  # … and of one that is not, and is equal to the same constants of ASCII
    places: bool  # whether that has the same ASCII letters in the same places


@dataclass(frozen=True, slots=True)
class Expr:
    """What the planner knows of one expression.

    PostgreSQL's numeric values carry their own display scale, DuckDB's type does: `dscale` says
    how they relate. "" means it is always `scale`; other text is DuckDB SQL giving it row by row;
    None means nobody knows, and the value may be compared but never shown.
    """

    sql: str
    type: str
    typmod: int = -1
    digits: int = 0
    scale: int = 0
    dscale: str | None = ""
    text: str | None = None  # of a literal whose type is still unknown
    moment: int | None = None  # a constant date in days, timestamp in microseconds
    months_days_micros: tuple[int, int, int] | None = None  # a constant interval
    constant: bool = False
    opaque: bool = False  # kept as PostgreSQL's text: handed on, counted, tested for NULL
    category: str = ""
    oid: int = 0
    binary: bool = True
    deterministic: bool = True
    collate: str = ""  # a text's collation, where it is not the database's own; or SEVERAL
    explicit: bool = False  # a text with COLLATE "C"
    uniform: bool = False  # a text whose own values every collation orders by their bytes
    database_collation: bool = False  # a text that is made of none, under the database's own
    doubtful: bool = False  # may be an error here where the source could compute it afterwards
    inexact: bool = False  # a float whose last digits PostgreSQL itself leaves open
    origin: tuple[TableId, str] | None = None
    collation: tuple[TableId, str] | None = None  # of a computed text: the column it is taken from
    cased: Cased | None = None  # how the text came to letters of one case
    vector: Vector | None = None  # what the text is made of; once it is another text, read back

    @property
    def is_null(self) -> bool:
        """Whether it is the bare NULL literal."""
        return self.type == "unknown" and self.text is None

    @property
    def sql_type(self) -> SqlType:
        """The type as the model spells it."""
        return SqlType(self.type, OIDS.get(self.type) or self.oid, self.typmod, self.category)

    @property
    def elements(self) -> str:
        """DuckDB SQL of a vector's elements; of all else, of the value itself."""
        if self.vector is None:
            return self.sql
        if self.vector.shown == self.sql:
            return self.vector.elements
        return f"CAST({self.sql} AS FLOAT[{self.vector.dimensions}])"

    def beside_ascii(self, *, places: bool = False) -> Expr:
        """What is compared with a constant of ASCII; `places`: matched with a pattern of it."""
        cased = self.cased
        if cased is None or cased.shown != self.sql or self.type != "text":
            return self
        return replace(self, sql=cased.compared) if cased.places or not places else self

    @property
    def shown_scale(self) -> str:
        """DuckDB SQL of the display scale."""
        return self.dscale or str(self.scale)


SEVERAL = "?"
"""The collation of a text made of texts of different ones: PostgreSQL refuses to compare it."""


def collate_of(parts: Iterable[Expr]) -> str:
    """The collation of what is made of these texts: one beside the database's own prevails."""
    found = {part.collate for part in parts} - {""}
    return found.pop() if len(found) == 1 else SEVERAL if found else ""


def refused(name: str, arguments: list[Expr], why: str = "not proven equal") -> UnprovenError:
    """The error for a call of a function that is not proven."""
    return UnprovenError(f"{name}({', '.join(argument.type for argument in arguments)})", why)


MADE_ERROR = "'htapkit: "
"""It is in the local SQL where a value may make an error of it."""


def fails(condition: str, what: str) -> str:
    """A DuckDB condition that is never true: where the inner one holds, it is an error.

    A cast that cannot succeed, and not `error()`: that is volatile, and keeps DuckDB from pushing
    filters down and from taking correlated subqueries apart.
    """
    return f"CASE WHEN {condition} THEN CAST('htapkit: {what}' AS BOOLEAN) ELSE FALSE END"


def derived(expr: Expr, sql: str, dscale: str | None = "") -> Expr:
    """The same value seen through a subquery's column."""
    return replace(
        expr,
        sql=sql,
        dscale=dscale,
        type="text" if expr.type == "unknown" else expr.type,
        text=None,
        moment=None,
        constant=False,
        doubtful=False,
        explicit=False,
    )


def numeric(
    sql: str, digits: int, scale: int, dscale: str | None = "", *, constant: bool = False
) -> Expr:
    """A numeric expression whose DuckDB type is DECIMAL(digits, scale)."""
    return Expr(
        sql, "numeric", digits=min(digits, 38), scale=scale, dscale=dscale, constant=constant
    )


def boolean(sql: str, *, constant: bool = False) -> Expr:
    """A truth value."""
    return Expr(sql, "bool", constant=constant)


def as_decimal(expr: Expr, digits: int, scale: int) -> str:
    """The numeric as exactly that DECIMAL; an overflow is an error and so goes to the source."""
    if (expr.digits, expr.scale) == (digits, scale):
        return expr.sql
    return f"CAST({expr.sql} AS {decimal_sql(digits, scale)})"
