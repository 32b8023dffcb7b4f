"""Layout: partitions of the time column and the order inside files, as Iceberg records them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import (
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    YearTransform,
)
from pyiceberg.types import DateType, TimestampType, TimestamptzType

from htapkit.errors import LakeRefused
from htapkit.model import TIMESTAMP_INFINITY, Layout, TableSchema

Numbers = npt.NDArray[np.int64]

HOUR_MICROSECONDS = 3_600_000_000
DAY_MICROSECONDS = 24 * HOUR_MICROSECONDS

_TRANSFORMS: dict[str, Transform[int, int]] = {
    "hour": HourTransform(),
    "day": DayTransform(),
    "month": MonthTransform(),
}
_UNITS = {"day": "D", "month": "M", "year": "Y"}


def unit(transform: Transform[int, int]) -> str | None:
    """`hour`, `day`, `month` or `year`; None for a transform that says nothing of time."""
    for name, kind in (*_TRANSFORMS.items(), ("year", YearTransform())):
        if type(transform) is type(kind):
            return name
    return None


def partition_numbers(microseconds: Numbers, name: str) -> Numbers:
    """The partition value of each time: hours, days or months since 1970."""
    if name == "month":
        times = microseconds.astype("datetime64[us]").astype("datetime64[M]")
        return times.astype(np.int64)
    return microseconds // (HOUR_MICROSECONDS if name == "hour" else DAY_MICROSECONDS)


def partition_start(number: int, name: str) -> int:
    """The first microsecond of a partition. One that does not fit into 64 bits is their end."""
    if name == "hour":
        return saturated(number * HOUR_MICROSECONDS)
    days = np.array([number]).astype(f"datetime64[{_UNITS[name]}]").astype("datetime64[D]")
    return saturated(int(days.astype(np.int64)[0]) * DAY_MICROSECONDS)


def saturated(number: int) -> int:
    """The number, or the nearest one that 64 bits hold."""
    return max(-(2**63), min(2**63 - 1, number))


def microseconds(column: pa.Array) -> Numbers:
    """The values of a time column since 1970-01-01 (a date: its midnight).

    Raises LakeRefused on NULL and infinity, and on dates that are too late to be counted in
    microseconds: such rows stay hot.
    """
    if column.null_count:
        raise LakeRefused("a row without a time cannot go to the lake; such rows stay hot")
    whole = pa.int32() if pa.types.is_date32(column.type) else pa.int64()
    values = column.cast(whole).to_numpy(zero_copy_only=False).astype(np.int64)
    factor = DAY_MICROSECONDS if pa.types.is_date32(column.type) else 1
    furthest = (TIMESTAMP_INFINITY - 1) // factor
    if len(values) and (values.max() > furthest or values.min() < -furthest):
        raise LakeRefused("a row with an infinite time cannot go to the lake; such rows stay hot")
    return values * factor


def check(table: TableSchema, layout: Layout) -> None:
    """Raise LakeRefused where a table cannot lie like this."""
    column = table.column(layout.time_column)
    if column is None or not column.computable:
        raise LakeRefused(f"{table.table} has no usable time column {layout.time_column}")
    if column.type.name not in {"date", "timestamp", "timestamptz"}:
        raise LakeRefused(
            f"{table.table}: time column {column.name} is {column.type.name}; "
            "date, timestamp or timestamptz is needed"
        )
    if layout.partition not in _TRANSFORMS:
        raise LakeRefused(
            f"{table.table}: partition {layout.partition!r} is not one of hour, day, month"
        )
    if layout.partition == "hour" and column.type.name == "date":
        raise LakeRefused(f"{table.table}: a date has no hours; partition it by day or month")
    missing = [name for name in sort_columns(table, layout) if table.column(name) is None]
    if missing:
        raise LakeRefused(f"{table.table} has no column {missing[0]} to sort by")


def sort_columns(table: TableSchema, layout: Layout) -> tuple[str, ...]:
    """The order inside files: what the layout says, else key, then time."""
    names = layout.sort or (*table.key, layout.time_column)
    return tuple(dict.fromkeys(names))


def partition_spec(metadata: TableMetadata | None, schema: Schema, layout: Layout) -> PartitionSpec:
    """The partitioning, under the number that it already has in the table, else under a new one."""
    source = schema.find_field(layout.time_column).field_id
    transform = _TRANSFORMS[layout.partition]
    name = _partition_name(schema, layout)
    specs = metadata.partition_specs if metadata else []
    for spec in specs:
        if [(f.source_id, f.transform) for f in spec.fields] == [(source, transform)]:
            return spec
    spec_id = max((spec.spec_id for spec in specs), default=-1) + 1
    last = (metadata.last_partition_id if metadata else None) or PARTITION_FIELD_ID_START - 1
    taken = {field.name for spec in specs for field in spec.fields}
    while name in taken:
        name += "_again"
    return PartitionSpec(PartitionField(source, last + 1, transform, name), spec_id=spec_id)


def _partition_name(schema: Schema, layout: Layout) -> str:
    name = re.sub(r"[^A-Za-z0-9_]", "_", f"{layout.time_column}_{layout.partition}")
    name = name if re.match(r"[A-Za-z_]", name) else f"_{name}"
    taken = {field.name for field in schema.fields}
    while name in taken:
        name = f"htapkit_{name}"
    return name


def sort_order(metadata: TableMetadata | None, schema: Schema, names: Sequence[str]) -> SortOrder:
    """The order, under the number that it already has in the table, else under a new one."""
    fields = [
        SortField(
            schema.find_field(name).field_id,
            IdentityTransform(),
            SortDirection.ASC,
            NullOrder.NULLS_LAST,
        )
        for name in names
    ]
    orders = metadata.sort_orders if metadata else []
    for order in orders:
        if list(order.fields) == fields:
            return order
    return SortOrder(*fields, order_id=max((o.order_id for o in orders), default=0) + 1)


def time_types(schema: Schema, field: int) -> bool:
    """Whether a field holds times."""
    found = schema.find_field(field).field_type
    return isinstance(found, DateType | TimestampType | TimestamptzType)
