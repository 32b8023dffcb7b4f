"""Texts of literals, read as strictly as PostgreSQL's own output is written.

Only the canonical spellings are read here; everything else that PostgreSQL's input functions
accept is refused, so that the source gives the value or the error.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from htapkit.plan.unproven import UnprovenError

_EPOCH = date(1970, 1, 1)
_DATE = re.compile(r"(\d{4})-(\d\d?)-(\d\d?)\Z", re.ASCII)
_MOMENT = re.compile(
    r"(\d{4}-\d\d?-\d\d?)(?:[ T](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?)?"
    r"(Z|[+-]\d\d(?::?\d\d)?)?\Z",
    re.ASCII,
)
_INTEGER = re.compile(r"[+-]?\d{1,19}\Z", re.ASCII)
_DECIMAL = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,3}))?\Z", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z", re.ASCII)
# What touches the word before it (1 day-2 hours) makes one of both, which is no interval.
_PART = re.compile(r"\s*([+-]?\s*\d{1,9})\s*([a-zA-Z]+)(?!\S)\s*", re.ASCII)
_CLOCK = re.compile(r"\s*([+-]?)(\d{1,4}):([0-5]\d)(?::([0-5]\d)(?:\.(\d{1,6}))?)?\Z", re.ASCII)
_FRACTION = re.compile(r"\s*([+-]?)(\d{1,9})\.(\d{1,6})\s*(?i:(?:sec|second)s?)(?!\S)\s*", re.ASCII)
_TIME = re.compile(r"(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?\Z", re.ASCII)

_ELEMENT = re.compile(
    r'\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s,{}"\\][^,{}"\\]*?))\s*(?=,|\Z)',
    re.ASCII | re.DOTALL,
)
_BLANKS = " \t\n\r\v\f"

DAY_MICROS = 86_400_000_000
_UNITS = {
    "year": (12, 0, 0),
    "month": (1, 0, 0),
    "mon": (1, 0, 0),
    "week": (0, 7, 0),
    "day": (0, 1, 0),
    "hour": (0, 0, 3_600_000_000),
    "minute": (0, 0, 60_000_000),
    "min": (0, 0, 60_000_000),
    "second": (0, 0, 1_000_000),
    "sec": (0, 0, 1_000_000),
    "millisecond": (0, 0, 1_000),
    "microsecond": (0, 0, 1),
}
_TRUE = frozenset({"t", "tr", "tru", "true", "y", "ye", "yes", "on", "1"})
_FALSE = frozenset({"f", "fa", "fal", "fals", "false", "n", "no", "of", "off", "0"})
_RANGES = {"int2": 2**15, "int4": 2**31, "int8": 2**63}

Interval = tuple[int, int, int]
"""Months, days, microseconds."""


def _bad(text: str, type_: str) -> UnprovenError:
    shown = f"the literal '{text[:40]}'"
    return UnprovenError(shown, f"not a spelling of {type_} that is read here", by_value=True)


def read_date(text: str) -> int:
    """Days since 1970."""
    found = _DATE.match(text)
    if not found:
        raise _bad(text, "date")
    try:
        return (date(*(int(part) for part in found.groups())) - _EPOCH).days
    except ValueError as error:
        raise _bad(text, "date") from error


def read_moment(text: str, type_: str, *, utc: bool) -> int:
    """Microseconds since 1970; without an offset, a timestamptz needs a session in UTC."""
    found = _MOMENT.match(text)
    if not found:
        raise _bad(text, type_)
    day, hour, minute, second, fraction, zone = found.groups()
    if type_ == "timestamptz" and not zone and not utc:
        raise UnprovenError(
            f"the literal '{text}'",
            "a local time, and the session's zone is not UTC",
            by_value=True,
        )
    if int(hour or 0) > 23 or int(minute or 0) > 59 or int(second or 0) > 59:
        raise _bad(text, type_)
    micros = read_date(day) * DAY_MICROS
    micros += (int(hour or 0) * 3600 + int(minute or 0) * 60 + int(second or 0)) * 1_000_000
    micros += int((fraction or "").ljust(6, "0"))
    if type_ == "timestamptz" and zone and zone != "Z":
        digits = zone[1:].replace(":", "").ljust(4, "0")
        if int(digits[:2]) > 15 or int(digits[2:]) > 59:
            raise _bad(text, type_)
        offset = (int(digits[:2]) * 3600 + int(digits[2:]) * 60) * 1_000_000
        micros -= offset if zone[0] == "+" else -offset
    return micros


def read_time(text: str) -> str:
    """The time in ISO form."""
    found = _TIME.match(text)
    if not found or int(found[1]) > 23 or int(found[2]) > 59 or int(found[3] or 0) > 59:
        raise _bad(text, "time")
    return f"{found[1]}:{found[2]}:{found[3] or '00'}.{(found[4] or '').ljust(6, '0')}"


def date_sql(days: int) -> str:
    """A DuckDB DATE constant."""
    try:
        return f"DATE '{(_EPOCH + timedelta(days=days)).isoformat()}'"
    except OverflowError as error:
        raise UnprovenError("a date", "outside of the years 1 to 9999", by_value=True) from error


def moment_sql(micros: int, type_: str) -> str:
    """A DuckDB TIMESTAMP or TIMESTAMP WITH TIME ZONE constant."""
    try:
        value = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    except OverflowError as error:
        raise UnprovenError(
            "a timestamp", "outside of the years 1 to 9999", by_value=True
        ) from error
    plain = value.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    return f"TIMESTAMPTZ '{plain}+00'" if type_ == "timestamptz" else f"TIMESTAMP '{plain}'"


def moment_text(micros: int) -> str:
    """A moment as people read it; its microseconds where it has no year of four digits."""
    try:
        value = datetime(1970, 1, 1) + timedelta(microseconds=micros)  # noqa: DTZ001 - as it is kept
    except OverflowError:
        return f"{micros} us"
    return value.isoformat(sep=" ")


def read_interval(text: str, unit: str | None) -> Interval:
    """Months, days and microseconds of `interval '…'` or `interval '3' month`."""
    body = text.strip()
    if unit is not None:
        if not re.fullmatch(r"[+-]?\d{1,9}", body, re.ASCII):
            raise _bad(text, "interval")
        body = f"{body} {unit}"
    months = days = micros = at = 0
    given: list[Interval] = []  # a unit may stand once, and none of a day beside a time of day
    while at < len(body):
        time = _CLOCK.match(body, at) or _FRACTION.match(body, at)
        if time:
            micros, at = micros + _time_micros(time), time.end()
            of_day = ("hour", "minute", "second") if time.re is _CLOCK else ("second",)
            given += [_UNITS[name] for name in of_day]
            continue
        found = _PART.match(body, at)
        if not found:
            raise _bad(text, "interval")
        word = found[2].lower()
        size = _UNITS.get(word) or _UNITS.get(word.removesuffix("s"))
        if size is None:
            raise _bad(text, "interval")
        count = int("".join(found[1].split()))
        months, days, micros = (
            months + count * size[0],
            days + count * size[1],
            micros + count * size[2],
        )
        at = found.end()
        given.append(size)
    if not body or len(set(given)) < len(given):
        raise _bad(text, "interval")
    return months, days, micros


def _time_micros(found: re.Match[str]) -> int:
    """Of `02:30`, `-02:30:00.5` (to the end) or `90.25 seconds`."""
    sign, *whole, fraction = found.groups()
    seconds = 0
    for part in whole:  # hours, minutes and seconds, or seconds alone
        seconds = seconds * 60 + int(part or 0)
    micros = seconds * 1_000_000 + int((fraction or "").ljust(6, "0"))
    return -micros if sign == "-" else micros


def interval_sql(value: Interval) -> str:
    """A DuckDB INTERVAL constant."""
    months, days, micros = value
    return f"(to_months({months}) + to_days({days}) + to_microseconds({micros}))"


def add_interval(micros: int, value: Interval, sign: int) -> int:
    """A timestamp moved by months (cut to the month's end), then days, then time."""
    months, days, rest = (sign * part for part in value)
    try:
        if months:
            moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
            year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
            following = date(year + (month == 11), (month + 1) % 12 + 1, 1)
            last = (following - timedelta(days=1)).day
            moved = moment.replace(year=year, month=month + 1, day=min(moment.day, last))
            micros = (moved - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    except (ValueError, OverflowError) as error:
        raise UnprovenError(
            "interval arithmetic", "outside of the years 1 to 9998", by_value=True
        ) from error
    return micros + days * DAY_MICROS + rest


def read_integer(text: str, type_: str) -> int:
    """An integer within its type's range."""
    stripped = text.strip(" ")
    if not _INTEGER.match(stripped) or not -_RANGES[type_] <= int(stripped) < _RANGES[type_]:
        raise _bad(text, type_)
    return int(stripped)


def integer_type(value: int) -> str:
    """The type that PostgreSQL gives to an integer literal."""
    return "int4" if value < 2**31 else "int8" if value < 2**63 else "numeric"


def read_decimal(text: str) -> tuple[str, int, int]:
    """(canonical text, digits, display scale) of a numeric literal."""
    found = _DECIMAL.match(text.strip(" "))
    if not found or not (found[2] or found[3]):
        raise _bad(text, "numeric")
    sign, whole, fraction, exponent = found[1], found[2], found[3] or "", int(found[4] or 0)
    scale = max(len(fraction) - exponent, 0)
    plain = format(Decimal(f"{whole or '0'}.{fraction or '0'}E{exponent}"), "f")
    head, _, tail = plain.partition(".")
    tail = tail.ljust(scale, "0")[:scale]
    head = head.lstrip("0") or "0"
    digits = len(head) + scale
    if digits > 38:
        raise UnprovenError(f"the literal {text[:40]}", "more than 38 digits", by_value=True)
    return (sign.replace("+", "") + head + ("." + tail if scale else "")), digits, scale


def read_float(text: str) -> str:
    """A float literal that both engines read to the same nearest double."""
    if not _DECIMAL.match(text) or not any(letter.isdigit() for letter in text.partition("e")[0]):
        raise _bad(text, "float8")
    value = float(text)
    if value in (float("inf"), float("-inf")) or (
        value == 0 and any(d in "123456789" for d in text)
    ):
        raise _bad(text, "float8")
    return repr(value) if value else f"'{value!r}'"  # bare, -0.0 is a decimal, without a sign


def read_bool(text: str) -> bool:
    """A truth value in any of PostgreSQL's spellings."""
    word = text.strip(" ").lower()
    if word in _TRUE and word != "":
        return True
    if word in _FALSE and word != "of":
        return False
    raise _bad(text, "boolean")


def read_uuid(text: str) -> str:
    """A uuid, in the lower-case form in which it is stored."""
    if not _UUID.match(text):
        raise _bad(text, "uuid")
    return text.lower()


def read_array(text: str) -> list[str | None]:
    """The elements of an array of one dimension, NULL as None."""
    inner = text.strip(_BLANKS)
    if inner[:1] != "{" or inner[-1:] != "}" or len(inner) < 2:
        raise _bad(text, "an array")
    inner, at = inner[1:-1], 0
    if not inner.strip(_BLANKS):
        return []
    found: list[str | None] = []
    while True:
        element = _ELEMENT.match(inner, at)
        if element is None:
            raise _bad(text, "an array")
        found.append(_array_element(element["quoted"], element["bare"]))
        at = element.end()
        if at == len(inner):
            return found
        at += 1  # the comma


def _array_element(quoted: str | None, bare: str | None) -> str | None:
    if quoted is not None:
        return re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
    return None if bare is None or bare.upper() == "NULL" else bare
