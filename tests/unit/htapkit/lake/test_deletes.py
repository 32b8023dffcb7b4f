"""Deletes of other engines: applied, or refused. The delete files here are made by hand."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import (
    POSITIONAL_DELETE_SCHEMA,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate
from pyiceberg.typedef import Record

from htapkit.errors import LakeRefused
from htapkit.lake import Lake
from htapkit.model import Pin
from tests.unit.htapkit.lake.building import (
    DAY,
    LAYOUT,
    ORDERS,
    TABLE,
    batch,
    keys,
    lake_in,
    model,
    other_engine,
    rows_of,
    run,
)

FIRST = [(n, n % 3 * DAY, "x") for n in range(30)]


class DeletesWriter(ManifestWriterV2):
    """A manifest of delete files, which pyiceberg itself never writes."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with lake_in(tmp_path) as opened:
        yield opened


def delete_positions(
    folder: Path,
    deleted: Sequence[tuple[str, int]],
    day: int,
    *,
    content: DataFileContent = DataFileContent.POSITION_DELETES,
) -> Pin:
    """Commit a delete file as another engine would: (path, position) of rows of one day."""
    return delete_rows(other_engine(folder), deleted, Record(day), content)


def delete_rows(
    table: Table,
    deleted: Sequence[tuple[str, int]],
    partition: Record,
    content: DataFileContent = DataFileContent.POSITION_DELETES,
) -> Pin:
    """The same on any table: (path, position) of rows of one partition."""
    metadata = table.metadata
    location = f"{metadata.location}/data/{uuid.uuid4()}-deletes.parquet"
    path = location.removeprefix("file://")
    fields = [
        pa.field(
            f.name,
            pa.string() if f.name == "file_path" else pa.int64(),
            nullable=False,
            metadata={"PARQUET:field_id": str(f.field_id)},
        )
        for f in POSITIONAL_DELETE_SCHEMA.fields
    ]
    rows = [pa.array([p for p, _ in deleted]), pa.array([n for _, n in deleted], pa.int64())]
    pq.write_table(pa.table(rows, schema=pa.schema(fields)), path)
    file = DataFile.from_args(
        content=content,
        file_path=location,
        file_format=FileFormat.PARQUET,
        partition=partition,
        record_count=len(deleted),
        file_size_in_bytes=Path(path).stat().st_size,
        column_sizes={},
        value_counts={},
        null_value_counts={},
        nan_value_counts={},
        lower_bounds={},
        upper_bounds={},
        key_metadata=None,
        split_offsets=None,
        equality_ids=[1] if content == DataFileContent.EQUALITY_DELETES else None,
        sort_order_id=None,
    )
    file.spec_id = metadata.default_spec_id
    return _commit(table, file)


def _commit(table: Table, file: DataFile) -> Pin:
    metadata, head = table.metadata, table.current_snapshot()
    assert head is not None
    new = metadata.new_snapshot_id()
    prefix = f"{metadata.location}/metadata/{uuid.uuid4()}"
    with DeletesWriter(
        metadata.spec(), metadata.schema(), table.io.new_output(f"{prefix}-m0.avro"), new, "null"
    ) as writer:
        writer.add_entry(
            ManifestEntry.from_args(
                status=ManifestEntryStatus.ADDED,
                snapshot_id=new,
                sequence_number=None,
                file_sequence_number=None,
                data_file=file,
            )
        )
    sequence = metadata.next_sequence_number()
    output = table.io.new_output(f"{prefix}-list.avro")
    with write_manifest_list(2, output, new, head.snapshot_id, sequence, "null") as listing:
        listing.add_manifests([*head.manifests(table.io), writer.to_manifest_file()])
    snapshot = Snapshot.model_validate(
        {
            "snapshot-id": new,
            "parent-snapshot-id": head.snapshot_id,
            "sequence-number": sequence,
            "timestamp-ms": int(time.time() * 1000),
            "manifest-list": f"{prefix}-list.avro",
            "summary": Summary(operation=Operation.REPLACE),
            "schema-id": metadata.current_schema_id,
        }
    )
    reference = {"ref-name": MAIN_BRANCH, "type": SnapshotRefType.BRANCH, "snapshot-id": new}
    response = table.catalog.commit_table(
        table,
        (),
        (
            AddSnapshotUpdate(snapshot=snapshot),
            SetSnapshotRefUpdate.model_validate(reference),
        ),
    )
    return Pin(response.metadata_location, new, 0)


