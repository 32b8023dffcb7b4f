"""to_char of a date or timestamp, for the patterns that are proven; the source formats all others.

Between the years 1000 and 9999, where both engines write four digits; other years are an error.
Month and day names are PostgreSQL's English ones, which no setting changes (TM would).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from htapkit.plan import casts
from htapkit.plan.expr import Expr
from htapkit.plan.names import quote_text
from htapkit.plan.operators import bounded, guard
from htapkit.plan.types import MOMENTS
from htapkit.plan.unproven import UnprovenError

_WORDS: Mapping[str, str] = {
    "YYYY": "%Y", "IYYY": "%G", "MM": "%m", "DDD": "%j", "DD": "%d", "ID": "%u", "IW": "%V",
    "HH24": "%H", "HH12": "%I", "HH": "%I", "MI": "%M", "SS": "%S", "US": "%f", "YY": "%y",
}  # fmt: skip
"""Numbers of fixed width: PostgreSQL's pattern, in capitals, to strftime's."""
_NAMES: Mapping[str, tuple[str, str]] = {
    "Month": ("%B", ""), "MONTH": ("%B", "upper"), "month": ("%B", "lower"),
    "Mon": ("%b", ""), "MON": ("%b", "upper"), "mon": ("%b", "lower"),
    "Day": ("%A", ""), "DAY": ("%A", "upper"), "day": ("%A", "lower"),
    "Dy": ("%a", ""), "DY": ("%a", "upper"), "dy": ("%a", "lower"),
}  # fmt: skip
_PAD = 9  # of whole names of months and days
_PIECE = re.compile(
    r"(?P<full>FM)?(?P<word>YYYY|yyyy|IYYY|iyyy|YY|yy|MM|mm|DDD|ddd|DD|dd|ID(?!DD)|id(?!dd)"
    r"|IW|iw|HH24|hh24|HH12|hh12|HH|hh|MI|mi|SS(?!SS)|ss(?!ss)|US|us|Q|q"
    r"|Month|MONTH|month|Mon|MON|mon|Day|DAY|day|Dy|DY|dy)"
    r'|(?P<plain>[-/ :.,_()]+)|"(?P<quoted>[^"\\{}]*)"'
)
_OF_TIME = frozenset({"HH24", "HH12", "HH", "MI", "SS", "US"})


@dataclass(frozen=True, slots=True)
class _Format:
    """A pattern's DuckDB text with `{}` where the moment stands."""

    parts: tuple[str, ...]
    fixed: bool  # only numbers of fixed width: sorts by time within a year under any collation
    of_time: bool


def to_char(value: Expr, pattern: str, *, utc: bool) -> Expr:
    """`to_char(value, 'pattern')`. Raises UnprovenError."""
    construct = f"to_char({value.type}, '{pattern[:40]}')"
    if value.type not in MOMENTS or value.opaque:
        raise UnprovenError(construct, "not proven equal")
    read = _read(pattern, construct)
    if value.type == "timestamptz" or (value.type == "date" and read.of_time):
        # A date becomes a midnight of the session's zone first, which it need not have.
        if not utc:
            raise UnprovenError(construct, "the session's time zone is not UTC")
        value = casts.explicit(value, "timestamp", -1, utc=utc)
    moment = value.sql
    first = "DATE '1000-01-01'" if value.type == "date" else "TIMESTAMP '1000-01-01 00:00:00'"
    last = "DATE '9999-12-31'" if value.type == "date" else "TIMESTAMP '9999-12-31 00:00:00'"
    sql = " || ".join(part.replace("{}", moment) for part in read.parts)
    bad = f"{moment} < {first} OR {moment} >= {last}"
    return Expr(
        bounded(guard(bad, f"({sql})" if len(read.parts) > 1 else sql, "a year to write")),
        "text",
        binary=False,
        uniform=read.fixed,
        database_collation=True,
    )


def _read(pattern: str, construct: str) -> _Format:
    parts: list[str] = []
    joined, at, fixed, of_time = "", 0, True, False
    while at < len(pattern):
        piece = _PIECE.match(pattern, at)
        if piece is None:
            raise UnprovenError(construct, "a pattern that is not proven equal", by_value=True)
        at = piece.end()
        word = piece["word"]
        code = _WORDS.get(word.upper()) if word and word.upper() in _WORDS else None
        of_time = of_time or (word or "").upper() in _OF_TIME
        if word is None:
            joined += (piece["plain"] or piece["quoted"] or "").replace("%", "%%")
        elif code is not None and (not piece["full"] or code == "%f"):  # FM leaves US as it is
            joined += code
        else:
            fixed = False
            parts += _strftime(joined)
            joined = ""
            parts.append(_part(word, code, full=bool(piece["full"])))
    parts += _strftime(joined)
    if not parts:
        raise UnprovenError(construct, "an empty pattern", by_value=True)
    return _Format(tuple(parts), fixed, of_time)


def _strftime(joined: str) -> list[str]:
    return [f"strftime({{}}, {quote_text(joined)})"] if joined else []


def _part(word: str, code: str | None, *, full: bool) -> str:
    if code is not None:  # FM: without leading zeros
        return f"CAST(CAST(strftime({{}}, '{code}') AS INTEGER) AS VARCHAR)"
    if word.upper() == "Q":
        return "CAST(date_part('quarter', {}) AS VARCHAR)"
    code, case = _NAMES[word]
    name = f"strftime({{}}, '{code}')"
    name = f"{case}({name})" if case else name
    return f"rpad({name}, {_PAD}, ' ')" if code in {"%B", "%A"} and not full else name
