"""Snapshots: one atomic commit of added and removed files, made from pyiceberg's own parts.

pyiceberg's transactions start from the head, repeat themselves after a conflict and know no
`replace`. Ours start from a version that we name, and a conflict goes back to whoever has to decide
anew. Everything here is pyiceberg's public interface: manifests, snapshot, `commit_table`.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DataFile,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriter,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import (
    Operation,
    Snapshot,
    SnapshotSummaryCollector,
    Summary,
    ancestors_of,
    update_snapshot_summaries,
)
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertCurrentSchemaId,
    AssertLastAssignedFieldId,
    AssertRefSnapshotId,
    AssertTableUUID,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
    update_table_metadata,
)

from htapkit.errors import LakeRefused
from htapkit.lake.foreign import CERTAINLY_NOT_COMMITTED, delete_quietly
from htapkit.model import Pin

_log = logging.getLogger(__name__)

TAG_PREFIX = "htapkit-"
RUN_PROPERTY = "htapkit.run"
_CODEC: Literal["zstandard"] = "zstandard"
_FORMAT_VERSION = 2
# Planning opens every manifest: many small ones are joined as soon as there are this many.
_SMALL_MANIFESTS_MAX = 50
_SMALL_MANIFEST_FILES = 500
_MANIFEST_FILES_MAX = 5000


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit does to the files of the version that it starts from."""

    operation: Operation
    added: Sequence[DataFile] = ()
    removed: frozenset[str] = frozenset()  # paths
    summary: Mapping[str, str] = field(default_factory=dict)


def starting_point(metadata: TableMetadata, base: Pin | None) -> Snapshot | None:
    """The snapshot that the next commit builds upon.

    It is the pinned one, or the head where all that came since changed no rows (`replace`: somebody
    compacted). None where the content starts anew. Raises LakeRefused when the pin is gone.
    """
    if base is None:
        return None
    pinned = metadata.snapshot_by_id(base.snapshot)
    if pinned is None:
        raise LakeRefused(
            f"{metadata.location}: the pinned snapshot {base.snapshot} is gone; "
            "copy the table again"
        )
    head = metadata.current_snapshot()
    for snapshot in ancestors_of(head, metadata):
        if snapshot.snapshot_id == pinned.snapshot_id:
            return head
        if snapshot.summary is None or snapshot.summary.operation is not Operation.REPLACE:
            break
    if head is not None and not _is_ours(head):
        _log.warning(
            "rows that another engine changed are left behind",
            extra={"table": metadata.location, "snapshot": head.snapshot_id},
        )
    return pinned


def _is_ours(snapshot: Snapshot) -> bool:
    return snapshot.summary is not None and snapshot.summary[RUN_PROPERTY] is not None


def manifests(snapshot: Snapshot | None, io: FileIO) -> list[ManifestFile]:
    """The manifests of a snapshot that have live files in them."""
    if snapshot is None:
        return []
    return [m for m in snapshot.manifests(io) if m.has_added_files() or m.has_existing_files()]


def live_entries(manifest: ManifestFile, io: FileIO) -> list[ManifestEntry]:
    """The files of a manifest that count."""
    return manifest.fetch_manifest_entry(io, discard_deleted=True)


def data_entries(snapshot: Snapshot | None, io: FileIO) -> Iterator[ManifestEntry]:
    """The data files of a snapshot."""
    for manifest in manifests(snapshot, io):
        if manifest.content == ManifestContent.DATA:
            yield from live_entries(manifest, io)


def refuse_deletes(start: Snapshot | None, io: FileIO) -> None:
    """Raise LakeRefused where another engine's delete files would have to be worked in."""
    if any(m.content == ManifestContent.DELETES for m in manifests(start, io)):
        raise LakeRefused(
            "another engine left delete files in the pinned version; let it rewrite the data files"
        )


def row_count(found: Iterable[ManifestFile]) -> int:
    """The rows of data files, before deletes of other engines."""
    return sum(
        (m.added_rows_count or 0) + (m.existing_rows_count or 0)
        for m in found
        if m.content == ManifestContent.DATA
    )


