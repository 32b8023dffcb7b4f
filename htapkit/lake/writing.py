"""Writing: sorted rows into Parquet files by partition, with bounded memory.

Rows come in the order of the files, not of the partitions: each partition has a buffer, and when
all buffers together reach the limit, the largest ones become row groups. Never commits anything.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io import FileIO, OutputFile, OutputStream
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.locations import LocationProvider
from pyiceberg.typedef import Record

from htapkit.errors import LakeRefused
from htapkit.lake.bounds import file_statistics
from htapkit.lake.layout import microseconds, partition_numbers, partition_start, unit
from htapkit.lake.types import FIELD_ID, arrow_type

_log = logging.getLogger(__name__)

_SAMPLE_ROWS = 65_536
_FEW_VALUES = 0.1  # share of different values in the sample up to which a dictionary is smaller


@dataclass(frozen=True, slots=True)
class WriteLimits:
    """How much is held in memory, and how large things become."""

    buffer_bytes: int = 256 * 2**20
    row_group_rows: int = 262_144
    buffered_rows: int = 1_048_576  # of one partition, before they are written
    file_bytes: int = 512 * 2**20
    open_files: int = 128


@dataclass(frozen=True, slots=True)
class Target:
    """Where and in which shape files are written."""

    io: FileIO
    locations: LocationProvider
    schema: Schema
    spec: PartitionSpec
    sort_order: int
    limits: WriteLimits

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema of the files, with field ids."""
        return arrow_schema(self.schema)


def arrow_schema(schema: Schema) -> pa.Schema:
    """The Arrow schema of an Iceberg schema, with field ids."""
    fields = []
    for field in schema.fields:
        type_ = arrow_type(field.field_type)
        if type_ is None:
            raise LakeRefused(f"column {field.name}: the type {field.field_type} is not ours")
        fields.append(pa.field(field.name, type_, metadata={FIELD_ID: str(field.field_id)}))
    return pa.schema(fields)


class _File:
    """One Parquet file that is being written."""

    def __init__(self, target: Target, number: int, first: pa.Table) -> None:
        self._target = target
        self._number = number
        field = target.spec.fields[0]
        # Not `name=value`, which some readers of Parquet take for one more column.
        folder = _partition_text(number, unit(field.transform))
        self.path = target.locations.new_data_location(f"{folder}/{uuid.uuid4()}.parquet")
        self._output: OutputFile = target.io.new_output(self.path)
        self._stream: OutputStream = self._output.create()
        dictionary, encodings = _encodings(first)
        self._writer = pq.ParquetWriter(
            self._stream,
            target.arrow,
            compression="zstd",
            use_dictionary=dictionary,
            column_encoding=encodings,
            store_decimal_as_integer=True,
            store_schema=False,
            write_page_index=True,
        )
        self.bytes = 0

    def write(self, rows: pa.Table) -> None:
        """Write rows as row groups."""
        self._writer.write_table(rows, row_group_size=self._target.limits.row_group_rows)
        self.bytes = self._stream.tell() if hasattr(self._stream, "tell") else 0

    def close(self) -> DataFile:
        """Finish the file."""
        self._writer.close()
        self._stream.close()
        footer = self._writer.writer.metadata
        statistics = file_statistics(footer, self._target.schema)
        file = DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=self.path,
            file_format=FileFormat.PARQUET,
            partition=Record(self._number),
            record_count=statistics.rows,
            file_size_in_bytes=len(self._output),
            column_sizes=statistics.column_sizes,
            value_counts=statistics.value_counts,
            null_value_counts=statistics.null_value_counts,
            nan_value_counts={},
            lower_bounds=statistics.lower_bounds,
            upper_bounds=statistics.upper_bounds,
            key_metadata=None,
            split_offsets=statistics.split_offsets,
            equality_ids=None,
            sort_order_id=self._target.sort_order,
        )
        file.spec_id = self._target.spec.spec_id
        return file

    def abandon(self) -> None:
        """Close it; its bytes are thrown away by whoever gives up."""
        self._writer.close()
        self._stream.close()


def write_files(target: Target, rows: Iterable[pa.RecordBatch], paths: list[str]) -> list[DataFile]:
    """The files of these rows. `paths` gets all that were begun, also where it fails."""
    writer = PartitionedWriter(target)
    try:
        for batch in rows:
            writer.write(batch)
        return writer.finish()
    except BaseException:
        writer.abandon()
        raise
    finally:
        paths += writer.paths


