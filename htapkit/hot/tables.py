"""What is known of each table and source, and changes of that on somebody's word.

Never touches rows but to drop them or to follow a change of the schema.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from htapkit.errors import CatalogChanged, StoreError, TableSetAside
from htapkit.hot import runs
from htapkit.hot.applier import Applying, evolve, put_rows
from htapkit.hot.archive import Archive
from htapkit.hot.collapse import NotConsistent
from htapkit.hot.copying import Copying
from htapkit.hot.core import Core
from htapkit.hot.names import clash, relation
from htapkit.hot.records import Record
from htapkit.hot.staging import stage_schema
from htapkit.hot.transactions import Transaction
from htapkit.model import (
    ARCHIVE,
    Position,
    RowChanges,
    SchemaChange,
    TableId,
    TableSchema,
    TableState,
    origin_of,
)


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of one store."""

    core: Core
    copying: Copying

    def forget_position(self, source: str) -> None:
        """The source lost the changes after our position: the next stream begins anew.

        Tables that follow are set to be copied again by the caller.
        """
        with self.core.writing():
            with self.core.operation(source) as transaction:
                transaction.write_position(source, None, None)
            self.core.progress.forget(source)

    def identity(self, source: str) -> str | None:
        """What `remember_identity` stored: which server the copy was made from."""
        with self.core.operation(source) as transaction:
            found = transaction.cursor.execute(
                "SELECT identity FROM htapkit.sources WHERE source = $1", [source]
            ).fetchall()
        return found[0][0] if found else None

    def remember_identity(self, source: str, identity: str) -> None:
        """Store which server the copy is made from."""
        with self.core.writing():
            with self.core.operation(source) as transaction:
                transaction.ensure_source(source)
                transaction.cursor.execute(
                    "UPDATE htapkit.sources SET identity = $2 WHERE source = $1", [source, identity]
                ).fetchall()
            self.core.progress.fall_back(source)

    def add_table(self, schema: TableSchema, fingerprint: str, why: str = "") -> None:
        """Know a table (or know it anew): it waits for a copy, and its changes are kept aside."""
        table = schema.table
        with self.core.operation(table.source) as transaction:
            former = transaction.record(table)
            generation = 0
            if former is not None:
                self._applying(transaction, table).copy_again(table, why)
                former = transaction.record(table)
                assert former is not None
                generation = former.generation
            record = Record(schema, fingerprint, TableState.COPYING, why, generation=generation)
            if former is not None:
                record = replace(
                    record,
                    stopped_at=former.stopped_at,
                    boundary=former.boundary,
                    horizon=former.horizon,
                    former=former.former,
                )
            keeps = table in self.core.archived and not schema.reconciled
            record = replace(record, keeps=keeps)
            if problem := clash(schema, self.core.state.records):
                record = replace(
                    record,
                    state=TableState.SET_ASIDE,
                    why=f"the copy cannot hold it: {problem}",
                )
            transaction.put(record)

    def copy_again(self, table: TableId, why: str) -> None:
        """The table waits for a new copy; what is staged and a copy in progress are given up."""
        self._bring_up_to_date(table)
        with self.core.operation(table.source) as transaction:
            self._known(transaction, table)
            # Without a position there are changes that nobody will ever see.
            exact = self.core.progress.stored(table.source)[0] is not None
            self._applying(transaction, table).copy_again(table, why, exact=exact)

    def set_state(self, table: TableId, state: TableState, why: str) -> None:
        """Pause a table, set it aside, have it copied again; FOLLOWING resumes a paused one."""
        if state is TableState.FOLLOWING:
            # Nothing staged while paused is older than the table: nothing to leave out.
            self.copying.finish(table, lambda *_: False, 0)
            return
        if state is TableState.COPYING:
            self.copy_again(table, why)
            return
        with self.core.operation(table.source) as transaction:
            record = self._known(transaction, table)
            if state is TableState.SET_ASIDE:
                self._applying(transaction, table).set_aside(table, why)
            elif record.state is TableState.SET_ASIDE:
                raise TableSetAside(table, record.why)
            else:
                position = self.core.progress.applied(table.source).position
                transaction.put(record.stopped(state, why, position))

    def change_schema(self, change: SchemaChange, fingerprint: str | None = None) -> None:
        """Follow a change of the schema that the stream has not shown; copy again if need be."""
        table = change.schema.table
        with self.core.operation(table.source) as transaction:
            record = self._known(transaction, table)
            applying = self._applying(transaction, table)
            if not change.faithful:
                applying.copy_again(table, change.why, schema=change.schema)
                return
            if record.state is TableState.SET_ASIDE:
                raise TableSetAside(table, record.why)
            if record.staging:
                position = self.core.progress.applied(table.source).position
                transaction.stage(stage_schema(change, position or Position("")))
            else:
                rows = transaction.writer.relation(relation(table), record.schema)
                try:
                    evolve(transaction, rows, change.schema)
                except NotConsistent as error:
                    applying.copy_again(table, str(error), schema=change.schema)
                    return
            applying.follow_former(table, [change], ())
            record = self._known(transaction, table)
            if record.state is not TableState.PAUSED:
                record = replace(record, schema=change.schema)
            transaction.put(replace(record, fingerprint=fingerprint or record.fingerprint))

    def correct(self, changes: RowChanges, schema: TableSchema) -> None:
        """Change rows of a paused table, beside what is kept aside for it.

        Raises CatalogChanged; where the rows are not there as they are said to be, the table is
        copied again.
        """
        table = changes.table
        with self.core.operation(table.source) as transaction:
            record = transaction.record(table)
            if record is None or record.state is not TableState.PAUSED or record.schema != schema:
                raise CatalogChanged(f"{table} is not paused any more, or has changed")
            rows = transaction.writer.relation(relation(table), schema)
            try:
                put_rows(transaction, rows, [changes])
            except NotConsistent as error:
                self._applying(transaction, table).copy_again(table, str(error))

    def keep_as_text(self, table: TableId, column: str) -> None:
        """The next copies of the table keep this column as PostgreSQL prints it."""
        with self.core.operation(table.source) as transaction:
            transaction.set_text_columns(table, self.text_columns(table) | {column})

    def text_columns(self, table: TableId) -> frozenset[str]:
        """The columns that `keep_as_text` named."""
        return self.core.state.text_columns.get(table, frozenset())

    def fingerprint(self, table: TableId) -> str:
        """The fingerprint with which the table was copied."""
        record = self.core.state.records.get(table)
        return record.fingerprint if record is not None else ""

    def drop_table(self, table: TableId) -> None:
        """Forget a table and its rows. What was archived of it stays."""
        with self.core.operation(table.source) as transaction:
            self._drop(transaction, table)

    def drop_source(self, source: str) -> None:
        """Forget a source with all its tables."""
        with self.core.operation(source) as transaction:
            for table in list(self.core.state.records):
                if table.source == source:
                    self._drop(transaction, table)
                elif table.source == ARCHIVE and (of := origin_of(table)) and of.source == source:
                    Archive(transaction, of).drop()
            for run in transaction.runs().values():
                if run.writer == source:
                    transaction.end_run(run)
            runs.drop_cuts(transaction.cursor, source, None)
            transaction.remove_source(source)
        self.core.progress.forget(source)

    def _bring_up_to_date(self, table: TableId) -> None:
        """What was kept aside for a paused table goes into it, where its archive wants that."""
        record = self.core.state.records.get(table)
        if record is None or record.state is not TableState.PAUSED:
            return
        if record.keeps and record.complete:
            with suppress(TableSetAside, CatalogChanged):  # then there is nothing to bring
                self.copying.finish(table, lambda *_: False, 0)

    def _applying(self, transaction: Transaction, table: TableId) -> Applying:
        position = self.core.progress.applied(table.source).position
        return Applying(transaction, position, self.core.database.limits.staged_bytes)

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
            transaction.untier(table, "was dropped")
            transaction.unstage(table)
            transaction.drop_shadow(record)
            transaction.drop_relation(table)
            transaction.set_text_columns(table, frozenset())
            transaction.remove(table)
