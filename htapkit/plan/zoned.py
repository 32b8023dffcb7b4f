"""Local times of time zones other than UTC: AT TIME ZONE, and what the session's zone decides.

DuckDB computes them with the time zone database that it brings. Its edition need not be the
source's, so each zone is noted (`LocalQuery.zones`), and the caller compares the two before the
statement runs. That covers the years 1850 to 2099; what lies outside is an error.
"""

from __future__ import annotations

import re

from sqlglot import exp

from htapkit.plan import casts, moments
from htapkit.plan.context import Context
from htapkit.plan.expr import Expr, fails
from htapkit.plan.names import quote_text
from htapkit.plan.operands import tight
from htapkit.plan.operators import bounded, kept_infinite
from htapkit.plan.scopes import Statement
from htapkit.plan.types import MOMENTS, is_utc
from htapkit.plan.unproven import UnprovenError

_REGION = re.compile(r"[A-Z][A-Za-z]+(?:/[A-Z][A-Za-z0-9_+-]*)+")
"""Names like Europe/Berlin. Short ones (CET, EST) may be abbreviations, which have no history."""
_BELOW_DAYS = frozenset({"hour", "minute", "second"})
_FIRST, _LAST = "1850-01-02 00:00:00", "2099-12-31 00:00:00"


def _noted(statement: Statement, zone: str) -> str:
    """The zone as DuckDB's literal, once it is known that somebody compares its editions."""
    if not statement.session.zones:
        raise UnprovenError(f"the time zone {zone}", "whose edition nobody compares here")
    if not _REGION.fullmatch(zone):
        raise UnprovenError(f"the time zone {zone}", "not a region's name", by_value=True)
    if zone not in statement.zones:
        statement.zones.append(zone)
    return quote_text(zone)


def _converted(value: Expr, zone: str, type_: str, infinite: str) -> Expr:
    kind = "TIMESTAMPTZ" if value.type == "timestamptz" else "TIMESTAMP"
    suffix = "+00" if kind == "TIMESTAMPTZ" else ""
    first, last = (f"{kind} '{edge}{suffix}'" for edge in (_FIRST, _LAST))
    known = f"{value.sql} >= {first} AND {value.sql} < {last}"
    sql = (
        f"CASE WHEN {known} THEN timezone({zone}, {value.sql}) "
        f"WHEN {fails(f'isfinite({value.sql})', 'a year of a time zone')} THEN NULL "
        f"ELSE CAST({value.sql} AS {infinite}) END"
    )
    return Expr(bounded(sql), type_, constant=value.constant)


def local_time(statement: Statement, value: Expr, zone: str) -> Expr:
    """A timestamptz as the timestamp that clocks in the zone show."""
    if is_utc(zone):
        return casts.explicit(value, "timestamp", -1, utc=True)
    return _converted(value, _noted(statement, zone), "timestamp", "TIMESTAMP")


def instant(statement: Statement, value: Expr, zone: str) -> Expr:
    """A date or timestamp in the zone as the timestamptz that it is."""
    value = casts.coerce(value, "timestamp", utc=True)
    if is_utc(zone):
        return casts.coerce(value, "timestamptz", utc=True)
    noted = _noted(statement, zone)
    return _converted(value, noted, "timestamptz", "TIMESTAMP WITH TIME ZONE")


def of_session(statement: Statement, value: Expr) -> Expr:
    """The value, or the session's local time where it is a timestamptz in a zone beside UTC."""
    if value.type != "timestamptz" or value.opaque or statement.utc:
        return value
    return local_time(statement, value, statement.session.time_zone)


def as_instant(statement: Statement, value: Expr) -> Expr:
    """A date, timestamp or literal as timestamptz, in the session's zone."""
    if value.type == "timestamptz" or statement.utc:
        return casts.coerce(value, "timestamptz", utc=statement.utc)
    if value.type == "unknown" and value.text is not None:
        try:  # with an offset
            return casts.literal_as(value, "timestamptz", utc=False)
        except UnprovenError:
            value = casts.literal_as(value, "timestamp", utc=True)
    return instant(statement, value, statement.session.time_zone)


def beside(statement: Statement, left: Expr, right: Expr) -> tuple[Expr, Expr]:
    """Both sides of a comparison, one of them a timestamptz, in a session whose zone is not UTC."""
    if statement.utc or left.opaque or right.opaque:
        return left, right
    for one, other in ((left, right), (right, left)):
        literal = other.type == "unknown" and other.text is not None
        if one.type == "timestamptz" and (literal or other.type in MOMENTS - {"timestamptz"}):
            widened = as_instant(statement, other)
            return (one, widened) if one is left else (widened, one)
    return left, right


def cast(statement: Statement, value: Expr, type_: str, typmod: int) -> Expr:
    """`CAST(value AS type)`, of moments in the session's zone."""
    if type_ in {"date", "timestamp"} and value.type == "timestamptz":
        value = of_session(statement, value)
    elif type_ == "timestamptz" and typmod < 0 and not statement.utc:
        known = value.type in {"date", "timestamp"} and not value.opaque
        if known or (value.type == "unknown" and value.text is not None):
            return as_instant(statement, value)
    return casts.explicit(value, type_, typmod, utc=statement.utc)


def at_zone(context: Context, node: exp.Expression) -> Expr:
    """`value AT TIME ZONE 'zone'`."""
    zone = node.args.get("zone")
    if not isinstance(zone, exp.Literal) or not zone.args.get("is_string"):
        raise UnprovenError("AT TIME ZONE", "of something else than a literal")
    return turned(context.statement, tight(context, node.this), str(zone.this))


def turned(statement: Statement, value: Expr, zone: str) -> Expr:
    """`timezone('zone', value)`: a timestamptz becomes local, a timestamp an instant."""
    if value.type not in MOMENTS or value.opaque:
        raise UnprovenError(f"{value.type} AT TIME ZONE", "not proven equal")
    if value.type == "timestamp":
        return instant(statement, value, zone)
    return local_time(statement, as_instant(statement, value), zone)


def trunc(statement: Statement, field: str, value: Expr, zone: str) -> Expr:
    """`date_trunc('field', timestamptz, 'zone')`.

    From days on it is the local midnight's instant; what is cut off below keeps its offset.
    """
    local = local_time(statement, as_instant(statement, value), zone)
    cut = moments.date_trunc(field, local, utc=True)
    if is_utc(zone) or field not in _BELOW_DAYS:
        return instant(statement, cut, zone)
    value = as_instant(statement, value)
    rest = f"(epoch_us({local.sql}) - epoch_us({cut.sql}))"
    sql = f"make_timestamptz(epoch_us({value.sql}) - {rest})"
    return Expr(kept_infinite(value.sql, sql), "timestamptz")
