"""Reads: one DuckDB transaction each, with the positions that its snapshot has.

The positions and the catalog's version are read inside the read's own transaction, so they are
those of the rows that it returns, however fast changes are applied meanwhile. A read never writes:
its transaction is read-only, and the file's settings keep it from everything outside the file.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType

import duckdb
import pyarrow as pa

from htapkit.errors import (
    CatalogChanged,
    HtapkitError,
    LakeFailed,
    LimitReached,
    QueryCancelled,
    QueryFailed,
    StoreFailed,
)
from htapkit.hot import records
from htapkit.hot.core import Core
from htapkit.hot.database import Database, is_fatal, translated
from htapkit.hot.lakearms import LakeArm
from htapkit.hot.lakerows import local_path, unreadable
from htapkit.hot.names import quote, statement, tombstones
from htapkit.hot.parts import HotPart
from htapkit.hot.progress import Progress
from htapkit.hot.times import microseconds
from htapkit.model import Position

_BATCH_ROWS = 16384
_BREAK_SECONDS = 5.0
_ERRORS = (duckdb.Error, pa.ArrowException, OSError)


@dataclass(frozen=True, slots=True)
class Asked:
    """A statement, and the relations that it may name besides those of the file."""

    sql: str
    parameters: Sequence[object] = ()
    lake: Sequence[LakeArm] = ()
    given: Mapping[str, pa.Table] = field(default_factory=dict)
    hot: Sequence[HotPart] = ()


class Reader:
    """A pooled cursor with the prepared statement that every read begins with."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.opened = database.opened
        self.cursor = database.cursor()
        self.cursor.execute("PREPARE htapkit_head AS " + statement("head"))

    def begin(self) -> records.Head:
        """Begin a transaction; what its snapshot has."""
        self.cursor.execute("BEGIN TRANSACTION READ ONLY")
        return records.read_head(self.cursor.execute("EXECUTE htapkit_head").fetchall())

    def close(self) -> None:
        """Give the cursor back to the database for good."""
        self._database.release(self.cursor)


