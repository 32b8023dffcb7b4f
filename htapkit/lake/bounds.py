"""Bounds: the statistics of a Parquet file as Iceberg's manifests carry them, and back.

pyiceberg's own reader of footers goes through Python dates, which cannot say `infinity`; here the
raw numbers of the footer are taken as they are.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq
from pyiceberg.schema import Schema
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

_LENGTH = 16  # of text and bytes, as Iceberg's default truncate(16)
_FORMATS: dict[type[IcebergType], str] = {
    IntegerType: "<i",
    DateType: "<i",
    LongType: "<q",
    TimeType: "<q",
    TimestampType: "<q",
    TimestamptzType: "<q",
    FloatType: "<f",
    DoubleType: "<d",
}
_Value = Any
"""What the footer gives: text and bytes as bytes, times and dates as numbers."""

_WHOLE = (IntegerType, LongType, DateType, TimeType, TimestampType, TimestamptzType)


@dataclass(slots=True)
class FileStatistics:
    """What a manifest says about a file, keyed by field id."""

    rows: int
    column_sizes: dict[int, int] = field(default_factory=dict)
    value_counts: dict[int, int] = field(default_factory=dict)
    null_value_counts: dict[int, int] = field(default_factory=dict)
    lower_bounds: dict[int, bytes] = field(default_factory=dict)
    upper_bounds: dict[int, bytes] = field(default_factory=dict)
    split_offsets: list[int] = field(default_factory=list)


def file_statistics(footer: pq.FileMetaData, schema: Schema) -> FileStatistics:
    """The statistics of a file whose columns are exactly the fields of `schema`, in order."""
    found = FileStatistics(footer.num_rows)
    for position, column in enumerate(schema.fields):
        chunks = [footer.row_group(n).column(position) for n in range(footer.num_row_groups)]
        number, size = column.field_id, sum(chunk.total_compressed_size for chunk in chunks)
        if isinstance(column.field_type, ListType):
            found.column_sizes[column.field_type.element_id] = size
            continue  # of elements, all else would say nothing of the rows
        found.column_sizes[number] = size
        found.value_counts[number] = sum(chunk.num_values for chunk in chunks)
        statistics = [chunk.statistics for chunk in chunks if chunk.is_stats_set]
        if len(statistics) < len(chunks):
            continue
        found.null_value_counts[number] = sum(each.null_count for each in statistics)
        # A chunk of NULLs or NaNs only has no bounds, and takes none away from the others.
        filled = [
            (chunk, each)
            for chunk, each in zip(chunks, statistics, strict=True)
            if each.null_count < chunk.num_values
        ]
        if not filled or not all(each.has_min_max for _, each in filled):
            continue
        low = min(_comparable(column.field_type, each.min_raw) for _, each in filled)
        high = max(_comparable(column.field_type, each.max_raw) for _, each in filled)
        found.lower_bounds[number] = _lower(column.field_type, low)
        upper = _upper(column.field_type, high)
        if upper is not None:
            found.upper_bounds[number] = upper
    for n in range(footer.num_row_groups):
        first = footer.row_group(n).column(0)
        offset = first.dictionary_page_offset if first.has_dictionary_page else None
        found.split_offsets.append(first.data_page_offset if offset is None else offset)
    return found


def whole_number(type_: IcebergType, bound: bytes) -> int | None:
    """The number that a bound of a whole-number type stands for; None for the other types.

    A bound that was written before its column was promoted from int to long has 4 bytes.
    """
    if isinstance(type_, _WHOLE):
        return int.from_bytes(bound, "little", signed=True)
    if isinstance(type_, DecimalType):
        return int.from_bytes(bound, "big", signed=True)
    return None


def _comparable(type_: IcebergType, raw: _Value) -> _Value:
    if isinstance(type_, DecimalType) and isinstance(raw, bytes):
        return int.from_bytes(raw, "big", signed=True)
    return raw


def _lower(type_: IcebergType, value: _Value) -> bytes:
    if isinstance(type_, StringType):
        return bytes(value).decode("utf-8")[:_LENGTH].encode("utf-8")
    if isinstance(type_, BinaryType):
        return bytes(value)[:_LENGTH]
    return _encoded(type_, value)


def _upper(type_: IcebergType, value: _Value) -> bytes | None:
    """The bound, or None where no short value is above all that begin like this one."""
    if isinstance(type_, StringType):
        return _text_above(bytes(value).decode("utf-8"))
    if isinstance(type_, BinaryType):
        return _bytes_above(bytes(value))
    return _encoded(type_, value)


def _encoded(type_: IcebergType, value: _Value) -> bytes:
    if isinstance(type_, BooleanType):
        return b"\x01" if value else b"\x00"
    if isinstance(type_, DecimalType):
        # As few bytes as hold the number and its sign.
        bits = value.bit_length() if value >= 0 else (~value).bit_length()
        return int(value).to_bytes(bits // 8 + 1, "big", signed=True)
    return struct.pack(_FORMATS[type(type_)], value)


def _text_above(value: str) -> bytes | None:
    if len(value) <= _LENGTH:
        return value.encode("utf-8")
    kept = value[:_LENGTH]
    while kept:
        following = ord(kept[-1]) + 1
        if 0xD800 <= following <= 0xDFFF:  # no characters: the next ones come after them
            following = 0xE000
        if following <= 0x10FFFF:
            return (kept[:-1] + chr(following)).encode("utf-8")
        kept = kept[:-1]
    return None


def _bytes_above(value: bytes) -> bytes | None:
    if len(value) <= _LENGTH:
        return value
    kept = value[:_LENGTH].rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None
