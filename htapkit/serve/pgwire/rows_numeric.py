"""Integers and numerics: Arrow's integers and decimals as PostgreSQL's int2..int8, oid and numeric.

A column is read as unscaled int64 values plus the few that need more bits; those are rendered one
by one with Python's integers, by the functions that serve short results. Nothing is ever rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from htapkit.errors import QueryFailed
from htapkit.serve.pgwire.rows_cells import (
    Fixed,
    Longs,
    Octets,
    Varying,
    fixed_values,
    pieces,
    valid_mask,
    whole_values,
    with_exceptions,
)

INTEGERS = {  # OID: (name, lowest, highest, wire type)
    21: ("smallint", -(2**15), 2**15 - 1, ">i2"),
    23: ("integer", -(2**31), 2**31 - 1, ">i4"),
    20: ("bigint", -(2**63), 2**63 - 1, ">i8"),
    26: ("oid", 0, 2**32 - 1, ">u4"),
}
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Whole:
    """Unscaled numbers of a column; rows in `wide` do not fit 64 bits. Nulls are zero."""

    values: Longs
    wide: dict[int, int]


def is_number(arrow: pa.DataType) -> bool:
    """Whether `whole` and `numbers` read this type."""
    return pa.types.is_integer(arrow) or decimal_bytes(arrow) != 0


def decimal_bytes(arrow: pa.DataType) -> int:
    """The width of a decimal type that is read here, else 0."""
    if not pa.types.is_decimal(arrow) or arrow.scale < 0:
        return 0
    width: int = arrow.byte_width
    return width if width <= 16 else 0


def scale_of(arrow: pa.DataType) -> int:
    """Digits after the point."""
    return arrow.scale if pa.types.is_decimal(arrow) else 0


def whole(array: pa.Array) -> Whole:
    """Read a column of integers or decimals."""
    width = decimal_bytes(array.type)
    if width == 16:
        return _whole128(array)
    if width:
        return Whole(whole_values(array, f"<i{width}"), {})
    if array.type == pa.uint64():
        values = fixed_values(array, np.uint64)
        valid = valid_mask(array)
        large = values > np.uint64(_INT64_MAX)
        if valid is not None:
            values, large = np.where(valid, values, np.uint64(0)), large & valid
        wide = {row: int(values[row]) for row in np.flatnonzero(large).tolist()}
        return Whole(values.view(np.int64), wide)
    return Whole(whole_values(array, array.type.to_pandas_dtype()), {})


def _whole128(array: pa.Array) -> Whole:
    halves = fixed_values(array, "<i8", 2).reshape(-1, 2)
    low, high = halves[:, 0], halves[:, 1]
    valid = valid_mask(array)
    large = high != low >> 63
    if valid is not None:
        low, large = np.where(valid, low, 0), large & valid
    wide = {
        row: (int(high[row]) << 64) | (int(low[row]) & (2**64 - 1))
        for row in np.flatnonzero(large).tolist()
    }
    return Whole(np.ascontiguousarray(low), wide)


def numbers(array: pa.Array) -> list[int | None]:
    """The same of a few rows, as Python's integers."""
    width = decimal_bytes(array.type)
    if not width:
        found: list[int | None] = array.to_pylist()
        return found
    raw = memoryview(array.buffers()[1])[array.offset * width :]
    valid = valid_mask(array)
    return [
        int.from_bytes(raw[row * width : row * width + width], "little", signed=True)
        if valid is None or valid[row]
        else None
        for row in range(len(array))
    ]


def check_integers(values: Sequence[int | None], oid: int) -> None:
    """Refuse integers that the announced type does not hold."""
    name, low, high, _ = INTEGERS[oid]
    for value in values:
        if value is not None and not low <= value <= high:
            raise QueryFailed(f"{name} out of range")


def integer_values(array: pa.Array, oid: int) -> Longs:
    """A column's integers, all of them in the range of the announced type."""
    name, low, high, _ = INTEGERS[oid]
    found = whole(array)
    values = found.values
    if found.wide or (len(values) and (values.min() < low or values.max() > high)):
        raise QueryFailed(f"{name} out of range")
    return values


