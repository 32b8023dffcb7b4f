"""Rows that ended by themselves leave the files: nobody sees them, but they take up space.

Files of which all rows have ended go by their statistics alone. Others are written again without
those rows once they are half of the file, so no file is written again and again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation
from pyiceberg.types import NestedField

from htapkit.lake.columns import columns_of
from htapkit.lake.foreign import delete_quietly
from htapkit.lake.maintenance import commit_change, time_said, writing_target
from htapkit.lake.removing import read_fields
from htapkit.lake.snapshots import Change, data_entries, refuse_deletes, starting_point
from htapkit.lake.versions import first_end, time_field
from htapkit.lake.writing import Target, WriteLimits, write_files
from htapkit.model import ENDS, Pin

_SHARE = 0.5  # of a file's rows, from which on it is written again


def forget_ended(
    table: Table, pin: Pin, before: int, limits: WriteLimits, summary: dict[str, str]
) -> Pin:
    """The version without rows that ended at or before a moment (microseconds), but for a few.

    The same pin where there is nothing to gain.
    """
    metadata = table.metadata
    start = starting_point(metadata, pin)
    assert start is not None
    columns = columns_of(metadata, start.schema_id)
    ends = columns.field(ENDS.ordinal)
    if ends is None:
        return pin
    target = writing_target(table, columns.schema, limits)
    work = _Forgetting(target, columns.schema.fields, ends, before)
    try:
        for entry in data_entries(start, table.io):
            if first_end(entry.data_file, ends.field_id) <= before:
                work.look(entry.data_file)
        if not work.removed:
            return pin
        refuse_deletes(start, table.io)
        operation = Operation.OVERWRITE if work.added else Operation.DELETE
        said = {**summary, **time_said(time_field(metadata, start)), "htapkit.ended": str(before)}
        removed = frozenset(file.file_path for file in work.removed)
        return commit_change(table, start, Change(operation, work.added, removed, said))
    except BaseException:
        delete_quietly(table.io, work.paths)
        raise


@dataclass(slots=True)
class _Forgetting:
    """Files with rows that ended, and what is left of them."""

    target: Target
    fields: Sequence[NestedField]
    ends: NestedField
    before: int
    added: list[DataFile] = field(default_factory=list)
    removed: list[DataFile] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def look(self, file: DataFile) -> None:
        """Take a file out or write it again, where enough of it has ended."""
        if not self._all_over(file):
            over = self._count(file)
            if over < max(1, _SHARE * file.record_count):
                return
            if over < file.record_count:
                self._write_again(file)
        self.removed.append(file)

    def _all_over(self, file: DataFile) -> bool:
        """Whether the file's statistics say that all of its rows have ended."""
        last = (file.upper_bounds or {}).get(self.ends.field_id)
        if last is None or self._endless(file) != 0:
            return False
        return int.from_bytes(last, "little", signed=True) <= self.before

    def _count(self, file: DataFile) -> int:
        """How many rows have ended; less than there are where the statistics say enough."""
        endless = self._endless(file) or 0
        if file.record_count - endless < _SHARE * file.record_count:
            return 0
        return sum(self._over(b).true_count for b in self._read(file, [self.ends]))

    def _endless(self, file: DataFile) -> int | None:
        """How many rows never end; None where nothing says it."""
        return (file.null_value_counts or {}).get(self.ends.field_id)

    def _over(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        """Which rows have ended."""
        ends = rows.column(str(self.ends.field_id)).cast(pa.int64())
        return pc.less_equal(ends, self.before).fill_null(False)  # noqa: FBT003 - Arrow's

    def _read(self, file: DataFile, fields: Sequence[NestedField]) -> Iterator[pa.RecordBatch]:
        return read_fields(self.target.io, file.file_path, fields)

    def _write_again(self, file: DataFile) -> None:
        read = self._read(file, self.fields)
        rows = (batch.filter(pc.invert(self._over(batch))) for batch in read)
        self.added += write_files(self.target, rows, self.paths)
