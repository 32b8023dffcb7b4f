"""Casts that are proven: (from, to) -> DuckDB text. What is not here is left to the source."""

from __future__ import annotations

from dataclasses import replace

from htapkit.plan import literals
from htapkit.plan.expr import Expr, as_decimal, fails, numeric
from htapkit.plan.names import quote_text
from htapkit.plan.types import (
    DUCKDB,
    FLOATS,
    INTEGERS,
    NUMERIC_ORDER,
    PLAIN_TEXTS,
    decimal_sql,
    numeric_typmod,
)
from htapkit.plan.unproven import UnprovenError

FLOAT_EXACT_DIGITS = 15
"""Decimals of so many digits are quotients of two exact doubles: one division rounds correctly."""


def literal_as(expr: Expr, type_: str, *, utc: bool) -> Expr:  # noqa: PLR0911 - one line for each rule
    """A literal of unknown type, read as `type_` by PostgreSQL's input function."""
    text = expr.text
    if text is None:
        return _null(type_)
    if type_ in PLAIN_TEXTS or type_ in {"bpchar", "name"}:
        return Expr(quote_text(text), type_, text=text, constant=True)
    if type_ in INTEGERS:
        return integer(literals.read_integer(text, type_), type_)
    if type_ == "numeric":
        return decimal(text)
    if type_ in FLOATS:
        return Expr(f"CAST({literals.read_float(text)} AS {DUCKDB[type_]})", type_, constant=True)
    if type_ == "bool":
        return Expr("TRUE" if literals.read_bool(text) else "FALSE", "bool", constant=True)
    if type_ == "date":
        days = literals.read_date(text)
        return Expr(literals.date_sql(days), "date", moment=days, constant=True)
    if type_ in {"timestamp", "timestamptz"}:
        return moment(literals.read_moment(text, type_, utc=utc), type_)
    if type_ == "time":
        return Expr(f"TIME '{literals.read_time(text)}'", "time", constant=True)
    if type_ == "interval":
        value = literals.read_interval(text, None)
        return Expr(
            literals.interval_sql(value), "interval", months_days_micros=value, constant=True
        )
    if type_ == "uuid":
        return Expr(quote_text(literals.read_uuid(text)), "uuid", constant=True)
    raise UnprovenError(f"a literal of type {type_}", "not read here")


def _null(type_: str) -> Expr:
    if type_ == "numeric":
        return numeric("CAST(NULL AS DECIMAL(1,0))", 1, 0, constant=True)
    if type_ not in DUCKDB:
        raise UnprovenError(f"a NULL of type {type_}", "no local type")
    return Expr(f"CAST(NULL AS {DUCKDB[type_]})", type_, constant=True)


def integer(value: int, type_: str) -> Expr:
    """An integer constant."""
    sql = f"CAST({value} AS {DUCKDB[type_]})"
    return Expr(sql, type_, digits=len(str(abs(value))), constant=True)


def decimal(text: str) -> Expr:
    """A numeric constant with the display scale that its spelling gives it."""
    plain, digits, scale = literals.read_decimal(text)
    return numeric(f"CAST({plain} AS {decimal_sql(digits, scale)})", digits, scale, constant=True)


def moment(micros: int, type_: str) -> Expr:
    """A timestamp constant."""
    return Expr(literals.moment_sql(micros, type_), type_, moment=micros, constant=True)


def as_numeric(expr: Expr) -> Expr:
    """An integer or numeric as numeric."""
    if expr.type == "numeric":
        return expr
    digits = expr.digits if expr.constant and expr.digits else INTEGERS[expr.type]
    return numeric(
        f"CAST({expr.sql} AS {decimal_sql(digits, 0)})", digits, 0, constant=expr.constant
    )


