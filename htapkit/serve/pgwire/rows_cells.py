"""Columns of bytes, and how they are laid into DataRow messages.

A renderer turns an Arrow column into cells (what stands after the length word, for each row); this
module knows Arrow's buffers and the message's frame, and nothing of any type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from htapkit.errors import QueryFailed

Octets = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

ROW_BYTES_MAX = 2**30 - 1
"""PostgreSQL's own limit of one message (MaxAllocSize)."""

_CLASS_BYTES_MAX = 512  # longer values are copied one by one: the copy then outweighs the loop


@dataclass(frozen=True, slots=True)
class WireColumn:
    """A result column as PostgreSQL announced it, and the format that the client asked for."""

    oid: int
    typmod: int
    binary: bool


@dataclass(frozen=True, slots=True)
class Fixed:
    """Cells of one width: a matrix of rows by bytes."""

    matrix: Octets


@dataclass(frozen=True, slots=True)
class Varying:
    """Cells of any length: slices of `octets`."""

    octets: Octets
    start: Longs
    length: Longs  # -1 is NULL, in frames only: renderers leave nulls to them


Cells = Fixed | Varying


def valid_mask(array: pa.Array) -> Mask | None:
    """True where there is a value; None if there are no nulls."""
    if not array.null_count:
        return None
    bitmap = array.buffers()[0]
    if bitmap is None:  # the null type has no bitmap
        return np.zeros(len(array), np.bool_)
    bits = np.unpackbits(
        np.frombuffer(bitmap, np.uint8), count=array.offset + len(array), bitorder="little"
    )
    return bits[array.offset :].view(np.bool_)


def fixed_values(array: pa.Array, dtype: npt.DTypeLike, per_row: int = 1) -> npt.NDArray[Any]:
    """The values of a fixed-width array, read in place; what stands under a null is arbitrary."""
    first, count = array.offset * per_row, len(array) * per_row
    values = np.frombuffer(array.buffers()[1], dtype, first + count)
    return values[first:]


def whole_values(array: pa.Array, dtype: npt.DTypeLike) -> Longs:
    """The values of a fixed-width integer-like array as int64, zero where null."""
    values: Longs = fixed_values(array, dtype).astype(np.int64, copy=False)
    valid = valid_mask(array)
    return values if valid is None else np.where(valid, values, 0)


def pieces(array: pa.Array) -> Varying:
    """The bytes of a string or binary array (32 or 64 bit offsets), in place."""
    wide = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    _, offsets, octets = array.buffers()
    ends = np.frombuffer(offsets, np.int64 if wide else np.int32, array.offset + len(array) + 1)
    starts: Longs = ends[array.offset :].astype(np.int64, copy=False)
    data = np.frombuffer(octets, np.uint8) if octets is not None and octets.size else _NOTHING
    return Varying(data, starts[:-1], np.diff(starts))


_NOTHING: Octets = np.zeros(1, np.uint8)


def pieces_list(array: pa.Array) -> list[bytes | None]:
    """The same as Python bytes, for a few rows."""
    cells = pieces(array)
    octets = cells.octets.data
    found: list[bytes | None] = [
        octets[start : start + length].tobytes()
        for start, length in zip(cells.start.tolist(), cells.length.tolist(), strict=True)
    ]
    return blanked(array, found)


def blanked(array: pa.Array, found: list[bytes | None]) -> list[bytes | None]:
    """`found` with None where the array has nulls."""
    valid = valid_mask(array)
    if valid is None:
        return found
    return [value if good else None for value, good in zip(found, valid.tolist(), strict=True)]


def with_exceptions(cells: Varying, rows: Sequence[int], texts: Sequence[bytes]) -> Varying:
    """Replace the cells of a few rows, which were rendered one by one."""
    if not texts:
        return cells
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    ends = np.cumsum(lengths) + len(cells.octets)
    start, length = cells.start.copy(), cells.length.copy()
    where = np.asarray(rows, np.int64)
    start[where], length[where] = ends - lengths, lengths
    more = np.frombuffer(b"".join(texts), np.uint8)
    return Varying(np.concatenate([cells.octets, more]), start, length)


def as_varying(cells: Cells) -> Varying:
    """Cells of one width as slices."""
    if isinstance(cells, Varying):
        return cells
    count, width = cells.matrix.shape
    octets = np.ascontiguousarray(cells.matrix).reshape(-1)
    starts = np.arange(count, dtype=np.int64) * width
    return Varying(octets if len(octets) else _NOTHING, starts, np.full(count, width, np.int64))


