"""Brings changes into a transaction: into the tables that follow, aside for those that do not yet.

Works table by table, since one table's changes never depend on another's. Never begins or commits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import duckdb
import pyarrow as pa

from htapkit.hot.collapse import NotConsistent, collapse
from htapkit.hot.database import is_fatal
from htapkit.hot.evolve import alterations
from htapkit.hot.folded import Folded
from htapkit.hot.horizon import follow_horizon
from htapkit.hot.names import relation
from htapkit.hot.patches import follow_schema
from htapkit.hot.records import Record
from htapkit.hot.relations import Relation
from htapkit.hot.staging import (
    Staged,
    only_commits,
    stage,
    stage_cells,
    stage_schema,
    stage_truncate,
)
from htapkit.hot.transactions import Transaction
from htapkit.model import (
    Broken,
    CellChanges,
    Change,
    ChangeBatch,
    Position,
    RowChanges,
    SchemaChange,
    TableId,
    TableSchema,
    TableState,
    Truncate,
)

_log = logging.getLogger(__name__)

Covers = Callable[[Position, Position], bool]


class TableFailed(Exception):
    """DuckDB refused one table's changes; its transaction is lost."""

    def __init__(self, table: TableId, error: BaseException) -> None:
        """Which table, and DuckDB's words."""
        super().__init__(str(error))
        self.table = table


@dataclass(frozen=True, slots=True)
class Applying:
    """How to bring batches of one source in."""

    transaction: Transaction
    position: Position | None  # of the source, before the batch: where a table stops that breaks
    staged_limit: int

    def apply(self, batch: ChangeBatch) -> None:
        """Bring in all changes. Raises TableFailed; the transaction must then be rolled back."""
        for table, changes in by_table(batch.changes).items():
            if self.transaction.record(table) is None:
                continue
            try:
                self._apply_table(table, changes, batch)
            except NotConsistent as error:
                self.copy_again(table, str(error))
            except (duckdb.Error, pa.ArrowException) as error:
                if is_fatal(error) or isinstance(error, duckdb.OutOfMemoryException):
                    raise
                raise TableFailed(table, error) from error
        self.transaction.flush()

    def copy_again(self, table: TableId, why: str) -> None:
        """The table's rows are no longer good: it waits for a new copy."""
        self._stop(table, TableState.COPYING, why)

    def set_aside(self, table: TableId, why: str) -> None:
        """The table is no longer followed at all."""
        self._stop(table, TableState.SET_ASIDE, why)

    def _stop(self, table: TableId, state: TableState, why: str) -> None:
        _log.warning("table stops", extra={"table": str(table), "state": state.value, "why": why})
        self.transaction.untier(table, f"does not follow any more: {why}")
        record = self.transaction.record(table)
        assert record is not None
        self.transaction.unstage(table)
        self.transaction.drop_shadow(record)
        stopped = record.stopped(state, why, self.position)
        self.transaction.put(
            replace(stopped, complete=False, copy=None, generation=record.generation + 1)
        )

    def _apply_table(self, table: TableId, changes: list[Change], batch: ChangeBatch) -> None:
        pending: list[RowChanges] = []
        for number, change in enumerate(changes):
            record = self.transaction.record(table)
            assert record is not None
            if record.state is TableState.SET_ASIDE:
                return
            if isinstance(change, Broken):
                stop = self.copy_again if change.copy_again else self.set_aside
                stop(table, change.why)
                return  # a new copy begins after this batch
            if isinstance(change, SchemaChange) and not change.faithful:
                if change.fingerprint and change.fingerprint == record.fingerprint:
                    continue  # the copy is of the table as it became
                # The stream decodes in the new schema from here on.
                self.transaction.put(replace(record, schema=change.schema))
                self.copy_again(table, change.why)
                return
            if record.staging:
                self._stage(record, change, changes[number + 1 :], batch)
                continue
            if isinstance(change, CellChanges):
                put_cells(self.transaction, table, [change])
                continue
            rows = self._relation(record)
            if isinstance(change, RowChanges):
                pending.append(change)
            elif isinstance(change, Truncate):
                pending = []
                self.transaction.changed(table, rows.clear(), 0)
                self.transaction.untier(table, "was truncated")
            else:
                put_rows(self.transaction, rows, pending)
                pending = []
                evolve(self.transaction, rows, change.schema)
                self.transaction.put(replace(record, schema=change.schema))
        if pending:
            record = self.transaction.record(table)
            assert record is not None
            put_rows(self.transaction, self._relation(record), pending)

    def _relation(self, record: Record) -> Relation:
        return self.transaction.writer.relation(relation(record.table), record.schema)

    def _stage(
        self, record: Record, change: Change, later: Iterable[Change], batch: ChangeBatch
    ) -> None:
        staged = _staged(record.table, change, later, batch)
        held = self.transaction.staged_bytes() + len(staged.payload or b"")
        if held > self.staged_limit:
            self.set_aside(
                record.table,
                f"limits.staged: {held} bytes of changes would be kept aside and "
                f"{self.staged_limit} are "
                "allowed; raise the limit, or copy the table again when it changes less",
            )
            return
        self.transaction.stage(staged)
        if isinstance(change, SchemaChange) and record.state is TableState.COPYING:
            self.transaction.put(replace(record, schema=change.schema))


