"""Values in one form: the same bytes for what the node takes for the same key. Pure.

Partitions are told apart by their bytes, and rows within one by what their values mean; of both the
node itself orders the elements of sets and maps.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

from htapkit_cassandra import cql, encoding
from htapkit_cassandra.cql import Cql

_COLLECTIONS: Final = frozenset({"list", "set", "map"})
_FLOATS: Final = {"float": ">f", "double": ">d"}


def column(type_: Cql, values: list[bytes | None], *, compared: bool) -> list[bytes | None]:
    """All values of a column; `compared`: it is a clustering column."""
    if not _varies(type_, compared=compared):
        return values
    return [canonical(type_, value, compared=compared) for value in values]


def _varies(type_: Cql, *, compared: bool) -> bool:
    return bool(type_.arguments) or (compared and type_.name in {"decimal", *_FLOATS})


def canonical(type_: Cql, value: bytes | None, *, compared: bool) -> bytes | None:
    """One value."""
    if not value or not _varies(type_, compared=compared):
        return value
    if type_.name == "decimal":
        number = Decimal(int.from_bytes(value[4:], "big", signed=True))
        scale = int.from_bytes(value[:4], "big", signed=True)
        return encoding.decimal(number.scaleb(-scale, encoding.EXACT).normalize(encoding.EXACT))
    if type_.name in _FLOATS:
        (found,) = struct.unpack(_FLOATS[type_.name], value)
        return b"NaN" if math.isnan(found) else value
    if type_.name in _COLLECTIONS:
        return _collection(type_, list(cql.elements(value)), compared=compared)
    if type_.name == "tuple" or type_.user_defined:
        fields = list(cql.elements(value, 0))
        while compared and fields and fields[-1] is None:
            fields.pop()  # as if they were not given
        pairs = zip(type_.arguments, fields, strict=False)
        return _joined(canonical(t, each, compared=compared) for t, each in pairs)
    return value


def _collection(type_: Cql, parts: Sequence[bytes | None], *, compared: bool) -> bytes:
    types = type_.arguments
    made = [
        canonical(types[n % len(types)], part, compared=compared) for n, part in enumerate(parts)
    ]
    if type_.name == "list":
        return _joined(made)
    step = len(types)
    return b"".join(sorted(_joined(made[n : n + step]) for n in range(0, len(made), step)))


def _joined(parts: Iterable[bytes | None]) -> bytes:
    return b"".join(
        b"\0" if part is None else b"\1" + len(part).to_bytes(4, "big") + part for part in parts
    )
