"""One writer's cursor and its transaction. Never decides what to write.

Rows, records of tables, staged changes and the position become durable together or not at all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import duckdb

from htapkit.errors import HtapkitError
from htapkit.hot import imports, records, runs
from htapkit.hot.database import Database
from htapkit.hot.lakerows import LakeValues
from htapkit.hot.names import leaving, relation, shadow, statement, tombstones, touched
from htapkit.hot.patches import Patches
from htapkit.hot.prepared import Prepared
from htapkit.hot.reconciled import Reconciled
from htapkit.hot.records import Record
from htapkit.hot.relations import Relation
from htapkit.hot.runs import Run
from htapkit.hot.staging import SCHEMA, Staged, as_batch
from htapkit.hot.state import State
from htapkit.model import Import, Position, TableId, TableSchema

K = TypeVar("K")
V = TypeVar("V")


class Writer:
    """A cursor with the relations that it writes. One transaction at a time."""

    def __init__(
        self, database: Database, values: LakeValues, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self.values = values
        self.clock = clock
        self.cursor = database.cursor()
        self._relations: dict[str, Relation] = {}
        self._patches: dict[TableId, Patches] = {}
        self._reconciled: dict[TableId, Reconciled] = {}
        self._stage: Prepared | None = None

    def relation(self, name: str, schema: TableSchema) -> Relation:
        """A relation (quoted, qualified name) with its prepared statements."""
        found = self._relations.get(name)
        if found is not None and found.schema is not schema:
            self.forget(name)
            found = None
        if found is None:
            found = self._relations[name] = Relation(self.cursor, name, schema)
        return found

    def forget(self, name: str) -> None:
        """The relation is no longer what it was."""
        found = self._relations.pop(name, None)
        if found is not None:
            found.close()

    def patches(self, schema: TableSchema) -> Patches:
        """The keys beside a table's rows, with their prepared statements."""
        found = self._patches.get(schema.table)
        if found is not None and found.schema is not schema:
            self.forget_patches(schema.table)
            found = None
        if found is None:
            found = self._patches[schema.table] = Patches(self.cursor, schema, self.values)
        return found

    def forget_patches(self, table: TableId) -> None:
        """The relations of keys are no longer what they were."""
        found = self._patches.pop(table, None)
        if found is not None:
            found.close()

    def reconciled(self, schema: TableSchema, generation: int) -> Reconciled:
        """A table's cells and deletions, with their prepared statements."""
        found = self._reconciled.get(schema.table)
        if found is not None and (found.schema, found.generation) != (schema, generation):
            self.forget_reconciled(schema.table)
            found = None
        if found is None:
            found = Reconciled(self.cursor, schema, generation)
            self._reconciled[schema.table] = found
        return found

    def forget_reconciled(self, table: TableId) -> None:
        """The relations of cells are no longer what they were."""
        found = self._reconciled.pop(table, None)
        if found is not None:
            found.close()

    def stage(self, staged: Sequence[Staged], first_seq: int) -> None:
        """Add changes to those kept aside."""
        if self._stage is None:
            names = ", ".join(SCHEMA.names)
            self._stage = Prepared(
                self.cursor, SCHEMA, "insert", table="htapkit.staged", columns=names
            )
        self._stage.run(as_batch(staged, first_seq)).fetchall()

    def renew(self) -> None:
        """Begin with a new cursor: a rollback took what was registered in the transaction."""
        self.close()
        self._relations.clear()
        self._patches.clear()
        self._reconciled.clear()
        self._stage = None
        self.cursor = self._database.cursor()

    def close(self) -> None:
        """Let go of the cursor; what was not committed is gone."""
        self._database.release(self.cursor)


