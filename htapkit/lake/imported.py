"""Tables that others made: what of them can be read here, and which version there is now.

Never changed, never tagged: an engine that expires the version read here makes statements fail,
not lie, until the next look finds the version of that moment.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyiceberg.table import Table, TableProperties
from pyiceberg.table.metadata import TableMetadata
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

from htapkit.errors import LakeMissing, LakeRefused
from htapkit.lake.columns import columns_of
from htapkit.lake.snapshots import manifests, row_count
from htapkit.lake.versions import time_field
from htapkit.model import Column, Import, Pin, SqlType, TableId, TableSchema

_TYPES: dict[IcebergType, SqlType] = {
    BooleanType(): SqlType("bool", 16),
    IntegerType(): SqlType("int4", 23),
    LongType(): SqlType("int8", 20),
    FloatType(): SqlType("float4", 700),
    DoubleType(): SqlType("float8", 701),
    DateType(): SqlType("date", 1082),
    TimeType(): SqlType("time", 1083),
    TimestampType(): SqlType("timestamp", 1114),
    TimestamptzType(): SqlType("timestamptz", 1184),
    BinaryType(): SqlType("bytea", 17),
    StringType(): SqlType("text", 25),
}
_TYPMOD_EXTRA = 4


def look(
    found: Table, identifier: Sequence[str], table: TableId, known: TableSchema | None = None
) -> Import:
    """The newest version of a table, under the name that it has here.

    `known` has the types of columns that a source once named: of a table that we wrote, never of
    another's, whose columns may be others now. Raises LakeMissing where there is nothing to read,
    LakeRefused where rows would come out wrong.
    """
    metadata, snapshot = found.metadata, found.metadata.current_snapshot()
    if snapshot is None:
        raise LakeMissing(f"{found.name()} has no snapshot yet; write a row first")
    _refuse_guesses(metadata)
    columns = columns_of(metadata, snapshot.schema_id)
    names = {field.name: columns.ordinals.get(field.field_id) for field in columns.schema.fields}
    made, left_out = [], []
    for field in columns.schema.fields:
        type_, ordinal = _sql_type(field.field_type), names[field.name]
        if type_ is None or ordinal is None:
            left_out.append(f"{field.name} ({field.field_type})")
            continue
        told = known.column(field.name) if known is not None else None
        same = told is not None and told.ordinal == ordinal
        made.append(told if told and same else Column(field.name, type_, ordinal))
    if not made:
        raise LakeRefused(f"{found.name()} has no column of a type that can be read here")
    time = time_field(metadata, snapshot)
    ordinal = columns.ordinals.get(time, 0) if time is not None else 0
    if all(column.ordinal != ordinal for column in made):
        ordinal = 0
    pin = Pin(
        found.metadata_location, snapshot.snapshot_id, row_count(manifests(snapshot, found.io))
    )
    schema = TableSchema(table, tuple(made))
    return Import(schema, tuple(identifier), ordinal, pin, tuple(left_out))


def _refuse_guesses(metadata: TableMetadata) -> None:
    """Refuse what a reader of Parquet by field id or name would get wrong without a word."""
    if any(f.initial_default is not None for schema in metadata.schemas for f in schema.fields):
        raise LakeRefused(
            f"{metadata.location} has columns with defaults for older rows, which are not read "
            "here; let its engine rewrite the data files"
        )
    if len(metadata.schemas) > 1 and TableProperties.DEFAULT_NAME_MAPPING in metadata.properties:
        raise LakeRefused(
            f"{metadata.location} has files without field ids and columns that changed; let its "
            "engine rewrite the data files"
        )


def _sql_type(type_: IcebergType) -> SqlType | None:
    """PostgreSQL's type of the same values; None where there is none that is read here."""
    if isinstance(type_, DecimalType):
        packed = (type_.precision << 16) | type_.scale
        return SqlType("numeric", 1700, packed + _TYPMOD_EXTRA)
    return _TYPES.get(type_)