def requirements(metadata: TableMetadata) -> tuple[TableRequirement, ...]:
    """What must still be so when a commit arrives: all that it was made from."""
    head = metadata.current_snapshot()
    reference = {"ref": MAIN_BRANCH, "snapshot-id": None if head is None else head.snapshot_id}
    return (
        AssertTableUUID(uuid=metadata.table_uuid),
        AssertRefSnapshotId.model_validate(reference),
        AssertCurrentSchemaId.model_validate({"current-schema-id": metadata.current_schema_id}),
        AssertLastAssignedFieldId.model_validate(
            {"last-assigned-field-id": metadata.last_column_id}
        ),
    )


def tag(snapshot: int) -> str:
    """The name of the tag that keeps a snapshot of ours from being expired."""
    return f"{TAG_PREFIX}{snapshot}"


def _reference(name: str, kind: SnapshotRefType, snapshot: int) -> SetSnapshotRefUpdate:
    return SetSnapshotRefUpdate.model_validate(
        {"ref-name": name, "type": kind, "snapshot-id": snapshot}
    )


def adopt(table: Table, pin: Pin) -> Pin:
    """The head, tagged from now on, where all that came since a version changed no rows.

    The same pin where nothing came. Raises LakeRefused where rows may have changed.
    """
    metadata = table.metadata
    head, start = metadata.current_snapshot(), starting_point(metadata, pin)
    if head is None or start is None or start.snapshot_id != head.snapshot_id:
        raise LakeRefused(
            f"{metadata.location}: rows were changed after the version that is read; "
            "the next run (htapkit tier) makes the head right again"
        )
    if head.snapshot_id == pin.snapshot:
        return pin
    refuse_deletes(head, table.io)
    kept = _reference(tag(head.snapshot_id), SnapshotRefType.TAG, head.snapshot_id)
    response = table.catalog.commit_table(table, requirements(metadata), (kept,))
    rows = row_count(manifests(head, table.io))
    return Pin(response.metadata_location, head.snapshot_id, rows)


