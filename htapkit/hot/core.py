"""The writer side's common ground: the lock, the open transactions, and recovery of a failed file.

Every write goes through `operation` (or holds `lock` and uses `begin`). There is one writer lock;
a source whose large transaction is still open keeps its DuckDB transaction between calls, and only
the thread that brought it may write for that source until it ends.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

import duckdb

from htapkit.errors import HtapkitError, QueryFailed, StoreError, StoreFailed
from htapkit.hot import imports, records, runs
from htapkit.hot.applier import Applying
from htapkit.hot.database import Database, is_fatal, translated
from htapkit.hot.lakerows import LakeReader, LakeValues
from htapkit.hot.names import quote, relation, statement
from htapkit.hot.progress import Progress
from htapkit.hot.state import State
from htapkit.hot.transactions import Transaction, Writer
from htapkit.model import ARCHIVE, NUMBER, Catalog, TableId, hot_relation

_log = logging.getLogger(__name__)

Clock = Callable[[], datetime]


class Core:
    """What the parts of a hot store share."""

    def __init__(self, database: Database, clock: Clock, lake: LakeReader | None) -> None:
        """Take over what the open file holds."""
        self.database = database
        self.clock = clock
        self.lake_values = LakeValues(database, lake)
        self.progress = Progress()
        self.state = State()
        self.lock = threading.RLock()
        self.catalog = Catalog(0)
        self.archived: frozenset[TableId] = frozenset()  # of which deleted rows are to be kept
        self.failed = False  # the file must be opened anew
        self.closed = False
        self.before_reopen: Callable[[], None] = lambda: None
        self._idle = threading.Condition(self.lock)
        self._writers: dict[str, Writer] = {}
        self._open: dict[str, Transaction] = {}
        self._load()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the writer lock, with the file open; DuckDB's errors come out as ours."""
        with self.lock:
            self.ensure_open()
            try:
                yield
            except duckdb.Error as error:
                if is_fatal(error):
                    self.recover(error)
                ours = translated(error)
                # Nobody's statement failed here, but the store's own.
                raise StoreFailed(str(ours)) if isinstance(ours, QueryFailed) else ours from error

    @contextmanager
    def operation(self, source: str) -> Iterator[Transaction]:
        """A transaction for one thing, committed at the end.

        Within a large transaction of the same source and thread it is that transaction, and takes
        effect when that one commits; other threads wait until it has ended.
        """
        with self.writing():
            opened = self._await_idle(source)
            if opened is not None:
                yield opened
                opened.flush()
                return
            transaction = self.begin(source)
            try:
                yield transaction
            except BaseException:
                transaction.roll_back()
                raise
            self.commit(source, transaction)

    @contextmanager
    def alone(self, source: str) -> Iterator[Transaction]:
        """As `operation`, for what must not be part of a large transaction of the same thread."""
        with self.writing():
            if self._await_idle(source) is not None:
                raise StoreError(f"a large transaction of {source} is open in this thread")
            with self.operation(source) as transaction:
                yield transaction

    def begin(self, source: str) -> Transaction:
        """A new transaction on the source's own cursor. Under `lock`."""
        writer = self._writers.get(source)
        if writer is None:
            writer = self._writers[source] = Writer(self.database, self.lake_values, self.clock)
        return Transaction(writer, self.state)

    def commit(self, source: str, transaction: Transaction) -> None:
        """Commit and publish. Under `lock`."""
        try:
            changed = transaction.commit()
        except duckdb.Error:
            transaction.roll_back()
            raise
        finally:
            self.let_go(source, transaction)
        if changed:
            self.publish()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """DuckDB's errors come out as ours; the lock is not held."""
        try:
            yield
        except duckdb.Error as error:
            if is_fatal(error):
                with self.lock:
                    self.recover(error)
            raise translated(error) from error

    def set_aside(self, table: TableId, why: str) -> None:
        """Follow the table no longer, in a transaction of its own."""
        with self.operation(table.source) as transaction:
            if transaction.record(table) is not None:
                position = self.progress.applied(table.source).position
                Applying(transaction, position, 0).set_aside(table, why)

    def opened(self, source: str) -> Transaction | None:
        """The source's large transaction, if one is open. Under `lock`."""
        return self._open.get(source)

    @property
    def large_open(self) -> bool:
        """Whether any source's large transaction is open."""
        return bool(self._open)

    def keep_open(self, source: str, transaction: Transaction) -> None:
        """The transaction goes on with the next batch. Under `lock`."""
        self._open[source] = transaction

    def let_go(self, source: str, transaction: Transaction) -> None:
        """The transaction has ended. Under `lock`."""
        if self._open.get(source) is transaction:
            del self._open[source]
            self._idle.notify_all()

    def publish(self) -> None:
        """Make a new catalog of the state. Under `lock`."""
        state = self.state
        self.catalog = Catalog(
            state.version,
            {t: r.status(state.rows.get(t, 0)) for t, r in state.records.items()},
            {table: found.status for table, found in state.imports.items()},
        )

    def ensure_open(self) -> None:
        """Open the file again if it failed. Under `lock`. Raises StoreFailed."""
        if self.closed:
            raise StoreFailed(f"the hot store {self.database.path} is closed")
        if self.failed:
            self._reopen()

    def recover(self, error: BaseException) -> None:
        """Open the file again after a fatal error, and raise StoreFailed. Under `lock`."""
        _log.error("hot store failed", extra={"error": str(error).split("\n", 1)[0]})
        self.failed = True
        with suppress(HtapkitError, duckdb.Error):
            self._reopen()
        raise translated(error) from error

    def close(self) -> None:
        """Let go of the file."""
        with self.lock:
            self.closed = True
            self._drop_writers()
            self.database.close()

    def count_rows(self) -> None:
        """Take the numbers of rows from DuckDB, and publish them. Under `lock`."""
        cursor = self.database.cursor()
        try:
            self._count_rows(cursor)
        finally:
            self.database.release(cursor)

    @staticmethod
    def seconds() -> float:
        """A clock for ages."""
        return time.monotonic()

    def _count_rows(self, cursor: duckdb.DuckDBPyConnection) -> None:
        found = set(cursor.execute(statement("relations")).fetchall())
        self.state.rows = dict.fromkeys(self.state.records, 0)
        for table in self.state.records:
            if hot_relation(table) in found:
                # DuckDB's own estimate counts deleted rows, too; without a filter this is cheap.
                count = statement("count", table=relation(table))
                self.state.rows[table] = int(cursor.execute(count).fetchall()[0][0])
        self.publish()

    def _await_idle(self, source: str) -> Transaction | None:
        while (opened := self._open.get(source)) is not None:
            if opened.owner == threading.get_ident():
                return opened
            self._idle.wait()
            self.ensure_open()
        return None

    def _reopen(self) -> None:
        self.before_reopen()
        self._drop_writers()
        self.database.close()
        self.database.open()
        self._load()
        self.failed = False
        _log.info("hot store opened again")

    def _drop_writers(self) -> None:
        self._open.clear()
        writers, self._writers = self._writers, {}
        for writer in writers.values():
            writer.close()
        self._idle.notify_all()

    def _load(self) -> None:
        cursor = self.database.cursor()
        try:
            head = records.read_head(cursor.execute(statement("head")).fetchall())
            state = State(records=records.load(cursor), version=head.version)
            state.runs = runs.load(cursor)
            state.imports = imports.load(cursor)
            for *names, size, last in cursor.execute(statement("staged_sizes")).fetchall():
                state.staged_bytes[TableId(*names)] = int(size)
                state.next_seq = max(state.next_seq, int(last) + 1)
            for reader, *names in cursor.execute(statement("load_watched")).fetchall():
                key, watched = (names[0], reader), state.watched
                also = {TableId(*names)} if names[1] is not None else set()
                watched[key] = watched.get(key, frozenset()) | also
            for (last,) in cursor.execute("FROM htapkit.archive_numbers").fetchall():
                state.next_archived = int(last) + 1
            for table in [t for t in state.records if t.source == ARCHIVE]:
                text = statement("last_archived", number=quote(NUMBER), table=relation(table))
                last = cursor.execute(text).fetchall()[0][0]
                state.next_archived = max(state.next_archived, int(last) + 1)
            texts: dict[TableId, set[str]] = {}
            for *names, column in cursor.execute("FROM htapkit.text_columns").fetchall():
                texts.setdefault(TableId(*names), set()).add(column)
            state.text_columns = {t: frozenset(found) for t, found in texts.items()}
            state.sources = set(head.positions)
            self.state = state
            self._count_rows(cursor)
        finally:
            self.database.release(cursor)
        for source, (position, committed_at) in head.positions.items():
            self.progress.restore(source, position, committed_at)
