"""Single values as they came over the wire: what ORDER BY sees of them, and which sums agree."""

from __future__ import annotations

import math
import struct
from decimal import Decimal

FLOATS = frozenset({700, 701})
_NUMERIC, _BPCHAR = 1700, 1042
SUM_TOLERANCE = 1e-12
_LAYOUTS = {700: "!f", 701: "!d"}


def sort_value(value: bytes | None, oid: int, *, binary: bool) -> tuple[int, object]:
    """Equal for what is equal to ORDER BY; sorts among values of one type."""
    if value is None:
        return 2, ""
    if oid in FLOATS:
        number = _float(value, oid, binary=binary)
        return (1, "NaN") if math.isnan(number) else (0, number + 0.0)
    if oid == _NUMERIC and not binary:
        number_ = Decimal(value.decode())
        return (1, "NaN") if number_.is_nan() else (0, number_)
    if oid == _NUMERIC:
        return 0, _binary_numeric(value)
    return 0, value.rstrip(b" ") if oid == _BPCHAR else value


def _float(value: bytes, oid: int, *, binary: bool) -> float:
    return float(struct.unpack(_LAYOUTS[oid], value)[0]) if binary else float(value)


def _binary_numeric(value: bytes) -> bytes:
    """Without the scale that is only shown."""
    return value[:6] + value[8:]


def agree(left: bytes | None, right: bytes | None, oid: int, *, binary: bool) -> bool:
    """Whether two sums of the same floats agree as far as PostgreSQL itself promises."""
    if left is None or right is None:
        return left is right
    if left == right:
        return True
    x, y = _float(left, oid, binary=binary), _float(right, oid, binary=binary)
    return math.isclose(x, y, rel_tol=SUM_TOLERANCE, abs_tol=0.0)
