"""The interval between two moments, computed here as microseconds and printed by PostgreSQL.

PostgreSQL gives whole days and a rest of the same sign (`timestamp_mi`, which calls
`interval_justify_hours`), so the microseconds tell all of it: equal numbers are equal intervals,
and look alike. A sum adds days and rests each for themselves (`interval_pl`), so it has both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlglot import exp

from htapkit.plan.expr import Expr, fails, numeric
from htapkit.plan.literals import DAY_MICROS, Interval
from htapkit.plan.unproven import UnprovenError

ELAPSED = "elapsed"
"""An interval between two moments: its DuckDB text gives microseconds, a BIGINT."""

ELAPSED_SUM = "elapsed sum"
"""A sum of those: a struct of days and microseconds, both BIGINT."""

DURATIONS = frozenset({ELAPSED, ELAPSED_SUM})

_MONTH_DAYS = 30
_EXACT = 2**53  # PostgreSQL's interval * number goes through float8
_UNITS: Mapping[str, tuple[int, int]] = {  # what it counts, and of which larger part
    "day": (DAY_MICROS, 0),
    "hour": (3_600_000_000, DAY_MICROS),
    "minute": (60_000_000, 3_600_000_000),
}


def elapsed(later: Expr, earlier: Expr) -> Expr:
    """`later - earlier`, of two timestamps of one type."""
    bad = f"NOT isfinite({later.sql}) OR NOT isfinite({earlier.sql})"
    sql = f"epoch_us({later.sql}) - epoch_us({earlier.sql})"
    return Expr(f"(CASE WHEN {fails(bad, 'infinite moment')} THEN NULL ELSE {sql} END)", ELAPSED)


def constant(value: Interval) -> Expr:
    """An interval to compare with: a month counts 30 days (`interval_cmp_value`)."""
    months, days, micros = value
    whole = (months * _MONTH_DAYS + days) * DAY_MICROS + micros
    return Expr(f"CAST({whole} AS BIGINT)", ELAPSED, constant=True)


def extract(field: str, value: Expr) -> Expr:
    """`extract(field FROM interval)`: numeric; what is left of a negative one is negative, too."""
    if value.type == ELAPSED and field == "epoch":
        return _millionths(value.sql, 26)
    if value.type == ELAPSED and field in {"second", "seconds"}:
        return _millionths(f"{value.sql} % 60000000", 8)
    size, whole = _UNITS.get(field.removesuffix("s"), (0, 0))
    if value.type != ELAPSED or not size:
        raise UnprovenError(f"extract({field} from interval)", "not proven equal")
    rest = f"({value.sql} % {whole})" if whole else value.sql
    return numeric(f"CAST({rest} // {size} AS DECIMAL(10,0))", 10, 0)


def _millionths(sql: str, digits: int) -> Expr:
    return numeric(
        f"CAST(CAST({sql} AS DECIMAL(19,0)) * 0.000001 AS DECIMAL({digits},6))", digits, 6
    )


def date_part(field: str, value: Expr) -> Expr:
    """The same as float8; PostgreSQL adds the epoch's days to its seconds as floats."""
    number = extract(field, value)
    if number.scale == 0:
        return Expr(f"CAST({number.sql} AS DOUBLE)", "float8")
    if field != "epoch":
        return Expr(seconds(f"({value.sql} % 60000000)"), "float8")
    rest = f"CAST({value.sql} % {DAY_MICROS} AS DOUBLE) / CAST(1000000 AS DOUBLE)"
    days = f"CAST(86400 AS DOUBLE) * CAST({value.sql} // {DAY_MICROS} AS DOUBLE)"
    return Expr(f"({rest} + {days})", "float8")


def seconds(micros: str) -> str:
    """Microseconds as float8 seconds, as PostgreSQL adds them: the whole ones, and the fraction."""
    fraction = f"CAST({micros} % 1000000 AS DOUBLE) / CAST(1000000 AS DOUBLE)"
    return f"(CAST({micros} // 1000000 AS DOUBLE) + {fraction})"


def total(value: Expr, emit: Callable[[str], str], tail: str) -> Expr:
    """`sum(interval)`."""
    days, rest = (
        f"CAST({emit(f'sum({part}){tail}')} AS BIGINT)"
        for part in (f"{value.sql} // {DAY_MICROS}", f"{value.sql} % {DAY_MICROS}")
    )
    # No row: NULL, and not a struct of NULLs.
    sql = f"CASE WHEN {days} IS NULL THEN NULL ELSE {{'days': {days}, 'rest': {rest}}} END"
    return Expr(sql, ELAPSED_SUM)


def at_source(value: Expr, column: Callable[[str], exp.Expression]) -> exp.Expression:
    """PostgreSQL's expression for it; `column` gives a BIGINT of ours its name there."""
    if value.type == ELAPSED:
        whole = column(_exact(value.sql))
        return exp.Anonymous(this="justify_hours", expressions=[_times(whole, "microsecond")])
    days = column(_exact(f"struct_extract({value.sql}, 'days')"))
    rest = column(_exact(f"struct_extract({value.sql}, 'rest')"))
    both = exp.Add(this=_times(days, "day"), expression=_times(rest, "microsecond"))
    return exp.Paren(this=both)


def _exact(sql: str) -> str:
    bad = f"abs({sql}) > {_EXACT}"
    return f"CASE WHEN {fails(bad, 'long interval')} THEN NULL ELSE {sql} END"


def _times(number: exp.Expression, unit: str) -> exp.Expression:
    return exp.Mul(this=number, expression=exp.Var(this=f"interval '1 {unit}'"))
