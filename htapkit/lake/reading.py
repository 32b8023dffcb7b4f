"""Reading: the files of a version for one statement, and the rows that files alone do not give.

A file is handed out as a path only if a reader of Parquet gets exactly its rows from it. One with
deletes written by another engine, or on a storage that the reader does not reach, is read here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.table import FileScanTask
from pyiceberg.types import NestedField

from htapkit.lake.columns import columns_of
from htapkit.lake.foreign import translated
from htapkit.lake.locations import is_local, local_path
from htapkit.lake.removing import read_fields
from htapkit.lake.types import arrow_type
from htapkit.lake.versions import NEVER, Version
from htapkit.model import Finds, LakeFiles, Pin

Batches = Callable[[], Iterator[pa.RecordBatch]]


def lake_files(
    version: Version, pin: Pin, lower: int | None, upper: int | None, folder: str = ""
) -> LakeFiles:
    """The files of a version that can have times in [lower, upper).

    `folder` is the only one that a reader of Parquet may look into; "" = any.
    """
    files = version.files
    paths, rest, rows = [], [], 0
    chosen = version.between(lower, upper)
    for position in chosen.tolist():
        location = files.paths[position]
        path = local_path(location)
        if location in version.deleted or not is_local(location) or not path.startswith(folder):
            rest.append(location)
        else:
            paths.append(path)
            rows += int(files.rows[position])
    return LakeFiles(
        pin=pin,
        columns=version.columns,
        paths=tuple(paths),
        rows=rows,
        names=version.names,
        rest=_rest(version, rest) if rest else None,
        rest_where=(lambda *wanted: _rest(version, rest, wanted)) if rest else None,
        first=int(files.first[chosen].min()) if len(chosen) else None,
        first_end=end if (end := int(files.ends[chosen].min(initial=NEVER))) != NEVER else None,
        bytes=int(files.bytes[chosen].sum()),
    )


def _rest(
    version: Version, locations: Sequence[str], wanted: tuple[int, Finds] | None = None
) -> Batches:
    """The rows of these files that count, with columns named by ordinal; see `rest_where`."""

    def batches() -> Iterator[pa.RecordBatch]:
        with translated(f"read {version.metadata.location}"):
            columns = columns_of(version.metadata, version.snapshot.schema_id)
            fields = [f for f in columns.schema.fields if f.field_id in columns.ordinals]
            names = [str(columns.ordinals[field.field_id]) for field in fields]
            for location in locations:
                if wanted is not None:
                    ordinal, test = wanted
                    first = [f for f in fields if columns.ordinals[f.field_id] == ordinal]
                    found = read_fields(version.io, location, first)
                    if first and not any(test(batch.column(0)) for batch in found):
                        continue
                task = version.deleted.get(location)
                if task is None:
                    found = read_fields(version.io, location, fields)
                else:
                    found = _with_deletes(version, task, fields)
                for batch in found:
                    yield pa.RecordBatch.from_arrays(batch.columns, names=names)

    return batches


def _with_deletes(
    version: Version, task: FileScanTask, fields: Sequence[NestedField]
) -> Iterator[pa.RecordBatch]:
    projected = columns_of(version.metadata, version.snapshot.schema_id).schema
    scan = ArrowScan(version.metadata, version.io, projected, AlwaysTrue())
    names = [field.name for field in fields]
    for batch in scan.to_record_batches([task]):
        arrays = [
            batch.column(name).cast(arrow_type(field.field_type))
            for name, field in zip(names, fields, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, names=names)
