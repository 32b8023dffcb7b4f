"""Copies beside the tables: begin one, load its rows, bring it up to date and swap it in.

A copy is loaded by many threads without the writer lock; while it is brought up to date in rounds,
the other tables go on. Only the last round and the swap hold the lock. Also resumes paused tables,
whose changes were kept aside in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import duckdb
import pyarrow as pa

from htapkit import failpoints
from htapkit.errors import CatalogChanged, Stale, StoreError, TableSetAside
from htapkit.hot import ranges
from htapkit.hot.applier import Applying, TableFailed
from htapkit.hot.archive import Archive, follow_archive, former_of
from htapkit.hot.collapse import NotConsistent
from htapkit.hot.core import Core
from htapkit.hot.database import is_fatal
from htapkit.hot.folded import Folded
from htapkit.hot.horizon import horizon_column
from htapkit.hot.keeping import Keeping
from htapkit.hot.loading import Loading
from htapkit.hot.names import (
    clash,
    column_definitions,
    quote,
    shadow,
    statement,
)
from htapkit.hot.noting import note_copied
from htapkit.hot.ranges import RangedCopy
from htapkit.hot.records import Copy, Record, usable
from htapkit.hot.replay import Place, RangedReplay, replay
from htapkit.hot.staging import Covers, from_row
from htapkit.hot.transactions import Transaction
from htapkit.model import (
    Position,
    Split,
    TableId,
    TableSchema,
    TableState,
    hot_relation,
)

_ROUND_BYTES = 32 * 2**20
_LAST_ROUND_BYTES = 2 * 2**20
_ROUNDS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Copying:
    """The copies of one store."""

    core: Core

    def start(
        self,
        schema: TableSchema,
        fingerprint: str,
        position: Position,
        splits: Sequence[Split] = (),
    ) -> None:
        """Make an empty copy; rows and changes after `position` will come.

        With `splits` it is made range by range: the rows of each come at a position of their own,
        which covers `position`. Of a reconciled table they come part by part.
        """
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
            if schema.reconciled:
                Folded(schema, generation).create(cursor)
            copy = Copy(schema, fingerprint, position)
            former = former_of(record, exact=True)
            record = replace(record, generation=generation, copy=copy, former=former)
            if schema.reconciled:  # what is kept aside belongs to it, whoever goes on with it
                record = replace(record, fingerprint=fingerprint)
            transaction.put(record)
            ranges.plan(cursor, table, generation, splits)

    def ranged(self, table: TableId) -> RangedCopy | None:
        """The copy of the table that is made range by range, or in parts; None: there is none."""
        core = self.core
        with core.lock:
            core.ensure_open()
            record = core.state.records.get(table)
            cursor = core.database.cursor()
        try:
            with core.guarded():
                found = ranges.read(cursor, record) if record is not None else ()
        finally:
            core.database.release(cursor)
        if record is None or record.copy is None or not found:
            return None
        return RangedCopy(record.copy.schema, record.copy.fingerprint, found)

    @property
    def loading(self) -> Loading:
        """What brings rows into them."""
        return Loading(self.core)

    @property
    def keeping(self) -> Keeping:
        """The copies that begin with what the table has."""
        return Keeping(self.core)

    def fold(self, table: TableId, covers: Covers, place: Place) -> None:
        """Bring the ranges that a copy has up to date; what is staged is gone then.

        For a copy that is made range by range, while no range is being loaded.
        """
        core = self.core
        with core.lock:
            record = self._record(None, table)
            last = core.state.next_seq - 1
        if record.copy is None:
            raise _given_up(table)
        with self._refused(table):
            done: int | None = 0
            while done is not None and done < last:
                done = self._round(table, record, covers, place)

    def finish(
        self,
        table: TableId,
        covers: Covers,
        timeout_seconds: float,
        place: Place | None = None,
    ) -> bool:
        """Bring a copy, or a paused table, up to date and let it follow; whether that is done.

        It is not where ranges of the copy are (again) to be read. Waits until the source is
        applied up to the copy's own position; Stale at the timeout.
        """
        core = self.core
        with core.lock:
            record = self._record(None, table)
        if record.copy is None and record.state is TableState.COPYING:
            raise _given_up(table)
        if record.copy is None and not (record.state is TableState.PAUSED and record.complete):
            raise TableSetAside(table, "it has no copy to go on with; htapkit resync makes one")
        ranged = self.ranged(table)
        if ranged is None and place is not None:
            raise _given_up(table)
        if ranged is not None and (ranged.left or (place is None and not ranged.schema.reconciled)):
            self.go_on(table)
            return False
        if ranged is not None:
            wanted = {r.position for r in ranged.ranges if r.position is not None}
        else:
            wanted = {record.copy.position} if record.copy is not None else set()
        if wanted:
            self._reach(table, covers, wanted, timeout_seconds)
        with self._refused(table):
            for _ in range(_ROUNDS_MAX):
                with core.lock:
                    if core.state.staged_bytes.get(table, 0) <= _LAST_ROUND_BYTES:
                        break
                self._round(table, record, covers, place)
            return self._swap(table, record, covers, place)

    def _reach(
        self, table: TableId, covers: Covers, wanted: set[Position], timeout_seconds: float
    ) -> None:
        reached = self.core.progress.wait(
            table.source,
            lambda a: a.position is not None and all(covers(a.position, w) for w in wanted),
            timeout_seconds,
        )
        if not reached:
            raise Stale(
                f"{table} was copied at {', '.join(sorted(wanted))}, which {table.source} has not "
                f"reached within {timeout_seconds:g} s; the copy is kept, try again"
            )

    def go_on(self, table: TableId) -> None:
        """A copy that was paused goes on with what it does not have."""
        with self.core.operation(table.source) as transaction:
            record = self._record(transaction, table)
            if record.copy is not None and record.state is TableState.PAUSED:
                transaction.put(replace(record, state=TableState.COPYING, why=""))

    @contextmanager
    def _refused(self, table: TableId) -> Iterator[None]:
        """What DuckDB refuses sets the table aside."""
        try:
            yield
        except TableFailed as error:
            why = f"its changes cannot be applied: {error}"
            self.core.set_aside(table, why)
            raise TableSetAside(table, why) from error

    def _round(
        self, table: TableId, expected: Record, covers: Covers, place: Place | None
    ) -> int | None:
        """Replay the oldest staged changes; the lock is held for about as long as a large batch."""
        with self.core.operation(table.source) as transaction:
            record = self._unchanged(transaction, table, expected)
            return self._replay(transaction, record, covers, place)

    def _swap(self, table: TableId, expected: Record, covers: Covers, place: Place | None) -> bool:
        core, source = self.core, table.source
        # Under one lock: what was applied in between would be newer than what memory then says.
        with core.writing():
            with core.operation(source) as transaction:
                if not self._swap_in(transaction, table, expected, covers, place):
                    return False
                # The rows stand at the position in memory: the file must have it from now on.
                applied = core.progress.applied(source)
                if applied.position is not None:
                    transaction.write_position(source, applied.position, applied.committed_at)
            if applied.position is not None and core.opened(source) is None:
                core.progress.stored_again(source, applied.position, core.seconds())
            core.count_rows()
        return True

    def _swap_in(
        self,
        transaction: Transaction,
        table: TableId,
        expected: Record,
        covers: Covers,
        place: Place | None,
    ) -> bool:
        """Whether it went in; if not, its record says why, or some ranges must be read again."""
        record = self._unchanged(transaction, table, expected)
        while self._replay(transaction, record, covers, place) is not None:
            record = self._record(transaction, table)
        record = self._record(transaction, table)
        if record.state is TableState.COPYING and record.copy is None and not record.complete:
            return False  # the replay found it broken
        if any(r.position is None for r in ranges.read(transaction.cursor, record)):
            return False
        if record.copy is not None and ranges.came_into_doubt(record.copy.fingerprint):
            return False
        if ranges.read_again(transaction.cursor, record) is None:
            ranges.forget(transaction.cursor, table)
        schema, fingerprint = record.schema, record.fingerprint
        if record.copy is not None:
            schema, fingerprint = record.copy.schema, record.copy.fingerprint
            name = shadow(table, record.generation)
            horizon = record.horizon if horizon_column(schema, record.horizon) else None
            if record.former is not None:
                Archive(transaction, table).put_lost(record, name, schema, horizon)
            transaction.untier(table, "was copied again")
            record = replace(record, boundary=None, horizon=horizon)
            transaction.writer.forget(name)
            if schema.reconciled:
                cells = transaction.writer.reconciled(schema, record.generation)
                cells.make_all(name, transaction.writer.clock())
            transaction.drop_relation(table)
            transaction.cursor.execute(
                f"ALTER TABLE {name} RENAME TO {quote(table.name)}"
            ).fetchall()
        # A table that was paused while it was copied stays so, with its copy.
        paused = record.state is TableState.PAUSED and record.copy is not None
        applied = self.core.progress.applied(table.source)
        transaction.put(
            replace(
                record,
                schema=schema,
                fingerprint=fingerprint,
                state=TableState.PAUSED if paused else TableState.FOLLOWING,
                why=record.why if paused else "",
                complete=True,
                copy=None,
                stopped_at=applied.position if paused else None,
                former=None,
            )
        )
        if record.copy is not None:
            follow_archive(transaction, schema, anew=True)
            if transaction.watches(table):
                note_copied(transaction, schema)
        return True

    def _replay(
        self, transaction: Transaction, record: Record, covers: Covers, place: Place | None
    ) -> int | None:
        """Replay the oldest staged changes; the number of the last one, None: there are none."""
        table = record.table
        ids = [table.source, table.schema, table.name, _ROUND_BYTES]
        transaction.flush()
        rows = transaction.cursor.execute(statement("read_staged"), ids).fetchall()
        if not rows:
            return None
        applying = Applying(transaction, self.core.progress.applied(table.source).position, 0)
        try:
            staged = [from_row(table, *row[1:]) for row in rows]
            found = ranges.read(transaction.cursor, record)
            if place is not None and not found:
                raise _given_up(table)
            if place is not None:
                schema = RangedReplay(transaction, record, list(found), covers, place).run(staged)
            else:
                schema = replay(transaction, record, staged, covers)
            transaction.put(self._record(transaction, table).replayed(schema))
        except NotConsistent as error:
            applying.copy_again(table, str(error))
            return None
        except (duckdb.Error, pa.ArrowException) as error:
            if is_fatal(error):
                raise
            raise TableFailed(table, error) from error
        transaction.drop_staged(table, rows[-1][0])
        failpoints.reach("copy.replayed")
        transaction.replayed(table, sum(len(row[3] or b"") for row in rows))
        return int(rows[-1][0])

    def _record(self, transaction: Transaction | None, table: TableId) -> Record:
        found = transaction.record(table) if transaction else self.core.state.records.get(table)
        return usable(found, table)

    def _unchanged(self, transaction: Transaction, table: TableId, expected: Record) -> Record:
        record = self._record(transaction, table)
        if record.generation != expected.generation:
            raise _given_up(table)
        return record


def _given_up(table: TableId) -> CatalogChanged:
    return CatalogChanged(f"the copy of {table} was given up; make another one")
