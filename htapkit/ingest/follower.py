"""The follower: the one thread that touches a source's stream and applies its batches, in order.

It confirms only what is durable. What goes wrong decides what happens next: a source that does not
answer is asked again, a lost position starts over, a value that does not fit makes its column text;
a source that says no is left alone for a while. It never looks at the source's catalog and never
reads rows in bulk.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Protocol

import structlog

from htapkit import failpoints
from htapkit.errors import (
    HtapkitError,
    LimitReached,
    PositionLost,
    SourceError,
    SourceUnavailable,
    StoreFailed,
    UnfaithfulValue,
)
from htapkit.hot import HotStore
from htapkit.ingest.calm import Calm
from htapkit.ingest.hold import Hold
from htapkit.ingest.status import SourceState
from htapkit.metrics import Metrics
from htapkit.model import (
    Broken,
    Change,
    ChangeBatch,
    SchemaChange,
    TableId,
    TableSchema,
    TableState,
)
from htapkit.spi import (
    ChangeStream,
    Gathers,
    LogLag,
    Queues,
    Remembers,
    Retains,
    SeveralLogs,
    Source,
)

_log = structlog.get_logger("htapkit.ingest")
_POLL_SECONDS = 0.5
_BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
_REFUSED_SECONDS = 10.0


class Prepare(Protocol):
    """Brings our list of tables in step with the source's, before a stream is opened."""

    def __call__(self) -> None:
        """Do it. Raises SourceError."""
        ...


