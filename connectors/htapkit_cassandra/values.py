"""Values as the node has them, of those types that CQL compares as the copy does. Pure."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

_WIDTHS: Final = {"tinyint": 1, "smallint": 2, "int": 4, "bigint": 8}
_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class NoSuchValue(Exception):
    """No value of the type is equal to what was given; some may be less, some greater."""


def _integer(name: str) -> Callable[[Any], bytes]:
    def made(value: int) -> bytes:
        try:
            return value.to_bytes(_WIDTHS[name], "big", signed=True)
        except OverflowError:
            raise NoSuchValue from None

    return made


def _ascii(value: str) -> bytes:
    if not value.isascii():
        raise NoSuchValue
    return value.encode()


def _timestamp(value: datetime) -> bytes:
    milliseconds, rest = divmod(value - _EPOCH, _MILLISECOND)
    if rest:
        raise NoSuchValue
    return milliseconds.to_bytes(8, "big", signed=True)


def _date(value: date) -> bytes:
    return ((value - date(1970, 1, 1)).days + 2**31).to_bytes(4, "big")


_ENCODED: Final[Mapping[str, Callable[[Any], bytes]]] = {
    "ascii": _ascii,
    "bigint": _integer("bigint"),
    "blob": bytes,
    "boolean": lambda value: b"\1" if value else b"\0",
    "date": _date,
    "int": _integer("int"),
    "smallint": _integer("smallint"),
    "text": str.encode,
    "timestamp": _timestamp,
    "timeuuid": lambda value: UUID(str(value)).bytes,
    "tinyint": _integer("tinyint"),
    "uuid": lambda value: UUID(str(value)).bytes,
    "varchar": str.encode,
}
EQUAL: Final = frozenset(_ENCODED)
"""Types whose values are equal in CQL just where they are in the copy."""
ORDERED: Final = EQUAL - {"ascii", "boolean", "timeuuid", "uuid"}
"""Types that CQL sorts as the copy does: not by a uuid's time."""


def encoded(type_: str, value: object) -> bytes:
    """The value's bytes. Raises NoSuchValue."""
    return _ENCODED[type_](value)


def vector(text: str) -> bytes:
    """The elements, each rounded to float4."""
    elements = [float(part) for part in text.strip("[]").split(",")]
    return struct.pack(f">{len(elements)}f", *elements)