def location_of(lake: Lake, pin: Pin, day: int) -> str:
    (path,) = lake.files(TABLE, pin, day * DAY, (day + 1) * DAY).paths
    return f"file://{path}"


def _has(wanted: int, ids: pa.Array) -> bool:
    return wanted in ids.to_pylist()


def test_position_deletes_are_applied(lake: Lake, tmp_path: Path) -> None:
    """The file with deletes comes as rows, the others as paths."""
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    path = location_of(lake, base, 1)
    pin = delete_positions(tmp_path, [(path, 0), (path, 9)], day=1)
    assert rows_of(lake, pin, ORDERS) == model(r for r in FIRST if r[0] not in {1, 28})
    files = lake.files(TABLE, pin, None, None)
    assert (len(files.paths), files.rows) == (2, 20)
    assert files.rest is not None
    assert sum(each.num_rows for each in files.rest()) == 8
    assert sum(each.num_rows for each in files.rest()) == 8, "it can be read twice"
    assert files.rest_where is not None
    for wanted, rows in ((4, 8), (-1, 0)):
        some = files.rest_where(1, partial(_has, wanted))
        assert sum(each.num_rows for each in some()) == rows
    assert lake.files(TABLE, pin, 2 * DAY, None).rest is None
    only = lake.files(TABLE, pin, DAY, 2 * DAY)
    assert only.paths == ()
    assert only.rest is not None
    assert rows_of(lake, base, ORDERS) == model(FIRST)


def test_equality_deletes_are_refused(lake: Lake, tmp_path: Path) -> None:
    """Pyiceberg cannot apply them: no rows rather than too many."""
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    path = location_of(lake, base, 1)
    pin = delete_positions(tmp_path, [(path, 0)], day=1, content=DataFileContent.EQUALITY_DELETES)
    with pytest.raises(LakeRefused, match="equality deletes"):
        lake.files(TABLE, pin, None, None)


@pytest.mark.parametrize("prefix", ["", "file:"])
def test_another_spelling_of_a_path_is_refused(lake: Lake, tmp_path: Path, prefix: str) -> None:
    """Pyiceberg compares paths as text, and would not apply such a delete."""
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    path = location_of(lake, base, 1).removeprefix("file://")
    pin = delete_positions(tmp_path, [(prefix + path, 0)], day=1)
    with pytest.raises(LakeRefused, match="spells differently"):
        lake.files(TABLE, pin, None, None)


def test_commits_on_top_of_deletes(lake: Lake, tmp_path: Path) -> None:
    """Rows are added; nothing is written again as long as there are deletes in the base."""
    lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    base = lake.find(run(1), TABLE)
    assert base is not None
    path = location_of(lake, base, 1)
    delete_positions(tmp_path, [(path, 0)], day=1)
    more = [(100, DAY, "later")]
    pin = lake.commit(run(2), ORDERS, LAYOUT, base, None, [batch(ORDERS, more)])
    assert rows_of(lake, pin, ORDERS) == model([*(r for r in FIRST if r[0] != 1), *more])
    with pytest.raises(LakeRefused, match="delete files"):
        lake.commit(run(3), ORDERS, LAYOUT, pin, keys(ORDERS, [2]), [])
    with pytest.raises(LakeRefused, match="delete files"):
        lake.compact(TABLE, pin)
