"""Texts and JSON as the node's bytes: what `cql` does, the other way round. Pure.

No value is ever rounded, cut or guessed: what a type cannot hold raises ValueError, which says why
and never the value.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from functools import partial
from ipaddress import ip_address
from typing import Any, Final
from uuid import UUID

from htapkit_cassandra.cql import Cql

_INTEGERS: Final = {"tinyint": 1, "smallint": 2, "int": 4, "bigint": 8}
_NUMERIC: Final = frozenset({*_INTEGERS, "decimal", "double", "float", "varint"})
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,9})?")
_INTEGER: Final = re.compile(r"[+-]?\d+")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_TIMESTAMP: Final = re.compile(
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)?"
)
_TIME: Final = re.compile(r"(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?")
_DURATION: Final = re.compile(r"(-?\d+)mo(-?\d+)d(-?\d+)ns")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_NO_NUMBERS: Final = frozenset({"nan", "NaN", "inf", "-inf", "Infinity", "-Infinity"})
_DAY_NANOSECONDS: Final = 86_400 * 10**9
_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
EXACT: Final = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
"""Decimals as they are."""
FIXED: Final = frozenset({"float", "double", "int", "bigint", "timestamp", "boolean", "uuid",
                          "timeuuid"})  # fmt: skip
"""Types of which a vector can be made here: their values have one size."""


def integer(name: str, value: int) -> bytes:
    """Of tinyint, smallint, int or bigint."""
    try:
        return value.to_bytes(_INTEGERS[name], "big", signed=True)
    except OverflowError:
        raise ValueError("beyond its range") from None


def varint(value: int) -> bytes:
    """As short as possible."""
    positive = value if value >= 0 else ~value
    return value.to_bytes(positive.bit_length() // 8 + 1, "big", signed=True)


def decimal(value: Decimal) -> bytes:
    """With its own number of digits behind the point."""
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int):
        raise ValueError("not a number, or infinite")  # noqa: TRY004 - it is about the value
    return (-exponent).to_bytes(4, "big", signed=True) + varint(int(value.scaleb(-exponent, EXACT)))


def whole(value: Decimal) -> int:
    """Of a number without a fraction."""
    if not value.is_finite() or value != value.to_integral_value(context=EXACT):
        raise ValueError("not a whole number")
    return int(value)


def milliseconds(value: int) -> bytes:
    """A timestamp, counted since 1970."""
    return integer("bigint", value)


def days(value: int) -> bytes:
    """A date, counted since 1970."""
    if not -(2**31) <= value < 2**31:
        raise ValueError("beyond its range")
    return (value + 2**31).to_bytes(4, "big")


def nanoseconds(value: int) -> bytes:
    """A time, counted since midnight."""
    if not 0 <= value < _DAY_NANOSECONDS:
        raise ValueError("not a time of a day")
    return value.to_bytes(8, "big")


def duration(months: int, day_count: int, nanos: int) -> bytes:
    """Its three numbers, which CQL wants of one sign."""
    parts = (months, day_count, nanos)
    if min(parts) < 0 < max(parts):
        raise ValueError("months, days and nanoseconds of different signs")
    if max(map(abs, parts[:2])) >= 2**31 or abs(nanos) >= 2**63:
        raise ValueError("beyond its range")
    return b"".join(map(_variable, parts))


def _variable(value: int) -> bytes:
    """As many bytes follow the first as ones lead it; the number's last bit is its sign."""
    number = value * 2 if value >= 0 else -value * 2 - 1
    size = min(9, (max(1, number.bit_length()) + 6) // 7)
    if size == 9:
        return b"\xff" + number.to_bytes(8, "big")
    leading = (0xFF00 >> (size - 1)) & 0xFF
    return (number | leading << 8 * (size - 1)).to_bytes(size, "big")


def unique(value: bytes, *, by_time: bool) -> bytes:
    """A uuid, or a timeuuid, which is of version 1."""
    if by_time and value[6] >> 4 != 1:
        raise ValueError("not a timeuuid: its version is not 1")
    return value


def ascii_only(value: str) -> bytes:
    """Of ascii."""
    if not value.isascii():
        raise ValueError("a character that ascii has not")
    return value.encode()


def _unique(text: str, *, by_time: bool) -> bytes:
    if not _UUID.fullmatch(text):
        raise ValueError("not a uuid")
    return unique(UUID(text).bytes, by_time=by_time)


def _whole(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError("not a whole number")
    return int(Decimal(text))


def _integer(name: str, text: str) -> bytes:
    return integer(name, _whole(text))


def _decimal(text: str) -> bytes:
    if not _NUMBER.fullmatch(text):
        raise ValueError("not a number")
    return decimal(EXACT.create_decimal(text))


def _floating(layout: str, text: str) -> bytes:
    if text not in _NO_NUMBERS and not _NUMBER.fullmatch(text):
        raise ValueError("not a number")
    value = float(text)  # the nearest one, as everywhere
    try:
        made = struct.pack(layout, value)
    except OverflowError:
        made = b""
    if not made or (math.isinf(value) and text not in _NO_NUMBERS):
        raise ValueError("beyond its range")
    return made


def _boolean(text: str) -> bytes:
    if text not in {"true", "false"}:
        raise ValueError("neither true nor false")
    return b"\1" if text == "true" else b"\0"


def _inet(text: str) -> bytes:
    try:
        return ip_address(text if "%" not in text else "").packed
    except ValueError:
        raise ValueError("not an address without a mask and a zone") from None


def _time(text: str) -> bytes:
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError("not a time such as 23:59:59.999999999")
    hours, minutes, seconds = (int(found[n]) for n in (1, 2, 3))
    if minutes > 59 or seconds > 59:
        raise ValueError("not a time of a day")
    whole_seconds = hours * 3600 + minutes * 60 + seconds
    return nanoseconds(whole_seconds * 10**9 + int((found[4] or "").ljust(9, "0")))


def _duration(text: str) -> bytes:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError("not a duration such as 1mo2d3ns")
    return duration(*(int(found[n]) for n in (1, 2, 3)))


def _timestamp(text: str) -> bytes:
    try:
        moment = datetime.fromisoformat(text if _TIMESTAMP.fullmatch(text) else "")
    except ValueError:
        raise ValueError("not a timestamp such as 2026-01-31 23:59:59.999Z") from None
    if moment.tzinfo is None:
        raise ValueError("a timestamp without a time zone")
    count, rest = divmod(moment - _EPOCH, _MILLISECOND)
    if rest or re.search(r"\.\d{6}\d*[1-9]", text):
        raise ValueError("it has microseconds, and a timestamp of Cassandra has milliseconds")
    return milliseconds(count)


def _date(text: str) -> bytes:
    try:
        day = date.fromisoformat(text if _DATE.fullmatch(text) else "")
    except ValueError:
        raise ValueError("not a date such as 2026-01-31") from None
    return days((day - date(1970, 1, 1)).days)


def _blob(text: str) -> bytes:
    if not re.fullmatch(r"0x([0-9a-fA-F]{2})*", text):
        raise ValueError("not a blob such as 0x00ff")
    return bytes.fromhex(text[2:])


FROM_TEXT: Final[Mapping[str, Callable[[str], bytes]]] = {
    "ascii": ascii_only,
    **{name: partial(_integer, name) for name in _INTEGERS},
    "blob": _blob,
    "boolean": _boolean,
    "date": _date,
    "decimal": _decimal,
    "double": partial(_floating, ">d"),
    "duration": _duration,
    "float": partial(_floating, ">f"),
    "inet": _inet,
    "text": str.encode,
    "time": _time,
    "timestamp": _timestamp,
    "timeuuid": partial(_unique, by_time=True),
    "uuid": partial(_unique, by_time=False),
    "varchar": str.encode,
    "varint": lambda text: varint(_whole(text)),
}
"""Scalars, from how `cql.as_json` shows them (a text: from itself)."""


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written, with what stands twice."""


def from_json(type_: Cql, text: str) -> bytes | None:
    """A collection, tuple, vector or user-defined type, as `cql.as_json` shows it.

    None: it is null, or empty and kept element by element, which CQL does not tell from null.
    """
    found = _parsed(text)
    if found is None:
        return None
    value = of_value(type_, found)
    empty = not found or (type_.user_defined and all(v is None for _, v in found))
    return None if type_.brackets and empty else value


def _parsed(text: str) -> Any:  # noqa: ANN401 - that is JSON
    try:
        return json.loads(text, parse_float=EXACT.create_decimal, object_pairs_hook=_Pairs,
                          parse_constant=_no_constant)  # fmt: skip
    except (ValueError, RecursionError, ArithmeticError):  # the last: 1e99999999999999999999
        raise ValueError("not JSON, or with a number beyond any range") from None


def _no_constant(_: str) -> None:
    raise ValueError


def of_value(type_: Cql, found: object) -> bytes:
    """A value of JSON. Raises ValueError."""
    name = type_.name
    if type_.user_defined:
        return _user_defined(type_, found)
    if name == "map":
        return _map(type_, found)
    if name in {"list", "set", "tuple", "vector"}:
        if not isinstance(found, list) or isinstance(found, _Pairs):
            raise ValueError(f"a {name} is a JSON array")
        return _ARRAYS[name](type_, found)
    if isinstance(found, bool):
        text = ("true" if found else "false") if name == "boolean" else None
    elif isinstance(found, str):
        text = found
    elif isinstance(found, (int, Decimal)) and name in _NUMERIC:
        text = str(found)
    else:
        text = None
    if text is None:
        raise ValueError(f"no value of {name}")
    return FROM_TEXT[name](text)


def _present(type_: Cql, found: object) -> bytes:
    if found is None:
        raise ValueError("null within a collection")
    return of_value(type_, found)


def _sized(value: bytes | None) -> bytes:
    return b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value


def _list(type_: Cql, found: Sequence[object]) -> bytes:
    parts = [_present(type_.arguments[0], each) for each in found]
    return len(parts).to_bytes(4, "big") + b"".join(map(_sized, parts))


def _set(type_: Cql, found: Sequence[object]) -> bytes:
    parts = [_present(type_.arguments[0], each) for each in found]
    if len(set(parts)) < len(parts):
        raise ValueError("an element of a set stands twice")
    return len(parts).to_bytes(4, "big") + b"".join(map(_sized, parts))


def _tuple(type_: Cql, found: Sequence[object]) -> bytes:
    if not 0 < len(found) <= len(type_.arguments):
        raise ValueError("as many elements as its type has not")
    pairs = zip(type_.arguments, found, strict=False)
    return b"".join(_sized(None if v is None else of_value(t, v)) for t, v in pairs)


def _vector(type_: Cql, found: Sequence[object]) -> bytes:
    if len(found) != type_.length:
        raise ValueError(f"{len(found)} elements instead of {type_.length}")
    return b"".join(_present(type_.arguments[0], each) for each in found)


_ARRAYS: Final[Mapping[str, Callable[[Cql, Sequence[object]], bytes]]] = {
    "list": _list,
    "set": _set,
    "tuple": _tuple,
    "vector": _vector,
}


def _map(type_: Cql, found: object) -> bytes:
    if not isinstance(found, _Pairs):
        raise ValueError("a map is a JSON object")  # noqa: TRY004 - it is about the value
    keys, values = type_.arguments
    parts = [(_key(keys, key), _present(values, value)) for key, value in found]
    if len({key for key, _ in parts}) < len(parts):
        raise ValueError("a key of a map stands twice")
    joined = b"".join(_sized(key) + _sized(value) for key, value in parts)
    return len(parts).to_bytes(4, "big") + joined


def _key(type_: Cql, text: str) -> bytes:
    """JSON's keys are texts: of what is no scalar, texts with JSON."""
    if type_.name in FROM_TEXT:
        return FROM_TEXT[type_.name](text)
    return _present(type_, _parsed(text))


def _user_defined(type_: Cql, found: object) -> bytes:
    """A field that is left out is null."""
    if not isinstance(found, _Pairs):
        raise ValueError("a user-defined type is a JSON object")  # noqa: TRY004
    given = dict(found)
    if len(given) < len(found) or given.keys() - set(type_.fields):
        raise ValueError("a field that its type has not, or one twice")
    pairs = [(t, given.get(name)) for name, t in zip(type_.fields, type_.arguments, strict=True)]
    return b"".join(_sized(None if v is None else of_value(t, v)) for t, v in pairs)
