"""Where a row lies: bytes that identify it and sort as the node sorts its rows. Pure.

A partition's place is made of its key's own bytes; it is also where the static columns lie. A row's
begins with it and goes on with the clustering columns, each in a form whose bytes sort as its type
does. So every deletion of the node is one interval of places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_COMPONENT: Final = b"\x40"  # between _FIRST and _BEHIND, also when it is inverted
_FIRST: Final = b"\x01"  # behind a partition's own place, before all of its rows
_BEHIND: Final = b"\xff"  # behind everything that begins with the same components
_INVERTED: Final = bytes(255 - byte for byte in range(256))
_VARINT_BYTES_MAX: Final = 120


@dataclass(frozen=True, slots=True)
class Places:
    """The places of one table; `clustering` has each column's type and whether it is descending."""

    clustering: tuple[tuple[str, bool], ...]

    def partition(self, key: Sequence[bytes]) -> bytes:
        """Of a partition, and of what its rows share."""
        return b"".join(_ended(part) for part in key)

    def row(self, key: Sequence[bytes], clustering: Sequence[bytes | None]) -> bytes:
        """Of a row."""
        return self.partition(key) + self.prefix(clustering)

    def whole(self, key: Sequence[bytes]) -> tuple[bytes, bytes]:
        """[low, high) of a partition, with what its rows share."""
        place = self.partition(key)
        return place, place + _BEHIND

    def between(
        self,
        key: Sequence[bytes],
        start: tuple[Sequence[bytes | None], bool],
        end: tuple[Sequence[bytes | None], bool],
    ) -> tuple[bytes, bytes]:
        """[low, high) of the rows between two prefixes of the clustering, inclusive or not."""
        place = self.partition(key)
        low, high = place + _FIRST, place + _BEHIND
        if start[0]:
            low = place + self.prefix(start[0]) + (b"" if start[1] else _BEHIND)
        if end[0]:
            high = place + self.prefix(end[0]) + (_BEHIND if end[1] else b"")
        return low, high

    def prefix(self, values: Sequence[bytes | None]) -> bytes:
        """What the place of a row, or of some rows, has behind its partition's."""
        parts = []
        for value, (name, descending) in zip(values, self.clustering, strict=False):
            part = _COMPONENT + _ended(ORDERED[name](value or b""))
            parts.append(part.translate(_INVERTED) if descending else part)
        return b"".join(parts)


def _ended(value: bytes) -> bytes:
    """The same order, and no value is the beginning of another."""
    return value.replace(b"\0", b"\0\xff") + b"\0\0"


def _signed(value: bytes) -> bytes:
    return bytes([value[0] ^ 0x80]) + value[1:] if value else b""


def _varint(value: bytes) -> bytes:
    """By sign and length first."""
    if not value:
        return b""
    number = int.from_bytes(value, "big", signed=True)
    size = (number if number >= 0 else ~number).bit_length() // 8 + 1
    if size > _VARINT_BYTES_MAX:
        raise ValueError(f"a varint of {size} bytes in a key")
    head = 0x80 + size if number >= 0 else 0x7F - size
    return bytes([head]) + number.to_bytes(size, "big", signed=True)


def _time_first(value: bytes) -> bytes:
    return value[6:8] + value[4:6] + value[0:4]


def timeuuid(value: bytes) -> bytes:
    """By its time, then by the rest as signed bytes."""
    return _time_first(value) + bytes(byte ^ 0x80 for byte in value[8:])


def _uuid(value: bytes) -> bytes:
    """By version, those of version 1 by their time."""
    if not value:
        return b""
    version = value[6] >> 4
    return bytes([version]) + (_time_first(value) if version == 1 else value[:8]) + value[8:]


def _itself(value: bytes) -> bytes:
    return value


ORDERED: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "ascii": _itself,
    "bigint": _signed,
    "blob": _itself,
    "boolean": _itself,
    "date": _itself,
    "inet": _itself,
    "int": _signed,
    "smallint": _signed,
    "text": _itself,
    "time": _signed,
    "timestamp": _signed,
    "timeuuid": timeuuid,
    "tinyint": _signed,
    "uuid": _uuid,
    "varchar": _itself,
    "varint": _varint,
}
"""Types that a clustering column may have, and their bytes in their order."""
