"""What remains of an expression for PostgreSQL once its proven parts are local columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from sqlglot import exp

from htapkit.model import TableId
from htapkit.plan import deviations
from htapkit.plan.clock import call_type
from htapkit.plan.context import Context
from htapkit.plan.durations import DURATIONS, ELAPSED_SUM, at_source
from htapkit.plan.expr import Expr
from htapkit.plan.groups import AGGREGATES
from htapkit.plan.harmless import FINISHING
from htapkit.plan.names import quote
from htapkit.plan.operands import LOOSE
from htapkit.plan.types import DUCKDB, TEXTS, source_sql
from htapkit.plan.unproven import UnprovenError

FIRST_USER_OID = 16384
NOW = frozenset({"now", "transaction_timestamp", "statement_timestamp", "current_timestamp"})

OPERATORS = (
    exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.Pow, exp.Neg, exp.DPipe, exp.EQ, exp.NEQ,
    exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Like, exp.ILike, exp.NullSafeEQ, exp.NullSafeNEQ,
    exp.RegexpLike, exp.RegexpILike, exp.SimilarTo, exp.AtTimeZone, exp.Between, exp.Is,
    exp.JSONExtract, exp.JSONExtractScalar,
)  # fmt: skip
NODES = (
    *OPERATORS, exp.And, exp.Or, exp.Not, exp.Paren, exp.Case, exp.If, exp.Cast, exp.In,
    exp.Escape, exp.Extract, exp.Substring, exp.Trim, exp.StrPosition, exp.Overlay, exp.Literal,
    exp.Boolean, exp.Null, exp.Interval, exp.CurrentDate, exp.CurrentTimestamp,
    exp.Localtimestamp, exp.RawString,
)  # fmt: skip
STRUCTURE = (exp.DataType, exp.Var, exp.Identifier, exp.JSONPath, exp.IntervalSpan)


@dataclass(slots=True)
class Leaves:
    """The columns of the local result."""

    source: str  # whose PostgreSQL finishes
    columns: dict[str, tuple[str, Expr]] = field(
        default_factory=dict
    )  # name -> DuckDB text, what it is

    def _name(self, sql: str, expr: Expr) -> str:
        for name, (known, other) in self.columns.items():
            if known == sql and other.type == expr.type:
                return name
        name = f"c{len(self.columns) + 1}"
        self.columns[name] = (sql, expr)
        return name

    def column(self, expr: Expr, *, collated: bool) -> exp.Expression:
        """PostgreSQL's expression for a local value, of the type it had in the statement."""
        if expr.dscale is None:
            raise UnprovenError("a numeric", "whose scale is not known")
        if expr.type in DURATIONS:
            return at_source(expr, lambda sql: _local(self._name(sql, Expr(sql, "int8"))))
        if expr.opaque or expr.type not in {*DUCKDB, "numeric"}:
            return self._opaque(expr)
        if expr.dscale:
            value = self._name(expr.sql, replace(expr, typmod=-1))
            places = self._name(f"CAST({expr.dscale} AS INTEGER)", Expr("", "int4"))
            return exp.Anonymous(this="round", expressions=[_local(value), _local(places)])
        found: exp.Expression = _local(self._name(expr.sql, replace(expr, typmod=-1)))
        if expr.typmod >= 0:
            found = _cast(found, source_sql(expr.type, expr.typmod))
        if collated and expr.type in TEXTS:
            found = _collated(found, expr, self.source)
        return found

    def _opaque(self, expr: Expr) -> exp.Expression:
        """A value kept as text is read back by its type's own input function."""
        if (
            expr.category == "e"
            and expr.origin is not None
            and expr.origin[0].source == self.source
        ):
            label = self._name(expr.sql, Expr(expr.sql, "text"))
            labels = enum_labels(*expr.origin)
            # Subqueries, which are computed once and not for each row.
            place = f"array_position((SELECT CAST({labels} AS text[])), l.{label})"
            return exp.Var(this=f"(SELECT {labels})[{place}]")
        if expr.oid >= FIRST_USER_OID or expr.category not in {"", "b"} or not expr.oid:
            raise UnprovenError(
                f"a value of type {expr.type}", "a type of its own, which cannot travel"
            )
        text = _local(self._name(expr.sql, Expr(expr.sql, "text")))
        return _cast(text, source_sql(expr.type, expr.typmod if expr.type == "numeric" else -1))


