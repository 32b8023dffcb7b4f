"""Parameters of Bind -> Python values for the hot store, strictly by type OID.

Only forms that have one meaning are taken: anything else raises OddParameter, and the statement
is relayed to PostgreSQL, which knows its own input syntax best. Text and binary give the same
values.
"""

from __future__ import annotations

import math
import re
import struct
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from htapkit.errors import HtapkitError
from htapkit.model import DATE_INFINITY, TIMESTAMP_INFINITY
from htapkit.serve.pgwire.array_parameters import array_parts

BOOL, BYTEA, INT8, INT2, INT4, TEXT, OID = 16, 17, 20, 21, 23, 25, 26
FLOAT4, FLOAT8, BPCHAR, VARCHAR, DATE, TIME = 700, 701, 1042, 1043, 1082, 1083
TIMESTAMP, TIMESTAMPTZ, NUMERIC, UUID, NAME = 1114, 1184, 1700, 2950, 19
JSON, FLOAT4S, FLOAT8S = 114, 1021, 1022

_EPOCH = datetime(2000, 1, 1)  # noqa: DTZ001 - a timestamp without time zone
_DAY = date(2000, 1, 1)


class OddParameter(HtapkitError):
    """A parameter whose meaning we leave to PostgreSQL."""


def decode(raw: bytes | None, oid: int, format_code: int) -> object:
    """The value of one parameter. Raises OddParameter."""
    if raw is None:
        return None
    table = _BINARY if format_code == 1 else _TEXT
    decoder = table.get(oid)
    if decoder is None or format_code not in {0, 1}:
        raise OddParameter(f"parameter of type {oid}")
    try:
        return decoder(raw)
    except (ValueError, OverflowError, struct.error, ArithmeticError) as problem:
        raise OddParameter(f"parameter of type {oid}") from problem


def decode_array(raw: bytes | None, oid: int, format_code: int) -> list[object]:
    """The elements of an array of one dimension; `oid` is theirs. Raises OddParameter."""
    if raw is None:
        raise OddParameter("an array parameter that is NULL")
    try:
        parts = array_parts(raw, oid, format_code)
    except (ValueError, struct.error) as problem:
        raise OddParameter(f"an array parameter of elements of type {oid}") from problem
    return [decode(part, oid, format_code) for part in parts]


def _matching(pattern: str, make: Callable[[str], object]) -> Callable[[bytes], object]:
    compiled = re.compile(pattern)

    def decoder(raw: bytes) -> object:
        word = raw.decode("ascii")
        if not compiled.fullmatch(word):
            raise ValueError(pattern)
        return make(word)

    return decoder


def _integer(bits: int) -> Callable[[bytes], object]:
    def checked(word: str) -> int:
        value = int(word)
        if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
            raise ValueError("out of range")
        return value

    return _matching(r"-?[0-9]{1,19}", checked)


def _finite(word: str) -> float:
    value = float(word)
    if not math.isfinite(value) or (value == 0 and re.search(r"[1-9]", word.lower().split("e")[0])):
        raise ValueError("out of range")
    return value


def _float4(word: str) -> float:
    value = _finite(word)
    (narrow,) = struct.unpack("!f", struct.pack("!f", value))
    if narrow == 0 and value != 0:
        raise ValueError("out of range")
    return float(narrow)


def _text(raw: bytes) -> str:
    if b"\0" in raw:
        raise ValueError("zero byte")
    return raw.decode()


def _bytea(raw: bytes) -> bytes:
    if raw[:2] != b"\\x" or not re.fullmatch(rb"[0-9a-fA-F]*", raw[2:]):
        raise ValueError("not in hex form")
    return bytes.fromhex(raw[2:].decode())


_DATE_FORM = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME_FORM = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?"
_NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"


def _moment(word: str) -> datetime:
    return datetime.fromisoformat(word).astimezone(UTC)


def _datetime(word: str) -> datetime:
    return datetime.fromisoformat(word)


def _padded(word: str) -> str:
    """Fractions of a second to six digits.

    Python 3.11 takes any, but be sure of older forms, too.
    """
    head, dot, rest = word.partition(".")
    if not dot:
        return word
    digits = re.match(r"[0-9]+", rest)
    assert digits is not None
    return f"{head}.{digits[0]:0<6}{rest[digits.end() :]}"


def _floats(oid: int, format_code: int) -> Callable[[bytes], object]:
    """Of arrays of numbers, none of them NULL."""

    def decoder(raw: bytes) -> object:
        parts = decode_array(raw, oid, format_code)
        if None in parts:
            raise ValueError("not an array of numbers")
        return parts

    return decoder