def integer_cells(array: pa.Array, oid: int) -> Varying:
    """A column as integer text."""
    values = integer_values(array, oid)
    return _integer_text(values)


def integer_binary(array: pa.Array, oid: int) -> Fixed:
    """A column as binary integers."""
    wire = np.dtype(INTEGERS[oid][3])
    values = integer_values(array, oid).astype(wire)
    return Fixed(values.view(np.uint8).reshape(-1, wire.itemsize))


def _integer_text(values: Longs) -> Varying:
    return pieces(pc.cast(pa.array(values), pa.large_string()))


def wire_scale(arrow: pa.DataType, typmod: int) -> int:
    """Digits after the point that PostgreSQL shows: the modifier's, if there is one."""
    return max(_modifier(typmod)[1], 0) if typmod >= 4 else scale_of(arrow)


def _modifier(typmod: int) -> tuple[int, int]:
    """(precision, scale) of a numeric's modifier."""
    packed = typmod - 4
    scale = packed & 0x7FF
    return (packed >> 16) & 0xFFFF, scale - 0x800 if scale & 0x400 else scale


def rescaled(value: int, arrow: pa.DataType, typmod: int) -> int:
    """One unscaled number in the announced scale; refused if digits would be lost."""
    if typmod < 4:
        return value
    precision, scale = _modifier(typmod)
    shift = max(scale, 0) - scale_of(arrow)
    if shift >= 0:
        value *= 10**shift
    else:
        value, rest = divmod(value, 10**-shift)
        if rest:
            raise QueryFailed(f"numeric has more than {max(scale, 0)} digits after the point")
    if abs(value) >= 10 ** (precision + max(-scale, 0)):
        raise QueryFailed(f"numeric field overflow: precision {precision}, scale {scale}")
    return value


def _announced(array: pa.Array, typmod: int) -> Whole:
    """A column's unscaled numbers in the announced scale."""
    found = whole(array)
    if typmod < 4:
        return found
    precision, scale = _modifier(typmod)
    shift = max(scale, 0) - scale_of(array.type)
    digits = precision + max(-scale, 0)
    limit = min(10**digits - 1, _INT64_MAX) // 10 ** max(shift, 0)
    values = found.values
    slow = (values > limit) | (values < -limit)
    if shift < 0:
        unit = np.int64(10 ** min(-shift, 18))
        slow |= values % unit != 0
        slow |= np.bool_(-shift > 18) & (values != 0)
    rows = {row: int(values[row]) for row in np.flatnonzero(slow).tolist()} | found.wide
    values = np.where(slow, 0, values) if rows else values
    values = values * np.int64(10 ** min(shift, 18)) if shift >= 0 else values // unit
    wide = {row: rescaled(value, array.type, typmod) for row, value in rows.items()}
    return Whole(values, wide)


def numeric_text(unscaled: int, scale: int) -> bytes:
    """One numeric."""
    sign = "-" if unscaled < 0 else ""
    digits = str(abs(unscaled)).rjust(scale + 1, "0")
    if not scale:
        return (sign + digits).encode()
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}".encode()


def numeric_binary(unscaled: int, scale: int) -> bytes:
    """One numeric: digits in base 10000 without outer zeros, weight, sign, display scale."""
    groups: list[int] = []
    rest = abs(unscaled) * 10 ** (-scale % 4)
    while rest:
        rest, group = divmod(rest, 10_000)
        groups.append(group)
    weight = len(groups) - 1 - (scale + 3) // 4 if groups else 0
    while groups and not groups[0]:
        groups.pop(0)
    groups.reverse()
    sign = 0x4000 if unscaled < 0 else 0
    words = [len(groups), weight & 0xFFFF, sign, scale, *groups]
    return b"".join(word.to_bytes(2, "big") for word in words)


def numeric_cells(array: pa.Array, typmod: int) -> Varying:
    """A column as numeric text."""
    scale = wire_scale(array.type, typmod)
    found = _announced(array, typmod)
    cells = _decimal_text(found.values, scale) if scale else _integer_text(found.values)
    texts = [numeric_text(value, scale) for value in found.wide.values()]
    return with_exceptions(cells, list(found.wide), texts)