class Draft:
    """A snapshot whose files are written, and that is not yet committed.

    `shape` are changes of schema, layout and properties that go with it.
    """

    def __init__(
        self,
        table: Table,
        start: Snapshot | None,
        change: Change,
        shape: Sequence[TableUpdate] = (),
    ) -> None:
        if table.metadata.format_version != _FORMAT_VERSION:
            raise LakeRefused(
                f"{table.metadata.location} has Iceberg format {table.metadata.format_version}; "
                f"only format {_FORMAT_VERSION} can be written"
            )
        self._table = table
        self._io = table.io
        self._locations = table.location_provider()
        self._shape = tuple(shape)
        self._metadata = update_table_metadata(table.metadata, self._shape)
        self._start = start
        self._id = self._metadata.new_snapshot_id()
        self._uuid = uuid.uuid4()
        self._written: list[str] = []
        try:
            self._snapshot, self._rows = self._write(change)
        except BaseException:
            delete_quietly(self._io, self._written)
            raise

    def commit(self) -> Pin:
        """Make it the head, and tag it, in one step.

        Raises pyiceberg's CommitFailedException when somebody else was faster; nothing has happened
        then, and the manifests are removed.
        """
        updates = (
            *self._shape,
            AddSnapshotUpdate(snapshot=self._snapshot),
            _reference(MAIN_BRANCH, SnapshotRefType.BRANCH, self._id),
            _reference(tag(self._id), SnapshotRefType.TAG, self._id),
        )
        catalog, before = self._table.catalog, self._table.metadata
        try:
            response = catalog.commit_table(self._table, requirements(before), updates)
        except CERTAINLY_NOT_COMMITTED:
            delete_quietly(self._io, self._written)
            raise
        return Pin(response.metadata_location, self._id, self._rows)

    def _write(self, change: Change) -> tuple[Snapshot, int]:
        """Write manifests and their list; the snapshot and its rows."""
        kept, removed = self._kept(change.removed)
        missing = change.removed - {entry.data_file.file_path for entry in removed}
        assert not missing, "removed files are looked up in the starting point"
        listed = self._joined(kept)
        if change.added:
            listed.append(self._added(change.added))
        sequence_number = self._metadata.next_sequence_number()
        location = self._new(f"snap-{self._id}-0-{self._uuid}.avro")
        parent = None if self._start is None else self._start.snapshot_id
        with write_manifest_list(
            self._metadata.format_version,
            self._io.new_output(location),
            self._id,
            parent,
            sequence_number,
            _CODEC,
        ) as writer:
            writer.add_manifests(listed)
        snapshot = Snapshot.model_validate(
            {
                "snapshot-id": self._id,
                "parent-snapshot-id": parent,
                "sequence-number": sequence_number,
                "manifest-list": location,
                "summary": self._summary(change, [entry.data_file for entry in removed]),
                "schema-id": self._metadata.current_schema_id,
            }
        )
        return snapshot, row_count(listed)

    def _kept(self, removed: frozenset[str]) -> tuple[list[ManifestFile], list[ManifestEntry]]:
        kept, gone = [], []
        for manifest in manifests(self._start, self._io):
            entries = [] if not removed else live_entries(manifest, self._io)
            out = [
                e
                for e in entries
                if manifest.content == ManifestContent.DATA and e.data_file.file_path in removed
            ]
            if not out:
                kept.append(manifest)
                continue
            gone += out
            with self._writer(manifest.partition_spec_id) as writer:
                for entry in entries:
                    if entry.data_file.file_path in removed:
                        writer.delete(entry)
                    else:
                        writer.existing(entry)
            kept.append(writer.to_manifest_file())
        return kept, gone

    def _joined(self, kept: list[ManifestFile]) -> list[ManifestFile]:
        """The same files in fewer manifests, where there are many small ones."""
        small = [m for m in kept if self._is_small(m)]
        if len(small) <= _SMALL_MANIFESTS_MAX:
            return kept
        joined = [m for m in kept if not self._is_small(m)]
        for spec in sorted({m.partition_spec_id for m in small}):
            entries: list[ManifestEntry] = []
            for manifest in [m for m in small if m.partition_spec_id == spec]:
                entries += live_entries(manifest, self._io)
                if len(entries) >= _MANIFEST_FILES_MAX:
                    joined.append(self._existing(spec, entries))
                    entries = []
            if entries:
                joined.append(self._existing(spec, entries))
        return joined

    def _is_small(self, manifest: ManifestFile) -> bool:
        # One that this commit wrote has deleted entries, which only its own manifest may say.
        files = (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)
        return (
            manifest.content == ManifestContent.DATA
            and manifest.added_snapshot_id != self._id
            and files < _SMALL_MANIFEST_FILES
        )

    def _existing(self, spec: int, entries: list[ManifestEntry]) -> ManifestFile:
        with self._writer(spec) as writer:
            for entry in entries:
                writer.existing(entry)
        return writer.to_manifest_file()

    def _added(self, files: Sequence[DataFile]) -> ManifestFile:
        with self._writer(files[0].spec_id) as writer:
            for file in files:
                writer.add_entry(
                    ManifestEntry.from_args(
                        status=ManifestEntryStatus.ADDED,
                        snapshot_id=self._id,
                        sequence_number=None,
                        file_sequence_number=None,
                        data_file=file,
                    )
                )
        return writer.to_manifest_file()

    def _summary(self, change: Change, removed: Sequence[DataFile]) -> Summary:
        # Told of no partitions, it does not name them by dates that Python does not have.
        collector, schema = SnapshotSummaryCollector(), self._metadata.schema()
        for file in change.added:
            collector.add_file(file, schema, UNPARTITIONED_PARTITION_SPEC)
        for file in removed:
            collector.remove_file(file, schema, UNPARTITIONED_PARTITION_SPEC)
        replaces = change.operation is Operation.REPLACE
        # pyiceberg adds up the totals of the three operations that it knows itself.
        counted = Operation.OVERWRITE if replaces else change.operation
        previous = None if self._start is None else self._start.summary
        summary = update_snapshot_summaries(
            Summary(operation=counted, **collector.build(), **change.summary),
            previous.additional_properties if previous else None,
        )
        return Summary(operation=change.operation, **summary.additional_properties)

    def _writer(self, spec: int) -> ManifestWriter:
        name = f"{self._uuid}-m{len(self._written)}.avro"
        return write_manifest(
            self._metadata.format_version,
            self._metadata.specs()[spec],
            self._metadata.schema(),
            self._io.new_output(self._new(name)),
            self._id,
            _CODEC,
        )

    def _new(self, name: str) -> str:
        location = self._locations.new_metadata_location(name)
        self._written.append(location)
        return location