class PartitionedWriter:
    """Rows into one file or more per partition, in the order in which they come."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._arrow = target.arrow
        field = target.spec.fields[0]
        name = unit(field.transform)
        assert name is not None
        self._unit = name
        self._time = [f.field_id for f in target.schema.fields].index(field.source_id)
        self._buffers: dict[int, list[pa.RecordBatch]] = {}
        self._rows: dict[int, int] = {}
        self._bytes: dict[int, int] = {}
        self._total = 0
        self._open: dict[int, _File] = {}
        self._done: list[DataFile] = []
        self.paths: list[str] = []

    def write(self, batch: pa.RecordBatch) -> None:
        """Take rows whose columns are the fields of the target's schema, in order."""
        if batch.num_rows == 0:
            return
        batch = self._shaped(batch)
        numbers = partition_numbers(microseconds(batch.column(self._time)), self._unit)
        if numbers[0] == numbers.min() == numbers.max():
            self._keep(int(numbers[0]), batch)
        else:
            order = np.argsort(numbers, kind="stable")
            values, starts = np.unique(numbers[order], return_index=True)
            for number, rows in zip(values, np.split(order, starts[1:]), strict=True):
                self._keep(int(number), batch.take(pa.array(rows)))
        limits = self._target.limits
        for number in [n for n, rows in self._rows.items() if rows >= limits.buffered_rows]:
            self._flush(number)
        while self._total > limits.buffer_bytes:
            self._flush(max(self._bytes, key=self._bytes.__getitem__))

    def finish(self) -> list[DataFile]:
        """Write what is buffered and close all files."""
        for number in sorted(self._buffers):
            self._flush(number)
            self._close(number)
        for number in sorted(self._open):
            self._close(number)
        return self._done

    def abandon(self) -> None:
        """Close all files; none of them is ever committed."""
        for file in self._open.values():
            try:
                file.abandon()
            except (OSError, pa.ArrowException):
                _log.warning("a file of the lake could not be closed", extra={"path": file.path})
        self._open.clear()
        self._buffers.clear()

    def _shaped(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        arrays = [
            column if column.type == field.type else column.cast(field.type)
            for column, field in zip(batch.columns, self._arrow, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self._arrow)

    def _keep(self, number: int, rows: pa.RecordBatch) -> None:
        self._buffers.setdefault(number, []).append(rows)
        self._rows[number] = self._rows.get(number, 0) + rows.num_rows
        self._bytes[number] = self._bytes.get(number, 0) + rows.nbytes
        self._total += rows.nbytes

    def _flush(self, number: int) -> None:
        rows = pa.Table.from_batches(self._buffers.pop(number), self._arrow).combine_chunks()
        self._total -= self._bytes.pop(number)
        del self._rows[number]
        file = self._open.pop(number, None)
        if file is None:
            if len(self._open) >= self._target.limits.open_files:
                self._close(next(iter(self._open)))
            file = _File(self._target, number, rows)
            self.paths.append(file.path)
        self._open[number] = file  # last used comes last
        file.write(rows)
        if file.bytes >= self._target.limits.file_bytes:
            self._close(number)

    def _close(self, number: int) -> None:
        file = self._open.pop(number, None)
        if file is not None:
            self._done.append(file.close())


def _encodings(sample: pa.Table) -> tuple[list[str], dict[str, str]]:
    """The columns with a dictionary, and how the others are written: by what is in them."""
    sample = sample.slice(0, _SAMPLE_ROWS)
    dictionary, encodings = [], {}
    for name, column in zip(sample.column_names, sample.columns, strict=True):
        type_ = column.type
        if pa.types.is_boolean(type_):
            continue
        if pa.types.is_list(type_):
            encodings[f"{name}.list.element"] = "BYTE_STREAM_SPLIT"
            continue
        values = len(column) - column.null_count
        if values == 0 or pc.count_distinct(column).as_py() <= max(1, _FEW_VALUES * values):
            dictionary.append(name)
        elif pa.types.is_floating(type_):
            encodings[name] = "BYTE_STREAM_SPLIT"
        elif pa.types.is_decimal128(type_):
            if type_.precision <= 18:
                encodings[name] = "DELTA_BINARY_PACKED"
        elif pa.types.is_string(type_) or pa.types.is_binary(type_):
            # Falls back to plain by itself where the dictionary grows too large.
            dictionary.append(name)
        else:
            encodings[name] = "DELTA_BINARY_PACKED"
    return dictionary, encodings


def _partition_text(number: int, name: str | None) -> str:
    """The partition for people, as other engines write it in their paths."""
    if name is None:
        return str(number)
    start = np.datetime64(partition_start(number, name), "us")
    if name == "hour":
        return str(start.astype("datetime64[h]")).replace("T", "-")
    return str(start.astype(f"datetime64[{'D' if name == 'day' else name[0].upper()}]"))
