"""Copying tables: one path for the first copy, a table added later and a copy that is made again.

The stream runs already and its changes for a copying table are staged in the hot store. Then a
snapshot is opened at a position S, read in parallel into a shadow table, and the staged commits
after S are replayed onto it; the last round and the swap are one transaction. A table whose copy
was cut short starts again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Protocol

import pyarrow as pa
import structlog

from htapkit import failpoints
from htapkit.errors import CatalogChanged, HtapkitError, TableSetAside, UnfaithfulValue
from htapkit.hot import HotStore
from htapkit.metrics import Metrics
from htapkit.model import Position, Split, TableId, TableState
from htapkit.spi import Discovered, Snapshot, Source

_log = structlog.get_logger("htapkit.ingest")
_FREE_TRIES = 8
_CALM_SECONDS = 60.0


class BetweenBatches(Protocol):
    """Runs something on the follower between two batches."""

    def __call__(self, work: Callable[[], object], timeout_seconds: float = ...) -> object:
        """Run it and give its result."""
        ...


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
        readers: int,
        between_batches: BetweenBatches,
        reach: Callable[[Position], object],
    ) -> None:
        """`readers` parallel readers per table; `reach` waits until a position is applied."""
        self._name = name
        self._source = source
        self._store = store
        self._metrics = metrics
        self._readers = readers
        self._between = between_batches
        self._reach = reach
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._progress: dict[TableId, list[int]] = {}
        self._tries: dict[TableId, tuple[int, float]] = {}

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
        done = self._progress.get(table, [0, 0])
        return done[0], done[1]

    def run(self, stopping: threading.Event) -> None:
        """Copy all tables that wait for it, under one snapshot.

        Raises SourceError to be called again.
        """
        tables = self._waiting()
        if not tables or stopping.is_set():
            return
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
        try:
            found = _found(snapshot, table)
            if not self._agrees(table, found):
                return
            self._load(snapshot, table, found)
            failpoints.reach("copy.loaded")
            self._reach(snapshot.position)
            self._store.finish_copy(table, self._source.positions.covers)
            self._tries.pop(table, None)
            failpoints.reach("copy.swapped")
            _log.info("table follows", table=str(table), rows=self._progress[table][0])
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
        finally:
            self._progress.pop(table, None)

    def _agrees(self, table: TableId, found: Discovered) -> bool:
        """Whether the stream's rows have the snapshot's schema.

        If not, stage anew with that one.
        """
        status = self._store.catalog.tables.get(table)
        if status is None or status.state is not TableState.COPYING:
            return False
        if status.schema == found.schema:
            return True

        def stage_anew() -> None:
            self._store.add_table(found.schema, found.fingerprint)

        self._between(stage_anew)
        self._wake.set()
        return False

    def _again(self, table: TableId, why: str) -> None:
        self._between(lambda: self._store.copy_again(table, why))
        self._wake.set()

    def _load(self, snapshot: Snapshot, table: TableId, found: Discovered) -> None:
        splits = snapshot.splits(table)
        self._progress[table] = [0, max(found.rows_estimate, 1)]
        self._store.start_copy(found.schema, found.fingerprint, snapshot.position)
        with ThreadPoolExecutor(self._readers, thread_name_prefix=f"copy-{self._name}") as pool:
            jobs = [pool.submit(self._load_split, snapshot, split) for split in splits]
            done, left = wait(jobs, return_when=FIRST_EXCEPTION)
            for job in left:
                job.cancel()
            for job in done:
                job.result()

    def _load_split(self, snapshot: Snapshot, split: Split) -> None:
        self._store.load(split.table, self._counted(snapshot, split))

    def _counted(self, snapshot: Snapshot, split: Split) -> Iterator[pa.RecordBatch]:
        progress = self._progress[split.table]
        for batch in snapshot.read(split):
            if self._stop.is_set() or not self._still_wanted(split.table):
                raise _Cancelled(f"copying {split.table} was given up")
            progress[0] += batch.num_rows
            self._metrics.copied_rows.labels(self._name).inc(batch.num_rows)
            yield batch

    def _still_wanted(self, table: TableId) -> bool:
        status = self._store.catalog.tables.get(table)
        return status is not None and status.state is TableState.COPYING


def _found(snapshot: Snapshot, table: TableId) -> Discovered:
    """The table as it is inside the snapshot."""
    found = snapshot.tables.get(table)
    if found is None:
        raise CatalogChanged(f"{table} is no longer at the source")
    if found.problem:
        raise TableSetAside(table, found.problem)
    return found


__all__ = ["BetweenBatches", "Copier"]
