"""What keeps the file small and quick. Never changes what a reader sees.

Checkpoints in quiet moments, tables written in order again, a watch over the disk.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

import duckdb

from htapkit.errors import LimitReached
from htapkit.hot.cellwrites import end_cells
from htapkit.hot.core import Core
from htapkit.hot.names import name_list, quote, relation, shadow_name, statement
from htapkit.hot.records import Record
from htapkit.model import TableId, TableState, hot_relation, writer_of

_log = logging.getLogger(__name__)

_QUIET_SECONDS = 2.0
_WAL_WORTH_BYTES = 4 * 2**20
_DISK_SECONDS = 1.0
_COUNT_SECONDS = 10.0


class Upkeep:
    """The upkeep of one store."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._applies = 0
        self._apply_seconds = 0.0
        self._applied_at = core.seconds()
        self._disk_at = float("-inf")
        self._counted_at = core.seconds()

    def applied(self, seconds: float) -> None:
        """A batch was applied. Under the writer lock."""
        self._applies += 1
        self._apply_seconds += seconds
        self._applied_at = self._core.seconds()

    @property
    def apply_seconds(self) -> float:
        """How long batches were applied, in all."""
        return self._apply_seconds

    def check_disk(self) -> None:
        """Raise LimitReached when the file is as large as it may be, or the disk nearly full."""
        now = self._core.seconds()
        if now - self._disk_at < _DISK_SECONDS:
            return
        database = self._core.database
        limits = database.limits
        used = _size(database.path) + _size(database.wal_path)
        if limits.disk_bytes is not None and used > limits.disk_bytes:
            raise LimitReached(
                f"limits.disk: {database.path} has {used} bytes, {limits.disk_bytes} are allowed; "
                "raise the limit or mirror fewer tables"
            )
        free = shutil.disk_usage(database.path.parent).free
        if free < limits.disk_free_bytes:
            raise LimitReached(
                f"limits.disk_free: {free} bytes are free beside {database.path}, "
                f"{limits.disk_free_bytes} must stay free; free some space"
            )
        # Only a good answer is remembered: a bad one is looked at again each time.
        self._disk_at = now

    def maintain(self) -> None:
        """Do one useful thing, if the moment is quiet enough for it."""
        core = self._core
        with core.lock:
            if core.closed:
                return
        with core.writing():
            now = core.seconds()
            if now - self._counted_at > _COUNT_SECONDS:
                self._counted_at = now
                core.count_rows()
            self._expire()
            quiet = now - self._applied_at > _QUIET_SECONDS
            for record in list(core.state.records.values()):
                if core.opened(writer_of(record.table)) is None and self._scattered(
                    record, quiet=quiet
                ):
                    self._rewrite(record)
                    return
            if quiet and _size(core.database.wal_path) > _WAL_WORTH_BYTES:
                self._checkpoint()

    def rewrite(self, table: TableId) -> None:
        """Write a table anew now, and free the blocks that it had."""
        with self._core.writing():
            record = self._core.state.records.get(table)
            if record is not None and record.complete:
                self._rewrite(record)
                self._checkpoint()

    def sizes(self) -> Mapping[str, float]:
        """Plain numbers."""
        core = self._core
        database = core.database
        with core.lock, core.guarded():
            state = core.state
            found: dict[str, float] = {
                "file_bytes": _size(database.path),
                "wal_bytes": _size(database.wal_path),
                "staged_bytes": sum(state.staged_bytes.values()),
                "rows": sum(state.rows.values()),
                "applies": self._applies,
                "apply_seconds": round(self._apply_seconds, 6),
            }
            if not core.failed and not core.closed:
                cursor = database.cursor()
                try:
                    # What DuckDB says of itself; a file that just failed says nothing.
                    memory, temp = cursor.execute(statement("memory")).fetchall()[0]
                    found["memory_bytes"], found["temp_bytes"] = int(memory), int(temp)
                finally:
                    database.release(cursor)
        return found

    def _scattered(self, record: Record, *, quiet: bool) -> bool:
        state, limits = self._core.state, self._core.database.limits
        rows = state.rows.get(record.table, 0)
        if record.state is not TableState.FOLLOWING or rows > limits.rewrite_rows_max:
            return False
        churned = state.churned.get(record.table, 0)
        # In a busy time only when it is high time.
        share = limits.rewrite_share if quiet else 2 * limits.rewrite_share
        return churned >= limits.rewrite_rows_min and churned > share * rows

    def _expire(self) -> None:
        """Make rows anew of which a cell is over: no change will ever say so."""
        core = self._core
        for table, record in list(core.state.records.items()):
            following = record.state is TableState.FOLLOWING
            if not (record.schema.reconciled and following) or core.opened(table.source):
                continue
            with core.operation(table.source) as transaction:
                end_cells(transaction, record)

    def _rewrite(self, record: Record) -> None:
        table, core = record.table, self._core
        begun = core.seconds()
        order = record.schema.key or (record.schema.columns[0].name,)
        # A name that is free: the shadows of copies count up, too.
        new = shadow_name(table, record.generation + 1)
        qualified = f"{quote(hot_relation(table)[0])}.{quote(new)}"
        with core.operation(writer_of(table)) as transaction:
            transaction.cursor.execute(
                statement(
                    "rewrite",
                    new=qualified,
                    columns=name_list(c.name for c in record.schema.columns),
                    table=relation(table),
                    order=name_list(order),
                )
            ).fetchall()
            if record.schema.reconciled:
                transaction.writer.reconciled(record.schema, record.generation).compact()
            transaction.drop_relation(table)
            transaction.cursor.execute(
                f"ALTER TABLE {qualified} RENAME TO {quote(table.name)}"
            ).fetchall()
        core.state.churned[table] = 0
        seconds = round(core.seconds() - begun, 3)
        _log.info("table written in order", extra={"table": str(table), "seconds": seconds})

    def _checkpoint(self) -> None:
        cursor = self._core.database.cursor()
        try:
            cursor.execute("CHECKPOINT").fetchall()
        except duckdb.TransactionException:
            return  # somebody writes: another time
        finally:
            self._core.database.release(cursor)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