def put_rows(transaction: Transaction, rows: Relation, changes: list[RowChanges]) -> None:
    """Collapse consecutive changes of one table and bring them in."""
    if not changes:
        return
    for change in changes:
        if not change.rows.schema.equals(rows.arrow):
            raise NotConsistent(
                "its rows came with other columns or types than the copy has: "
                f"{_difference(rows.arrow, change.rows.schema)}"
            )
    table = rows.schema.table
    # The copy that is made beside a table has no part in the lake.
    patches = transaction.patches(rows.schema) if rows.name == relation(table) else None
    record = transaction.record(table)
    horizon = record.horizon if record is not None else None
    gone, came = rows.put(collapse(rows.schema, changes), patches, horizon)
    transaction.changed(table, gone, came)


def put_cells(transaction: Transaction, table: TableId, changes: Sequence[CellChanges]) -> None:
    """Bring cells and deletions into a table that follows, or is complete."""
    record = transaction.record(table)
    assert record is not None
    if not record.schema.reconciled:
        raise NotConsistent("cells came for a table that has rows")
    reconciled = transaction.writer.reconciled(record.schema, record.generation)
    gone, came = reconciled.apply(changes, transaction.writer.clock())
    transaction.changed(table, gone, came)


def evolve(transaction: Transaction, rows: Relation, schema: TableSchema) -> None:
    """Make a relation one of `schema`."""
    table = schema.table
    statements = alterations(rows.name, rows.schema, schema)
    record = transaction.record(table)
    if record is not None:
        follow_horizon(record.horizon, rows.schema, schema)
    if rows.name == relation(table):
        transaction.void(table, "changed its columns")
        if record is not None and record.boundary is not None:
            transaction.writer.forget_patches(table)
            follow_schema(transaction.cursor, record.boundary, rows.schema, schema)
    transaction.writer.forget(rows.name)
    for text in statements:
        transaction.cursor.execute(text).fetchall()
    if schema.reconciled and record is not None:
        Folded(schema, record.generation).follow(transaction.cursor)


def by_table(changes: Iterable[Change]) -> dict[TableId, list[Change]]:
    """Each table's changes, in order."""
    found: dict[TableId, list[Change]] = {}
    for change in changes:
        if isinstance(change, Truncate):
            for table in change.tables:
                found.setdefault(table, []).append(change)
        else:
            found.setdefault(_table(change), []).append(change)
    return found


def without_covered(batch: ChangeBatch, stored: Position | None, covers: Covers) -> ChangeBatch:
    """The batch less the transactions that the file has already."""
    if stored is None or not batch.commits or not covers(stored, batch.commits[0]):
        return batch
    fresh = [not covers(stored, c) for c in batch.commits]
    kept: list[Change] = []
    for change in batch.changes:
        if isinstance(change, RowChanges):
            left = only_commits(change, fresh)
            kept += [left] if left is not None else []
        elif not isinstance(change, Truncate) or fresh[change.commit]:
            kept.append(change)
    return replace(batch, changes=tuple(kept))


def _table(change: RowChanges | CellChanges | SchemaChange | Broken) -> TableId:
    return change.schema.table if isinstance(change, SchemaChange) else change.table


def _staged(table: TableId, change: Change, later: Iterable[Change], batch: ChangeBatch) -> Staged:
    if isinstance(change, RowChanges):
        return stage(change, batch.commits)
    if isinstance(change, CellChanges):
        return stage_cells(change)
    if isinstance(change, Truncate):
        return stage_truncate(table, batch.commits[change.commit])
    assert isinstance(change, SchemaChange)
    # The log shows a new schema just before the first row that has it.
    for following in later:
        if isinstance(following, Truncate):
            return stage_schema(change, batch.commits[following.commit])
        if isinstance(following, RowChanges) and len(following.ops):
            return stage_schema(change, batch.commits[following.commit[0].as_py()])
    return stage_schema(change, batch.end)


def _difference(ours: pa.Schema, theirs: pa.Schema) -> str:
    mine = {f.name: str(f.type) for f in ours}
    other = {f.name: str(f.type) for f in theirs}
    names = [n for n in [*mine, *other] if mine.get(n) != other.get(n)]
    if not names:
        return "another order"
    name = names[0]
    return f"{name} is {other.get(name, 'missing')} instead of {mine.get(name, 'missing')}"
