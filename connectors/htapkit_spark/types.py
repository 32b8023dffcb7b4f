"""Types: Flight's columns as Spark's, and its batches with them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
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
    pa.time64("us"): StringType(),  # Spark's own type of it is switched off by default
    pa.timestamp("us"): TimestampNTZType(),
    pa.timestamp("us", "UTC"): TimestampType(),
}
_DAY = pa.scalar(86_400_000_000, pa.int64())


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
    """A batch of Flight's as Spark reads it: times of day are text, as PostgreSQL prints them."""
    for position, field in enumerate(batch.schema):
        if pa.types.is_time64(field.type):
            printed = _printed(batch.column(position))
            batch = batch.set_column(position, field.with_type(pa.string()), printed)
    return batch


def _printed(times: pa.Array) -> pa.Array:
    midnight = pc.equal(times.cast(pa.int64()), _DAY)  # the end of the day, which Arrow has not
    inside = pc.if_else(midnight, pa.scalar(0, times.type), times).cast(pa.string())
    short = pc.utf8_rtrim(pc.utf8_rtrim(inside, "0"), ".")
    return pc.if_else(midnight, "24:00:00", short)