def as_float(expr: Expr, type_: str = "float8") -> Expr:
    """A number as the nearest float, rounded once."""
    if expr.type == type_:
        return expr
    if expr.type == "float8":
        raise UnprovenError("float8 as float4", "overflow rules differ")
    source = expr.sql
    if expr.type == "numeric" and (type_ == "float4" or expr.digits > FLOAT_EXACT_DIGITS):
        source = f"CAST({expr.sql} AS VARCHAR)"
    return Expr(
        f"CAST({source} AS {DUCKDB[type_]})", type_, constant=expr.constant, inexact=expr.inexact
    )


def unpadded(expr: Expr) -> str:
    """A char(n) without the blanks at its end.

    DuckDB's rtrim takes 0.25 us a row also where there is nothing to take off, so a column is
    looked at before. What was computed is not written down three times.
    """
    trimmed = f"rtrim({expr.sql}, ' ')"
    if "(" in expr.sql:
        return trimmed
    return f"CASE WHEN suffix({expr.sql}, ' ') THEN {trimmed} ELSE {expr.sql} END"


def coerce(expr: Expr, type_: str, *, utc: bool) -> Expr:  # noqa: PLR0911 - one line for each rule
    """An implicit cast, as in a comparison, a CASE or a UNION."""
    if expr.type == "unknown":
        return literal_as(expr, type_, utc=utc)
    if expr.type == type_:
        return expr
    if expr.opaque:
        raise UnprovenError(f"{expr.type} as {type_}", "the column is kept as text")
    if type_ in INTEGERS and expr.type in INTEGERS and INTEGERS[expr.type] < INTEGERS[type_]:
        return replace(expr, sql=f"CAST({expr.sql} AS {DUCKDB[type_]})", type=type_)
    if type_ == "numeric" and expr.type in INTEGERS:
        return as_numeric(expr)
    if type_ in FLOATS and expr.type in NUMERIC_ORDER:
        return as_float(expr, type_)
    if type_ in PLAIN_TEXTS and expr.type in PLAIN_TEXTS:
        return replace(expr, type=type_, typmod=-1)
    if type_ in PLAIN_TEXTS and expr.type == "bpchar":
        seen = expr.origin or expr.collation
        return replace(expr, sql=unpadded(expr), type=type_, typmod=-1, origin=None, collation=seen)
    if type_ in {"timestamp", "timestamptz"} and expr.type in {"date", "timestamp"}:
        return _widened_moment(expr, type_, utc=utc)
    raise UnprovenError(f"{expr.type} as {type_}", "this cast is not proven equal")


def _widened_moment(expr: Expr, type_: str, *, utc: bool) -> Expr:
    if type_ == "timestamptz" and not utc:
        raise UnprovenError(f"{expr.type} as timestamptz", "the session's time zone is not UTC")
    if expr.moment is not None:
        factor = literals.DAY_MICROS if expr.type == "date" else 1
        return moment(expr.moment * factor, type_)
    return Expr(f"CAST({expr.sql} AS {DUCKDB[type_]})", type_, constant=expr.constant)


def explicit(expr: Expr, type_: str, typmod: int, *, utc: bool) -> Expr:  # noqa: PLR0911 - one line for each rule
    """`CAST(expr AS type(typmod))`."""
    if expr.type == "unknown":
        return _with_typmod(literal_as(expr, type_, utc=utc), typmod)
    if expr.opaque:
        return _of_opaque(expr, type_, typmod)
    if expr.type == type_:
        return _with_typmod(expr, typmod)
    if type_ in INTEGERS:
        return _to_integer(expr, type_)
    if type_ == "numeric" and expr.type in INTEGERS:
        return _with_typmod(as_numeric(expr), typmod)
    if type_ in PLAIN_TEXTS:
        return _with_typmod(_to_text(expr, type_), typmod)
    if type_ == "date" and expr.type in {"timestamp", "timestamptz"}:
        if expr.type == "timestamptz" and not utc:
            raise UnprovenError("timestamptz as date", "the session's time zone is not UTC")
        return Expr(f"CAST({expr.sql} AS DATE)", "date", constant=expr.constant)
    if type_ == "timestamp" and expr.type == "timestamptz" and utc:
        return Expr(f"CAST({expr.sql} AS TIMESTAMP)", "timestamp", constant=expr.constant)
    if type_ == "bool" and expr.type == "int4":
        return Expr(f"({expr.sql} <> 0)", "bool", constant=expr.constant)
    if typmod >= 0 or type_ == "bpchar":  # without a length, equal values may look different
        raise UnprovenError(f"a cast of {expr.type} to {type_}({typmod})", "not proven equal")
    return coerce(expr, type_, utc=utc)