def numeric_binary_cells(array: pa.Array, typmod: int) -> Varying:
    """A column as binary numerics."""
    scale = wire_scale(array.type, typmod)
    found = _announced(array, typmod)
    cells = _decimal_binary(found.values, scale)
    texts = [numeric_binary(value, scale) for value in found.wide.values()]
    return with_exceptions(cells, list(found.wide), texts)


def _magnitude(values: Longs) -> npt.NDArray[np.uint64]:
    return np.abs(values).view(np.uint64)  # of the lowest int64, too: it wraps to itself


def _split(magnitude: npt.NDArray[np.uint64], scale: int) -> tuple[npt.NDArray[np.uint64], ...]:
    """(whole part, fraction as an integer)."""
    if scale > 19:
        return np.zeros_like(magnitude), magnitude
    unit = np.uint64(10**scale)
    above = magnitude // unit
    return above, magnitude - above * unit


@lru_cache(maxsize=1)
def _four_digits() -> npt.NDArray[np.uint32]:
    return np.frombuffer("".join(f"{n:04d}" for n in range(10_000)).encode(), np.uint32)


def _decimal_text(values: Longs, scale: int) -> Varying:
    """Digits right-aligned around a point that stands in the same column in all rows."""
    count = len(values)
    above, fraction = _split(_magnitude(values), scale)
    highest = len(str(int(above.max(initial=0))))
    groups = (highest + 3) // 4
    point = 1 + 4 * groups
    width = point + 1 + scale
    matrix = np.empty((count, width), np.uint8)
    # The leading zeros of the first fraction group reach over the point and into the whole part,
    # which are written after it.
    _write_groups(matrix, fraction, width, (scale + 3) // 4)
    matrix[:, point] = ord(".")
    _write_groups(matrix, above, point, groups)
    shown = np.ones(count, np.int64)
    for digits in range(1, highest):
        shown += above >= np.uint64(10**digits)
    negative = values < 0
    starts = np.arange(count, dtype=np.int64) * width + point - shown - negative
    octets = matrix.reshape(-1)
    octets[starts[negative]] = ord("-")
    return Varying(octets, starts, shown + negative + 1 + scale)


def _write_groups(matrix: Octets, number: npt.NDArray[np.uint64], end: int, groups: int) -> None:
    table, base = _four_digits(), np.uint64(10_000)
    for place in range(groups):
        rest = number // base
        digits = table[(number - rest * base).view(np.int64)]
        column = end - 4 * (place + 1)
        matrix[:, column : column + 4] = digits.view(np.uint8).reshape(-1, 4)
        number = rest


def _decimal_binary(values: Longs, scale: int) -> Varying:
    count, base = len(values), np.uint64(10_000)
    above, fraction = _split(_magnitude(values), scale)
    after = (scale + 3) // 4
    before = (len(str(int(above.max(initial=0)))) + 3) // 4
    width = 4 + before + after
    matrix = np.zeros((count, width), np.uint16)
    if after:  # the last group is filled up with zeros on the right
        partial = scale - 4 * (after - 1)
        unit = np.uint64(10**partial)
        rest = fraction // unit
        matrix[:, width - 1] = (fraction - rest * unit) * np.uint64(10 ** (4 - partial))
        for column in range(width - 2, 3 + before, -1):
            fraction, rest = rest, rest // base
            matrix[:, column] = fraction - rest * base
    for column in range(3 + before, 3, -1):
        rest = above // base
        matrix[:, column] = above - rest * base
        above = rest
    filled = matrix[:, 4:] != 0
    first = filled.argmax(axis=1)
    last = before + after - filled[:, ::-1].argmax(axis=1)
    zero = values == 0
    size = np.where(zero, 0, last - first)
    weight = np.where(zero, 0, before - 1 - first)
    rows = np.arange(count, dtype=np.int64)
    at = rows * width + first
    flat = matrix.reshape(-1)
    # The header goes just before the first digit: there are only zeros, and the header's own room.
    for place, word in enumerate((size, weight, (values < 0) * 0x4000, np.int64(scale))):
        flat[at + place] = np.asarray(word).astype(np.uint16)
    return Varying(flat.byteswap().view(np.uint8), at * 2, 8 + 2 * size)
