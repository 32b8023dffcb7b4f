"""Types: Flight's columns as Spark's, and batches in the units that Spark reads."""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql.types import (
    BinaryType,
    BooleanType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
    TimeType,
)

from htapkit.errors import ConfigError

_SPARK: dict[pa.DataType, DataType] = {
    pa.bool_(): BooleanType(),
    pa.int16(): ShortType(),
    pa.int32(): IntegerType(),
    pa.int64(): LongType(),
    pa.float32(): FloatType(),
    pa.float64(): DoubleType(),
    pa.string(): StringType(),
    pa.binary(): BinaryType(),
    pa.date32(): DateType(),
    pa.time64("us"): TimeType(6),
    pa.timestamp("us"): TimestampNTZType(),
    pa.timestamp("us", "UTC"): TimestampType(),
}
_SPARK_TIME = pa.time64("ns")
"""Spark reads times of day in nanoseconds only."""


def spark_schema(schema: pa.Schema) -> StructType:
    """The columns as Spark's. Raises ConfigError where two have one name, or Spark has no type."""
    names = schema.names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"the statement has several columns {', '.join(twice)}; give each a name of its own"
        )
    return StructType([StructField(field.name, spark_type(field)) for field in schema])


def spark_type(field: pa.Field) -> DataType:
    """Spark's type of a column. Raises ConfigError."""
    if pa.types.is_decimal128(field.type):
        return DecimalType(field.type.precision, field.type.scale)
    found = _SPARK.get(field.type)
    if found is None:
        raise ConfigError(
            f"column {field.name}: Spark has no type for Arrow's {field.type}; cast it in `query`"
        )
    return found


def spark_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch of Flight's in Spark's units."""
    times = [field.name for field in batch.schema if pa.types.is_time64(field.type)]
    if not times:
        return batch
    wanted = [
        field.with_type(_SPARK_TIME) if field.name in times else field for field in batch.schema
    ]
    return batch.cast(pa.schema(wanted))
