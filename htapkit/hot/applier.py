"""Brings changes into a transaction: into the tables that follow, aside for those that do not yet.

Works table by table, since one table's changes never depend on another's. Never begins or commits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import duckdb
import pyarrow as pa

from htapkit.hot.archive import Archive, clear_rows, follow_archive, former_of
from htapkit.hot.cellwrites import put_cells
from htapkit.hot.collapse import NotConsistent, collapse
from htapkit.hot.database import is_fatal
from htapkit.hot.evolve import alterations
from htapkit.hot.folded import Folded
from htapkit.hot.horizon import follow_horizon
from htapkit.hot.kept import doubt_all, keep, knows
from htapkit.hot.names import relation
from htapkit.hot.noting import note_schema
from htapkit.hot.patches import follow_schema
from htapkit.hot.records import Former, Record
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

    def copy_again(
        self,
        table: TableId,
        why: str,
        *,
        schema: TableSchema | None = None,
        exact: bool = False,
    ) -> None:
        """The table waits for a new copy.

        `schema` is the one that the stream decodes in from here on, if that is another one. Where
        the rows are `exact` after all, an archive goes on with them until the new copy is there.
        """
        self._stop(table, TableState.COPYING, why, schema=schema, exact=exact)

    def set_aside(self, table: TableId, why: str) -> None:
        """The table is no longer followed at all."""
        self._stop(table, TableState.SET_ASIDE, why)

    def _stop(
        self,
        table: TableId,
        state: TableState,
        why: str,
        *,
        schema: TableSchema | None = None,
        exact: bool = False,
    ) -> None:
        _log.warning("table stops", extra={"table": str(table), "state": state.value, "why": why})
        record = self.transaction.record(table)
        assert record is not None
        former = former_of(record, exact=exact)
        if former is None:
            self.transaction.untier(table, f"does not follow any more: {why}")
        else:  # the archive still wants what the lake has
            self.transaction.void(table, f"does not follow any more: {why}")
        record = self.transaction.record(table)
        assert record is not None
        self.transaction.unstage(table)
        self.transaction.drop_shadow(record)
        stopped = record.stopped(state, why, self.position)
        self.transaction.put(
            replace(
                stopped,
                schema=schema or record.schema,
                complete=False,
                copy=None,
                generation=record.generation + 1,
                former=former,
            )
        )

    def follow_former(
        self, table: TableId, changes: Sequence[Change], times: tuple[int, ...]
    ) -> None:
        """Bring changes into what a table was before the copy that is made, for its archive.

        Once that cannot be exact, it stays as it is: what is not in the new copy was deleted.
        """
        record = self.transaction.record(table)
        if record is None or record.former is None or not record.former.follows:
            return
        schema, pending = record.former.schema, list[RowChanges]()
        follows = True
        try:
            for change in changes:
                if _breaks(change):
                    follows = False
                    break
                schema = self._bring_in(schema, change, pending, times)
            put_rows(self.transaction, self._rows(schema), pending)
        except NotConsistent as error:
            _log.warning("archive compares", extra={"table": str(table), "why": str(error)})
            follows = False
        record = self.transaction.record(table)
        assert record is not None
        former = Former(schema, follows)
        if record.keeps and record.former != former:
            self.transaction.put(replace(record, former=former))

    def _bring_in(
        self,
        schema: TableSchema,
        change: Change,
        pending: list[RowChanges],
        times: tuple[int, ...],
    ) -> TableSchema:
        """One change of a relation with this schema; the schema that it has then.

        Row changes are added to `pending`, and brought in before anything else.
        """
        rows = self._rows(schema)
        if isinstance(change, RowChanges):
            pending.append(replace(change, times=times))
            return schema
        if isinstance(change, Truncate):
            put_rows(self.transaction, rows, _before_truncate(self.transaction, rows, pending))
            pending.clear()
            clear_rows(self.transaction, rows, times[change.commit] if times else None)
            return schema
        assert isinstance(change, SchemaChange)
        put_rows(self.transaction, rows, pending)
        pending.clear()
        evolve(self.transaction, rows, change.schema)
        return change.schema

    def _apply_table(self, table: TableId, changes: list[Change], batch: ChangeBatch) -> None:
        self.follow_former(table, changes, batch.times)
        pending: list[RowChanges] = []
        for number, change in enumerate(changes):
            record = self.transaction.record(table)
            assert record is not None
            if record.state is TableState.SET_ASIDE:
                return
            if _breaks(change) and record.keeps and not record.staging:
                put_rows(self.transaction, self._rows(record.schema), pending)
                pending = []
            if isinstance(change, Broken):
                stop = self.copy_again if change.copy_again else self.set_aside
                stop(table, change.why)
                return  # a new copy begins after this batch
            if isinstance(change, SchemaChange) and not change.faithful:
                if knows(self.transaction, record, change):
                    continue
                if self._keeps_most(record, change, changes[:number], batch):
                    pending = []
                    continue
                self.copy_again(table, change.why, schema=change.schema)
                return
            if record.staging:
                self._stage(record, change, changes[number + 1 :], batch)
                continue
            if isinstance(change, CellChanges):
                put_cells(self.transaction, table, [change])
                continue
            schema = self._bring_in(record.schema, change, pending, batch.times)
            if schema is not record.schema:
                record = self.transaction.record(table)
                assert record is not None
                self.transaction.put(replace(record, schema=schema))
        if pending:
            record = self.transaction.record(table)
            assert record is not None
            put_rows(self.transaction, self._rows(record.schema), pending)

    def _keeps_most(
        self, record: Record, change: SchemaChange, before: Sequence[Change], batch: ChangeBatch
    ) -> bool:
        """Whether only a part of the table is copied again; what was before it is then staged."""
        doubt, whole = change.doubt, batch.complete and not self.transaction.batches
        if doubt is None or change.schema != record.schema or not whole:
            return False
        if record.staging:
            return doubt_all(self.transaction, record, batch.end, doubt)
        if not all(isinstance(earlier, RowChanges) for earlier in before):
            return False  # some of them are in the table already
        table, fingerprint = record.table, change.fingerprint
        if not keep(self.transaction, table, change.why, fingerprint, doubt, self.position):
            return False
        for earlier in before:
            kept = self.transaction.record(table)
            assert kept is not None
            if kept.staging:
                self._stage(kept, earlier, (), batch)
        return True

    def _rows(self, schema: TableSchema) -> Relation:
        return self.transaction.writer.relation(relation(schema.table), schema)

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
    if record is not None and record.keeps and rows.name == relation(table):
        Archive(transaction, table).put_deleted(rows, changes, patches, horizon)
    gone, came = rows.put(collapse(rows.schema, changes), patches, horizon)
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
    if rows.name == relation(table):
        follow_archive(transaction, schema)
        if transaction.watches(table):
            note_schema(transaction, schema)


def _before_truncate(
    transaction: Transaction, rows: Relation, pending: list[RowChanges]
) -> list[RowChanges]:
    """What must be brought in before all rows go: nothing, unless they go into an archive."""
    record = transaction.record(rows.schema.table)
    return pending if record is not None and record.keeps else []


def _breaks(change: Change) -> bool:
    """Whether a table cannot follow it."""
    return isinstance(change, Broken) or (isinstance(change, SchemaChange) and not change.faithful)


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
        return stage(change, batch)
    if isinstance(change, CellChanges):
        return stage_cells(change, batch)
    if isinstance(change, Truncate):
        return stage_truncate(table, change, batch)
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
