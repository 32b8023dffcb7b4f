"""Moves the line between hot rows and the lake: runs, boundaries, cuts. Never writes to the lake.

A run is begun (recorded, with an export at one position), then finished (what was exported and not
changed since leaves; the boundary and the pinned version flip) or dropped. All of it is in the
file, so that a run survives a crash at any moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import pyarrow as pa

from htapkit.errors import CatalogChanged, StoreError, TableSetAside
from htapkit.hot import patches, runs
from htapkit.hot.applier import Applying
from htapkit.hot.core import Core
from htapkit.hot.export import Export, digest_of, digest_query
from htapkit.hot.lakerows import lake_rows
from htapkit.hot.names import (
    key_columns,
    leaving,
    name_list,
    quote,
    relation,
    same_key,
    statement,
    tombstones,
    touched,
)
from htapkit.hot.packed import leaving_definition
from htapkit.hot.prepared import Prepared
from htapkit.hot.reconciled import check_leaves
from htapkit.hot.records import Record
from htapkit.hot.runs import Cut, Run
from htapkit.hot.times import in_range, time_column
from htapkit.hot.transactions import Transaction
from htapkit.model import (
    ARCHIVE,
    Boundary,
    LakeFiles,
    Pin,
    RunState,
    TableId,
    TableSchema,
    TableState,
    TieringRun,
    writer_of,
)

_GONE = "htapkit_gone"


@dataclass(frozen=True, slots=True)
class Tiering:
    """The line of one store's tables."""

    core: Core

    def begin(
        self, run_id: str, below: Mapping[TableId, int], columns: Mapping[TableId, int]
    ) -> Export:
        """Record a run and open its export."""
        core = self.core
        sources = {(table.source, writer_of(table)) for table in below}
        if len(sources) != 1:
            raise StoreError("a run is of tables of one source, or of its archives")
        source, writer = sources.pop()
        with core.writing():
            with core.alone(writer) as transaction:
                if run_id in transaction.runs():
                    raise StoreError(f"there is a run {run_id} already")
                position = core.progress.applied(writer).position
                if position is None:
                    raise StoreError(f"nothing of {writer} is applied yet")
                records = {
                    table: self._tierable(transaction, table, line, columns[table])
                    for table, line in below.items()
                }
                for table, record in records.items():
                    patches.create(transaction.cursor, touched(table), record.schema)
                run = Run(
                    TieringRun(run_id, source, position, dict(below), RunState.EXPORTING),
                    {table: columns[table] for table in below},
                )
                transaction.put_run(run)
                watched = frozenset(filter(transaction.watches, below))
            # Still under the writer lock: nothing was committed since.
            return Export(core.database, run, records, partial(self._note, run_id), watched)

    def _note(self, run_id: str, table: TableId, batches: Iterable[pa.RecordBatch]) -> None:
        """Note which rows of a reconciled table leave, in short transactions."""
        with self._noting(run_id, table) as transaction:
            record = transaction.record(table)
            assert record is not None
            transaction.cursor.execute(leaving_definition(record.schema)).fetchall()
        for batch in batches:
            with self._noting(run_id, table) as transaction:
                columns = name_list(batch.schema.names)
                parts = {"table": leaving(table), "columns": columns}
                add = Prepared(transaction.cursor, batch.schema, "insert", **parts)
                add.run(batch).fetchall()
                add.close()

    @contextmanager
    def _noting(self, run_id: str, table: TableId) -> Iterator[Transaction]:
        with self.core.alone(table.source) as transaction:
            _going(transaction, run_id)
            yield transaction

    def runs(self) -> tuple[TieringRun, ...]:
        """All runs that are neither finished nor dropped, oldest first."""
        with self.core.lock:
            return tuple(run.tiering for run in self.core.state.runs.values())

    def finish(self, run_id: str, pins: Mapping[TableId, Pin]) -> None:
        """Flip: what was exported leaves, but for what changed since."""
        with self.core.alone(self._run(run_id).writer) as transaction:
            run = _going(transaction, run_id)
            missing = run.columns.keys() - pins.keys()
            if missing:
                raise StoreError(f"the run {run_id} has no version of {min(missing)}")
            for table in run.columns:
                self._flip(transaction, run, table, pins[table])
            transaction.end_run(run)
            source = run.tiering.source
            if source == ARCHIVE:  # which nobody reads as it was
                transaction.save_archive_numbers()
                return
            cut = Cut(
                run_id,
                self.core.clock(),
                run.tiering.position,
                {
                    table: record.boundary
                    for table, record in transaction.records(source).items()
                    if record.boundary is not None
                },
            )
            runs.save_cut(transaction.cursor, source, cut)

    def drop(self, run_id: str) -> None:
        """Give a run up."""
        run = self.core.state.runs.get(run_id)
        if run is None:
            return
        with self.core.alone(run.writer) as transaction:
            run = transaction.run(run_id)
            if run is not None:
                transaction.end_run(run)

    def patches(self, table: TableId) -> tuple[int, int]:
        """(tombstones, hot rows below the boundary)."""
        core = self.core
        with core.lock:
            core.ensure_open()
            record = core.state.records.get(table)
            cursor = core.database.cursor()
        try:
            if record is None or record.boundary is None:
                return 0, 0
            column = time_column(record.schema, record.boundary.column)
            count = statement("count", table=relation(table))
            condition = in_range(column, None, record.boundary.below)
            with core.guarded():
                gone = cursor.execute(statement("count", table=tombstones(table))).fetchall()
                rows = cursor.execute(f"{count} WHERE {condition}").fetchall()
            return gone[0][0], rows[0][0]
        finally:
            core.database.release(cursor)

    def lake_digest(
        self,
        schema: TableSchema,
        files: LakeFiles,
        column: int,
        lower: int | None,
        upper: int | None,
        without: pa.Table | None,
    ) -> tuple[int, int]:
        """The digest of the rows of `files` with a time in [lower, upper)."""
        condition = "true"
        if lower is not None or upper is not None:
            condition = in_range(time_column(schema, column), lower, upper)
        if without is not None:
            names = f"({name_list(schema.key)})"
            condition += f" AND {names} NOT IN (SELECT {names} FROM {quote(_GONE)})"  # noqa: S608 - quoted
        with lake_rows(self.core.database, schema, files) as (cursor, rows):
            if without is not None:
                cursor.register(_GONE, without)
            text = digest_query(schema, f"({rows})", condition)
            return digest_of(cursor.execute(text).fetchall())

    def cuts(self, source: str) -> tuple[Cut, ...]:
        """A source's cuts, oldest first."""
        core = self.core
        with core.lock, core.guarded():
            core.ensure_open()
            cursor = core.database.cursor()
            try:
                return runs.load_cuts(cursor, source)
            finally:
                core.database.release(cursor)

    def drop_cuts(self, source: str, before: datetime) -> None:
        """Forget cuts that nobody can read any more."""
        with self.core.operation(source) as transaction:
            runs.drop_cuts(transaction.cursor, source, before)

    def forget_past(self, table: TableId) -> None:
        """Forget what the lake had of a table at all but the newest moment."""
        with self.core.alone(table.source) as transaction:
            record = transaction.record(table)
            boundary = record.boundary if record is not None else None
            runs.forget_past(transaction.cursor, table, boundary.pin if boundary else None)

    def set_pin(self, table: TableId, old: Pin, new: Pin) -> None:
        """Read another version that has the same rows."""
        with self.core.alone(writer_of(table)) as transaction:
            record = self._boundary_record(transaction, table)
            assert record.boundary is not None
            if record.boundary.pin != old:
                raise CatalogChanged(f"{table} is not read at {old.metadata} any more")
            transaction.put(replace(record, boundary=replace(record.boundary, pin=new)))

    def drop_boundary(self, table: TableId, why: str) -> None:
        """Forget what the lake has of a table; unless that is nothing, copy it again."""
        if table.source == ARCHIVE:
            raise StoreError(f"nobody else has the rows of {table}")
        with self.core.alone(table.source) as transaction:
            record = self._boundary_record(transaction, table)
            assert record.boundary is not None
            if record.boundary.pin.rows == 0:
                transaction.untier(table, why)
                return
            position = self.core.progress.applied(table.source).position
            Applying(transaction, position, 0).copy_again(table, why)
            # An archive can do without, if it must: nobody can say what the lake had.
            transaction.untier(table, why)

    def _run(self, run_id: str) -> Run:
        run = self.core.state.runs.get(run_id)
        if run is None:
            raise CatalogChanged(f"the run {run_id} is not known; it was dropped or finished")
        return run

    @staticmethod
    def _boundary_record(transaction: Transaction, table: TableId) -> Record:
        record = transaction.record(table)
        if record is None or record.boundary is None:
            raise CatalogChanged(f"nothing of {table} is in the lake")
        return record

    def _flip(self, transaction: Transaction, run: Run, table: TableId, pin: Pin) -> None:
        record = transaction.record(table)
        assert record is not None
        schema, cursor = record.schema, transaction.cursor
        below = run.tiering.below[table]
        if schema.reconciled:
            gone = transaction.writer.reconciled(schema, record.generation).evict()
        else:
            column = time_column(schema, run.columns[table])
            text = statement(
                "evict",
                table=relation(table),
                range=in_range(column, None, below),
                touched=touched(table),
                equal=same_key(schema, "touched", "kept"),
            )
            gone = int(cursor.execute(text).fetchall()[0][0])
        transaction.evicted(table, gone)
        patches.create(cursor, tombstones(table), schema)
        cursor.execute(statement("delete_all", table=tombstones(table))).fetchall()
        names = ", ".join(quote(name) for name, _ in key_columns(schema))
        cursor.execute(
            statement("bury_touched", table=tombstones(table), columns=names, rows=touched(table))
        ).fetchall()
        boundary = Boundary(run.columns[table], below, pin, run.tiering.position)
        transaction.put(replace(record, boundary=boundary))

    @staticmethod
    def _tierable(transaction: Transaction, table: TableId, below: int, column: int) -> Record:
        record = transaction.record(table)
        if record is None:
            raise CatalogChanged(f"{table} is not known to the hot store")
        if record.state is TableState.SET_ASIDE:
            raise TableSetAside(table, record.why)
        if record.state is not TableState.FOLLOWING:
            raise CatalogChanged(
                f"{table} is {record.state.value}; it can be tiered when it follows"
            )
        if not record.schema.key or record.schema.whole_rows:
            raise StoreError(f"{table} has no key, so its rows stay in the hot store")
        check_leaves(record.schema, column)
        time_column(record.schema, column)
        boundary = record.boundary
        if boundary is not None and boundary.column != column:
            raise StoreError(f"{table} was cut by another column; copy it again first")
        if boundary is not None and below < boundary.below:
            raise StoreError(f"the boundary of {table} cannot move back")
        former = transaction.run_of(table)
        if former is not None:
            raise StoreError(
                f"{table} is in the run {former.tiering.id}; finish or drop that first"
            )
        return record


def _going(transaction: Transaction, run_id: str) -> Run:
    """A run whose tables are as it found them. Raises CatalogChanged where one is not."""
    run = transaction.run(run_id)
    if run is None or not run.logs:
        why = run.tiering.why if run is not None else "it was dropped"
        raise CatalogChanged(f"the run {run_id} cannot be finished: {why}")
    return run
