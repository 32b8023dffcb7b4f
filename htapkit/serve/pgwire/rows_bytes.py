"""Booleans, bytea, uuid, "char" and jsonb as cells: types whose bytes are moved about.

Nothing here knows of numbers or times; a text that is not in its type's canonical form is refused.
"""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from htapkit.errors import QueryFailed
from htapkit.serve.pgwire.rows_cells import (
    Fixed,
    Octets,
    Varying,
    fixed_values,
    pieces,
    pieces_list,
    valid_mask,
)

_UUID_TEXT = 36
_DASHES = (8, 13, 18, 23)
_HEX_PLACES = [place for place in range(_UUID_TEXT) if place not in _DASHES]
_BAD_UUID = "not a uuid in its canonical form; keep the column as text"


def bool_list(array: pa.Array, *, binary: bool) -> list[bytes | None]:
    """A few booleans."""
    true, false = (b"\x01", b"\x00") if binary else (b"t", b"f")
    return [None if value is None else true if value else false for value in array.to_pylist()]


def bool_cells(array: pa.Array, *, binary: bool) -> Fixed:
    """A column of booleans."""
    bits = np.unpackbits(
        np.frombuffer(array.buffers()[1], np.uint8),
        count=array.offset + len(array),
        bitorder="little",
    )[array.offset :]
    shown = bits if binary else np.where(bits, np.uint8(ord("t")), np.uint8(ord("f")))
    return Fixed(shown.reshape(-1, 1))


def char_list(array: pa.Array) -> list[bytes | None]:
    """A few "char" in binary: one byte, which text shows as nothing, itself or an octal escape."""
    return [None if text is None else _char(text) for text in pieces_list(array)]


def char_cells(array: pa.Array) -> Fixed:
    """A column of "char" in binary: a type of catalogs, so one by one."""
    octets = b"".join(octet or b"\0" for octet in char_list(array))
    return Fixed(np.frombuffer(octets, np.uint8).reshape(-1, 1))


def _char(text: bytes) -> bytes:
    if len(text) == 4 and text[:1] == b"\\":
        return bytes([int(text[1:], 8)])
    if len(text) > 1:
        raise QueryFailed('value too long for type "char"')
    return text or b"\0"


def jsonb_list(array: pa.Array) -> list[bytes | None]:
    """A few jsonb in binary: a version byte and the text."""
    return [None if text is None else b"\x01" + text for text in pieces_list(array)]


def jsonb_cells(array: pa.Array) -> Varying:
    """A column of jsonb in binary."""
    return _prefixed(pieces(array), b"\x01", 1)


def bytea_list(array: pa.Array) -> list[bytes | None]:
    """A few bytea as text."""
    found = binary_list(array)
    return [None if value is None else b"\\x" + value.hex().encode() for value in found]


def bytea_cells(array: pa.Array) -> Varying:
    """A column of bytea as text in hex."""
    return _prefixed(binary_cells(array), b"\\x", 2)


def binary_list(array: pa.Array) -> list[bytes | None]:
    """A few bytea in binary."""
    if pa.types.is_fixed_size_binary(array.type):
        found: list[bytes | None] = array.to_pylist()
        return found
    return pieces_list(array)


def binary_cells(array: pa.Array) -> Varying:
    """A column of bytea in binary."""
    if pa.types.is_fixed_size_binary(array.type):
        array = array.cast(pa.large_binary())
    return pieces(array)


def _prefixed(cells: Varying, prefix: bytes, widen: int) -> Varying:
    """Each cell after `prefix`, every byte as it is (`widen` 1) or as two hex digits (2)."""
    length = cells.length
    first = int(cells.start[0]) if len(cells.start) else 0
    end = int(cells.start[-1] + length[-1]) if len(cells.start) else 0
    body = cells.octets[first:end]
    # Both a widened byte and the prefix of bytea are two bytes: one item of the result.
    items = _hex()[body] if widen == 2 else body
    mark = np.frombuffer(prefix, items.dtype)[0]
    starts = cells.start - first + np.arange(len(length), dtype=np.int64)
    out = np.empty(len(items) + len(length), items.dtype)
    kept = np.ones(len(out), np.bool_)
    kept[starts] = False
    out[starts] = mark
    out[kept] = items
    return Varying(out.view(np.uint8), starts * widen, (length + 1) * widen)


@lru_cache(maxsize=1)
def _hex() -> npt.NDArray[np.uint16]:
    return np.frombuffer(bytes(range(256)).hex().encode(), np.uint16)


@lru_cache(maxsize=1)
def _hex_values() -> Octets:
    values = np.full(256, 255, np.uint8)
    for digit, letter in enumerate("0123456789abcdef"):
        values[ord(letter)] = digit
    return values


def uuid_text_list(array: pa.Array) -> list[bytes | None]:
    """A few uuids as text."""
    if not pa.types.is_fixed_size_binary(array.type):
        return pieces_list(array)
    return [None if raw is None else str(UUID(bytes=raw)).encode() for raw in array.to_pylist()]


def uuid_text_cells(array: pa.Array) -> Varying | Fixed:
    """A column of uuids as text."""
    if not pa.types.is_fixed_size_binary(array.type):
        return pieces(array)
    matrix = np.full((len(array), _UUID_TEXT), ord("-"), np.uint8)
    raw = fixed_values(array, np.uint8, 16).astype(np.uint8, copy=False)
    matrix[:, _HEX_PLACES] = _hex()[raw].view(np.uint8).reshape(-1, 32)
    return Fixed(matrix)


def uuid_binary_list(array: pa.Array) -> list[bytes | None]:
    """A few uuids in binary."""
    if pa.types.is_fixed_size_binary(array.type):
        found: list[bytes | None] = array.to_pylist()
        return found
    return [None if text is None else _uuid(text) for text in pieces_list(array)]


def _uuid(text: bytes) -> bytes:
    digits = text.replace(b"-", b"")
    try:
        raw = bytes.fromhex(digits.decode("ascii"))
    except ValueError as error:
        raise QueryFailed(_BAD_UUID) from error
    if len(raw) != 16 or str(UUID(bytes=raw)).encode() != text:
        raise QueryFailed(_BAD_UUID)
    return raw


def uuid_binary_cells(array: pa.Array) -> Fixed:
    """A column of uuids in binary."""
    if pa.types.is_fixed_size_binary(array.type):
        return Fixed(fixed_values(array, np.uint8, 16).astype(np.uint8, copy=False).reshape(-1, 16))
    cells = pieces(array)
    valid = valid_mask(array)
    start = cells.start if valid is None else cells.start[valid]
    length = cells.length if valid is None else cells.length[valid]
    if not len(start):
        return Fixed(np.zeros((len(array), 16), np.uint8))
    if (length != _UUID_TEXT).any():
        raise QueryFailed(_BAD_UUID)
    texts = cells.octets[start[:, None] + np.arange(_UUID_TEXT)]
    digits = _hex_values()[texts[:, _HEX_PLACES]]
    if (digits == 255).any() or (texts[:, _DASHES] != ord("-")).any():
        raise QueryFailed(_BAD_UUID)
    raw = digits[:, 0::2] << 4 | digits[:, 1::2]
    if valid is None:
        return Fixed(raw)
    matrix = np.zeros((len(array), 16), np.uint8)
    matrix[valid] = raw
    return Fixed(matrix)
