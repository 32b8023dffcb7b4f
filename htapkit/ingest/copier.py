"""Copying tables: one path for the first copy, a table added later and a copy that is made again.

The stream runs already and its changes for a copying table are staged in the hot store. Then a
snapshot is opened at a position S, read in parallel into a shadow table, and the staged commits
after S are replayed onto it; the last round and the swap are one transaction. A table whose copy
was cut short starts again, but for reconciled ones: there, what was read stays, and the next
snapshot gives what is left. Very large tables are copied range by range, see `ranges`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial

import pyarrow as pa
import structlog

from htapkit import failpoints
from htapkit.errors import CatalogChanged, HtapkitError, TableSetAside, UnfaithfulValue
from htapkit.hot import HotStore
from htapkit.hot.ranges import KeyRange
from htapkit.ingest.ranges import BetweenBatches, CopyLimits, RangeCopier, agrees, found_in
from htapkit.metrics import Metrics
from htapkit.model import Position, Split, TableId, TableState
from htapkit.resumable import Resumable
from htapkit.spi import Discovered, Snapshot, Source

_log = structlog.get_logger("htapkit.ingest")
_FREE_TRIES = 8
_CALM_SECONDS = 60.0


class _Cancelled(HtapkitError):
    """The server is stopping, or the table is no longer to be copied."""


class Copier:
    """Copies every table that is in state COPYING.

    One thread calls `run`; the rest is thread-safe.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        store: HotStore,
        metrics: Metrics,
        *,
        limits: CopyLimits,
        between_batches: BetweenBatches,
        reach: Callable[[Position], object],
    ) -> None:
        """`reach` waits until a position is applied."""
        self._name = name
        self._source = source
        self._store = store
        self._metrics = metrics
        self._readers = limits.readers
        self._between = between_batches
        self._reach = reach
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._progress: dict[TableId, list[int]] = {}
        for table in store.catalog.tables:
            if table.source == name:
                self._look_at_parts(table)
        self._tries: dict[TableId, tuple[int, float]] = {}
        self._ranges = RangeCopier(
            name,
            source,
            store,
            limits=limits,
            between_batches=between_batches,
            reach=reach,
            counted=self._counted,
        )

    def wake(self) -> None:
        """There may be something to copy."""
        self._wake.set()

    def stop(self) -> None:
        """Give up what is being copied."""
        self._stop.set()
        self._wake.set()

    def wait(self, timeout_seconds: float, stopping: threading.Event) -> None:
        """Sleep until woken."""
        if not stopping.is_set():
            self._wake.wait(timeout_seconds)
        self._wake.clear()

    def progress(self, table: TableId) -> tuple[int, int]:
        """(rows copied, rows expected) of a table that is being copied."""
        done, expected = self._progress.get(table, (0, 0))
        return done, max(done, expected)

    def run(self, stopping: threading.Event) -> None:
        """Copy all tables that wait for it, under one snapshot; very large ones go one step on.

        Raises SourceError to be called again.
        """
        tables = self._waiting()
        if not tables or stopping.is_set():
            return
        ranged = self._ranges.chosen(tables)
        whole = [table for table in tables if table not in ranged]
        if whole:
            self._copy_whole(whole)
        for table, splits in ranged.items():
            if not stopping.is_set():
                self._step(table, splits)

    def _copy_whole(self, tables: Sequence[TableId]) -> None:
        begun = time.monotonic()
        as_text = {table: self._store.text_columns(table) for table in tables}
        snapshot = self._source.snapshot(tables, as_text)
        try:
            failpoints.reach("copy.snapshot")
            for table in tables:
                self._copy_one(snapshot, table)
        finally:
            snapshot.close()
        _log.info(
            "copied",
            source=self._name,
            tables=len(tables),
            seconds=round(time.monotonic() - begun, 2),
        )

    def _waiting(self) -> list[TableId]:
        """What is to be copied now. A table whose copies keep failing is tried ever more seldom."""
        tables = [
            table
            for table, status in sorted(self._store.catalog.tables.items())
            if table.source == self._name and status.state is TableState.COPYING
        ]
        now = time.monotonic()
        due = []
        for table in tables:
            count, last = self._tries.get(table, (0, now - _CALM_SECONDS))
            pause = min(2.0 ** (count - _FREE_TRIES), _CALM_SECONDS) if count > _FREE_TRIES else 0.0
            if now - last >= pause:
                self._tries[table] = (0 if now - last >= _CALM_SECONDS else count + 1, now)
                due.append(table)
        return due

    def _copy_one(self, snapshot: Snapshot, table: TableId) -> None:
        """Copy one table; what is wrong with it alone sets it aside."""
        with self._mishaps(table):
            found = found_in(snapshot, table)
            if not agrees(self._source, self._store, self._between, found):
                self._wake.set()
                return
            self._all(self._loads(snapshot, table, found))
            failpoints.reach("copy.loaded")
            self._reach(snapshot.position)
            self._store.finish_copy(table, self._source.positions.covers)
            self._swapped(table, "tables")
        self._progress.pop(table, None)

    def _step(self, table: TableId, splits: Sequence[Split]) -> None:
        """Go on with a very large table."""
        before = self._store.copying.ranged(table)
        expected = before.rows_estimate if before else sum(s.rows_estimate for s in splits)
        self._progress[table] = [before.rows if before else 0, max(expected, 1)]
        with self._mishaps(table):
            follows = self._ranges.step(table, splits)
            after = self._store.copying.ranged(table)
            if after is not None and (before is None or len(after.left) < len(before.left)):
                self._tries.pop(table, None)
            if follows:
                self._swapped(table, "partitions" if before and before.kept else "tables")
                self._progress.pop(table, None)
            self._wake.set()

    def _swapped(self, table: TableId, of: str) -> None:
        self._tries.pop(table, None)
        self._metrics.copies.labels(self._name, of).inc()
        failpoints.reach("copy.swapped")
        rows = self._store.catalog.tables[table].rows
        _log.info("table follows", table=str(table), rows=rows)

    @contextmanager
    def _mishaps(self, table: TableId) -> Iterator[None]:
        """What is wrong with one table alone has its consequence for that table."""
        try:
            yield
        except UnfaithfulValue as error:
            column = error.column
            self._between(lambda: self._store.keep_as_text(table, column))
            self._again(table, str(error))
        except TableSetAside as error:
            why = error.why
            self._between(lambda: self._store.set_state(table, TableState.SET_ASIDE, why))
            _log.warning("table set aside", table=str(table), why=why)
        except CatalogChanged as error:
            # Where the table is still wanted, another copy is made.
            _log.info("copy given up", table=str(table), why=str(error))
        except _Cancelled:
            return

    def _again(self, table: TableId, why: str) -> None:
        self._between(lambda: self._store.copy_again(table, why))
        self._wake.set()

    def _loads(
        self, snapshot: Snapshot, table: TableId, found: Discovered
    ) -> Sequence[Callable[[], object]]:
        """A copy begins, or goes on: what brings its splits in."""
        if isinstance(snapshot, Resumable):
            return self._left(snapshot, snapshot, table)
        self._progress[table] = [0, max(found.rows_estimate, 1)]
        splits = snapshot.splits(table)
        self._store.start_copy(found.schema, found.fingerprint, snapshot.position)
        return [partial(self._load_split, snapshot, split) for split in splits]

    def _left(
        self, snapshot: Snapshot, resumable: Resumable, table: TableId
    ) -> Sequence[Callable[[], object]]:
        """What is left of a copy that goes on, or of a new one. `resumable` is the snapshot."""
        copying = self._store.copying
        copy = copying.ranged(table)
        if copy is not None and (why := resumable.goes_on(table, copy.fingerprint)):
            _log.info("copy begins anew", table=str(table), why=why)
            self._again(table, why)
            raise _Cancelled(why)
        if copy is None:
            begun, splits = resumable.begin(table), snapshot.splits(table)
            schema, fingerprint = begun.table.schema, begun.table.fingerprint
            copying.start(schema, fingerprint, begun.position, splits)
            copy = copying.ranged(table)
            assert copy is not None, "each copy has a split"
        elif copy.rows:
            _log.info("copy goes on", table=str(table), rows=copy.rows)
        self._progress[table] = [copy.rows, copy.rows_expected]
        return [partial(self._load_parts, resumable, each) for each in copy.left]

    def _all(self, loads: Sequence[Callable[[], object]]) -> None:
        with ThreadPoolExecutor(self._readers, thread_name_prefix=f"copy-{self._name}") as pool:
            jobs = [pool.submit(load) for load in loads]
            done, left = wait(jobs, return_when=FIRST_EXCEPTION)
            for job in left:
                job.cancel()
            for job in done:
                job.result()

    def _load_split(self, snapshot: Snapshot, split: Split) -> None:
        self._store.load(split.table, self._counted(snapshot, split))

    def _load_parts(self, snapshot: Resumable, each: KeyRange) -> None:
        parts = self._parts(snapshot, each.split)
        self._store.copying.loading.load_parts(each.split.table, each.number, parts)
        self._got_on(each.split.table)

    def _parts(self, snapshot: Resumable, split: Split) -> Iterator[pa.RecordBatch | Split]:
        for part in snapshot.parts(split):
            if not isinstance(part, Split):
                self._count(split.table, part)
            yield part
            if isinstance(part, Split):  # by now it is durable
                self._got_on(split.table)

    def _got_on(self, table: TableId) -> None:
        """However often it is cut short."""
        self._tries.pop(table, None)
        self._look_at_parts(table)

    def _look_at_parts(self, table: TableId) -> None:
        """How far a copy in parts is, also one of before a restart."""
        copy = self._store.copying.ranged(table)
        if copy is not None and copy.schema.reconciled:
            self._progress.setdefault(table, [copy.rows, 0])[1] = copy.rows_expected

    def _counted(self, snapshot: Snapshot, split: Split) -> Iterator[pa.RecordBatch]:
        for batch in snapshot.read(split):
            self._count(split.table, batch)
            yield batch

    def _count(self, table: TableId, batch: pa.RecordBatch) -> None:
        """Of what was read. Raises _Cancelled where nobody wants it any more."""
        if self._stop.is_set() or not self._still_wanted(table):
            raise _Cancelled(f"copying {table} was given up")
        self._progress[table][0] += batch.num_rows
        self._metrics.copied_rows.labels(self._name).inc(batch.num_rows)

    def _still_wanted(self, table: TableId) -> bool:
        status = self._store.catalog.tables.get(table)
        return status is not None and status.state is TableState.COPYING


__all__ = ["BetweenBatches", "Copier", "CopyLimits"]
