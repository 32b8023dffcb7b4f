"""Columns: which Iceberg field is which column of the source, through all changes of its schema.

Iceberg knows a column by its field id, the source by its ordinal. The table property
`htapkit.columns` says for every field id that ever was which ordinal it belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import IcebergType, ListType, NestedField

from htapkit.errors import LakeRefused
from htapkit.lake.types import arrow_type, holds, iceberg_type
from htapkit.model import Column, LakeColumn, TableSchema

PROPERTY = "htapkit.columns"


@dataclass(frozen=True, slots=True)
class Columns:
    """An Iceberg schema, and the source's ordinal of each field id, of former fields as well."""

    schema: Schema
    ordinals: Mapping[int, int]

    @property
    def text(self) -> str:
        """The value of the table property."""
        return json.dumps({str(field): ordinal for field, ordinal in self.ordinals.items()})

    @property
    def by_ordinal(self) -> dict[int, LakeColumn]:
        """The columns as a reader wants them; a field that nobody of ours made is left out."""
        return {
            self.ordinals[field.field_id]: LakeColumn(
                field.field_id, str(field.field_type), field.name
            )
            for field in self.schema.fields
            if field.field_id in self.ordinals
        }

    @property
    def names(self) -> dict[int, str]:
        """The name of each column of the source, as files of this schema have it."""
        return {
            self.ordinals[field.field_id]: field.name
            for field in self.schema.fields
            if field.field_id in self.ordinals
        }

    def field(self, ordinal: int) -> NestedField | None:
        """The field of a column of the source."""
        for field in self.schema.fields:
            if self.ordinals.get(field.field_id) == ordinal:
                return field
        return None


def first_columns(schema: TableSchema) -> Columns:
    """The columns of a new table."""
    ids = count(len(schema.columns) + 1)  # of elements: behind those of all columns
    fields = [
        NestedField(number, column.name, _type(column, ids), required=False)
        for number, column in enumerate(schema.columns, start=1)
    ]
    ordinals = {number: column.ordinal for number, column in enumerate(schema.columns, start=1)}
    return Columns(Schema(*fields), ordinals)


def columns_of(metadata: TableMetadata, schema_id: int | None) -> Columns:
    """The columns of one schema of a table (None: its current one)."""
    schema = metadata.schema() if schema_id is None else metadata.schema_by_id(schema_id)
    if schema is None:
        raise LakeRefused(f"{metadata.location}: schema {schema_id} is not in its metadata")
    said = metadata.properties.get(PROPERTY)
    if said is None:
        # Another engine's table: its field ids are its columns' numbers, as far as we read them.
        ours = [f.field_id for f in schema.fields if arrow_type(f.field_type) is not None]
        return Columns(schema, {field: field for field in ours})
    stored = json.loads(said)
    return Columns(schema, {int(field): int(ordinal) for field, ordinal in stored.items()})


def evolve(old: Columns, last_id: int, wanted: TableSchema, *, anew: bool) -> Columns:
    """The columns of `wanted`, with the field ids that its columns already have.

    Renamed columns keep their field, wider types are promoted, dropped columns leave, and a name
    that was dropped and added again is a new field. A type that Iceberg cannot promote gets a new
    field only where the table's content starts `anew`; else the rows that are there would lose
    their values: LakeRefused. A type that became narrower stays wide.
    """
    ordinals = dict(old.ordinals)
    fields, ids = [], count(last_id + 1)
    for column in wanted.columns:
        there = old.field(column.ordinal)
        type_ = iceberg_type(column)
        if there is not None and not holds(type_, there.field_type):
            if anew:
                there = None
            elif holds(there.field_type, type_):
                type_ = there.field_type
            else:
                raise LakeRefused(_unpromotable(wanted, column, there))
        if there is None:
            number = next(ids)
            ordinals[number] = column.ordinal
            type_ = _type(column, ids)
        else:
            number = there.field_id
            type_ = there.field_type if isinstance(type_, ListType) else type_
        fields.append(NestedField(number, column.name, type_, required=False))
    return Columns(Schema(*fields), ordinals)


def _type(column: Column, ids: Iterator[int]) -> IcebergType:
    """The type of a new field; the elements of a list take the next id."""
    listed = pa.types.is_fixed_size_list(column.arrow)
    return iceberg_type(column, next(ids) if listed else 0)


def _unpromotable(table: TableSchema, column: Column, there: NestedField) -> str:
    return (
        f"{table.table}: column {column.name} is {there.field_type} in the lake and "
        f"{iceberg_type(column)} now, which Iceberg cannot change in place; copy the table again"
    )
