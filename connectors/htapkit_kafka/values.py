"""Column values as Debezium's JSON has them: exactly, or as PostgreSQL prints them. Pure.

With Debezium's names, the modes are: `decimal.handling.mode=string`, `time.precision.mode=adaptive`
at microseconds, `binary.handling.mode=base64`, `interval.handling.mode=string`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from htapkit.model import TIMESTAMP_INFINITY

UNAVAILABLE: Final = "__debezium_unavailable_value"
"""Instead of a value that did not change and that the source did not send again."""

_UNAVAILABLE_BYTES: Final = base64.b64encode(UNAVAILABLE.encode()).decode()
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_MIN_US: Final = -62_135_596_800_000_000  # 0001-01-01
_YEAR_MAX_US: Final = 253_402_300_800_000_000  # 10000-01-01
_400_YEARS_US: Final = 146_097 * 86_400_000_000

Value = str | int | float | bool | Sequence["Value"] | None


def unavailable(arrow: pa.DataType) -> str:
    """What stands for an unchanged value of a column of this type."""
    return _UNAVAILABLE_BYTES if pa.types.is_binary(arrow) else UNAVAILABLE


def json_values(column: pa.Array) -> Sequence[Value]:
    """A column's values, to be written as JSON."""
    shown = _SHOWN.get(column.type.id)
    return column.to_pylist() if shown is None else shown(column)


def _each(column: pa.Array, shown: Callable[[object], Value]) -> Sequence[Value]:
    return [None if value is None else shown(value) for value in column.to_pylist()]


def _floats(column: pa.Array) -> Sequence[Value]:
    """The shortest decimal that is this float4, which is shorter than its float8 has it."""
    shortest = pc.cast(column, pa.string()).to_pylist()
    return [None if text is None else _float(float(text)) for text in shortest]


def _vectors(column: pa.Array) -> Sequence[Value]:
    """Each as a list of numbers."""
    flat = iter(_floats(column.flatten()))  # of those that are there
    size, there = column.type.list_size, column.is_valid().to_pylist()
    return [[next(flat) for _ in range(size)] if valid else None for valid in there]


def _float(value: object) -> Value:
    """JSON has no number for these; Debezium's converter writes the words."""
    assert isinstance(value, float), "of a column of floats"
    if value != value:  # noqa: PLR0124 - NaN
        return "NaN"
    if value in {float("inf"), float("-inf")}:
        return "Infinity" if value > 0 else "-Infinity"
    return value


def zoned(value: object) -> str:
    """Microseconds since 1970 in ISO 8601, UTC; years with a sign where they need more or less."""
    assert isinstance(value, int), "of a column of timestamps"
    if abs(value) == TIMESTAMP_INFINITY:
        return "infinity" if value > 0 else "-infinity"
    if _YEAR_MIN_US <= value < _YEAR_MAX_US:
        return _iso(value, 0)
    # The calendar is the same every 400 years.
    eras = (value - _YEAR_MIN_US) // _400_YEARS_US
    return _iso(value - eras * _400_YEARS_US, eras * 400)


def _iso(value: int, years: int) -> str:
    moment = _EPOCH + timedelta(microseconds=value)
    year = moment.year + years
    shown = f"{year:04d}" if 0 <= year <= 9999 else f"{'-' if year < 0 else '+'}{abs(year):04d}"
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return f"{shown}-{moment:%m-%dT%H:%M:%S}{fraction}Z"


def _timestamps(column: pa.Array) -> Sequence[Value]:
    numbers = column.cast(pa.int64())
    return numbers.to_pylist() if column.type.tz is None else _each(numbers, zoned)


def _base64(value: object) -> str:
    assert isinstance(value, bytes), "of a column of bytes"
    return base64.b64encode(value).decode()


_SHOWN: Final[Mapping[int, Callable[[pa.Array], Sequence[Value]]]] = {
    pa.timestamp("us").id: _timestamps,
    pa.date32().id: lambda column: column.cast(pa.int32()).to_pylist(),
    pa.time64("us").id: lambda column: column.cast(pa.int64()).to_pylist(),
    pa.decimal128(1).id: lambda column: _each(column, lambda value: format(value, "f")),
    pa.binary().id: lambda column: _each(column, _base64),
    pa.float32().id: _floats,
    pa.list_(pa.float32(), 1).id: _vectors,
    pa.float64().id: lambda column: _each(column, _float),
}
