"""Maintenance: fewer, larger files, and none that nobody needs. Only `retire` changes rows.

Each function works on a table as it was just loaded. Who calls holds the table's lock, and knows
which versions are still pinned.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
from pyarrow.fs import FileSelector, FileType
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import Operation, Snapshot
from pyiceberg.table.update import (
    RemoveSnapshotRefUpdate,
    RemoveSnapshotsUpdate,
    SetCurrentSchemaUpdate,
    TableUpdate,
)

from htapkit.errors import LakeFailed, LakeRefused
from htapkit.lake.columns import columns_of
from htapkit.lake.foreign import delete_quietly
from htapkit.lake.layout import partition_start, unit
from htapkit.lake.locations import local_path
from htapkit.lake.removing import named, read_fields
from htapkit.lake.snapshots import (
    TAG_PREFIX,
    Change,
    Draft,
    data_entries,
    live_entries,
    refuse_deletes,
    requirements,
    starting_point,
)
from htapkit.lake.versions import TIME_PROPERTY, time_field
from htapkit.lake.writing import Target, WriteLimits, write_files
from htapkit.model import Pin

_log = logging.getLogger(__name__)

_BATCH_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class LakeStatistics:
    """How large a version is."""

    files: int
    rows: int
    bytes: int


def compact(table: Table, pin: Pin, limits: WriteLimits, small_bytes: int) -> Pin:
    """Join the small files of each partition into sorted ones; the same pin if there are none."""
    start = starting_point(table.metadata, pin)
    assert start is not None
    refuse_deletes(start, table.io)
    compaction = _Compaction(table, start, limits)
    try:
        compaction.join(small_bytes)
        if not compaction.removed:
            return pin
        return commit_change(table, start, compaction.change)
    except BaseException:
        delete_quietly(table.io, compaction.paths)
        raise


def retire(table: Table, pin: Pin, before: int, summary: dict[str, str]) -> Pin:
    """Drop the partitions that lie wholly below a time (microseconds): no file is opened.

    Files in other kinds of partitions stay. The same pin where there is nothing to drop.
    """
    start = starting_point(table.metadata, pin)
    assert start is not None
    time, specs = time_field(table.metadata, start), table.metadata.specs()

    def ends(file: DataFile) -> int | None:
        for position, field in enumerate(specs[file.spec_id].fields):
            name, number = unit(field.transform), file.partition[position]
            if field.source_id == time and name is not None and isinstance(number, int):
                return partition_start(number + 1, name)
        return None

    removed = frozenset(
        entry.data_file.file_path
        for entry in data_entries(start, table.io)
        if (end := ends(entry.data_file)) is not None and end <= before
    )
    if not removed:
        return pin
    said = {**summary, **time_said(time), "htapkit.retired": str(before)}
    return commit_change(table, start, Change(Operation.DELETE, (), removed, said))


def expire(table: Table, keep: Collection[Pin], older_than: datetime) -> int:
    """Remove snapshots older than a moment and the files that only they have; how many files.

    What is in `keep`, the heads of branches and what others tagged stays readable.
    """
    metadata = table.metadata
    old, tags = _old(metadata, keep, older_than)
    protected = {ref.snapshot_id for name, ref in metadata.refs.items() if name not in tags}
    expired = sorted(old - protected)
    if not expired and not tags:
        return 0
    updates = _untagged(tags)
    if expired:
        updates.append(RemoveSnapshotsUpdate.model_validate({"snapshot-ids": expired}))
    before = reachable([s for s in metadata.snapshots if s.snapshot_id in expired], table.io)
    response = table.catalog.commit_table(table, requirements(metadata), tuple(updates))
    after = reachable(response.metadata.snapshots, table.io)
    return delete_quietly(table.io, sorted(before - after))


def release(table: Table, keep: Collection[Pin], older_than: datetime) -> None:
    """Remove our tags of what may expire, so that another engine's expiry removes that, too.

    Raises LakeRefused where something in `keep` has no tag: that engine would remove it.
    """
    metadata = table.metadata
    held = {ref.snapshot_id for ref in metadata.refs.values()}
    loose = sorted(pin.snapshot for pin in keep if pin.snapshot not in held)
    if loose:
        raise LakeRefused(
            f"versions {', '.join(map(str, loose))} are still read here and have no tag; "
            "expire the table without another engine"
        )
    _, tags = _old(metadata, keep, older_than)
    if tags:
        table.catalog.commit_table(table, requirements(metadata), tuple(_untagged(tags)))


def _old(
    metadata: TableMetadata, keep: Collection[Pin], older_than: datetime
) -> tuple[set[int], list[str]]:
    """Snapshots that are old enough and not kept, and our tags on them."""
    limit = int(older_than.timestamp() * 1000)
    kept = {pin.snapshot for pin in keep}
    old = {s.snapshot_id for s in metadata.snapshots if s.timestamp_ms < limit} - kept
    head = metadata.refs[MAIN_BRANCH].snapshot_id if MAIN_BRANCH in metadata.refs else None
    tags = [
        name
        for name, ref in metadata.refs.items()
        if name.startswith(TAG_PREFIX) and ref.snapshot_id in old and ref.snapshot_id != head
    ]
    return old, tags


def _untagged(tags: Collection[str]) -> list[TableUpdate]:
    return [RemoveSnapshotRefUpdate.model_validate({"ref-name": name}) for name in tags]


def sweep(
    table: Table,
    listed: Iterable[tuple[str, datetime]],
    older_than: datetime,
    keep: Collection[str],
) -> int:
    """Delete those of the `listed` files that no metadata names and `keep` does not; how many.

    They were listed before the table was loaded, so that a commit in between loses nothing. Files
    younger than `older_than` stay: they may belong to a commit that is being made.
    """
    needed = {local_path(path) for path in (*every_file(table), *keep)}
    orphans = [path for path, at in listed if at < older_than and local_path(path) not in needed]
    return delete_quietly(table.io, orphans)


def every_file(table: Table) -> set[str]:
    """All files that a table's metadata names, that metadata and its predecessors included."""
    metadata = table.metadata
    found = reachable(metadata.snapshots, table.io)
    found |= {entry.metadata_file for entry in metadata.metadata_log}
    found |= {file.statistics_path for file in metadata.statistics}
    found |= {file.statistics_path for file in metadata.partition_statistics}
    return found | {table.metadata_location}


