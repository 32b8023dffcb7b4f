"""Exports as Iceberg tables of their own: plain, unpartitioned, replaced as a whole.

They lie in one namespace beside the mirrored tables, and nothing here reads them again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import NestedField

from htapkit.errors import LakeRefused
from htapkit.lake import maintenance
from htapkit.lake.types import arrow_type, iceberg_of

NAMESPACE = "exports"


def replace_table(
    catalog: Catalog,
    name: str,
    location: str | None,
    rows: tuple[pa.Schema, Iterable[pa.RecordBatch]],
    told: Mapping[str, str],
    older_than: datetime,
) -> Table:
    """Make `exports.<name>` hold these rows and no others, in one commit; `told` is its summary.

    Versions made before `older_than` go, with their files. Raises LakeRefused where a table of
    that name has other columns.
    """
    arrow, batches = rows
    schema = _schema(arrow)
    table = _existing(catalog, name)
    if table is None:
        table = catalog.create_table((NAMESPACE, name), schema, location=location)
    elif _columns(table.schema()) != _columns(schema):
        raise LakeRefused(
            f"{NAMESPACE}.{name} has other columns than this export; drop it, or choose another "
            "name"
        )
    target = pa.schema([pa.field(f.name, arrow_type(f.field_type)) for f in schema.fields])
    reader = pa.RecordBatchReader.from_batches(target, _cast(batches, target))
    with table.transaction() as change:
        change.overwrite(reader, snapshot_properties=dict(told))
    maintenance.expire(table.refresh(), (), older_than)
    return table


def _existing(catalog: Catalog, name: str) -> Table | None:
    try:
        return catalog.load_table((NAMESPACE, name))
    except (NoSuchTableError, NoSuchNamespaceError):
        return None


def _schema(arrow: pa.Schema) -> Schema:
    fields = [
        NestedField(number, column.name, iceberg_of(column.type), required=False)
        for number, column in enumerate(arrow, 1)
    ]
    return Schema(*fields)


def _columns(schema: Schema) -> list[tuple[str, str]]:
    return [(field.name, str(field.field_type)) for field in schema.fields]


def _cast(batches: Iterable[pa.RecordBatch], target: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Iceberg has no smallint; all else is as it comes."""
    for batch in batches:
        yield batch.cast(target)