def enum_labels(table: TableId, column: str) -> str:
    """PostgreSQL's array of all labels of a column's enum type, in their order.

    COALESCE makes a domain its base.
    """
    return f"enum_range(coalesce(NULL, {_null_of(table, column)}))"


def _null_of(table: TableId, column: str) -> str:
    """A NULL of a column's very type and collation, neither of which has to be named."""
    return f"(SELECT {quote(column)} FROM {quote(table.schema)}.{quote(table.name)} LIMIT 0)"  # noqa: S608 - quoted names


def _local(name: str) -> exp.Column:
    return exp.Column(this=exp.to_identifier(name), table=exp.to_identifier("l"))


def _cast(value: exp.Expression, type_: str) -> exp.Expression:
    return exp.Cast(this=value, to=exp.Var(this=type_))


def _collated(value: exp.Expression, expr: Expr, source: str) -> exp.Expression:
    """The value with its column's collation, whatever that is called."""
    origin = expr.origin or expr.collation
    if expr.database_collation:
        return value
    if expr.explicit:  # it prevails over any other, as where it was written
        return exp.Collate(this=value, expression=exp.to_identifier("C", quoted=True))
    if origin is None:
        raise UnprovenError("a text", "whose collation is not known where it is computed")
    table, column = origin
    if table.source != source:
        if not expr.binary:
            raise UnprovenError(f"a text of {table}", f"whose collation {source} may not have")
        return _bytewise(value)
    typed = exp.Var(this=_null_of(table, column))
    return exp.Anonymous(this="coalesce", expressions=[value, typed])


def _bytewise(value: exp.Expression) -> exp.Expression:
    nothing = exp.Var(this='(SELECT NULL::text COLLATE "C" LIMIT 0)')
    return exp.Anonymous(this="coalesce", expressions=[value, nothing])


