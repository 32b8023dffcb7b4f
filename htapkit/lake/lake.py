"""The lake: the door of this package."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import Lock, RLock
from typing import Self
from urllib.parse import unquote

import pyarrow as pa
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.io import FileIO, load_file_io
from pyiceberg.table import StaticTable, Table
from pyiceberg.table.metadata import TableMetadata

from htapkit.errors import LakeFailed, LakeMissing, LakeRefused
from htapkit.lake import archive, exporting, imported, maintenance, namespaces
from htapkit.lake.archive import SavedTable
from htapkit.lake.columns import PROPERTY, first_columns
from htapkit.lake.committing import Commit, run_summary
from htapkit.lake.ended import forget_ended
from htapkit.lake.foreign import delete_quietly, translated
from htapkit.lake.layout import check, partition_spec, sort_columns, sort_order
from htapkit.lake.locations import folder_name, local_path, make_folder
from htapkit.lake.maintenance import LakeStatistics
from htapkit.lake.reading import lake_files
from htapkit.lake.settings import LakeSettings
from htapkit.lake.snapshots import RUN_PROPERTY, adopt, manifests, row_count
from htapkit.lake.versions import Version, Versions
from htapkit.lake.writing import WriteLimits
from htapkit.model import (
    IMPORTED,
    Import,
    LakeFiles,
    Layout,
    Pin,
    TableId,
    TableSchema,
    TieringRun,
)

_log = logging.getLogger(__name__)

_FILE_IO = "htapkit.lake.durable.DurableFileIO"


class Lake:
    """Iceberg tables, one for each mirrored table that tiers.

    Nothing is opened before it is needed. Safe from several threads: commits and maintenance of one
    table wait for each other, reading waits for nobody. Whatever goes wrong is a LakeFailed: the
    catalog and the pinned versions are as they were.
    """

    def __init__(self, settings: LakeSettings, limits: WriteLimits | None = None) -> None:
        self._settings = settings
        self._limits = limits or WriteLimits()
        self._catalog: Catalog | None = None
        self._opening = Lock()
        self._locks: defaultdict[TableId, RLock] = defaultdict(RLock)
        self._versions = Versions()

    def commit(
        self,
        run: TieringRun,
        schema: TableSchema,
        layout: Layout,
        base: Pin | None,
        gone: pa.Table | None,
        rows: Iterable[pa.RecordBatch],
    ) -> Pin:
        """Make the next version of a table: one atomic commit, tagged.

        It builds on `base` (None: the content starts anew), whatever the head is meanwhile: an
        unfinished run's commit is left behind, a compaction by others is kept. Rows whose key is in
        `gone` (columns: the key's, in the table's Arrow types) leave; `rows` come, in the table's
        Arrow schema and sorted as the layout says. Schema and layout are brought up to date in the
        same commit. Raises LakeRefused where the schema, the layout or the files do not allow it,
        LakeFailed for everything else; the table is then as before.
        """
        check(schema, layout)
        with self._changing(schema.table, "commit to"):
            table = self._load(schema.table) or self._create(schema, layout)
            return Commit(table, run, schema, layout, self._limits).make(base, gone, rows)

    def find(self, run: TieringRun, table: TableId) -> Pin | None:
        """The version that a run committed, or None."""
        with translated(f"look for run {run.id} in the lake's {table}"):
            found = self._load(table)
            if found is None:
                return None
            for snapshot in reversed(found.metadata.snapshots):
                said = snapshot.summary.additional_properties if snapshot.summary else {}
                if said.get(RUN_PROPERTY) == run.id:
                    rows = row_count(manifests(snapshot, found.io))
                    return Pin(found.metadata_location, snapshot.snapshot_id, rows)
        return None

    def files(self, table: TableId, pin: Pin, lower: int | None, upper: int | None) -> LakeFiles:
        """What to read of a pinned version for times in [lower, upper), in microseconds.

        Files that cannot have such times are left out; those that stay may have others as well.
        """
        with translated(f"read the lake's {table}"):
            folder = self._settings.folder if table.source in IMPORTED else ""
            return lake_files(self._version(table, pin), pin, lower, upper, folder)

    def look(
        self, identifier: Sequence[str], table: TableId, known: TableSchema | None = None
    ) -> Import:
        """What there is to read now of any table of the catalog, called `table` here.

        `known` has the types of its columns where a source named them. Raises LakeMissing where
        there is none, LakeRefused where it cannot be read, LakeFailed.
        """
        name = ".".join(identifier)
        with translated(f"look at the lake's {name}"):
            try:
                found = self._opened().load_table(tuple(identifier))
            except (NoSuchTableError, NoSuchNamespaceError):
                raise LakeMissing(f"the catalog has no table {name}") from None
            return imported.look(found, identifier, table, known)

    def tables(self) -> tuple[TableId, ...]:
        """The tables that the lake has, of all sources."""
        with translated("list the lake's tables"):
            catalog = self._opened()
            found = [
                TableId(unquote(namespace[0]), unquote(namespace[1]), identifier[-1])
                for namespace in namespaces.of_tables(catalog)
                for identifier in catalog.list_tables(namespace)
            ]
        return tuple(sorted(found))

    def statistics(self, table: TableId, pin: Pin) -> LakeStatistics:
        """How large a version is."""
        with translated(f"measure the lake's {table}"):
            files = self._version(table, pin).files
            return LakeStatistics(len(files), int(files.rows.sum()), int(files.bytes.sum()))

    def compact(self, table: TableId, pin: Pin, small_bytes: int = 64 * 2**20) -> Pin:
        """Join the files of each partition that are smaller than `small_bytes` into sorted ones.

        No row changes: readers may flip from `pin` to the new one at any time, and a later commit
        may build on either. The same pin where there is nothing to join.
        """
        with self._changing(table, "compact"):
            return maintenance.compact(self._needed(table), pin, self._limits, small_bytes)

    def adopt(self, table: TableId, pin: Pin) -> Pin:
        """The head, after another engine compacted: it is kept from now on, as what we commit is.

        The same pin where the head is that version. Raises LakeRefused where anything since may
        have changed rows. That none did is the engine's word: compare before reading it.
        """
        with self._changing(table, "adopt the head of"):
            return adopt(self._needed(table), pin)

    @staticmethod
    def identifier(table: TableId) -> tuple[str, str, str]:
        """A table's name in the catalog, level by level."""
        return namespaces.identifier(table)

    def retire(self, table: TableId, pin: Pin, before: int, run: TieringRun) -> Pin:
        """Drop the partitions that lie wholly below `before` (microseconds) from a version.

        Only metadata changes. The new version is found by the run, as after `commit`. The same pin
        where there is nothing to drop.
        """
        with self._changing(table, "retire partitions of"):
            said = run_summary(run, table)
            return maintenance.retire(self._needed(table), pin, before, said)

    def forget_ended(self, table: TableId, pin: Pin, before: int, run: TieringRun) -> Pin:
        """Drop most of the rows that ended by `before` (microseconds), as `retire` does.

        Of files of which little has ended nothing goes. The same pin where there is no other.
        """
        with self._changing(table, "drop ended rows of"):
            said = run_summary(run, table)
            return forget_ended(self._needed(table), pin, before, self._limits, said)

    def expire(self, table: TableId, keep: Collection[Pin], older_than: datetime) -> int:
        """Remove versions that were made before `older_than`, and their files; how many files.

        `keep` is every version that anybody may still read: those of the boundaries and of recorded
        cuts, and those of statements that run. What other engines tagged, or made the head of a
        branch, stays as well.
        """
        with self._changing(table, "expire versions of"):
            found = self._load(table)
            return maintenance.expire(found, keep, older_than) if found else 0

    def release(self, table: TableId, keep: Collection[Pin], older_than: datetime) -> None:
        """Leave to another engine's expiry what `expire` would remove: it loses its tags.

        Raises LakeRefused where that engine would remove a version in `keep`.
        """
        with self._changing(table, "release versions of"):
            found = self._load(table)
            if found is not None:
                maintenance.release(found, keep, older_than)

    def sweep(self, table: TableId, older_than: datetime, keep: Collection[Pin] = ()) -> int:
        """Delete files in the table's folder that no version names; how many.

        Such files are left by runs that died. Only those that were last changed before `older_than`
        go, which has to be longer ago than a commit takes, ours or another engine's.
        """
        with self._changing(table, "sweep"):
            found = self._load(table)
            if found is None:
                return 0
            listed = maintenance.listing(found.io, found.metadata.location)
            pinned = {pin.metadata for pin in keep}
            return maintenance.sweep(found.refresh(), listed, older_than, pinned)

    def export(
        self,
        name: str,
        rows: tuple[pa.Schema, Iterable[pa.RecordBatch]],
        told: Mapping[str, str],
        older_than: datetime,
    ) -> str:
        """Make the table `exports.<name>` hold these rows (schema, batches); its metadata's place.

        One commit with `told` in its summary. Versions from before `older_than` go. Raises
        LakeRefused where there is such a table with other columns, LakeFailed.
        """
        with translated(f"export to the lake's {exporting.NAMESPACE}.{name}"):
            namespaces.make(self._opened(), (exporting.NAMESPACE,))
            location = self._folder_of(exporting.NAMESPACE, name)
            table = exporting.replace_table(self._opened(), name, location, rows, told, older_than)
            return table.metadata_location

    def save(
        self, table: TableId, keep: Collection[Pin], folder: Path, told: Callable[[int], None]
    ) -> SavedTable | None:
        """Copy a table with all its versions and the pins in `keep` to a folder; None: no table.

        `told` hears of the bytes so far. Maintenance waits; commits of other engines do not, and
        what they add meanwhile is not in it.
        """
        with self._changing(table, "save"):
            found = self._load(table)
            return archive.save(found, keep, folder, told) if found else None

    def bring_back(self, table: TableId, saved: SavedTable, folder: Path) -> Callable[[str], str]:
        """Put a saved table where this lake's warehouse has it; what its files are called now.

        To be repeated after a crash. Raises LakeRefused where the catalog has another such table.
        """
        with self._changing(table, "bring back"):
            catalog, identifier = self._opened(), namespaces.identifier(table)
            location = self._location(table) or saved.location
            move = archive.moved(saved.location, location)
            there = self._load(table)
            if there is not None and there.metadata_location != move(saved.metadata):
                raise LakeRefused(
                    f"the lake's catalog has {table} already; drop it there, or set another "
                    "lake.catalog"
                )
            io = load_file_io(dict(catalog.properties), location)
            archive.bring_back(saved, folder, location, io)
            if there is None:
                namespaces.make(catalog, identifier[:-1])
                catalog.register_table(identifier, move(saved.metadata))
            return move

    def drop(self, table: TableId) -> None:
        """Remove a table, its versions and its files. Nothing happens where there is none."""
        with self._changing(table, "drop"):
            found = self._load(table)
            if found is None:
                return
            files = maintenance.every_file(found)
            files |= {p for p, _ in maintenance.listing(found.io, found.metadata.location)}
            self._opened().drop_table(namespaces.identifier(table))
            delete_quietly(found.io, sorted({local_path(path) for path in files}))

    def close(self) -> None:
        """Let go of the catalog; the next call opens it again."""
        with self._opening:
            if self._catalog is not None:
                self._catalog.close()
                self._catalog = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _changing(self, table: TableId, doing: str) -> Iterator[None]:
        with self._opening:
            lock = self._locks[table]
        with lock, translated(f"{doing} the lake's {table}"):
            yield

    def _opened(self) -> Catalog:
        with self._opening:
            if self._catalog is None:
                make_folder(self._settings.catalog.get("uri", ""))
                properties = {"py-io-impl": _FILE_IO, **self._settings.catalog}
                properties.setdefault("warehouse", self._settings.warehouse)
                self._catalog = load_catalog(self._settings.name, **properties)
            return self._catalog

    def _load(self, table: TableId) -> Table | None:
        try:
            return self._opened().load_table(namespaces.identifier(table))
        except (NoSuchTableError, NoSuchNamespaceError):
            return None

    def _needed(self, table: TableId) -> Table:
        found = self._load(table)
        if found is None:
            raise LakeFailed(f"the lake has no {table}")
        return found

    def _create(self, schema: TableSchema, layout: Layout) -> Table:
        catalog, table = self._opened(), schema.table
        columns = first_columns(schema)
        namespaces.make(catalog, namespaces.identifier(table)[:-1])
        try:
            return catalog.create_table(
                namespaces.identifier(table),
                columns.schema,
                location=self._location(table),
                partition_spec=partition_spec(None, columns.schema, layout),
                sort_order=sort_order(None, columns.schema, sort_columns(schema, layout)),
                properties={PROPERTY: columns.text, "format-version": "2"},
            )
        except TableAlreadyExistsError:
            return catalog.load_table(namespaces.identifier(table))

    def _location(self, table: TableId) -> str | None:
        """The folder of a table; None where the catalog decides."""
        return self._folder_of(f"{table.source}.{table.schema}", table.name)

    def _folder_of(self, namespace: str, name: str) -> str | None:
        warehouse = self._settings.warehouse
        if "://" not in warehouse and not warehouse.startswith("/"):
            return None
        return f"{warehouse.rstrip('/')}/{folder_name(namespace)}/{folder_name(name)}"

    def _version(self, table: TableId, pin: Pin) -> Version:
        return self._versions.get(
            (pin.metadata, pin.snapshot), lambda: self._pinned_metadata(table, pin)
        )

    def _pinned_metadata(self, table: TableId, pin: Pin) -> tuple[TableMetadata, FileIO]:
        """The pinned metadata, or where somebody removed that file, newer one with the snapshot."""
        try:
            static = StaticTable.from_metadata(pin.metadata, dict(self._opened().properties))
        except FileNotFoundError:
            _log.warning("a pinned metadata file is gone", extra={"path": pin.metadata})
            found = self._load(table)
            if found is None:
                raise LakeFailed(f"the lake no longer has {table}") from None
            return found.metadata, found.io
        return static.metadata, static.io