class Follower:
    """Runs in a thread of its own, see `run`; all else may be called from any thread."""

    def __init__(
        self,
        name: str,
        source: Source,
        store: HotStore,
        metrics: Metrics,
        prepare: Prepare,
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called when tables may have to be copied."""
        self._name = name
        self._source = source
        self._store = store
        self._metrics = metrics
        self._prepare = prepare
        self._changed = changed
        self._stopping = threading.Event()
        self._restart = threading.Event()
        self._between: queue.SimpleQueue[tuple[Callable[[], object], Future[object]]] = (
            queue.SimpleQueue()
        )
        self._thread_id = 0
        self._stream: ChangeStream | None = None
        self._expected: tuple[TableSchema, ...] = ()
        self._letting_go = ""  # why the source is to forget what we have not confirmed
        self._alone_until = 0.0  # the source is left alone till then (monotonic)
        self.hold = Hold(source.positions)
        self._calm = Calm(lambda: store.read_at, time.monotonic)
        self.streaming = threading.Event()
        self.state = SourceState.STARTING
        self.why = ""
        self._limited = ""  # which limit kept the last batch from being applied
        self.rows_applied = 0

    def stop(self) -> None:
        """End `run` soon; the batch in hand is finished or rolled back."""
        self._stopping.set()
        self.nudge()

    def ask(self) -> None:
        """Ask the source for its newest position; nothing while there is no stream."""
        stream = self._stream
        if stream is not None:
            stream.nudge()

    def nudge(self) -> None:
        """As `ask`, for somebody who waits: what is gathered comes at once, too."""
        self._calm.waited()
        stream = self._stream
        if isinstance(stream, Gathers):
            stream.gather(0.0)
        self.ask()

    def reopen(self) -> None:
        """Open a new stream (a table was added to what the source sends)."""
        self._restart.set()
        self.nudge()

    def let_go(self, why: str, pause_seconds: float) -> None:
        """Have the source forget what we have not confirmed; after the pause all is copied again.

        The source must be one that Retains.
        """
        self._letting_go, self._alone_until = why, time.monotonic() + pause_seconds
        self.reopen()

    def lag_bytes(self) -> int:
        """Of the stream; 0 while there is none."""
        stream = self._stream
        return stream.lag_bytes() if stream is not None else 0

    def logs(self) -> Sequence[LogLag]:
        """Where the source has several logs: how far each was read; none without a stream."""
        stream = self._stream
        return stream.logs() if isinstance(stream, SeveralLogs) else ()

    def fingerprint(self, table: TableId) -> str:
        """A table's as the stream saw it; "" where it does not say."""
        stream = self._stream
        return stream.fingerprint(table) if isinstance(stream, Remembers) else ""

    def queued_bytes(self) -> int:
        """Received by the stream and in no batch yet; 0 where it cannot say."""
        stream = self._stream
        return stream.queued_bytes() if isinstance(stream, Queues) else 0

    def between_batches(self, work: Callable[[], object], timeout_seconds: float = 60.0) -> object:
        """Run `work` on the follower's thread between two batches, and give what it gives.

        Raises SourceUnavailable when nothing streams within the time, or never will again.
        """
        if threading.get_ident() == self._thread_id:
            return work()
        future: Future[object] = Future()
        self._between.put((work, future))
        if self.state is SourceState.STOPPED:
            self._refuse_between()
        self.nudge()
        try:
            return future.result(timeout_seconds)
        except TimeoutError as error:
            future.cancel()
            raise SourceUnavailable(
                f"{self._name} does not stream now ({self.why or self.state}); try again later"
            ) from error

    def run(self) -> None:
        """Follow until `stop`, whatever happens."""
        self._thread_id = threading.get_ident()
        failures = 0
        while not self._stopping.is_set():
            try:
                self._stream_or_mend()
                failures = 0
            except (SourceUnavailable, StoreFailed, LimitReached) as error:
                # A limit's words stay until something is applied: the stream itself is well.
                self._limited = str(error) if isinstance(error, LimitReached) else self._limited
                failures = 0 if self.streaming.is_set() else failures
                failures = self._failed(SourceState.UNAVAILABLE, error, failures)
            except SourceError as error:
                self._failed(SourceState.REFUSED, error, 0, _REFUSED_SECONDS)
            except Exception as error:  # noqa: BLE001 - the top of a thread: it must go on
                _log.exception("follower failed", source=self._name)
                failures = self._failed(SourceState.UNAVAILABLE, error, failures)
            finally:
                self._close_stream()
        self.state = SourceState.STOPPED
        self._refuse_between()

    def _stream_or_mend(self) -> None:
        """Stream; where copying anew helps, have that done. What mending raises is the caller's."""
        try:
            self._stream_once()
        except PositionLost as error:
            self._start_over(self._letting_go or str(error))
            self._letting_go = ""
        except UnfaithfulValue as error:
            self._keep_as_text(error)

    def _stream_once(self) -> None:
        """Open a stream and apply it until something breaks or a restart is asked for."""
        self._restart.clear()
        self._check_identity()
        self._check_let_go()
        self._prepare()
        self._expected = self._schemas()
        start = self._store.stored_position(self._name)
        stream = self._source.follow(start, self._expected)
        self._stream = stream
        self._metrics.stream_restarts.labels(self._name).inc()
        self.state, self.why = SourceState.STREAMING, self._limited
        self._metrics.source_up.labels(self._name).set(1)
        _log.info("streaming", source=self._name, position=start or "its end")
        if start is not None:
            stream.confirm(start)
        stream.nudge()
        failpoints.reach("follow.opened")
        while not self._stopping.is_set() and not self._restart.is_set():
            # Only now may tables be copied: what a copy keeps through a crash is worth nothing
            # without a stored position from which its changes come again.
            if self._store.stored_position(self._name) is not None:
                self.streaming.set()
            self.hold.pause_point()
            self._run_between()
            self._refresh_expected(stream)
            if isinstance(stream, Gathers):
                stream.gather(self._calm.gather_seconds())
            batch = stream.next(_POLL_SECONDS)
            if batch is not None:
                self.hold.apply(batch, lambda part: self._apply(stream, part))

    def _check_identity(self) -> None:
        """Never mix the rows of two servers, or histories, whatever the address says."""
        store, name = self._store, self._name
        before = store.identity(name)
        now = self._source.identity(before or "", store.stored_position(name))
        if now == before:
            return
        if before is not None:
            # A copy's own position may be one that only the former history has.
            for table, status in list(store.catalog.tables.items()):
                if table.source == name and status.copy_position is not None:
                    store.copy_again(table, "the source's history is another one now")
        store.remember_identity(name, now)  # the last: a crash before it does all of this again

    def _check_let_go(self) -> None:
        """Before anything else is asked of the source: its disk may be filling."""
        if self._letting_go:
            assert isinstance(self._source, Retains), "only such a source is let go"
            self._source.let_go()
            raise PositionLost(self._letting_go)
        left = self._alone_until - time.monotonic()
        if left > 0:
            raise SourceUnavailable(
                f"{self._name}: limits.slot_lag was exceeded again before the copy had caught up; "
                f"the next try is in {left:.0f} s: give this machine more CPU or disk, mirror "
                "fewer tables, or raise the limit"
            )

    def _apply(self, stream: ChangeStream, batch: ChangeBatch) -> None:
        begun = time.monotonic()
        failpoints.reach("apply.before")
        durable = self._store.apply(batch, self._source.positions.covers)
        if self._limited:
            self.why = self._limited = ""
        if durable is not None:
            # Only now: the source may recycle its log up to here.
            failpoints.reach("apply.committed")
            stream.confirm(durable)
            failpoints.reach("apply.confirmed")
        if any(_breaks(change) for change in batch.changes):
            # The stream left the table out: it must be told again what to decode.
            self._expected = ()
        if batch.changes:
            self.rows_applied += batch.row_count
            self._metrics.rows_applied.labels(self._name).inc(batch.row_count)
            self._metrics.commits_applied.labels(self._name).inc(len(batch.commits))
            self._metrics.batches_applied.labels(self._name).inc()
            self._metrics.apply_seconds.labels(self._name).observe(time.monotonic() - begun)

    def _asked(self) -> Iterator[tuple[Callable[[], object], Future[object]]]:
        """What waits to be run between two batches, less what nobody waits for any more."""
        while True:
            try:
                work, future = self._between.get_nowait()
            except queue.Empty:
                return
            if future.set_running_or_notify_cancel():
                yield work, future

    def _run_between(self) -> None:
        for work, future in self._asked():
            try:
                future.set_result(work())
            except Exception as error:  # noqa: BLE001 - it belongs to who asked
                future.set_exception(error)

    def _refuse_between(self) -> None:
        """Nobody will run it any more: who asked is not to wait until its time is up."""
        for _, future in self._asked():
            future.set_exception(SourceUnavailable(f"{self._name} is no longer followed"))

    def _refresh_expected(self, stream: ChangeStream) -> None:
        schemas = self._schemas()
        if schemas != self._expected:
            stream.expect(schemas)
            self._expected = schemas
            self._changed()

    def _schemas(self) -> tuple[TableSchema, ...]:
        return tuple(
            status.schema
            for table, status in sorted(self._store.catalog.tables.items())
            if table.source == self._name and status.state is not TableState.SET_ASIDE
        )

    def _start_over(self, why: str) -> None:
        """Copy everything again from a new stream: the changes after our position are gone."""
        _log.warning("position lost", source=self._name, why=why)
        self._store.abort(self._name)
        self._store.forget_position(self._name)
        for table in list(self._store.catalog.tables):
            if table.source == self._name:
                self._store.copy_again(table, why)
        self._changed()

    def _keep_as_text(self, error: UnfaithfulValue) -> None:
        table = error.table
        if not isinstance(table, TableId):
            raise error
        _log.warning("column kept as text", table=str(table), column=error.column, why=error.why)
        self._store.abort(self._name)
        self._store.keep_as_text(table, error.column)
        self._store.copy_again(table, str(error))
        self._changed()

    def _failed(
        self,
        state: SourceState,
        error: Exception,
        failures: int,
        pause_seconds: float | None = None,
    ) -> int:
        self.state, self.why = state, str(error)
        self._metrics.errors.labels(type(error).__name__).inc()
        _log.warning("not streaming", source=self._name, state=state.value, why=str(error))
        steps = _BACKOFF_SECONDS
        self._stopping.wait(pause_seconds or steps[min(failures, len(steps) - 1)])
        return failures + 1

    def _close_stream(self) -> None:
        self.streaming.clear()
        self._metrics.source_up.labels(self._name).set(0)
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
        try:
            self._store.abort(self._name)
        except HtapkitError as error:
            _log.warning("cannot roll back", source=self._name, why=str(error))


def _breaks(change: Change) -> bool:
    return isinstance(change, Broken) or (isinstance(change, SchemaChange) and not change.faithful)
