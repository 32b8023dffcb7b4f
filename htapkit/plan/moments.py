"""Parts and truncations of dates and timestamps that are proven equal."""

from __future__ import annotations

from collections.abc import Mapping

from htapkit.plan import casts, durations
from htapkit.plan.durations import DURATIONS
from htapkit.plan.expr import Expr, numeric
from htapkit.plan.literals import DAY_MICROS, Interval
from htapkit.plan.operators import guard, kept_infinite
from htapkit.plan.types import MOMENTS
from htapkit.plan.unproven import UnprovenError

_FIELDS: Mapping[str, str] = {
    "year": "year",
    "years": "year",
    "quarter": "quarter",
    "month": "month",
    "months": "month",
    "week": "week",
    "day": "day",
    "days": "day",
    "dow": "dow",
    "isodow": "isodow",
    "doy": "doy",
    "hour": "hour",
    "hours": "hour",
    "minute": "minute",
    "minutes": "minute",
}
_TRUNCATIONS = frozenset({"year", "quarter", "month", "week", "day", "hour", "minute", "second"})
_OF_TIME = frozenset({"hour", "minute"})


def extract(field: str, value: Expr, *, utc: bool) -> Expr:
    """`extract(field FROM value)`: numeric, with six decimals for seconds and epochs."""
    if value.type in DURATIONS:
        return durations.extract(field, value)
    construct = f"extract({field} from {value.type})"
    if value.type not in MOMENTS or value.opaque:
        raise UnprovenError(construct, "not proven equal")
    if value.type == "timestamptz" and field != "epoch":
        if not utc:
            raise UnprovenError(construct, "the session's time zone is not UTC")
        value = casts.explicit(value, "timestamp", -1, utc=utc)
    infinite = f"NOT isfinite({value.sql})"
    if field == "epoch":
        if value.type == "date":
            sql = f"CAST(epoch_us(CAST({value.sql} AS TIMESTAMP)) // 1000000 AS DECIMAL(18,0))"
            return numeric(guard(infinite, sql, "infinite date"), 18, 0)
        sql = f"CAST(CAST(epoch_us({value.sql}) AS DECIMAL(19,0)) * 0.000001 AS DECIMAL(26,6))"
        return numeric(guard(infinite, sql, "infinite moment"), 26, 6)
    if field in {"second", "seconds"} and value.type != "date":
        minute = f"date_trunc('minute', {value.sql})"
        sql = f"CAST(epoch_us({value.sql}) - epoch_us({minute}) AS DECIMAL(8,0))"
        return numeric(
            guard(infinite, f"CAST({sql} * 0.000001 AS DECIMAL(8,6))", "infinite moment"), 8, 6
        )
    part = _FIELDS.get(field)
    if part is None or (value.type == "date" and part in _OF_TIME):
        raise UnprovenError(construct, "not proven equal")
    raw = f"date_part('{part}', {value.sql})"
    if part == "year":
        # There is no year 0: DuckDB counts 1 BC as 0.
        raw = f"CASE WHEN {raw} > 0 THEN {raw} ELSE {raw} - 1 END"
    digits = 7 if part == "year" else 3
    return numeric(
        f"CAST({guard(infinite, raw, 'infinite moment')} AS DECIMAL({digits},0))", digits, 0
    )


def date_part(field: str, value: Expr, *, utc: bool) -> Expr:
    """`date_part('field', value)`: the same as float8, computed with floats where fractions are."""
    if value.type in DURATIONS:
        return durations.date_part(field, value)
    number = extract(field, value, utc=utc)
    if number.scale == 0:
        return casts.as_float(number)
    micros = f"CAST({number.sql} * 1000000 AS BIGINT)"
    if field == "epoch":
        return Expr(f"(CAST({micros} AS DOUBLE) / CAST(1000000 AS DOUBLE))", "float8")
    return Expr(durations.seconds(micros), "float8")


def date_trunc(field: str, value: Expr, *, utc: bool) -> Expr:
    """`date_trunc('field', value)`; of a date it is a timestamptz, the preferred type."""
    construct = f"date_trunc('{field}', {value.type})"
    if value.type not in MOMENTS or value.opaque or field not in _TRUNCATIONS:
        raise UnprovenError(construct, "not proven equal")
    result = "timestamp" if value.type == "timestamp" else "timestamptz"
    if result == "timestamptz" and not utc:
        raise UnprovenError(construct, "the session's time zone is not UTC")
    plain = value if result == "timestamp" else casts.explicit(value, "timestamp", -1, utc=utc)
    sql = f"CAST(date_trunc('{field}', {plain.sql}) AS TIMESTAMP)"
    sql = kept_infinite(plain.sql, sql)
    if result == "timestamptz":
        sql = f"CAST({sql} AS TIMESTAMP WITH TIME ZONE)"
    return Expr(sql, result)


def date_bin(stride: Interval | None, value: Expr, origin: Expr) -> Expr:
    """`date_bin(stride, value, origin)` of a constant stride and origin.

    Values before the origin are an error: releases of PostgreSQL differ about their bins.
    """
    construct = f"date_bin(interval, {value.type})"
    if value.type not in {"timestamp", "timestamptz"} or value.opaque or value.constant:
        raise UnprovenError(construct, "not proven equal")
    if stride is None or not origin.constant or stride[0] != 0:
        raise UnprovenError(construct, "needs a constant stride without months, and an origin")
    micros = stride[1] * DAY_MICROS + stride[2]
    if micros <= 0:
        raise UnprovenError(construct, "a stride that is not positive", by_value=True)
    since, start = f"epoch_us({value.sql})", f"epoch_us({origin.sql})"
    if origin.moment is not None:
        start = f"CAST({origin.moment} AS BIGINT)"
    sql = f"make_timestamp({since} - ({since} - {start}) % {micros})"
    if value.type == "timestamptz":
        sql = f"make_timestamptz({since} - ({since} - {start}) % {micros})"
    early = f"isfinite({value.sql}) AND {since} < {start}"
    return Expr(guard(early, kept_infinite(value.sql, sql), "before the origin"), value.type)