def reachable(snapshots: Iterable[Snapshot], io: FileIO) -> set[str]:
    """The manifest lists, manifests, data files and delete files of snapshots."""
    found: set[str] = set()
    for snapshot in snapshots:
        found.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(io):
            if manifest.manifest_path in found:
                continue
            found.add(manifest.manifest_path)
            found |= {entry.data_file.file_path for entry in live_entries(manifest, io)}
    return found


def listing(io: FileIO, location: str) -> list[tuple[str, datetime]]:
    """All files below a location, with the time of their last change."""
    if not isinstance(io, PyArrowFileIO):
        raise LakeRefused(f"{location} cannot be listed through {type(io).__name__}")
    scheme, netloc, path = io.parse_location(location, io.properties)
    selector = FileSelector(path, recursive=True, allow_not_found=True)
    prefix = f"{scheme}://"
    return [
        (f"{prefix}{info.path}", info.mtime)
        for info in io.fs_by_scheme(scheme, netloc).get_file_info(selector)
        if info.type == FileType.File
    ]


def time_said(field: int | None) -> dict[str, str]:
    """What a commit says of the time column."""
    return {} if field is None else {TIME_PROPERTY: str(field)}


def commit_change(table: Table, start: Snapshot, change: Change) -> Pin:
    """Commit other files to a version, in the schema that it has."""
    shape: list[TableUpdate] = []
    if start.schema_id is not None and start.schema_id != table.metadata.current_schema_id:
        # The head may be a commit that was left behind, with a schema of its own.
        shape.append(SetCurrentSchemaUpdate.model_validate({"schema-id": start.schema_id}))
    return Draft(table, start, change, shape).commit()


def writing_target(table: Table, schema: Schema, limits: WriteLimits) -> Target:
    """Where files of a version are written again, in the table's layout of today."""
    return Target(
        io=table.io,
        locations=table.location_provider(),
        schema=schema,
        spec=table.metadata.spec(),
        sort_order=table.metadata.default_sort_order_id,
        limits=limits,
    )


class _Compaction:
    """The files of one compaction: bins of small files, each written again as one."""

    def __init__(self, table: Table, start: Snapshot, limits: WriteLimits) -> None:
        metadata = table.metadata
        self._table = table
        self._start = start
        self._limits = limits
        self._schema = columns_of(metadata, start.schema_id).schema
        self._target = writing_target(table, self._schema, limits)
        self._order = [
            (str(field.source_id), "ascending")
            for field in metadata.sort_order().fields
            if field.source_id in self._schema.field_ids
        ]
        self.added: list[DataFile] = []
        self.removed: list[DataFile] = []
        self.paths: list[str] = []

    @property
    def change(self) -> Change:
        """The commit: the same rows in other files."""
        rows = sum(file.record_count for file in self.added)
        if rows != sum(file.record_count for file in self.removed):
            raise LakeFailed(f"{self._table.metadata.location}: files changed while they were read")
        time = time_field(self._table.metadata, self._start)
        return Change(
            Operation.REPLACE,
            self.added,
            frozenset(file.file_path for file in self.removed),
            {**time_said(time), "htapkit.compacted": str(len(self.removed))},
        )

    def join(self, small_bytes: int) -> None:
        """Join the small files of each partition."""
        partitions: dict[tuple[int, object], list[DataFile]] = {}
        for entry in data_entries(self._start, self._table.io):
            file = entry.data_file
            if file.file_size_in_bytes < small_bytes:
                partitions.setdefault((file.spec_id, file.partition), []).append(file)
        for files in partitions.values():
            if len(files) > 1:
                self._join_partition(files)

    def _join_partition(self, files: list[DataFile]) -> None:
        """Join files, as many at once as memory allows."""
        together: list[DataFile] = []
        parts: list[pa.Table] = []
        for file in files:
            together.append(file)
            parts.append(self._read(file))
            if sum(part.nbytes for part in parts) >= self._limits.buffer_bytes:
                self._write(together, parts)
                together, parts = [], []
        self._write(together, parts)

    def _read(self, file: DataFile) -> pa.Table:
        return pa.Table.from_batches(
            read_fields(self._table.io, file.file_path, self._schema.fields),
            named(self._schema.fields),
        )

    def _write(self, files: list[DataFile], parts: list[pa.Table]) -> None:
        if len(files) < 2:
            return
        rows = pa.concat_tables(parts)
        rows = rows.sort_by(self._order) if self._order else rows
        self.added += write_files(self._target, rows.to_batches(_BATCH_ROWS), self.paths)
        self.removed += files