@dataclass(slots=True)
class Residue:
    """Splits expressions standing in one context."""

    context: Context
    leaves: Leaves

    def split(
        self, node: exp.Expression | None, *, collated: bool, computed: bool = False
    ) -> exp.Expression:
        """PostgreSQL's expression over local columns; `computed`: it is only a part."""
        if node is None:
            raise UnprovenError("an expression", "missing")
        if _constant(node, clock=not self.context.statement.clock):
            return node.copy()
        bound, failure = self._bound(node, computed=computed)
        sure = bound is not None and not bound.constant and not bound.doubtful
        if bound is not None and sure and bound.dscale == "":
            try:
                return self.leaves.column(bound, collated=collated)
            except UnprovenError as error:  # its parts may be able to travel
                bound, failure = None, error
        try:
            return self._deeper(node)
        except UnprovenError as error:
            if bound is not None:
                return self.leaves.column(bound, collated=collated)
            raise failure or error from error

    def _bound(
        self, node: exp.Expression, *, computed: bool
    ) -> tuple[Expr | None, UnprovenError | None]:
        """The local expression, or why there is none."""
        try:
            bound = self.context(node)
        except UnprovenError as error:
            return None, error
        if bound.inexact and computed:
            why = "whose last digits are open, computed with"
            return None, UnprovenError("a float aggregate", why)
        return bound, None

    def _deeper(self, node: exp.Expression) -> exp.Expression:
        for computed in (self._average, self._deviation):
            found = computed(node)
            if found is not None:
                return found
        _finishing(node)
        if isinstance(node, OPERATORS) and not isinstance(node, (exp.Between, exp.Is)):
            for child in node.iter_expressions():
                if isinstance(child, LOOSE):
                    raise UnprovenError(
                        type(child).__name__.lower(), "inside another operator without parentheses"
                    )
        if not any(True for _ in node.iter_expressions()):
            raise UnprovenError(type(node).__name__.lower(), "not on the list of what is proven")
        built = node.copy()
        for name, value in node.args.items():
            if isinstance(value, exp.Expression):
                built.set(name, self._child(value))
            elif isinstance(value, list):
                built.set(
                    name, [self._child(v) if isinstance(v, exp.Expression) else v for v in value]
                )
        return built

    def _child(self, node: exp.Expression) -> exp.Expression:
        if isinstance(node, STRUCTURE):
            return node.copy()
        if isinstance(node, exp.If):
            return exp.If(this=self._child(node.this), true=self._child(node.args["true"]))
        return self.split(node, collated=True, computed=True)

    def _average(self, node: exp.Expression) -> exp.Expression | None:
        """`avg(x)` of integers and numerics is `sum(x)::numeric / count(x)`.

        Of intervals it is `sum(x) / count(x)::float8`, which is what `interval_avg` computes.
        """
        if _called(node) != "avg":
            return None
        whole, number = (self.context(_recalled(node, name)) for name in ("sum", "count"))
        parts = [self.leaves.column(part, collated=False) for part in (whole, number)]
        dividend = parts[0] if whole.type == ELAPSED_SUM else _cast(parts[0], "numeric")
        return exp.Paren(this=exp.Div(this=dividend, expression=parts[1], typed=True))

    def _deviation(self, node: exp.Expression) -> exp.Expression | None:
        """`stddev`, `variance` and their like, of integers and numerics."""
        name = _called(node)
        if name not in deviations.NAMES:
            return None
        whole = self.context(_recalled(node, "sum"))
        deviations.check(name, whole)
        squares = _recalled(node, "sum", partial(deviations.squared, scale=whole.scale))
        parts = [whole, self.context(squares), self.context(_recalled(node, "count"))]
        given = [self.leaves.column(part, collated=False).sql() for part in parts]
        return exp.Var(this=deviations.at_source(name, *given))


def _called(node: exp.Expression) -> str:
    """The name of an aggregate or window call."""
    while isinstance(node, (exp.Window, exp.Filter)):
        node = node.this
    return str(node.this).lower() if isinstance(node, exp.Anonymous) else ""


def _recalled(
    node: exp.Expression, name: str, change: Callable[[exp.Anonymous], None] | None = None
) -> exp.Expression:
    """The same call of another function, within the same FILTER and OVER."""
    copy = node.copy()
    inner = copy
    while isinstance(inner, (exp.Window, exp.Filter)):
        inner = inner.this
    assert isinstance(inner, exp.Anonymous)  # by _called
    inner.set("this", name)
    if change is not None:
        change(inner)
    held: exp.Expression = exp.Paren(this=copy).this
    return held


def _finishing(node: exp.Expression) -> None:
    """Refuse what PostgreSQL may not be asked to compute on a part of the rows, or twice."""
    if isinstance(node, exp.Anonymous):
        name = str(node.this).lower()
        if name in AGGREGATES or name not in FINISHING | NOW:
            raise UnprovenError(f"function {name}()", "cannot be computed on the result")
    elif isinstance(node, exp.Cast) and node.to.this is exp.DType.INTERVAL and node.to.expressions:
        raise UnprovenError("a cast", "to interval of a precision, which would be spelled wrong")
    elif not isinstance(node, (*NODES, *STRUCTURE)):
        raise UnprovenError(type(node).__name__.lower(), "cannot be computed on the result")


def _constant(node: exp.Expression, *, clock: bool) -> bool:
    """Whether nothing in it depends on rows or parameters, and PostgreSQL may compute it.

    `clock`: now() may be in it. Where it is asked for, the answer must stand in all places.
    """
    for inner in node.walk():
        if not clock and isinstance(inner, exp.Expression) and call_type(inner) is not None:
            return False
        if isinstance(
            inner, (exp.Column, exp.Parameter, exp.Query, exp.Subquery, exp.Star, exp.Window)
        ):
            return False
        try:
            if isinstance(inner, exp.Expression):
                _finishing(inner)
        except UnprovenError:
            return False
    return True
