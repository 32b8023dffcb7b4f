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
    ListType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
)

from htapkit.model import Column

FIELD_ID = b"PARQUET:field_id"
"""Under this key the metadata of an Arrow field has its id."""

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


def iceberg_type(column: Column, element: int = 0) -> IcebergType:
    """The Iceberg type that holds every value of a column exactly.

    Of a vector it is a list, whose elements have the field id `element`.
    """
    return iceberg_of(column.arrow, element)


def iceberg_of(arrow: pa.DataType, element: int = 0) -> IcebergType:
    """The Iceberg type that holds every value of one of our Arrow types exactly."""
    if pa.types.is_fixed_size_list(arrow):
        return ListType(element, iceberg_of(arrow.value_type), element_required=False)
    if pa.types.is_decimal128(arrow):
        return DecimalType(arrow.precision, arrow.scale)
    return _ICEBERG[arrow]


def arrow_type(type_: IcebergType) -> pa.DataType | None:
    """The Arrow type in which values are written and read; None where we never make one."""
    if isinstance(type_, DecimalType):
        return pa.decimal128(type_.precision, type_.scale)
    if isinstance(type_, ListType):
        if type_.element_type != FloatType():
            return None
        told = {FIELD_ID: str(type_.element_id)}
        return pa.list_(pa.field("element", pa.float32(), metadata=told))
    return _ARROW.get(type_)


def holds(wide: IcebergType, narrow: IcebergType) -> bool:
    """Whether every value of `narrow` is one of `wide`, and Iceberg may promote the one to it."""
    if isinstance(wide, DecimalType) and isinstance(narrow, DecimalType):
        return wide.scale == narrow.scale and wide.precision >= narrow.precision
    if isinstance(wide, ListType) and isinstance(narrow, ListType):
        return wide.element_type == narrow.element_type
    return wide == narrow or (wide, narrow) in _HOLDS
