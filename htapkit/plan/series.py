"""generate_series in FROM, of constants: numbers and days of a report that may have no rows.

PostgreSQL adds the step to the value before, so months are only stepped through from a day that
every month has; and a timestamptz only in UTC, where a day is one of 24 hours.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlglot import exp

from htapkit.plan import casts
from htapkit.plan.context import Context
from htapkit.plan.expr import Expr
from htapkit.plan.literals import DAY_MICROS
from htapkit.plan.names import quote
from htapkit.plan.types import DUCKDB
from htapkit.plan.unproven import UnprovenError

NAME = "generate_series"
_DAYS_OF_MONTHS = 28
_LARGEST = 2**31  # of constants, so that no sum leaves 64 bits


def series(context: Context, call: exp.Anonymous) -> tuple[str, Expr]:
    """DuckDB's query of one column c1, and what that is. Raises UnprovenError."""
    name, nodes = str(call.this).lower(), call.expressions
    if name != NAME or len(nodes) not in {2, 3}:
        raise UnprovenError(f"{name}() in FROM", "not on the list of what is proven")
    if any(node.find(exp.Column, exp.Query, exp.Subquery) is not None for node in nodes):
        raise UnprovenError(NAME, "of something else than constants")
    bounds = [context(node) for node in nodes]
    types = {bound.type for bound in bounds[:2]} - {"unknown"}
    if types and types <= {"int2", "int4", "int8"}:
        return _numbers(bounds, "int8" if "int8" in {b.type for b in bounds} else "int4")
    if types and types <= {"date", "timestamp", "timestamptz"} and len(bounds) == 3:
        return _moments(context, bounds, "timestamp" if types == {"timestamp"} else "timestamptz")
    raise UnprovenError(NAME, f"of {', '.join(bound.type for bound in bounds)}")


def _numbers(bounds: list[Expr], type_: str) -> tuple[str, Expr]:
    if any(bound.type not in {"int2", "int4", "int8"} for bound in bounds):
        raise UnprovenError(NAME, "of numbers and something else")
    if any(bound.type == "int8" and not bound.constant for bound in bounds):
        raise UnprovenError(NAME, "of numbers that may be very large")
    step = _constant(bounds[2]) if len(bounds) == 3 else 1
    if step == 0 or any(b.constant and abs(_constant(b)) >= _LARGEST for b in bounds):
        raise UnprovenError(NAME, "of very large numbers, or without a step", by_value=True)
    first, last = (f"CAST({bound.sql} AS BIGINT)" for bound in bounds[:2])
    made = f"unnest(generate_series({first}, {last}, CAST({step} AS BIGINT)))"
    return _query(f"CAST({made} AS {DUCKDB[type_]})"), Expr("", type_)


def _constant(number: Expr) -> int:
    try:
        return int(number.sql.removeprefix("CAST(").partition(" ")[0])
    except ValueError as error:
        raise UnprovenError(NAME, "of numbers that are not constants") from error


def _moments(context: Context, bounds: list[Expr], type_: str) -> tuple[str, Expr]:
    utc = context.statement.utc
    if type_ == "timestamptz" and not utc:
        raise UnprovenError(NAME, "of timestamptz, and the session's time zone is not UTC")
    step = bounds[2]
    if step.type == "unknown":
        step = casts.literal_as(step, "interval", utc=utc)
    first, last = (casts.coerce(bound, type_, utc=utc) for bound in bounds[:2])
    size = step.months_days_micros
    if size is None or min(size) < 0 or max(size) <= 0:
        raise UnprovenError(NAME, "with a step that is not a positive constant", by_value=True)
    if size[0] and (first.moment is None or not _in_every_month(first.moment)):
        raise UnprovenError(NAME, "in months from a day that not every month has", by_value=True)
    made = f"unnest(generate_series({first.sql}, {last.sql}, {step.sql}))"
    return _query(f"CAST({made} AS {DUCKDB[type_]})"), Expr("", type_)


def _in_every_month(micros: int) -> bool:
    day = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=micros // DAY_MICROS)
    return day.day <= _DAYS_OF_MONTHS


def _query(sql: str) -> str:
    return f"SELECT {sql} AS {quote('c1')}"
