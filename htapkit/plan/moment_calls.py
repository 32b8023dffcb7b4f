"""Calls whose first word is a literal that decides what they do: date_trunc, date_bin, to_char."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlglot import exp

from htapkit.plan import casts, moments, zoned
from htapkit.plan.context import Context
from htapkit.plan.expr import Expr
from htapkit.plan.formats import to_char
from htapkit.plan.types import MOMENTS
from htapkit.plan.unproven import UnprovenError

Call = Callable[[Context, list[Expr]], Expr]


def call(context: Context, name: str, nodes: list[exp.Expression]) -> Expr:
    """The call of a function in CALLS. Raises UnprovenError."""
    return CALLS[name](context, [context(node) for node in nodes])


def _word(name: str, arguments: list[Expr], at: int, count: int) -> str:
    """The argument that must be a literal, of so many."""
    if (
        not 2 <= len(arguments) == count
        or arguments[at].type != "unknown"
        or not arguments[at].text
    ):
        raise UnprovenError(name, "needs a literal and a value")
    text = arguments[at].text
    assert text is not None
    return text


def _date_trunc(context: Context, arguments: list[Expr]) -> Expr:
    field = _word("date_trunc", arguments, 0, len(arguments)).lower()
    statement, value = context.statement, arguments[1]
    if len(arguments) == 3:
        zone = _word("date_trunc", arguments, 2, 3)
        if value.type not in {"date", "timestamptz"}:
            raise UnprovenError("date_trunc", f"{value.type} with a zone")
        return zoned.trunc(statement, field, value, zone)
    if value.type in {"date", "timestamptz"} and not value.opaque and not statement.utc:
        return zoned.trunc(statement, field, value, statement.session.time_zone)
    return moments.date_trunc(field, value, utc=statement.utc)


def _date_part(context: Context, arguments: list[Expr]) -> Expr:
    field = _word("date_part", arguments, 0, 2).lower()
    value = arguments[1]
    if field != "epoch":
        value = zoned.of_session(context.statement, value)
    return moments.date_part(field, value, utc=context.statement.utc)


def _to_char(context: Context, arguments: list[Expr]) -> Expr:
    pattern = _word("to_char", arguments, 1, 2)
    value = arguments[0]
    if value.type == "date" and not context.statement.utc:
        # It is made a timestamptz first: of a day that the zone skips, that is the next one.
        value = zoned.as_instant(context.statement, value)
    value = zoned.of_session(context.statement, value)
    return to_char(value, pattern, utc=context.statement.utc)


def _timezone(context: Context, arguments: list[Expr]) -> Expr:
    zone = _word("timezone", arguments, 0, 2)
    return zoned.turned(context.statement, arguments[1], zone)


def _date_bin(context: Context, arguments: list[Expr]) -> Expr:
    """`date_bin(stride, value, origin)`, of constants and a moment."""
    if len(arguments) != 3:
        raise UnprovenError("date_bin", "takes three arguments")
    utc = context.statement.utc
    stride, value, origin = arguments
    if stride.type == "unknown":
        stride = casts.literal_as(stride, "interval", utc=utc)
    if value.type == "date":
        value = zoned.as_instant(context.statement, value)
    if value.type in MOMENTS and origin.type in {"unknown", "date"}:
        local = value.type == "timestamptz"
        origin = (
            zoned.as_instant(context.statement, origin)
            if local
            else casts.coerce(origin, value.type, utc=utc)
        )
    if origin.type != value.type:
        raise UnprovenError(f"date_bin({value.type}, {origin.type})", "mixes types")
    return moments.date_bin(stride.months_days_micros, value, origin)


CALLS: Mapping[str, Call] = {
    "date_bin": _date_bin,
    "date_part": _date_part,
    "date_trunc": _date_trunc,
    "timezone": _timezone,
    "to_char": _to_char,
}
"""By PostgreSQL's name."""