def _window(octets: Octets, width: int) -> Octets:
    """All slices of `width` bytes, one byte apart: indexing its rows gathers or scatters."""
    return np.ndarray((len(octets) - width + 1, width), np.uint8, octets, 0, (1, 1))


def _scatter(out: Octets, position: Longs, cells: Varying) -> None:
    """Copy each slice to its position: slices of one length at a time, each a matrix copy."""
    length = np.maximum(cells.length, 0)
    longest = int(length.max(initial=0))
    if not longest:
        return
    clipped = np.minimum(length, _CLASS_BYTES_MAX + 1).astype(np.uint16)
    order = np.argsort(clipped, kind="stable")
    ends = np.cumsum(np.bincount(clipped)).tolist()
    for width in range(1, min(longest, _CLASS_BYTES_MAX) + 1):
        if ends[width] == ends[width - 1]:
            continue
        rows = order[ends[width - 1] : ends[width]]
        window = _window(cells.octets, width)
        _window(out, width)[position[rows]] = window[cells.start[rows]]
    if longest > _CLASS_BYTES_MAX:
        for row in order[ends[_CLASS_BYTES_MAX] :].tolist():
            start, size, to = int(cells.start[row]), int(length[row]), int(position[row])
            out[to : to + size] = cells.octets[start : start + size]


def packed(cells: Varying) -> tuple[Longs, Octets]:
    """(offsets, bytes) of the cells one after another, as Arrow's large arrays want them."""
    length = np.maximum(cells.length, 0)
    offsets = np.zeros(len(length) + 1, np.int64)
    np.cumsum(length, out=offsets[1:])
    out = np.empty(int(offsets[-1]), np.uint8)
    _scatter(out, offsets[:-1], cells)
    return offsets, out


def lines(count: int, columns: Sequence[Varying], separator: int) -> memoryview:
    """`count` CopyData messages, each a line of these columns."""
    total = _totals(count, 5 + max(len(columns), 1), columns)
    out, position = _messages(total, b"d")
    for cells in columns:
        _scatter(out, position, cells)
        position += cells.length
        out[position] = separator
        position += 1
    out[np.cumsum(total) - 1] = ord("\n")
    return out.data


def _totals(count: int, around: int, columns: Sequence[Cells]) -> Longs:
    """The bytes of each row's message. Raises QueryFailed."""
    total = np.full(count, around, np.int64)
    for cells in columns:
        if isinstance(cells, Fixed):
            total += cells.matrix.shape[1]
        else:
            total += np.maximum(cells.length, 0)
    if int(total.max(initial=0)) > ROW_BYTES_MAX:
        raise QueryFailed(f"a row is longer than {ROW_BYTES_MAX} bytes; select less of it")
    return total


def _messages(total: Longs, kind: bytes, begin: bytes = b"") -> tuple[Octets, Longs]:
    """Room for messages of so many bytes each, begun; and where each goes on."""
    end = np.cumsum(total)
    position = end - total
    out = np.empty(int(end[-1]), np.uint8)
    width = 5 + len(begin)
    head = np.empty((len(total), width), np.uint8)
    head[:, 0] = ord(kind)
    head[:, 1:5] = (total - 1).astype(">u4").view(np.uint8).reshape(len(total), 4)
    head[:, 5:] = np.frombuffer(begin, np.uint8)
    _window(out, width)[position] = head
    return out, position + width


def frame(count: int, columns: Sequence[Cells], kind: bytes = b"D") -> memoryview:
    """`count` DataRow messages of these columns, or others of that `kind`."""
    total = _totals(count, 7 + 4 * len(columns), columns)
    out, position = _messages(total, kind, len(columns).to_bytes(2, "big"))
    for cells in columns:
        if isinstance(cells, Fixed):
            width = cells.matrix.shape[1]
            sized = np.empty((count, 4 + width), np.uint8)
            sized[:, :4] = np.frombuffer(width.to_bytes(4, "big"), np.uint8)
            sized[:, 4:] = cells.matrix
            _window(out, 4 + width)[position] = sized
            position += 4 + width
        else:
            words = cells.length.astype(">i4").view(np.uint8).reshape(count, 4)
            _window(out, 4)[position] = words
            position += 4
            _scatter(out, position, cells)
            position += np.maximum(cells.length, 0)
    return out.data
