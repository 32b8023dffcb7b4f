"""Brings batches of a stream in, each with its position in one transaction.

A batch is applied once, however often it comes. What DuckDB refuses sets one table aside; the rest
of the batch is then applied without it.
"""

from __future__ import annotations

from dataclasses import dataclass

from htapkit import failpoints
from htapkit.errors import TableSetAside
from htapkit.hot.applier import Applying, Covers, TableFailed, by_table, without_covered
from htapkit.hot.core import Core
from htapkit.hot.transactions import Transaction
from htapkit.hot.upkeep import Upkeep
from htapkit.model import ChangeBatch, Position, TableState


@dataclass(frozen=True, slots=True)
class Stream:
    """The streams of one store."""

    core: Core
    upkeep: Upkeep

    def apply(self, batch: ChangeBatch, covers: Covers) -> Position | None:
        """Bring in a batch: all of it, with its position, in one transaction.

        See HotStore.apply.
        """
        core = self.core
        source = batch.source
        with core.writing():
            self.upkeep.check_disk()
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
                    Applying(transaction, position, core.database.limits.staged_bytes).apply(batch)
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
            self.upkeep.applied(core.seconds() - begun)
            return batch.end

    def abort(self, source: str) -> None:
        """Give up a large transaction whose stream broke. Safe when there is none."""
        with self.core.lock:
            transaction = self.core.opened(source)
            if transaction is not None:
                transaction.roll_back()
                self.core.let_go(source, transaction)

    def _concerns_us(self, batch: ChangeBatch) -> bool:
        records = self.core.state.records
        return any(
            table in records and records[table].state is not TableState.SET_ASIDE
            for table in by_table(batch.changes)
        )

    def _apply_nothing(self, batch: ChangeBatch, covers: Covers) -> Position | None:
        core = self.core
        stored, stored_at = core.progress.stored(batch.source)
        if (
            stored is not None
            and core.seconds() - stored_at < core.database.limits.position_seconds
        ):
            self._moved(batch, covers, stored_at=None)
            return None
        with core.operation(batch.source) as transaction:
            transaction.write_position(batch.source, batch.end, batch.committed_at)
        self._moved(batch, covers, stored_at=core.seconds())
        return batch.end

    def _moved(self, batch: ChangeBatch, covers: Covers, *, stored_at: float | None) -> None:
        progress = self.core.progress
        current = progress.applied(batch.source).position
        # A stream that began again may pass positions that memory has already.
        behind = stored_at is None and current is not None and covers(current, batch.end)
        end = current if behind and current is not None else batch.end
        progress.move(
            batch.source, end, batch.committed_at, self.core.clock(), batch.marks, stored_at
        )

    def _without(self, error: TableFailed, source: str, transaction: Transaction) -> None:
        transaction.roll_back()
        self.core.let_go(source, transaction)
        why = f"its changes cannot be applied: {str(error).splitlines()[0]}"
        self.core.set_aside(error.table, why)
        if transaction.batches:
            raise TableSetAside(error.table, why) from error
