"""Which times a query asks for: conditions on a table's time column, as a half-open span.

Looks at what must be true of every row that counts: top-level AND of WHERE, and of ON where a row
that fails it cannot come out. Everything that is not understood here gives no bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sqlglot import exp

from htapkit.plan import casts, clock
from htapkit.plan.arms import Reference, Span, edge
from htapkit.plan.context import Context
from htapkit.plan.expr import Expr
from htapkit.plan.literals import DAY_MICROS
from htapkit.plan.plan import Limit, Parameter
from htapkit.plan.types import MOMENTS
from htapkit.plan.unproven import UnprovenError

_OPERATORS: Mapping[type[exp.Expression], str] = {
    exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=", exp.EQ: "=",
}  # fmt: skip
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "="}
_FOLDED = (
    exp.Literal, exp.RawString, exp.Cast, exp.DataType, exp.DataTypeParam, exp.Interval, exp.Var,
    exp.Add, exp.Sub, exp.Neg, exp.Paren,
)  # fmt: skip
"""What a constant may be made of; its value is the binder's own (`Expr.moment`)."""


def narrow(context: Context, condition: exp.Expression, references: Sequence[Reference]) -> None:
    """Take from a condition, bound before, what it says of the references' time columns."""
    timed = [each for each in references if each.time_column is not None]
    if not timed:
        return
    for part in _conjuncts(condition):
        try:
            _part(context, part, timed)
        except UnprovenError:
            continue


def _conjuncts(node: exp.Expression) -> Iterator[exp.Expression]:
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.And):
        yield from _conjuncts(node.this)
        yield from _conjuncts(node.args["expression"])
    else:
        yield node


def _part(context: Context, node: exp.Expression, timed: Sequence[Reference]) -> None:
    if isinstance(node, exp.Between) and not node.args.get("symmetric"):
        for operator, value in ((">=", node.args["low"]), ("<=", node.args["high"])):
            _comparison(context, operator, node.this, value, timed)
    elif isinstance(node, exp.In) and node.expressions and not node.args.get("query"):
        _listed(context, node, timed)
    elif type(node) in _OPERATORS:
        operator, left, right = _OPERATORS[type(node)], node.this, node.args["expression"]
        _comparison(context, operator, left, right, timed)
        _comparison(context, _MIRRORED[operator], right, left, timed)


def _comparison(
    context: Context,
    operator: str,
    subject: exp.Expression,
    value: exp.Expression,
    timed: Sequence[Reference],
) -> None:
    """`subject operator value`."""
    found = _subject(context, subject, timed)
    if found is not None:
        reference, column, slack = found
        span = _span(context, operator, column, value, slack)
        if span is not None:
            reference.narrow(span)


def _subject(
    context: Context, node: exp.Expression, timed: Sequence[Reference]
) -> tuple[Reference, Expr, int] | None:
    """The reference whose time column this is, bare or cast to a date; and its expression.

    Last, by how many microseconds a zone's local time may differ from the column's own.
    """
    while isinstance(node, exp.Paren):
        node = node.this
    column = node.this if isinstance(node, exp.Cast) else node
    while isinstance(column, exp.Paren):
        column = column.this
    if not isinstance(column, exp.Column):
        return None
    bare, seen = context(column), context(node)
    if bare.type not in MOMENTS or (seen.sql != bare.sql and seen.type != "date"):
        return None
    local = seen.sql != bare.sql and bare.type == "timestamptz" and not context.statement.utc
    reference = next((each for each in timed if each.is_time(bare.sql)), None)
    return (reference, seen, DAY_MICROS if local else 0) if reference is not None else None


def _span(
    context: Context, operator: str, column: Expr, value: exp.Expression, slack: int
) -> Span | None:
    """Where `column operator value` is true, or wider."""
    days = column.type == "date"
    begins, ends = operator in {">", ">=", "="}, operator in {"<", "<=", "="}
    after_low, after_high = operator == ">", operator != "<"
    parameter = _parameter(context, column, value) if not slack else None
    if parameter is not None:
        limits = []
        if begins:
            limits.append(Limit(parameter, upper=False, after=after_low, days=days))
        if ends:
            limits.append(Limit(parameter, upper=True, after=after_high, days=days))
        return Span(limits=tuple(limits))
    found = _constant(context, column, value)
    if found is None:
        return None
    first, last = found[0] - slack, found[1] + slack
    return Span(
        edge(first, after=after_low, days=days) if begins else None,
        edge(last, after=after_high, days=days) if ends else None,
    )


def _constant(context: Context, column: Expr, node: exp.Expression) -> tuple[int, int] | None:
    """Between which microseconds a constant lies, as it is compared with the column.

    That is one, but of a local time in the session's zone, which is less than a day from UTC.
    """
    if not all(isinstance(inner, _FOLDED) for inner in node.walk()):
        return None
    value, slack = context(node), 0
    if value.type == "unknown" and value.text is not None:
        try:
            value = casts.literal_as(value, column.type, utc=context.statement.utc)
        except UnprovenError:
            value = casts.literal_as(value, column.type, utc=True)
            slack = DAY_MICROS
    elif _zone_decides(context, column, value.type):
        slack = DAY_MICROS
    if value.moment is None or value.type not in MOMENTS:
        return None
    micros = value.moment * DAY_MICROS if value.type == "date" else value.moment
    return micros - slack, micros + slack


def _zone_decides(context: Context, column: Expr, type_: str) -> bool:
    """Whether one of the two is local to the session's zone, which is not UTC, and one is not."""
    return (column.type == "timestamptz") != (type_ == "timestamptz") and not context.statement.utc


def _parameter(context: Context, column: Expr, node: exp.Expression) -> Parameter | None:
    """The parameter that this is, bare or cast to its own type, or a constant of the clock."""
    asked = clock.parameter(context, node, column.type)
    if asked is not None:
        return None if _zone_decides(context, column, asked.type.name) else asked
    inner = node
    while isinstance(inner, (exp.Paren, exp.Cast)):
        inner = inner.this
    if not isinstance(inner, exp.Parameter):
        return None
    bare, seen = context(inner), context(node)
    if bare.sql != seen.sql or bare.type not in MOMENTS:
        return None
    if _zone_decides(context, column, bare.type):
        return None
    number = int(str(inner.this.this if isinstance(inner.this, exp.Literal) else inner.this))
    return next(each for each in context.statement.parameters if each.number == number)


def _listed(context: Context, node: exp.In, timed: Sequence[Reference]) -> None:
    """`column IN (constants)`: from the first to the last."""
    found = _subject(context, node.this, timed)
    if found is None:
        return
    reference, column, slack = found
    values = [_constant(context, column, item) for item in node.expressions]
    known = [value for value in values if value is not None]
    if known and len(known) == len(values):
        days = column.type == "date"
        first, last = min(low for low, _ in known) - slack, max(high for _, high in known) + slack
        reference.narrow(
            Span(edge(first, after=False, days=days), edge(last, after=True, days=days))
        )