def _of_opaque(expr: Expr, type_: str, typmod: int) -> Expr:
    if expr.type == type_ and typmod < 0:
        return expr
    if expr.category == "e" and type_ == "text":  # under the database's own collation
        return Expr(expr.sql, "text", constant=expr.constant, binary=False, database_collation=True)
    raise UnprovenError(f"a cast of {expr.type} to {type_}", "the column is kept as text")


def _to_integer(expr: Expr, type_: str) -> Expr:
    if expr.inexact:
        raise UnprovenError(f"a float aggregate as {type_}", "its last digits are open")
    if expr.type in INTEGERS or expr.type == "numeric" or (expr.type == "bool" and type_ == "int4"):
        return Expr(f"CAST({expr.sql} AS {DUCKDB[type_]})", type_, constant=expr.constant)
    if expr.type in FLOATS:
        rounded = f"round_even(CAST({expr.sql} AS DOUBLE), 0)"
        return Expr(f"CAST({rounded} AS {DUCKDB[type_]})", type_, constant=expr.constant)
    if expr.type in PLAIN_TEXTS:
        # PostgreSQL also reads blanks, signs, other bases and underscores, DuckDB fractions.
        bad = f"NOT regexp_full_match({expr.sql}, '-?[0-9]{{1,19}}')"
        return Expr(
            f"CASE WHEN {fails(bad, 'a whole number')} THEN NULL "
            f"ELSE CAST({expr.sql} AS {DUCKDB[type_]}) END",
            type_,
            constant=expr.constant,
        )
    raise UnprovenError(f"{expr.type} as {type_}", "this cast is not proven equal")


def _to_text(expr: Expr, type_: str) -> Expr:
    if expr.type == "numeric" and expr.dscale == "" and expr.scale < 38:
        # DuckDB writes a DECIMAL without room before the point as '.5'.
        shown = as_decimal(expr, max(expr.digits, expr.scale + 1), expr.scale)
        return Expr(f"CAST({shown} AS VARCHAR)", type_, constant=expr.constant)
    if expr.type in INTEGERS or expr.type in {"bool", "uuid"}:
        return Expr(f"CAST({expr.sql} AS VARCHAR)", type_, constant=expr.constant)
    if expr.type in PLAIN_TEXTS or expr.type in {"bpchar", "name"}:
        return coerce(replace(expr, type="text") if expr.type == "name" else expr, type_, utc=False)
    raise UnprovenError(f"{expr.type} as {type_}", "its text depends on the session or the engine")


def _with_typmod(expr: Expr, typmod: int) -> Expr:
    if typmod < 0 or typmod == expr.typmod:
        return expr
    if expr.type == "numeric":
        packed = typmod - 4
        digits, scale = (packed >> 16) & 0xFFFF, packed & 0x7FF
        if not 0 <= scale <= digits <= 38:
            raise UnprovenError(f"numeric({digits},{scale})", "wider than 38 digits")
        return replace(
            numeric(as_decimal(expr, digits, scale), digits, scale, constant=expr.constant),
            typmod=numeric_typmod(digits, scale),
        )
    if expr.type == "varchar":
        return replace(
            expr, sql=f"left({expr.sql}, {typmod - 4})", typmod=typmod, origin=None, text=None
        )
    raise UnprovenError(f"a cast to {expr.type} with a modifier", "not proven equal")
