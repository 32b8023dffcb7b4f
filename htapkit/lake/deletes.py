"""Deletes: delete files that other engines wrote, and which data files they touch.

We never write any. pyiceberg applies position deletes and deletion vectors; whatever it cannot
apply makes the version unreadable here, and never gives wrong rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent
from pyiceberg.table import DataScan, FileScanTask
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from htapkit.errors import LakeRefused
from htapkit.lake.locations import local_path
from htapkit.lake.snapshots import live_entries, manifests


def deleted_files(
    metadata: TableMetadata, snapshot: Snapshot, io: FileIO, paths: Sequence[str]
) -> dict[str, FileScanTask]:
    """The data files with deletes, by path. Raises LakeRefused on what cannot be applied."""
    exact = set(paths)
    ours = {local_path(path) for path in paths}
    for file in _delete_files(snapshot, io):
        if file.content != DataFileContent.POSITION_DELETES:
            raise LakeRefused(
                f"{file.file_path} holds equality deletes of another engine, which cannot be "
                "applied here; let that engine rewrite the data files"
            )
        for path in _named(file, io):
            # pyiceberg compares paths as text, and would leave such deletes out without a word.
            if path not in exact and local_path(path) in ours:
                raise LakeRefused(
                    f"{file.file_path} deletes rows of {path}, which the table spells differently; "
                    "let that engine rewrite the data files"
                )
    scan = DataScan(table_metadata=metadata, io=io, snapshot_id=snapshot.snapshot_id)
    return {task.file.file_path: task for task in scan.plan_files() if task.delete_files}


def _delete_files(snapshot: Snapshot, io: FileIO) -> Iterator[DataFile]:
    for manifest in manifests(snapshot, io):
        if manifest.content == ManifestContent.DELETES:
            for entry in live_entries(manifest, io):
                yield entry.data_file


def _named(file: DataFile, io: FileIO) -> list[str]:
    """The data files that a file of position deletes names."""
    if file.file_format is not FileFormat.PARQUET:
        return []
    with io.new_input(file.file_path).open() as stream:
        column = pq.ParquetFile(stream).read(columns=["file_path"]).column("file_path")
    return [str(path) for path in pc.unique(column).to_pylist()]