_BOOLS = {"t": True, "true": True, "f": False, "false": False, "1": True, "0": False}

_TEXT: Mapping[int, Callable[[bytes], object]] = {
    BOOL: _matching("t|f|true|false|1|0", _BOOLS.__getitem__),
    INT2: _integer(16),
    INT4: _integer(32),
    INT8: _integer(64),
    FLOAT4: _matching(_NUMBER, _float4),
    FLOAT8: _matching(_NUMBER, _finite),
    NUMERIC: _matching(r"[+-]?[0-9]{1,60}(?:\.[0-9]{0,60})?", Decimal),
    TEXT: _text,
    VARCHAR: _text,
    BPCHAR: _text,
    JSON: _text,
    # The narrow ones as wide, too: who takes them says what does not fit.
    FLOAT4S: _floats(FLOAT8, 0),
    FLOAT8S: _floats(FLOAT8, 0),
    BYTEA: _bytea,
    UUID: _matching(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", str.lower),
    DATE: _matching(_DATE_FORM, date.fromisoformat),
    TIME: _matching(_TIME_FORM, lambda word: time.fromisoformat(_padded(word))),
    TIMESTAMP: _matching(rf"{_DATE_FORM}[ T]{_TIME_FORM}", lambda word: _datetime(_padded(word))),
    TIMESTAMPTZ: _matching(
        # Only with an offset: without one, the session's time zone would have a say.
        rf"{_DATE_FORM}[ T]{_TIME_FORM}(?:Z|[+-][0-9]{{2}}(?::?[0-9]{{2}})?)",
        lambda word: _moment(_padded(word)),
    ),
}


def _whole(layout: str) -> Callable[[bytes], object]:
    packed = struct.Struct(layout)
    return lambda raw: packed.unpack(raw)[0]


def _boolean(raw: bytes) -> bool:
    if raw not in {b"\0", b"\1"}:
        raise ValueError("not a boolean")
    return raw == b"\1"


def _binary_float(layout: str) -> Callable[[bytes], object]:
    packed = struct.Struct(layout)

    def decoder(raw: bytes) -> float:
        (value,) = packed.unpack(raw)
        if not math.isfinite(value):
            raise ValueError("not finite")
        return float(value)

    return decoder


def _binary_numeric(raw: bytes) -> Decimal:
    count, weight, sign, scale = struct.unpack_from("!hhHh", raw)
    digits = struct.unpack(f"!{count}h", raw[8:])
    if sign not in {0, 0x4000} or any(not 0 <= digit < 10_000 for digit in digits) or scale > 60:
        raise ValueError("not a finite number")
    whole = 0
    for digit in digits:
        whole = whole * 10_000 + digit
    exponent = 4 * (weight - count + 1)
    if abs(exponent) > 120 or count > 30:
        raise ValueError("too long")
    # As a tuple: no decimal context rounds it.
    value = Decimal((1 if sign else 0, tuple(int(d) for d in str(whole)), exponent if count else 0))
    return Decimal(format(value, "f")) if exponent > 0 else value


def _binary_date(raw: bytes) -> date:
    (days,) = struct.unpack("!i", raw)
    if abs(days) >= DATE_INFINITY:
        raise ValueError("infinite")
    return _DAY + timedelta(days=days)


def _microseconds(raw: bytes) -> timedelta:
    (count,) = struct.unpack("!q", raw)
    if abs(count) >= TIMESTAMP_INFINITY:
        raise ValueError("infinite")
    return timedelta(microseconds=count)


def _binary_time(raw: bytes) -> time:
    since = _microseconds(raw)
    if not timedelta(0) <= since < timedelta(days=1):
        raise ValueError("24:00:00")
    return (_EPOCH + since).time()


_BINARY: Mapping[int, Callable[[bytes], object]] = {
    BOOL: _boolean,
    INT2: _whole("!h"),
    INT4: _whole("!i"),
    INT8: _whole("!q"),
    FLOAT4: _binary_float("!f"),
    FLOAT8: _binary_float("!d"),
    NUMERIC: _binary_numeric,
    TEXT: _text,
    VARCHAR: _text,
    BPCHAR: _text,
    JSON: _text,
    FLOAT4S: _floats(FLOAT4, 1),
    FLOAT8S: _floats(FLOAT8, 1),
    BYTEA: bytes,
    UUID: lambda raw: str(uuid.UUID(bytes=raw)),
    DATE: _binary_date,
    TIME: _binary_time,
    TIMESTAMP: lambda raw: _EPOCH + _microseconds(raw),
    TIMESTAMPTZ: lambda raw: _EPOCH.replace(tzinfo=UTC) + _microseconds(raw),
}
