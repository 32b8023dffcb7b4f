"""The hot store: the exact, columnar copy in one DuckDB file. See README.md for what it promises.

This module is the door; what is behind it: `core` (lock, transactions, recovery), `applier`
(changes into tables), `copying` (new copies), `reads`, `upkeep`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from htapkit import failpoints
from htapkit.errors import StoreError, TableSetAside
from htapkit.hot.applier import Applying, TableFailed, by_table, evolve, without_covered
from htapkit.hot.collapse import NotConsistent
from htapkit.hot.copying import Copying
from htapkit.hot.core import Clock, Core
from htapkit.hot.database import Database, is_fatal
from htapkit.hot.limits import HotLimits
from htapkit.hot.names import clash, relation
from htapkit.hot.progress import Applied
from htapkit.hot.reads import Read, Reads
from htapkit.hot.records import Record
from htapkit.hot.staging import stage_schema
from htapkit.hot.transactions import Transaction
from htapkit.hot.upkeep import Upkeep
from htapkit.model import (
    Catalog,
    ChangeBatch,
    Position,
    SchemaChange,
    TableId,
    TableSchema,
    TableState,
)

Covers = Callable[[Position, Position], bool]

_FINISH_SECONDS = 60.0


def _utc_now() -> datetime:
    return datetime.now(UTC)


class HotStore:
    """The copy. Thread-safe; one process owns the file."""

    def __init__(
        self, path: Path, limits: HotLimits | None = None, *, clock: Clock = _utc_now
    ) -> None:
        """Open or create the file. Raises StoreLocked, StoreFailed, StoreError."""
        self._core = Core(Database(path, limits or HotLimits()), clock)
        self._limits = self._core.database.limits
        self._reads = Reads(self._core.database, self._core.progress, self._read_failed)
        self._core.before_reopen = lambda: self._reads.break_off("the hot store is opened again")
        self._copying = Copying(self._core)
        self._upkeep = Upkeep(self._core)

    # -- what can be read, and how far it is

    @property
    def catalog(self) -> Catalog:
        """What can be read now; a new object after each change."""
        return self._core.catalog

    def applied(self, source: str) -> Applied:
        """How far a source is applied, also by batches that only moved the position."""
        return self._core.progress.applied(source)

    def on_applied(self, callback: Callable[[str, Applied], None]) -> None:
        """Call `callback` after each move, in the thread that applied; it must be quick."""
        self._core.progress.watch(callback)

    def wait_applied(
        self, source: str, predicate: Callable[[Applied], bool], timeout_seconds: float
    ) -> bool:
        """Wait until `predicate` holds; whether it does. No I/O in `predicate`."""
        return self._core.progress.wait(source, predicate, timeout_seconds)

    def read(
        self,
        sql: str,
        parameters: Sequence[object] = (),
        *,
        sources: Sequence[str] = (),
        catalog_version: int | None = None,
    ) -> Read:
        """Start a statement in one snapshot; its positions are those of the rows it returns.

        Raises LimitReached, CatalogChanged (tables changed since `catalog_version`), QueryFailed,
        StoreFailed.
        """
        return self._reads.open(sql, parameters, sources, catalog_version)

    # -- the stream

    def stored_position(self, source: str) -> Position | None:
        """The position in the file: a stream must start right after it."""
        return self._core.progress.stored(source)[0]

    def apply(self, batch: ChangeBatch, covers: Covers) -> Position | None:
        """Bring in a batch: all of it, with its position, in one transaction.

        The position that is durable now, or None: the batch only moved the position in memory, or
        it is a part of a large transaction. Raises StoreFailed or TableSetAside when a large
        transaction was lost with its earlier parts, LimitReached (nothing was done; try again
        later): in each case start the stream again from `stored_position`.
        """
        core = self._core
        source = batch.source
        with core.writing():
            self._upkeep.check_disk()
            begun = core.seconds()
            stored = core.progress.stored(source)[0]
            if batch.complete and stored is not None and covers(stored, batch.end):
                # A stream that began too early: all of it is in the file already.
                opened = core.opened(source)
                if opened is not None:
                    core.commit(source, opened)
                self._moved(batch, covers, stored_at=None)
                return stored
            batch = without_covered(batch, stored, covers)
            if core.opened(source) is None and batch.complete and not self._concerns_us(batch):
                return self._apply_nothing(batch, covers)
            while True:
                transaction = core.opened(source) or core.begin(source)
                try:
                    position = core.progress.applied(source).position
                    Applying(transaction, position, self._limits.staged_bytes).apply(batch)
                    if not batch.complete:
                        transaction.batches += 1
                        core.keep_open(source, transaction)
                        failpoints.reach("chunk.written")
                        return None
                    transaction.write_position(source, batch.end, batch.committed_at)
                    failpoints.reach("apply.written")
                    core.commit(source, transaction)
                    break
                except TableFailed as error:
                    self._without(error, source, transaction)
                except BaseException:
                    transaction.roll_back()
                    core.let_go(source, transaction)
                    raise
            self._moved(batch, covers, stored_at=core.seconds())
            self._upkeep.applied(core.seconds() - begun)
            return batch.end

    def abort(self, source: str) -> None:
        """Give up a large transaction whose stream broke. Safe when there is none."""
        with self._core.lock:
            transaction = self._core.opened(source)
            if transaction is not None:
                transaction.roll_back()
                self._core.let_go(source, transaction)

    def forget_position(self, source: str) -> None:
        """The source lost the changes after our position: the next stream begins anew.

        Tables that follow are set to be copied again by the caller.
        """
        with self._core.operation(source) as transaction:
            transaction.write_position(source, None, None)
        self._core.progress.forget(source)

    def identity(self, source: str) -> str | None:
        """What `remember_identity` stored: which server the copy was made from."""
        with self._core.operation(source) as transaction:
            found = transaction.cursor.execute(
                "SELECT identity FROM htapkit.sources WHERE source = $1", [source]
            ).fetchall()
        return found[0][0] if found else None

    def remember_identity(self, source: str, identity: str) -> None:
        """Store which server the copy is made from."""
        with self._core.operation(source) as transaction:
            transaction.ensure_source(source)
            transaction.cursor.execute(
                "UPDATE htapkit.sources SET identity = $2 WHERE source = $1", [source, identity]
            ).fetchall()

    # -- tables

    def add_table(self, schema: TableSchema, fingerprint: str, why: str = "") -> None:
        """Know a table (or know it anew): it waits for a copy, and its changes are kept aside."""
        table = schema.table
        with self._core.operation(table.source) as transaction:
            former = transaction.record(table)
            generation = 0
            if former is not None:
                self._applying(transaction, table).copy_again(table, why)
                former = transaction.record(table)
                assert former is not None
                generation = former.generation
            record = Record(schema, fingerprint, TableState.COPYING, why, generation=generation)
            if former is not None:
                record = replace(record, stopped_at=former.stopped_at)
            if problem := clash(schema, self._core.state.records):
                record = replace(
                    record,
                    state=TableState.SET_ASIDE,
                    why=f"the copy cannot hold it: {problem}",
                )
            transaction.put(record)

    def copy_again(self, table: TableId, why: str) -> None:
        """The table waits for a new copy; what is staged and a copy in progress are given up."""
        with self._core.operation(table.source) as transaction:
            self._known(transaction, table)
            self._applying(transaction, table).copy_again(table, why)

    def start_copy(self, schema: TableSchema, fingerprint: str, position: Position) -> None:
        """Begin a copy of rows at `position`; staged commits that it covers will be dropped.

        Raises TableSetAside.
        """
        self._copying.start(schema, fingerprint, position)

    def load(self, table: TableId, batches: Iterable[pa.RecordBatch]) -> int:
        """Add rows to the copy, all or none; how many. Several threads may do so at once.

        Raises TableSetAside, CatalogChanged (the copy was given up meanwhile), StoreFailed.
        """
        return self._copying.load(table, batches)

    def finish_copy(
        self, table: TableId, covers: Covers, timeout_seconds: float = _FINISH_SECONDS
    ) -> None:
        """Replay what was kept aside, swap the copy in, follow. A paused table resumes.

        Raises Stale (the source is not yet applied up to the copy's position; nothing is lost),
        TableSetAside, CatalogChanged, StoreFailed.
        """
        self._copying.finish(table, covers, timeout_seconds)

    def set_state(self, table: TableId, state: TableState, why: str) -> None:
        """Pause a table, set it aside, have it copied again; FOLLOWING resumes a paused one."""
        if state is TableState.FOLLOWING:
            # Nothing staged while paused is older than the table: nothing to leave out.
            self._copying.finish(table, lambda *_: False, 0)
            return
        with self._core.operation(table.source) as transaction:
            record = self._known(transaction, table)
            if state is TableState.COPYING:
                self._applying(transaction, table).copy_again(table, why)
            elif state is TableState.SET_ASIDE:
                self._applying(transaction, table).set_aside(table, why)
            elif record.state is TableState.SET_ASIDE:
                raise TableSetAside(table, record.why)
            else:
                position = self._core.progress.applied(table.source).position
                transaction.put(record.stopped(state, why, position))

    def change_schema(self, change: SchemaChange, fingerprint: str | None = None) -> None:
        """Follow a change of the schema that the stream has not shown; copy again if need be."""
        table = change.schema.table
        with self._core.operation(table.source) as transaction:
            record = self._known(transaction, table)
            applying = self._applying(transaction, table)
            if not change.faithful:
                transaction.put(replace(record, schema=change.schema))
                applying.copy_again(table, change.why)
                return
            if record.state is TableState.SET_ASIDE:
                raise TableSetAside(table, record.why)
            if record.staging:
                position = self._core.progress.applied(table.source).position
                transaction.stage(stage_schema(change, position or Position("")))
            else:
                rows = transaction.writer.relation(relation(table), record.schema)
                try:
                    evolve(transaction, rows, change.schema)
                except NotConsistent as error:
                    transaction.put(replace(record, schema=change.schema))
                    applying.copy_again(table, str(error))
                    return
            if record.state is not TableState.PAUSED:
                record = replace(record, schema=change.schema)
            transaction.put(replace(record, fingerprint=fingerprint or record.fingerprint))

    def keep_as_text(self, table: TableId, column: str) -> None:
        """The next copies of the table keep this column as PostgreSQL prints it."""
        with self._core.operation(table.source) as transaction:
            transaction.set_text_columns(table, self.text_columns(table) | {column})

    def text_columns(self, table: TableId) -> frozenset[str]:
        """The columns that `keep_as_text` named."""
        return self._core.state.text_columns.get(table, frozenset())

    def fingerprint(self, table: TableId) -> str:
        """The fingerprint with which the table was copied."""
        record = self._core.state.records.get(table)
        return record.fingerprint if record is not None else ""

    def drop_table(self, table: TableId) -> None:
        """Forget a table and its rows."""
        with self._core.operation(table.source) as transaction:
            self._drop(transaction, table)

    def drop_source(self, source: str) -> None:
        """Forget a source with all its tables."""
        with self._core.operation(source) as transaction:
            for table in list(self._core.state.records):
                if table.source == source:
                    self._drop(transaction, table)
            transaction.remove_source(source)
        self._core.progress.forget(source)

    # -- upkeep

    def maintain(self) -> None:
        """What a quiet moment is good for: checkpoint, write churned tables in order again."""
        self._upkeep.maintain()

    def sizes(self) -> Mapping[str, float]:
        """Plain numbers for metrics and status."""
        return {**self._upkeep.sizes(), "reads": self._reads.active}

    def close(self) -> None:
        """Let go of the file. Safe to call twice."""
        self._reads.close()
        self._core.close()

    def __enter__(self) -> HotStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inside

    def _applying(self, transaction: Transaction, table: TableId) -> Applying:
        position = self._core.progress.applied(table.source).position
        return Applying(transaction, position, self._limits.staged_bytes)

    @staticmethod
    def _known(transaction: Transaction, table: TableId) -> Record:
        record = transaction.record(table)
        if record is None:
            raise StoreError(f"{table} is not known to the hot store; add it first")
        return record

    @staticmethod
    def _drop(transaction: Transaction, table: TableId) -> None:
        record = transaction.record(table)
        if record is not None:
            transaction.unstage(table)
            transaction.drop_shadow(record)
            transaction.drop_relation(table)
            transaction.set_text_columns(table, frozenset())
            transaction.remove(table)

    def _concerns_us(self, batch: ChangeBatch) -> bool:
        records = self._core.state.records
        return any(
            table in records and records[table].state is not TableState.SET_ASIDE
            for table in by_table(batch.changes)
        )

    def _apply_nothing(self, batch: ChangeBatch, covers: Covers) -> Position | None:
        core = self._core
        stored, stored_at = core.progress.stored(batch.source)
        if stored is not None and core.seconds() - stored_at < self._limits.position_seconds:
            self._moved(batch, covers, stored_at=None)
            return None
        with core.operation(batch.source) as transaction:
            transaction.write_position(batch.source, batch.end, batch.committed_at)
        self._moved(batch, covers, stored_at=core.seconds())
        return batch.end

    def _moved(self, batch: ChangeBatch, covers: Covers, *, stored_at: float | None) -> None:
        progress = self._core.progress
        current = progress.applied(batch.source).position
        # A stream that began again may pass positions that memory has already.
        behind = stored_at is None and current is not None and covers(current, batch.end)
        end = current if behind and current is not None else batch.end
        progress.move(
            batch.source, end, batch.committed_at, self._core.clock(), batch.marks, stored_at
        )

    def _without(self, error: TableFailed, source: str, transaction: Transaction) -> None:
        transaction.roll_back()
        self._core.let_go(source, transaction)
        why = f"its changes cannot be applied: {str(error).splitlines()[0]}"
        self._core.set_aside(error.table, why)
        if transaction.batches:
            raise TableSetAside(error.table, why) from error

    def _read_failed(self, error: BaseException) -> None:
        with self._core.lock:
            if not self._core.failed and is_fatal(error) and not self._core.closed:
                try:
                    self._core.recover(error)
                except StoreError:
                    return  # the reader gets its own error; writers try to open again
