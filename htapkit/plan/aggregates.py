"""Aggregates that are proven, over a group or a window: argument types, result type, DuckDB text.

A builder gets `emit`, which places one DuckDB aggregate call (as a column of the grouped query,
or with its OVER clause) and gives back the text that names its value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from htapkit.plan import casts, durations
from htapkit.plan.division import quotient
from htapkit.plan.durations import ELAPSED
from htapkit.plan.expr import Expr, numeric
from htapkit.plan.operators import comparable, guard, texts, trimmed
from htapkit.plan.types import FLOATS, INTEGERS, NUMERIC_ORDER, TEXTS
from htapkit.plan.unproven import UnprovenError

Emit = Callable[[str], str]
"""Places `aggregate(…)` and gives the text of its value."""


def count(arguments: list[Expr], emit: Emit, *, distinct: bool, tail: str) -> Expr:
    """`count(*)`, `count(x)`, `count(DISTINCT x)`."""
    if not arguments:
        return Expr(emit(f"count(*){tail}"), "int8")
    if len(arguments) > 1:
        raise UnprovenError("count of several arguments", "not proven equal")
    argument = arguments[0]
    if distinct:
        comparable(argument, "count(DISTINCT)", order=False)
        return Expr(emit(f"count(DISTINCT {trimmed(argument)}){tail}"), "int8")
    return Expr(emit(f"count({argument.sql}){tail}"), "int8")


def total(arguments: list[Expr], emit: Emit, *, distinct: bool, tail: str) -> Expr:
    """`sum`: int8 of small integers, numeric of int8 and numeric, float8 of float8; intervals."""
    word = "DISTINCT " if distinct else ""
    if [a.type for a in arguments] == [ELAPSED] and not distinct:
        return durations.total(arguments[0], emit, tail)
    argument = _number(arguments, "sum", distinct=distinct)
    raw = f"sum({word}{argument.sql}){tail}"
    if argument.type in {"int2", "int4"}:
        return Expr(f"CAST({emit(raw)} AS BIGINT)", "int8")
    if argument.type == "int8":
        return numeric(f"CAST({emit(raw)} AS DECIMAL(38,0))", 38, 0)
    if argument.type == "numeric":
        sql = f"CAST({emit(raw)} AS DECIMAL(38,{argument.scale}))"
        return numeric(sql, 38, argument.scale, _largest_scale(argument, emit, tail))
    if argument.type == "float8":
        value = emit(raw)
        bad = f"NOT isfinite({value})"
        return Expr(guard(bad, value, "float sum"), "float8", inexact=True)
    raise UnprovenError(f"sum({argument.type})", "not proven equal")


def _largest_scale(argument: Expr, emit: Emit, tail: str) -> str | None:
    """A sum is shown with the largest scale among its inputs."""
    if not argument.dscale:
        return argument.dscale
    scale = f"CASE WHEN {argument.sql} IS NULL THEN NULL ELSE {argument.dscale} END"
    return emit(f"max({scale}){tail}")


def average(arguments: list[Expr], emit: Emit, *, distinct: bool, tail: str) -> Expr:
    """`avg`: numeric (divided as PostgreSQL rounds it), or float8 of floats."""
    argument = _number(arguments, "avg", distinct=distinct)
    if argument.type in FLOATS:
        value = emit(f"avg(CAST({argument.sql} AS DOUBLE)){tail}")
        return Expr(guard(f"NOT isfinite({value})", value, "float avg"), "float8", inexact=True)
    whole = total(arguments, emit, distinct=distinct, tail=tail)
    number = count(arguments, emit, distinct=distinct, tail=tail)
    return quotient(casts.as_numeric(whole), casts.as_numeric(number))


def _number(arguments: list[Expr], name: str, *, distinct: bool) -> Expr:
    if len(arguments) != 1 or arguments[0].type not in NUMERIC_ORDER or arguments[0].opaque:
        raise UnprovenError(f"{name}({', '.join(a.type for a in arguments)})", "not proven equal")
    argument = arguments[0]
    if argument.inexact or argument.dscale is None:
        raise UnprovenError(f"{name} of {argument.type}", "its digits are open")
    if distinct and (argument.type in FLOATS or argument.dscale):
        raise UnprovenError(f"{name}(DISTINCT {argument.type})", "not proven equal")
    return argument


def extreme(name: str) -> Callable[..., Expr]:
    """`min` and `max` of everything that both engines order alike."""

    def build(arguments: list[Expr], emit: Emit, *, distinct: bool, tail: str) -> Expr:
        del distinct  # changes nothing
        if len(arguments) != 1:
            raise UnprovenError(name, "takes one argument here")
        argument = arguments[0]
        ordered = replace(argument, binary=argument.binary or argument.uniform)
        comparable(ordered, f"{name}({argument.type})", order=True)
        allowed = argument.type in set(NUMERIC_ORDER) | {
            "date",
            "time",
            "timestamp",
            "timestamptz",
            "text",
            ELAPSED,
        }
        if argument.type == "varchar":
            argument, allowed = replace(argument, type="text", typmod=-1), True
        if argument.type == "bpchar":
            sql = emit(f"arg_{name}({argument.sql}, {trimmed(argument)}){tail}")
            return replace(_bare(argument), sql=sql, typmod=-1)
        if not allowed or argument.opaque or argument.dscale != "":
            raise UnprovenError(f"{name}({argument.type})", "not proven equal")
        if argument.type in FLOATS:
            argument = replace(argument, sql=unsigned_zero(argument.sql))
        value = emit(f"{name}({argument.sql}){tail}")
        return replace(_bare(argument), sql=value, typmod=-1)

    return build


def _bare(argument: Expr) -> Expr:
    return replace(argument, origin=None, constant=False, text=None, moment=None)


def unsigned_zero(sql: str) -> str:
    """A float, or an error where it is -0: equal to 0 in both engines, which then show either."""
    return guard(f"{sql} = 0 AND signbit({sql})", sql, "negative zero")


def truth(name: str) -> Callable[..., Expr]:
    """`bool_and` and `bool_or`."""

    def build(arguments: list[Expr], emit: Emit, *, distinct: bool, tail: str) -> Expr:
        del distinct
        if len(arguments) != 1 or arguments[0].type != "bool":
            raise UnprovenError(name, "of something else than a boolean")
        return Expr(emit(f"{name}({arguments[0].sql}){tail}"), "bool")

    return build


def joined_text(arguments: list[Expr], order: str, emit: Emit, tail: str) -> Expr:
    """`string_agg(text, 'separator' ORDER BY …)`; without an order the result is anybody's."""
    if len(arguments) != 2 or arguments[0].type not in TEXTS - {"name"} or not order:
        raise UnprovenError("string_agg", "only of texts, with an ORDER BY")
    value, separator = (casts.coerce(part, "text", utc=False) for part in arguments)
    if not separator.constant or separator.text is None:
        raise UnprovenError("string_agg", "the separator is not a literal")
    return texts(emit(f"string_agg({value.sql}, {separator.sql} ORDER BY {order}){tail}"), value)


BUILDERS: dict[str, Callable[..., Expr]] = {
    "count": count,
    "sum": total,
    "avg": average,
    "min": extreme("min"),
    "max": extreme("max"),
    "bool_and": truth("bool_and"),
    "bool_or": truth("bool_or"),
    "every": truth("bool_and"),
}
"""By PostgreSQL's name."""

__all__ = ["BUILDERS", "INTEGERS", "average", "count", "joined_text", "total", "unsigned_zero"]
