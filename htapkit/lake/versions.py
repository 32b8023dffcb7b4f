"""Versions: what lies in a pinned version of a table, kept in memory for pruning.

A manifest never changes, so its files are read once and shared by all versions that list it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, ManifestContent, ManifestFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import FileScanTask
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot, ancestors_of
from pyiceberg.types import DateType

from htapkit.errors import LakeFailed
from htapkit.lake.bounds import whole_number
from htapkit.lake.columns import columns_of
from htapkit.lake.deletes import deleted_files
from htapkit.lake.layout import DAY_MICROSECONDS, Numbers, partition_start, saturated, unit
from htapkit.lake.recent import Recent
from htapkit.lake.snapshots import live_entries, manifests
from htapkit.model import ENDS, LakeColumn

TIME_PROPERTY = "htapkit.time"
"""In a snapshot's summary: the field id of the time column."""

NEVER = 2**63 - 1
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class Files:
    """Some data files: times are microseconds, `last` is the greatest time that can be in one.

    No row of one ends by itself before `ends`; `NEVER`: none ever does.
    """

    paths: list[str]
    first: Numbers
    last: Numbers
    ends: Numbers
    rows: Numbers
    bytes: Numbers

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, slots=True)
class Version:
    """A pinned version, read."""

    metadata: TableMetadata
    snapshot: Snapshot
    io: FileIO
    columns: Mapping[int, LakeColumn]
    names: Mapping[int, str]  # as in every file; {} where the schema has changed since the first
    files: Files
    deleted: Mapping[str, FileScanTask]  # files with deletes by other engines, by path

    def between(self, lower: int | None, upper: int | None) -> Numbers:
        """The positions of the files that can have times in [lower, upper)."""
        keep = np.ones(len(self.files), dtype=np.bool_)
        if lower is not None:
            keep &= self.files.last >= lower
        if upper is not None:
            keep &= self.files.first < upper
        return np.flatnonzero(keep)


class Versions:
    """The versions that were read lately. Safe from several threads."""

    def __init__(self, files_max: int = 200_000) -> None:
        self._manifests: Recent[Files] = Recent(files_max)
        self._versions: Recent[Version] = Recent(2 * files_max)

    def get(
        self, key: tuple[str, int], load: Callable[[], tuple[TableMetadata, FileIO]]
    ) -> Version:
        """The version of (metadata location, snapshot), read if it is not here."""
        found = self._versions.get(key)
        if found is None:
            metadata, io = load()
            found = self._read(metadata, io, key[1])
            self._versions.put(key, found, 100 + len(found.files))
        return found

    def _read(self, metadata: TableMetadata, io: FileIO, snapshot_id: int) -> Version:
        snapshot = metadata.snapshot_by_id(snapshot_id)
        if snapshot is None:
            raise LakeFailed(f"{metadata.location} no longer has the snapshot {snapshot_id}")
        columns = columns_of(metadata, snapshot.schema_id)
        ends = columns.field(ENDS.ordinal)
        fields = time_field(metadata, snapshot), None if ends is None else ends.field_id
        listed = manifests(snapshot, io)
        parts = [
            self._files(manifest, metadata, columns.schema, fields, io)
            for manifest in listed
            if manifest.content == ManifestContent.DATA
        ]
        files = _together(parts)
        deleted: dict[str, FileScanTask] = {}
        if any(manifest.content == ManifestContent.DELETES for manifest in listed):
            deleted = deleted_files(metadata, snapshot, io, files.paths)
        # A table that never had another schema has it in all of its files.
        names = columns.names if len(metadata.schemas) == 1 else {}
        return Version(metadata, snapshot, io, columns.by_ordinal, names, files, deleted)

    def _files(
        self,
        manifest: ManifestFile,
        metadata: TableMetadata,
        schema: Schema,
        fields: tuple[int | None, int | None],
        io: FileIO,
    ) -> Files:
        key, (time, ends) = (manifest.manifest_path, *fields), fields
        found = self._manifests.get(key)
        if found is None:
            spec = metadata.specs()[manifest.partition_spec_id]
            files = [entry.data_file for entry in live_entries(manifest, io)]
            ranges = [time_range(file, spec, schema, time) for file in files]
            found = Files(
                [file.file_path for file in files],
                np.array([first for first, _ in ranges], dtype=np.int64),
                np.array([last for _, last in ranges], dtype=np.int64),
                np.array([first_end(file, ends) for file in files], dtype=np.int64),
                np.array([file.record_count for file in files], dtype=np.int64),
                np.array([file.file_size_in_bytes for file in files], dtype=np.int64),
            )
            self._manifests.put(key, found, 10 + len(found))
        return found


def time_field(metadata: TableMetadata, snapshot: Snapshot) -> int | None:
    """The field id of the time column in a version; None where nothing says it."""
    for each in ancestors_of(snapshot, metadata):
        said = each.summary.additional_properties.get(TIME_PROPERTY) if each.summary else None
        if said is not None:
            return int(said)
    for field in metadata.spec().fields:
        if unit(field.transform) is not None:
            return field.source_id
    return None


def time_range(
    file: DataFile, spec: PartitionSpec, schema: Schema, time: int | None
) -> tuple[int, int]:
    """The first and the last time that a file can have, in microseconds: both inclusive."""
    first, last = _LOWEST, _HIGHEST
    if time is None:
        return first, last
    for position, field in enumerate(spec.fields):
        name = unit(field.transform)
        number = file.partition[position]
        if field.source_id == time and name is not None and isinstance(number, int):
            first = partition_start(number, name)
            last = saturated(partition_start(number + 1, name) - 1)
    type_ = schema.find_field(time).field_type if time in schema.field_ids else None
    if type_ is None:
        return first, last
    factor = DAY_MICROSECONDS if isinstance(type_, DateType) else 1
    low, high = (file.lower_bounds or {}).get(time), (file.upper_bounds or {}).get(time)
    if low is not None and (number := whole_number(type_, low)) is not None:
        first = max(first, saturated(number * factor))
    if high is not None and (number := whole_number(type_, high)) is not None:
        last = min(last, saturated(number * factor))
    return first, last


def first_end(file: DataFile, field: int | None) -> int:
    """When the first row of a file ends by itself, by this field; NEVER: none does.

    The least number where nothing is known: files from before the field was there say as much of
    it as those of an engine that keeps no statistics of so many columns.
    """
    if field is None:
        return NEVER
    low = (file.lower_bounds or {}).get(field)
    if low is not None:
        return int.from_bytes(low, "little", signed=True)
    nulls = (file.null_value_counts or {}).get(field)
    return NEVER if nulls == file.record_count else _LOWEST


def _together(parts: list[Files]) -> Files:
    paths: list[str] = []
    for part in parts:
        paths += part.paths
    empty = np.empty(0, dtype=np.int64)
    return Files(
        paths,
        np.concatenate([empty, *(part.first for part in parts)]),
        np.concatenate([empty, *(part.last for part in parts)]),
        np.concatenate([empty, *(part.ends for part in parts)]),
        np.concatenate([empty, *(part.rows for part in parts)]),
        np.concatenate([empty, *(part.bytes for part in parts)]),
    )
