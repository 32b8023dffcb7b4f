"""Types: what a column of a source is in Iceberg, and what may become of it there."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
)

from htapkit.model import Column

_ICEBERG: Mapping[pa.DataType, IcebergType] = {
    pa.bool_(): BooleanType(),
    pa.int16(): IntegerType(),
    pa.int32(): IntegerType(),
    pa.int64(): LongType(),
    pa.float32(): FloatType(),
    pa.float64(): DoubleType(),
    pa.date32(): DateType(),
    pa.time64("us"): TimeType(),
    pa.timestamp("us"): TimestampType(),
    pa.timestamp("us", "UTC"): TimestamptzType(),
    pa.binary(): BinaryType(),
    pa.string(): StringType(),
}
_ARROW: Mapping[IcebergType, pa.DataType] = {
    iceberg: arrow for arrow, iceberg in _ICEBERG.items() if arrow != pa.int16()
}
# Everything of the right side fits into the left side, exactly.
_HOLDS = {(LongType(), IntegerType()), (DoubleType(), FloatType())}


def iceberg_type(column: Column) -> IcebergType:
    """The Iceberg type that holds every value of a column exactly."""
    return iceberg_of(column.arrow)


def iceberg_of(arrow: pa.DataType) -> IcebergType:
    """The Iceberg type that holds every value of one of our Arrow types exactly."""
    if pa.types.is_decimal128(arrow):
        return DecimalType(arrow.precision, arrow.scale)
    return _ICEBERG[arrow]


def arrow_type(type_: IcebergType) -> pa.DataType | None:
    """The Arrow type in which values are written and read; None where we never make one."""
    if isinstance(type_, DecimalType):
        return pa.decimal128(type_.precision, type_.scale)
    return _ARROW.get(type_)


def holds(wide: IcebergType, narrow: IcebergType) -> bool:
    """Whether every value of `narrow` is one of `wide`, and Iceberg may promote the one to it."""
    if isinstance(wide, DecimalType) and isinstance(narrow, DecimalType):
        return wide.scale == narrow.scale and wide.precision >= narrow.precision
    return wide == narrow or (wide, narrow) in _HOLDS