class Transaction:
    """What one transaction has written so far, on top of the committed state."""

    def __init__(self, writer: Writer, state: State) -> None:
        self.writer = writer
        self.cursor = writer.cursor
        self.owner = threading.get_ident()
        self.batches = 0  # how many batches of a large source transaction are in it
        self.watched: dict[tuple[str, str], frozenset[TableId] | None] = {}  # as State.watched
        self._state = state
        self._records: dict[TableId, Record | None] = {}
        self._visible = False
        self._staged: dict[TableId, int] = {}
        self._unstaged: set[TableId] = set()
        self._pending: list[Staged] = []
        self._churned: dict[TableId, int] = {}
        self._rows: dict[TableId, int] = {}
        self._sources: set[str] = set()
        self._removed_sources: set[str] = set()
        self._texts: dict[TableId, frozenset[str]] = {}
        self._runs: dict[str, Run | None] = {}
        self._imports: dict[TableId, Import | None] = {}
        self.cursor.begin()

    def record(self, table: TableId) -> Record | None:
        """A table's record as this transaction sees it."""
        return self._records[table] if table in self._records else self._state.records.get(table)

    def put(self, record: Record) -> None:
        """Write a table's record."""
        self._records[record.table] = record
        self._visible = True

    def remove(self, table: TableId) -> None:
        """A table's record goes."""
        self._records[table] = None
        self._visible = True

    def put_import(self, table: TableId, found: Import | None) -> None:
        """Write what is read of an Iceberg table; None: nothing any more."""
        self._imports[table] = found
        self._visible = True

    def records(self, source: str) -> Mapping[TableId, Record]:
        """The records of all tables of a source, as this transaction sees them."""
        merged = {**self._state.records, **self._records}
        return {t: r for t, r in merged.items() if r is not None and t.source == source}

    def run(self, run_id: str) -> Run | None:
        """A run, as this transaction sees it."""
        return self._runs[run_id] if run_id in self._runs else self._state.runs.get(run_id)

    def runs(self) -> Mapping[str, Run]:
        """All runs, as this transaction sees them."""
        return {i: r for i, r in {**self._state.runs, **self._runs}.items() if r is not None}

    def run_of(self, table: TableId) -> Run | None:
        """The run that wants to know how a table changes, if there is one."""
        if not self._state.runs and not self._runs:
            return None
        return next((r for r in self.runs().values() if r.logs and table in r.columns), None)

    def put_run(self, run: Run) -> None:
        """Write a run."""
        self._runs[run.tiering.id] = run

    def end_run(self, run: Run) -> None:
        """A run goes, with what was logged for it."""
        self._drop_touched(run)
        self._runs[run.tiering.id] = None

    def void(self, table: TableId, why: str) -> None:
        """The run that has this table, if there is one, can no longer be finished."""
        run = self.run_of(table)
        if run is not None:
            self._drop_touched(run)
            self.put_run(run.void(f"{table} {why}"))

    def untier(self, table: TableId, why: str) -> None:
        """What the lake has of a table no longer counts."""
        self.void(table, why)
        record = self.record(table)
        if record is not None and record.boundary is not None:
            self.drop(tombstones(table))
            self.writer.forget_patches(table)
            self.put(replace(record, boundary=None))

    def patches(self, schema: TableSchema) -> Patches | None:
        """What changes of a table's rows must heed beside them; None: nothing.

        `schema` is of the rows: a table that resumes may be behind its record.
        """
        record, run = self.record(schema.table), self.run_of(schema.table)
        if record is None or (record.boundary is None and run is None):
            return None
        found = self.writer.patches(schema)
        found.boundary, found.logs = record.boundary, run is not None
        return found

    def write_position(
        self, source: str, position: Position | None, committed_at: datetime | None
    ) -> None:
        """The source's changes up to `position` are in this transaction."""
        self.ensure_source(source)
        text = "UPDATE htapkit.sources SET position = $2, committed_at = $3 WHERE source = $1"
        self.cursor.execute(text, [source, position, committed_at]).fetchall()

    def ensure_source(self, source: str) -> None:
        """Have a row for the source."""
        if source not in self._state.sources | self._sources:
            self.cursor.execute(
                "INSERT INTO htapkit.sources (source) VALUES ($1)", [source]
            ).fetchall()
            self._sources.add(source)

    def remove_source(self, source: str) -> None:
        """Forget the source's position."""
        self.cursor.execute("DELETE FROM htapkit.sources WHERE source = $1", [source]).fetchall()
        self._removed_sources.add(source)

    def changed(self, table: TableId, gone: int, came: int) -> None:
        """Count rows, for the decision when to write a table in order again."""
        self._churned[table] = self._churned.get(table, 0) + gone
        self._rows[table] = self._rows.get(table, 0) + came - gone

    def evicted(self, table: TableId, count: int) -> None:
        """Rows went to the lake: that scatters nothing."""
        self._rows[table] = self._rows.get(table, 0) - count

    def staged_bytes(self) -> int:
        """Bytes kept aside, of all tables, as this transaction sees it."""
        kept = sum(n for t, n in self._state.staged_bytes.items() if t not in self._unstaged)
        return kept + sum(self._staged.values())

    def stage(self, staged: Staged) -> None:
        """Keep a change aside (written by `flush`)."""
        size = len(staged.payload or b"")
        self._staged[staged.table] = self._staged.get(staged.table, 0) + size
        self._pending.append(staged)

    def watches(self, table: TableId) -> bool:
        """Whether it is noted what becomes of a table's rows."""
        return any(table in tables for tables in self._state.watched.values())

    def archive_numbers(self, count: int) -> int:
        """The first of so many numbers for archived rows. None is given twice."""
        return self._state.archive_numbers(count)

    def save_archive_numbers(self) -> None:
        """Have the file know which numbers were given, whatever rows of archives leave it."""
        last = self._state.next_archived - 1
        self.cursor.execute("DELETE FROM htapkit.archive_numbers").fetchall()
        self.cursor.execute("INSERT INTO htapkit.archive_numbers VALUES ($1)", [last]).fetchall()

    def flush(self) -> None:
        """Write what was staged."""
        if self._pending:
            self.writer.stage(self._pending, self._state.next_seq)
            self._state.next_seq += len(self._pending)
            self._pending = []

    def unstage(self, table: TableId) -> None:
        """Forget all of a table's staged changes."""
        self._pending = [s for s in self._pending if s.table != table]
        self._unstaged.add(table)
        self._staged.pop(table, None)
        self.drop_staged(table, 2**63 - 1)

    def drop_staged(self, table: TableId, up_to: int) -> None:
        """Remove staged changes that were replayed."""
        self.cursor.execute(
            statement("forget_staged"), [table.source, table.schema, table.name, up_to]
        ).fetchall()

    def replayed(self, table: TableId, size: int) -> None:
        """So many staged bytes of the table went."""
        self._staged[table] = self._staged.get(table, 0) - size

    def set_text_columns(self, table: TableId, names: frozenset[str]) -> None:
        """Columns that the next copy keeps as text."""
        ids = [table.source, table.schema, table.name]
        self.cursor.execute(statement("forget_text"), ids).fetchall()
        for name in sorted(names):
            self.cursor.execute(
                "INSERT INTO htapkit.text_columns VALUES ($1, $2, $3, $4)", [*ids, name]
            ).fetchall()
        self._texts[table] = names

    def drop_shadow(self, record: Record) -> None:
        """Remove the copy that is being made, if there is one, and the cells of any copy."""
        if record.copy is not None:
            self.drop(shadow(record.table, record.generation))
        if record.schema.reconciled:
            for name in self.writer.reconciled(record.schema, record.generation).folded.all:
                self.drop(name)
            self.writer.forget_reconciled(record.table)

    def drop_relation(self, table: TableId) -> None:
        """Remove a table's rows."""
        self.drop(relation(table))

    def drop(self, name: str) -> None:
        """Remove a relation (quoted, qualified name), if it is there."""
        self.writer.forget(name)
        self.cursor.execute(f"DROP TABLE IF EXISTS {name}").fetchall()

    def commit(self) -> bool:
        """Make everything durable, then publish it in the state; whether the catalog changed."""
        self.flush()
        for table, record in self._records.items():
            if record is None:
                records.forget(self.cursor, table)
            else:
                records.save(self.cursor, record)
        for run_id, run in self._runs.items():
            if run is None:
                runs.forget(self.cursor, run_id)
            else:
                runs.save(self.cursor, run)
        for table, found in self._imports.items():
            imports.save(self.cursor, table, found)
        if self._visible:
            number = self._state.version + 1
            self.cursor.execute(
                "INSERT INTO htapkit.sources (version) VALUES ($1)", [number]
            ).fetchall()
        self.cursor.commit()
        self._publish()
        return self._visible

    def roll_back(self) -> None:
        """Undo everything. A file that failed is left to recovery."""
        with suppress(duckdb.Error):
            self.cursor.rollback()
        with suppress(HtapkitError):
            self.writer.renew()

    def _drop_touched(self, run: Run) -> None:
        for table in run.columns:
            if run.logs:
                self.drop(touched(table))
                self.drop(leaving(table))
            self.writer.forget_patches(table)

    def _publish(self) -> None:
        state = self._state
        _lay_over(state.runs, self._runs)
        _lay_over(state.imports, self._imports)
        _lay_over(state.watched, self.watched)
        for table, record in self._records.items():
            if record is None:
                state.forget(table)
            else:
                state.records[table] = record
        state.version += self._visible
        for table in self._unstaged:
            state.staged_bytes.pop(table, None)
        for table, size in self._staged.items():
            state.staged_bytes[table] = max(0, state.staged_bytes.get(table, 0) + size)
        for table, count in self._churned.items():
            state.churned[table] = state.churned.get(table, 0) + count
        for table, count in self._rows.items():
            state.rows[table] = max(0, state.rows.get(table, 0) + count)
        state.sources = (state.sources | self._sources) - self._removed_sources
        state.text_columns.update(self._texts)


def _lay_over(known: dict[K, V], changed: Mapping[K, V | None]) -> None:
    """What a transaction has changed, over what was known; None: it is gone."""
    for key, value in changed.items():
        known.pop(key, None)
        known |= {} if value is None else {key: value}
