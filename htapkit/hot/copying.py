"""Copies beside the tables: begin one, load its rows, bring it up to date and swap it in.

A copy is loaded by many threads without the writer lock; while it is brought up to date in rounds,
the other tables go on. Only the last round and the swap hold the lock. Also resumes paused tables,
whose changes were kept aside in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import duckdb
import pyarrow as pa

from htapkit import failpoints
from htapkit.errors import CatalogChanged, Stale, StoreError, TableSetAside
from htapkit.hot.applier import Applying, TableFailed, evolve, put_rows
from htapkit.hot.collapse import NotConsistent
from htapkit.hot.core import Core
from htapkit.hot.database import is_fatal
from htapkit.hot.names import (
    clash,
    column_definitions,
    quote,
    relation,
    shadow,
    statement,
)
from htapkit.hot.records import Copy, Record
from htapkit.hot.relations import Relation
from htapkit.hot.staging import from_row, restored
from htapkit.hot.transactions import Transaction
from htapkit.model import (
    Position,
    RowChanges,
    SchemaChange,
    TableId,
    TableSchema,
    TableState,
    Truncate,
    hot_relation,
)

Covers = Callable[[Position, Position], bool]

_LOAD_ROWS = 122_880  # DuckDB's row group
_ROUND_BYTES = 32 * 2**20
_LAST_ROUND_BYTES = 2 * 2**20
_ROUNDS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Copying:
    """The copies of one store."""

    core: Core

    def start(self, schema: TableSchema, fingerprint: str, position: Position) -> None:
        """Make an empty copy; rows and changes after `position` will come."""
        table = schema.table
        with self.core.operation(table.source) as transaction:
            record = self._record(transaction, table)
            if not record.staging:
                raise StoreError(
                    f"{table} is {record.state.value}: its changes are not kept aside, and a copy "
                    "would miss them; call copy_again first"
                )
            if problem := clash(schema, self.core.state.records):
                raise TableSetAside(table, f"the copy cannot hold it: {problem}")
            transaction.drop_shadow(record)
            generation = record.generation + 1
            name = shadow(table, generation)
            cursor = transaction.cursor
            cursor.execute(
                f"CREATE SCHEMA IF NOT EXISTS {quote(hot_relation(table)[0])}"
            ).fetchall()
            cursor.execute(f"CREATE TABLE {name} ({column_definitions(schema)})").fetchall()
            transaction.put(
                replace(record, generation=generation, copy=Copy(schema, fingerprint, position))
            )

    def load(self, table: TableId, batches: Iterable[pa.RecordBatch]) -> int:
        """Add rows to the copy, all or none of them; how many there were."""
        core = self.core
        with core.lock:
            core.ensure_open()
            record = self._record(None, table)
            cursor = core.database.cursor()
        try:
            if record.copy is None:
                raise CatalogChanged(f"no copy of {table} is being made; start one first")
            rows = Relation(cursor, shadow(table, record.generation), record.copy.schema)
            with core.guarded(), self._loading(record):
                cursor.begin()
                count = _load(rows, batches)
                cursor.commit()
            return count
        finally:
            # What was not committed goes with the cursor.
            core.database.release(cursor)

    @contextmanager
    def _loading(self, record: Record) -> Iterator[None]:
        table = record.table
        try:
            yield
        except (duckdb.Error, pa.ArrowException) as error:
            if is_fatal(error) or isinstance(error, duckdb.OutOfMemoryException):
                raise
            now = self.core.state.records.get(table)
            if now is None or now.generation != record.generation:
                raise CatalogChanged(f"the copy of {table} was given up") from error
            why = f"its rows cannot be loaded: {str(error).splitlines()[0]}"
            raise TableSetAside(table, why) from error

    def finish(self, table: TableId, covers: Covers, timeout_seconds: float) -> None:
        """Bring a copy, or a paused table, up to date and let it follow.

        Waits until the source is applied up to the copy's own position; Stale at the timeout.
        """
        core = self.core
        with core.lock:
            record = self._record(None, table)
        if record.copy is None and not (record.state is TableState.PAUSED and record.complete):
            raise TableSetAside(table, f"it has no copy to go on with; it is {record.state.value}")
        position = record.copy.position if record.copy is not None else None
        if position is not None:
            wanted = position
            reached = core.progress.wait(
                table.source,
                lambda a: a.position is not None and covers(a.position, wanted),
                timeout_seconds,
            )
            if not reached:
                raise Stale(
                    f"{table} was copied at {position}, which {table.source} has not reached "
                    f"within {timeout_seconds:g} s; the copy is kept, try again"
                )
        try:
            for _ in range(_ROUNDS_MAX):
                with core.lock:
                    if core.state.staged_bytes.get(table, 0) <= _LAST_ROUND_BYTES:
                        break
                self._round(table, record, covers)
            self._swap(table, record, covers)
        except TableFailed as error:
            why = f"its changes cannot be applied: {error}"
            core.set_aside(table, why)
            raise TableSetAside(table, why) from error

    def _round(self, table: TableId, expected: Record, covers: Covers) -> None:
        """Replay the oldest staged changes; the lock is held for about as long as a large batch."""
        with self.core.operation(table.source) as transaction:
            record = self._unchanged(transaction, table, expected)
            self._replay(transaction, record, covers, _ROUND_BYTES)

    def _swap(self, table: TableId, expected: Record, covers: Covers) -> None:
        core = self.core
        with core.operation(table.source) as transaction:
            record = self._unchanged(transaction, table, expected)
            while self._replay(transaction, record, covers, _ROUND_BYTES):
                record = self._record(transaction, table)
            record = self._record(transaction, table)
            if record.state is TableState.COPYING and record.copy is None and not record.complete:
                return  # the replay found it broken; the record says why
            schema, fingerprint = record.schema, record.fingerprint
            if record.copy is not None:
                schema, fingerprint = record.copy.schema, record.copy.fingerprint
                name = shadow(table, record.generation)
                transaction.writer.forget(name)
                transaction.drop_relation(table)
                transaction.cursor.execute(
                    f"ALTER TABLE {name} RENAME TO {quote(table.name)}"
                ).fetchall()
            # A table that was paused while it was copied stays so, with its copy.
            paused = record.state is TableState.PAUSED and record.copy is not None
            transaction.put(
                replace(
                    record,
                    schema=schema,
                    fingerprint=fingerprint,
                    state=TableState.PAUSED if paused else TableState.FOLLOWING,
                    why=record.why if paused else "",
                    complete=True,
                    copy=None,
                    stopped_at=core.progress.applied(table.source).position if paused else None,
                )
            )
            # The rows stand at the position in memory: it must be the one in the file from now on.
            applied = core.progress.applied(table.source)
            if applied.position is not None:
                transaction.write_position(table.source, applied.position, applied.committed_at)
        with core.lock:
            if applied.position is not None and core.opened(table.source) is None:
                core.progress.stored_again(table.source, applied.position, core.seconds())
            core.count_rows()

    def _replay(self, transaction: Transaction, record: Record, covers: Covers, limit: int) -> bool:
        """Replay staged changes of up to `limit` bytes; whether there were any."""
        table = record.table
        ids = [table.source, table.schema, table.name]
        transaction.flush()
        rows = transaction.cursor.execute(statement("read_staged"), [*ids, limit]).fetchall()
        if not rows:
            return False
        applying = Applying(transaction, self.core.progress.applied(table.source).position, 0)
        try:
            self._replay_rows(transaction, record, rows, covers)
        except NotConsistent as error:
            applying.copy_again(table, str(error))
            return False
        except (duckdb.Error, pa.ArrowException) as error:
            if is_fatal(error):
                raise
            raise TableFailed(table, error) from error
        transaction.drop_staged(table, rows[-1][0])
        failpoints.reach("copy.replayed")
        transaction.replayed(table, sum(len(row[3] or b"") for row in rows))
        return True

    def _replay_rows(
        self,
        transaction: Transaction,
        record: Record,
        rows: list[tuple[int, str, str, bytes | None]],
        covers: Covers,
    ) -> None:
        table = record.table
        copy = record.copy
        schema = copy.schema if copy is not None else record.schema
        name = shadow(table, record.generation) if copy is not None else relation(table)
        position = copy.position if copy is not None else None
        pending: list[RowChanges] = []
        for _, kind, commits, payload in rows:
            change = restored(from_row(table, kind, commits, payload), position, covers)
            target = transaction.writer.relation(name, schema)
            if isinstance(change, RowChanges):
                pending.append(change)
            elif isinstance(change, Truncate):
                pending = []
                target.clear()
            elif isinstance(change, SchemaChange):
                put_rows(transaction, target, pending)
                pending = []
                if change.schema == schema:
                    continue
                evolve(transaction, target, change.schema)
                schema = change.schema
        put_rows(transaction, transaction.writer.relation(name, schema), pending)
        if copy is not None and schema is not copy.schema:
            record = replace(record, copy=replace(copy, schema=schema))
        transaction.put(record if copy is not None else replace(record, schema=schema))

    def _record(self, transaction: Transaction | None, table: TableId) -> Record:
        found = transaction.record(table) if transaction else self.core.state.records.get(table)
        if found is None:
            raise TableSetAside(table, "it is not known here; add it first")
        if found.state is TableState.SET_ASIDE:
            raise TableSetAside(table, found.why)
        return found

    def _unchanged(self, transaction: Transaction, table: TableId, expected: Record) -> Record:
        record = self._record(transaction, table)
        if record.generation != expected.generation:
            raise CatalogChanged(f"the copy of {table} was given up; make another one")
        return record


def _load(rows: Relation, batches: Iterable[pa.RecordBatch]) -> int:
    held: list[pa.RecordBatch] = []
    size = count = 0
    for batch in batches:
        if not batch.schema.equals(rows.arrow):
            raise TableSetAside(
                rows.schema.table, "its rows came with other columns than the copy has"
            )
        held.append(batch)
        size += batch.num_rows
        if size >= _LOAD_ROWS:
            rows.insert(pa.Table.from_batches(held))
            count, size, held = count + size, 0, []
    if held:
        rows.insert(pa.Table.from_batches(held))
    return count + size
