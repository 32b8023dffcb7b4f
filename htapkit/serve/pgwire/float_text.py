"""float4 and float8 as PostgreSQL prints them with extra_float_digits >= 1.

The digits are the shortest that read back as the same number, which Arrow and Python also print;
but PostgreSQL switches to exponents elsewhere, pads them, and rejects digits that lie exactly
halfway to the neighbouring number (1e23 is 9.999999999999999e+22). Nothing here reads a setting.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from htapkit.serve.pgwire.rows_cells import Varying, pieces, valid_mask, with_exceptions

_SPECIAL = {"nan": b"NaN", "inf": b"Infinity", "-inf": b"-Infinity"}
_FIXED_MIN = -4  # smaller decimal exponents are printed as such
_FIXED_MAX = {53: 14, 24: 5}  # larger ones, by the significant bits of the type
_HALFWAY_EXPONENT_MAX = 23  # 5**24 does not divide a number of 54 bits


def float8_text(value: float) -> bytes:
    """One float8."""
    return _postgres(repr(value), value, 53)


def float_cells(array: pa.Array) -> Varying:
    """A column of float32 as float4, or of float64 as float8."""
    bits = 24 if array.type == pa.float32() else 53
    texts = pc.cast(array, pa.large_string())
    cells = pieces(texts)
    values = np.abs(array.fill_null(0).to_numpy(zero_copy_only=False))
    odd = ~(values < 10.0 ** (_FIXED_MAX[bits] + 1))  # NaN is odd, too
    odd |= (values < 10.0**_FIXED_MIN) & (values != 0)
    # Arrow's own limit is lower than PostgreSQL's.
    odd |= pc.find_substring(texts, "e").fill_null(-1).to_numpy(zero_copy_only=False) >= 0
    odd |= _ends_with_point_zero(cells)
    valid = valid_mask(array)
    if valid is not None:
        odd &= valid
    rows = np.flatnonzero(odd)
    if not len(rows):
        return cells
    chosen = texts.take(pa.array(rows)).to_pylist()
    originals = array.take(pa.array(rows)).to_pylist()
    again = [_postgres(text, value, bits) for text, value in zip(chosen, originals, strict=True)]
    return with_exceptions(cells, rows.tolist(), again)


def float4_list(array: pa.Array) -> list[bytes]:
    """A few float4, for which Python has no shortest form of its own; a null gives anything."""
    filled = array.fill_null(0)
    texts = pc.cast(filled, pa.string()).to_pylist()
    return [
        _postgres(text, value, 24) for text, value in zip(texts, filled.to_pylist(), strict=True)
    ]


def _ends_with_point_zero(cells: Varying) -> npt.NDArray[np.bool_]:
    """Whether a text ends in `.0`, as some versions of Arrow print whole numbers."""
    last = np.clip(cells.start + cells.length - 1, 0, len(cells.octets) - 1)
    zero = cells.octets[last] == ord("0")
    point = cells.octets[np.maximum(last - 1, 0)] == ord(".")
    found: npt.NDArray[np.bool_] = zero & point & (cells.length > 2)
    return found


def _postgres(text: str, value: float, bits: int) -> bytes:
    """The shortest digits in any notation, as PostgreSQL writes them."""
    if not math.isfinite(value):
        return _SPECIAL[text]
    sign = "-" if text[0] == "-" else ""
    mantissa, _, power = text.lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return b"-0" if sign else b"0"
    exponent = int(power or 0) + len(whole) - 1 - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if abs(value) >= 1 << bits:
        digits, exponent = _inside(int(abs(value)), digits, exponent, bits)
    if _FIXED_MIN <= exponent <= _FIXED_MAX[bits]:
        return (sign + _fixed(digits, exponent)).encode()
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}".encode()


def _fixed(digits: str, exponent: int) -> str:
    if exponent < 0:
        return "0." + "0" * (-exponent - 1) + digits
    if len(digits) <= exponent + 1:
        return digits.ljust(exponent + 1, "0")
    return f"{digits[: exponent + 1]}.{digits[exponent + 1 :]}"


def _inside(value: int, digits: str, exponent: int, bits: int) -> tuple[str, int]:
    """The same digits, unless they lie on the border to a neighbour: then the next shortest.

    Only numbers without fraction bits can have such a border in so few digits.
    """
    if exponent - len(digits) + 1 > _HALFWAY_EXPONENT_MAX:
        return digits, exponent
    step = 1 << (value.bit_length() - bits)
    scaled = 4 * value
    high = scaled + 2 * step
    low = scaled - (step if value & (value - 1) == 0 else 2 * step)
    if low < 4 * int(digits) * 10 ** (exponent - len(digits) + 1) < high:
        return digits, exponent
    size = len(str(value))
    for count in range(len(digits), size):
        unit = 10 ** (size - count)
        below = value // unit * unit
        inside = [number for number in (below, below + unit) if low < 4 * number < high]
        if inside:
            found = str(min(inside, key=lambda number: abs(number - value)))
            return found.rstrip("0"), len(found) - 1
    return str(value).rstrip("0"), size - 1
