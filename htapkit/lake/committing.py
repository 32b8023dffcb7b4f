"""Committing: step (b) of a run for one table."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Snapshot
from pyiceberg.table.update import (
    AddPartitionSpecUpdate,
    AddSchemaUpdate,
    AddSortOrderUpdate,
    SetCurrentSchemaUpdate,
    SetDefaultSortOrderUpdate,
    SetDefaultSpecUpdate,
    SetPropertiesUpdate,
    TableUpdate,
)

from htapkit.errors import LakeFailed, LakeRefused
from htapkit.lake.columns import PROPERTY, Columns, columns_of, evolve
from htapkit.lake.foreign import CERTAINLY_NOT_COMMITTED, CONFLICT, delete_quietly
from htapkit.lake.layout import partition_spec, sort_columns, sort_order
from htapkit.lake.removing import Hits, Keys, read_fields, without
from htapkit.lake.snapshots import (
    RUN_PROPERTY,
    Change,
    Draft,
    data_entries,
    refuse_deletes,
    starting_point,
)
from htapkit.lake.versions import TIME_PROPERTY
from htapkit.lake.writing import Target, WriteLimits, write_files
from htapkit.model import IMPORTED, Layout, Pin, TableId, TableSchema, TieringRun

_log = logging.getLogger(__name__)

_ATTEMPTS = 5


class Commit:
    """One commit to one table. Made once, used once."""

    def __init__(
        self,
        table: Table,
        run: TieringRun,
        schema: TableSchema,
        layout: Layout,
        limits: WriteLimits,
    ) -> None:
        self._table = table
        self._run = run
        self._schema = schema
        self._layout = layout
        self._limits = limits
        self._written: list[str] = []
        self._perhaps_done = False

    def make(self, base: Pin | None, gone: pa.Table | None, rows: Iterable[pa.RecordBatch]) -> Pin:
        """Write the files and commit them; after a failure before the commit the files go."""
        try:
            return self._make(base, gone, rows)
        except BaseException:
            if not self._perhaps_done:
                delete_quietly(self._table.io, self._written)
            raise

    def _make(self, base: Pin | None, gone: pa.Table | None, rows: Iterable[pa.RecordBatch]) -> Pin:
        metadata = self._table.metadata
        start = self._start(metadata, base)
        columns = _evolved(metadata, start, self._schema)
        target = self._target(metadata, columns.schema)
        hits = self._hits(columns, start, gone)
        added = self._rewritten(target, hits)
        added += self._write(target, rows)
        change = Change(
            Operation.OVERWRITE if hits or start is None else Operation.APPEND,
            added,
            frozenset(hit.file.file_path for hit in hits),
            self._summary(columns, hits),
        )
        for _ in range(_ATTEMPTS):
            draft = Draft(self._table, start, change, self._shape(metadata, columns))
            self._perhaps_done = True
            try:
                return draft.commit()
            except CERTAINLY_NOT_COMMITTED as error:
                self._perhaps_done = False
                if not isinstance(error, CONFLICT):
                    raise
                _log.info("another writer was faster", extra={"table": str(self._schema.table)})
            self._table.refresh()
            metadata = self._table.metadata
            start = self._start(metadata, base)
            if not self._still_good(metadata, start, columns, change):
                break
        raise LakeFailed(
            f"{self._schema.table}: another engine changed the lake's table meanwhile; "
            f"run {self._run.id} has to be made again"
        )

    def _start(self, metadata: TableMetadata, base: Pin | None) -> Snapshot | None:
        """What it builds on. What others did to a table that no source fills is the only copy."""
        start, head = starting_point(metadata, base), metadata.current_snapshot()
        if self._schema.table.source in IMPORTED and start != head:
            raise LakeRefused(f"{self._schema.table} was changed meanwhile; try again")
        return start

    def _target(self, metadata: TableMetadata, schema: Schema) -> Target:
        names = sort_columns(self._schema, self._layout)
        return Target(
            io=self._table.io,
            locations=self._table.location_provider(),
            schema=schema,
            spec=partition_spec(metadata, schema, self._layout),
            sort_order=sort_order(metadata, schema, names).order_id,
            limits=self._limits,
        )

    def _hits(self, columns: Columns, start: Snapshot | None, gone: pa.Table | None) -> list[Hits]:
        """The rows that go, by file; the newest files first, where most changes are."""
        if gone is None or gone.num_rows == 0 or start is None:
            return []
        refuse_deletes(start, self._table.io)
        fields = [columns.schema.find_field(name) for name in self._schema.key]
        keys = Keys(gone.select(list(self._schema.key)), fields)
        files = [entry.data_file for entry in data_entries(start, self._table.io)]
        found = []
        for file in reversed(files):
            if not len(keys):
                break
            hits = keys.find(self._table.io, file) if keys.may_be_in(file) else None
            if hits is not None:
                found.append(hits)
        return found

    def _rewritten(self, target: Target, hits: Sequence[Hits]) -> list[DataFile]:
        """The files with hits once more, without those rows."""
        files = []
        for hit in hits:
            batches = read_fields(self._table.io, hit.file.file_path, target.schema.fields)
            files += self._write(target, without(batches, hit))
        return files

    def _write(self, target: Target, rows: Iterable[pa.RecordBatch]) -> list[DataFile]:
        return write_files(target, rows, self._written)

    def _shape(self, metadata: TableMetadata, columns: Columns) -> list[TableUpdate]:
        """The updates that bring schema, layout and properties up to date."""
        updates: list[TableUpdate] = []
        if metadata.schema().fields != columns.schema.fields:
            known = [s for s in metadata.schemas if s.fields == columns.schema.fields]
            if known:
                updates.append(_current(known[-1].schema_id))
            else:
                number = max(s.schema_id for s in metadata.schemas) + 1
                schema = Schema(*columns.schema.fields, schema_id=number)
                updates += [AddSchemaUpdate(schema=schema), _current(-1)]
        spec = partition_spec(metadata, columns.schema, self._layout)
        if spec not in metadata.partition_specs:
            updates.append(AddPartitionSpecUpdate(spec=spec))
        if spec.spec_id != metadata.default_spec_id:
            updates.append(SetDefaultSpecUpdate.model_validate({"spec-id": spec.spec_id}))
        order = sort_order(metadata, columns.schema, sort_columns(self._schema, self._layout))
        if order not in metadata.sort_orders:
            updates.append(AddSortOrderUpdate.model_validate({"sort-order": order}))
        if order.order_id != metadata.default_sort_order_id:
            updates.append(
                SetDefaultSortOrderUpdate.model_validate({"sort-order-id": order.order_id})
            )
        if metadata.properties.get(PROPERTY) != columns.text:
            updates.append(SetPropertiesUpdate(updates={PROPERTY: columns.text}))
        return updates

    def _summary(self, columns: Columns, hits: Sequence[Hits]) -> dict[str, str]:
        return {
            **run_summary(self._run, self._schema.table),
            TIME_PROPERTY: str(columns.schema.find_field(self._layout.time_column).field_id),
            "htapkit.gone": str(sum(len(hit.positions) for hit in hits)),
        }

    def _still_good(
        self,
        metadata: TableMetadata,
        start: Snapshot | None,
        columns: Columns,
        change: Change,
    ) -> bool:
        """Whether what was written also fits onto what another engine made of the table."""
        if _evolved(metadata, start, self._schema).schema.fields != columns.schema.fields:
            return False
        there = {entry.data_file.file_path for entry in data_entries(start, self._table.io)}
        return change.removed <= there


def run_summary(run: TieringRun, table: TableId) -> dict[str, str]:
    """What a commit says of its run."""
    return {
        RUN_PROPERTY: run.id,
        "htapkit.position": run.position,
        "htapkit.below": str(run.below[table]),
    }


def _current(schema: int) -> SetCurrentSchemaUpdate:
    return SetCurrentSchemaUpdate.model_validate({"schema-id": schema})


def _evolved(metadata: TableMetadata, start: Snapshot | None, schema: TableSchema) -> Columns:
    old = columns_of(metadata, None if start is None else start.schema_id)
    return evolve(old, metadata.last_column_id, schema, anew=start is None)