class Read:
    """A running read. A context manager; `cancel` may come from any thread, the rest from one."""

    positions: Mapping[str, Position]
    committed_at: Mapping[str, datetime | None]
    now: int  # microseconds: what has ended by then is not read

    def __init__(self, reader: Reader, done: Callable[[Read, Reader | None], None]) -> None:
        """Use `Reads.open`."""
        self._reader: Reader | None = reader
        self._done = done
        self._lock = threading.RLock()
        self._result: pa.RecordBatchReader | None = None
        self._cancelled = ""
        self._broken = ""
        self._lake: Sequence[LakeArm] = ()
        self._registered: list[str] = []
        self.deadline: float | None = None

    @property
    def schema(self) -> pa.Schema:
        """The result's columns as DuckDB gives them."""
        assert self._result is not None
        return self._result.schema

    def batches(self, rows: int = _BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """The rest of the result, as it is computed.

        Raises QueryFailed, QueryCancelled, StoreFailed, LimitReached.
        """
        while True:
            with self._calling():
                assert self._result is not None
                try:
                    batch = self._result.read_next_batch()
                except StopIteration:
                    return
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows)

    def cancel(self, why: str = "the statement was cancelled") -> None:
        """Stop it; the thread that reads gets QueryCancelled."""
        self._cancelled = why
        reader = self._reader
        if reader is not None:
            with contextlib.suppress(duckdb.Error):
                reader.cursor.interrupt()

    def close(self) -> None:
        """End the transaction. Safe to call twice."""
        with self._lock:
            reader = self._reader
            if reader is None:
                return
            try:
                self._drop_statement(reader)
                reader.cursor.rollback()
            except _ERRORS:
                reader.close()
                reader = None
            self._reader = None
        self._done(self, reader)

    def break_off(self, why: str) -> None:
        """The file is opened anew: end now, whoever reads."""
        self._broken = why
        reader = self._reader
        if reader is not None:
            with contextlib.suppress(duckdb.Error):
                reader.cursor.interrupt()
        if self._lock.acquire(timeout=_BREAK_SECONDS):
            try:
                self.close()
            finally:
                self._lock.release()

    def start(
        self, progress: Progress, catalog_version: int | None, sources: Sequence[str]
    ) -> None:
        """Begin the transaction and learn where it stands."""
        with self._calling():
            assert self._reader is not None
            head = self._reader.begin()
        if catalog_version is not None and head.version != catalog_version:
            raise CatalogChanged(
                f"tables changed since the statement was planned (version {catalog_version}, "
                f"now {head.version}); plan it again"
            )
        positions: dict[str, Position] = {}
        committed: dict[str, datetime | None] = {}
        for source in sources or head.positions:
            position, committed_at = head.positions.get(source, (None, None))
            if position is not None:
                at, when = progress.effective(source, position, committed_at)
                positions[source], committed[source] = at, when
        self.positions, self.committed_at = positions, committed

    def run(self, asked: Asked) -> None:
        """Start a statement, which can name what `asked` has; another one must have ended."""
        self._lake = asked.lake
        with self._calling():
            assert self._reader is not None
            cursor = self._reader.cursor
            statements = cursor.extract_statements(asked.sql)
            if len(statements) != 1 or statements[0].type is not duckdb.StatementType.SELECT:
                raise QueryFailed("the hot store runs one SELECT at a time, and nothing else")
            for part in asked.hot:
                _view(cursor, part.name, part.query())
            for arm in asked.lake:
                self._open(cursor, arm)
            for name, table in asked.given.items():
                cursor.register(name, table)
                self._registered.append(name)
            query, values = statements[0], list(asked.parameters)
            relation = cursor.sql(query, params=values) if values else cursor.sql(query)
            self._result = relation.to_arrow_reader(_BATCH_ROWS)

    def _open(self, cursor: duckdb.DuckDBPyConnection, arm: LakeArm) -> None:
        """Make the arm's view."""
        rest = f"{arm.name} rest"
        rows = arm.rest()
        if rows is not None:
            cursor.register(rest, rows)
            self._registered.append(rest)
        gone = statement("any", table=tombstones(arm.schema.table)) if arm.patched else ""
        buried = bool(gone and cursor.execute(gone).fetchall())
        _view(cursor, arm.name, arm.query(rest, self.now, buried=buried))

    def end_statement(self) -> None:
        """Let go of the statement, however far it is; the transaction goes on."""
        with self._lock, contextlib.suppress(*_ERRORS):
            if self._reader is not None:
                self._drop_statement(self._reader)

    def _drop_statement(self, reader: Reader) -> None:
        if self._result is not None:
            self._result.close()
            self._result = None
        for name in self._registered:
            reader.cursor.unregister(name)
        self._registered = []

    def _ours(self, error: BaseException) -> HtapkitError:
        """A file of the lake that cannot be read is no failure of the hot store's file."""
        text = str(error)
        for arm in self._lake:
            if any(local_path(path) in text for path in arm.files.paths):
                return unreadable(arm.schema.table, error)
        return translated(error)

    @contextlib.contextmanager
    def _calling(self) -> Iterator[None]:
        with self._lock:
            self._check()
            try:
                yield
            except _ERRORS as error:
                self._check()
                raise self._ours(error) from error
            self._check()

    def _check(self) -> None:
        if self._broken:
            raise StoreFailed(self._broken)
        if self._cancelled:
            raise QueryCancelled(self._cancelled)
        if self._reader is None:
            raise StoreFailed("the read is closed")

    def __enter__(self) -> Read:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Reads:
    """All reads of a store: the pool of cursors, the limit, the time limit."""

    def __init__(self, core: Core, failed: Callable[[BaseException], None]) -> None:
        """`failed` is told of fatal errors, outside any lock of ours."""
        self._clock = core.clock
        self._database = core.database
        self._progress = core.progress
        self._failed = failed
        self._lock = threading.Lock()
        self._idle: list[Reader] = []
        self._active: set[Read] = set()
        self._own: set[Read] = set()  # of our own jobs: no limit is about them
        self._closed = False
        self._watchdog: threading.Thread | None = None
        self._stop = threading.Event()
        self.begun_at = float("-inf")  # the last one, by the monotonic clock

    @property
    def active(self) -> int:
        """How many statements there are now."""
        return len(self._active)

    def open(
        self,
        asked: Asked,
        sources: Sequence[str],
        catalog_version: int | None,
    ) -> Read:
        """A read.

        Raises LimitReached, CatalogChanged, QueryFailed, StoreFailed, LakeFailed.
        """
        read = self.begin(sources, catalog_version)
        with self._closing_if_failed(read):
            read.run(asked)
        return read

    def begin(
        self, sources: Sequence[str], catalog_version: int | None, *, own: bool = False
    ) -> Read:
        """A transaction, and no statement yet. Raises LimitReached, CatalogChanged, StoreFailed.

        `own`: for a job of our own, whose reads neither count nor end by a limit.
        """
        self.begun_at = time.monotonic()
        read = self._new(own=own)
        read.now = microseconds(self._clock())
        with self._closing_if_failed(read):
            read.start(self._progress, catalog_version, sources)
        return read

    @contextlib.contextmanager
    def _closing_if_failed(self, read: Read) -> Iterator[None]:
        try:
            yield
        except HtapkitError as error:
            read.close()
            cause = error.__cause__
            if cause is not None and is_fatal(cause) and not isinstance(error, LakeFailed):
                self._failed(cause)
            raise
        except BaseException:
            read.close()
            raise

    def break_off(self, why: str) -> None:
        """End all reads and let go of all cursors, because the file is opened anew."""
        with self._lock:
            active = [*self._active, *self._own]
            idle, self._idle = self._idle, []
        for read in active:
            read.break_off(why)
        for reader in idle:
            reader.close()

    def close(self) -> None:
        """No more reads."""
        self._closed = True
        self._stop.set()
        self.break_off("the hot store is being closed")
        if self._watchdog is not None:
            self._watchdog.join()

    def _new(self, *, own: bool) -> Read:
        limits = self._database.limits
        with self._lock:
            if self._closed:
                raise StoreFailed(f"the hot store {self._database.path} is closed")
            if not own and len(self._active) >= limits.reads:
                raise LimitReached(
                    f"limits.reads: {limits.reads} statements are running on the copy; "
                    "raise the limit or try again"
                )
            reader = self._idle.pop() if self._idle else None
            try:
                if reader is None:
                    reader = Reader(self._database)
            except duckdb.Error as error:
                raise translated(error) from error
            read = Read(reader, self._give_back)
            (self._own if own else self._active).add(read)
        if limits.read_seconds is not None and not own:
            read.deadline = time.monotonic() + limits.read_seconds
            self._watch()
        return read

    def _give_back(self, read: Read, reader: Reader | None) -> None:
        with self._lock:
            self._active.discard(read)
            self._own.discard(read)
            if reader is None:
                return
            if reader.opened == self._database.opened and not self._closed:
                self._idle.append(reader)
                return
        reader.close()

    def _watch(self) -> None:
        with self._lock:
            if self._watchdog is not None:
                return
            self._watchdog = threading.Thread(target=self._guard, name="read-limit", daemon=True)
        self._watchdog.start()

    def _guard(self) -> None:
        while not self._stop.wait(0.05):
            now = time.monotonic()
            with self._lock:
                late = [r for r in self._active if r.deadline is not None and r.deadline < now]
            for read in late:
                seconds = self._database.limits.read_seconds
                read.cancel(f"limits.statement_time: it ran longer than {seconds:g} s")


def _view(cursor: duckdb.DuckDBPyConnection, name: str, query: str) -> None:
    """Make a view; it goes with the read's transaction."""
    cursor.execute(f"CREATE OR REPLACE TEMP VIEW {quote(name)} AS {query}").fetchall()
