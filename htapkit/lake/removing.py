"""Removing rows by key: which files can have them, which do, and those files without them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.types import BinaryType, NestedField, StringType

from htapkit.errors import LakeRefused
from htapkit.lake.bounds import whole_number
from htapkit.lake.types import FIELD_ID, arrow_type

_POSITION = "position"
_BATCH_ROWS = 65_536
_JOINED_ROWS = 1_048_576  # of a file, compared with the keys at once

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Hits:
    """The rows of one file that go, as positions in it."""

    file: DataFile
    positions: Positions


class Keys:
    """Keys whose rows go: looked for in files, and counted.

    `fields` are the fields of the key, in the order of the columns of `gone`.
    """

    def __init__(self, gone: pa.Table, fields: Sequence[NestedField]) -> None:
        self._fields = fields
        arrays = [
            _normal(column.cast(_type(field)))
            for column, field in zip(gone.columns, fields, strict=True)
        ]
        names = [str(field.field_id) for field in fields]
        table = pa.table(dict(zip(names, arrays, strict=True)))
        self._keys = table.group_by(names).aggregate([])
        self._names = names
        self._left = self._keys.num_rows
        self._leading, self._values = self._sorted()

    def __len__(self) -> int:
        """How many different keys were not found yet."""
        return self._left

    def may_be_in(self, file: DataFile) -> bool:
        """Whether the statistics of a file allow one of the keys."""
        if self._leading is None:
            return True
        low = (file.lower_bounds or {}).get(self._leading.field_id)
        high = (file.upper_bounds or {}).get(self._leading.field_id)
        type_ = self._leading.field_type
        text = isinstance(type_, StringType | BinaryType)
        first, last = 0, len(self._values)
        if low is not None:
            first = bisect_left(self._values, low if text else whole_number(type_, low))
        if high is not None:
            last = bisect_right(self._values, high if text else whole_number(type_, high))
        return first < last

    def find(self, io: FileIO, file: DataFile) -> Hits | None:
        """The rows of a file that have one of the keys; None where there are none."""
        batches = read_fields(io, file.file_path, self._fields)
        found, begin = [], 0
        while part := _rows(batches, _JOINED_ROWS):
            rows = pa.Table.from_batches(part, named(self._fields))
            found.append(begin + self._positions(rows))
            begin += rows.num_rows
        positions = np.concatenate([np.empty(0, dtype=np.int64), *found])
        if len(positions) == 0:
            return None
        self._left -= len(positions)
        if self._left < 0:
            raise LakeRefused(f"{file.file_path} has rows whose keys are not unique in its table")
        return Hits(file, positions)

    def _positions(self, rows: pa.Table) -> Positions:
        """Where rows have one of the keys, in order."""
        columns = {
            name: _normal(column) for name, column in zip(self._names, rows.columns, strict=True)
        }
        columns[_POSITION] = pa.array(np.arange(rows.num_rows))
        found = pa.table(columns).join(self._keys, self._names, join_type="left semi")
        return np.sort(found.column(_POSITION).to_numpy())

    def _sorted(self) -> tuple[NestedField | None, list[Any]]:
        """The first field of the key that statistics can be compared with, and its values."""
        for name, field in zip(self._names, self._fields, strict=True):
            column = self._keys.column(name)
            if isinstance(field.field_type, StringType | BinaryType):
                return field, sorted(column.cast(pa.binary()).to_pylist())
            if whole_number(field.field_type, b"\0") is None:
                continue
            if pa.types.is_decimal(column.type):
                scale = column.type.scale
                return field, sorted(int(each.scaleb(scale)) for each in column.to_pylist())
            whole = column.cast(pa.int32()) if pa.types.is_date(column.type) else column
            return field, sorted(whole.cast(pa.int64()).to_pylist())
        return None, []


def _rows(batches: Iterator[pa.RecordBatch], rows_max: int) -> list[pa.RecordBatch]:
    """The next batches, until they have so many rows; none at the end."""
    part: list[pa.RecordBatch] = []
    for batch in batches:
        part.append(batch)
        if sum(each.num_rows for each in part) >= rows_max:
            break
    return part


def without(batches: Iterable[pa.RecordBatch], hits: Hits) -> Iterator[pa.RecordBatch]:
    """The rows of a file, in order, without those that go."""
    begin = 0
    for batch in batches:
        end = begin + batch.num_rows
        first, last = np.searchsorted(hits.positions, [begin, end])
        if first == last:
            yield batch
        else:
            keep = np.ones(batch.num_rows, dtype=np.bool_)
            keep[hits.positions[first:last] - begin] = False
            yield batch.filter(pa.array(keep))
        begin = end


def read_fields(io: FileIO, path: str, fields: Sequence[NestedField]) -> Iterator[pa.RecordBatch]:
    """Some fields of a Parquet file, in the types of today; NULL where it does not have one."""
    with io.new_input(path).open() as stream:
        file = pq.ParquetFile(stream)
        names = {
            int(field.metadata[FIELD_ID]): field.name
            for field in file.schema_arrow
            if field.metadata and FIELD_ID in field.metadata
        }
        if not names:
            raise LakeRefused(f"{path} has no field ids: another program added it; remove it there")
        there = [names[f.field_id] for f in fields if f.field_id in names]
        schema = named(fields)
        for batch in file.iter_batches(_BATCH_ROWS, columns=there or [next(iter(names.values()))]):
            arrays = [
                batch.column(names[f.field_id]).cast(_type(f))
                if f.field_id in names
                else pa.nulls(batch.num_rows, _type(f))
                for f in fields
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def named(fields: Sequence[NestedField]) -> pa.Schema:
    """The Arrow schema of some fields, with their ids as names."""
    return pa.schema([(str(field.field_id), _type(field)) for field in fields])


def _type(field: NestedField) -> pa.DataType:
    type_ = arrow_type(field.field_type)
    if type_ is None:
        raise LakeRefused(f"column {field.name}: the type {field.field_type} is not ours")
    return type_


def _normal(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of keys such that equal values have equal bytes: -0.0 is 0.0, all NaN are one."""
    if not pa.types.is_floating(column.type):
        return column
    positive = pc.add(column, pa.scalar(0.0, column.type))
    same = pc.if_else(pc.is_nan(positive), pa.scalar(float("nan"), column.type), positive)
    whole = pa.int32() if pa.types.is_float32(column.type) else pa.int64()
    return pa.chunked_array([chunk.view(whole) for chunk in same.chunks], whole)
