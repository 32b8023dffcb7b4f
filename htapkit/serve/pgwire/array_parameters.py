"""The elements of an array in Bind, each as a parameter of its own would stand there."""

from __future__ import annotations

import struct

from htapkit.plan.literals import read_array
from htapkit.plan.unproven import UnprovenError

_HEAD = struct.Struct("!iii")  # dimensions, whether there are NULLs, the elements' type
_DIMENSION = struct.Struct("!ii")  # elements, the first one's number
_LENGTH = struct.Struct("!i")


def array_parts(raw: bytes, oid: int, format_code: int) -> list[bytes | None]:
    """Those of an array of one dimension; `oid` is their type. Raises ValueError, struct.error."""
    if format_code == 1:
        return _binary(raw, oid)
    try:
        parts = read_array(raw.decode())
    except UnprovenError as problem:
        raise ValueError(str(problem)) from problem
    return [None if part is None else part.encode() for part in parts]


def _binary(raw: bytes, oid: int) -> list[bytes | None]:
    dimensions, _, elements = _HEAD.unpack_from(raw)
    if elements != oid or dimensions not in {0, 1}:
        raise ValueError("another type, or several dimensions")
    if dimensions == 0:
        return []
    count, _ = _DIMENSION.unpack_from(raw, _HEAD.size)
    at = _HEAD.size + _DIMENSION.size
    parts: list[bytes | None] = []
    for _ in range(count):
        (length,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size
        parts.append(None if length < 0 else raw[at : at + length])
        at += max(length, 0)
    if at != len(raw):
        raise ValueError("another length")
    return parts
