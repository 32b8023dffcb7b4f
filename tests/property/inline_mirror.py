"""A Mirror without threads: the same follower, watcher and copier, called one after the other.

For histories of many thousands of steps, where waiting for threads is most of the time. Nothing
here decides anything: what a batch, a look or a copy does is the real parts' own business.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from htapkit import failpoints
from htapkit.errors import PositionLost, SourceUnavailable
from htapkit.hot import HotStore
from htapkit.ingest.copier import Copier, CopyLimits
from htapkit.ingest.follower import Follower
from htapkit.ingest.watcher import Watcher
from htapkit.metrics import Metrics
from htapkit.model import Position, TableId
from htapkit.testing.memory import MemorySource, MemoryStream

_ROUNDS_MAX = 200


def _at_once(work: Callable[[], object], timeout_seconds: float = 0.0) -> object:
    """Between two batches is whenever it is asked."""
    return work()


class InlineMirror:
    """One source's copy; goes on only while `settle` is called."""

    def __init__(self, source: MemorySource, store: HotStore, metrics: Metrics) -> None:
        """No stream is open."""
        self._source = source
        self._store = store
        self._stream: MemoryStream | None = None
        self._stopping = threading.Event()
        self._follower = Follower("mem", source, store, metrics, lambda: None, lambda: None)
        told = self._follower.fingerprint
        self._watcher = Watcher("mem", source, store, _at_once, self._reopen, told)
        self._copier = Copier(
            "mem",
            source,
            store,
            metrics,
            limits=CopyLimits(1, 20_000_000),
            between_batches=_at_once,
            reach=self._reach,
        )

    def copy_again(self, table: TableId, why: str) -> None:
        """As Mirror's."""
        self._store.copy_again(table, why)

    def report(self) -> object:
        """What it knows, for messages."""
        return self._store.catalog.tables

    def stop(self) -> None:
        """The stream breaks off."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def settle(self) -> None:
        """Go on until all is applied and every table followed, or the source is down."""
        for _ in range(_ROUNDS_MAX):
            try:
                if self._stream is None:
                    self._open()
                self._watcher.look()
                self._copier.run(self._stopping)
                if self._stream is not None and not self.apply() and self._ready():
                    return
            except PositionLost as error:
                self.stop()
                self._follower._start_over(str(error))
            except SourceUnavailable:
                self.stop()
                return
        raise AssertionError(f"not settled after {_ROUNDS_MAX} rounds: {self._store.catalog}")

    def _open(self) -> None:
        self._watcher.prepare()
        start = self._store.stored_position("mem")
        self._stream = self._source.follow(start, self._follower._schemas())
        if start is not None:
            self._stream.confirm(start)
        self._stream.nudge()
        failpoints.reach("follow.opened")

    def apply(self) -> bool:
        """Apply the next batch; whether there was one."""
        stream = self._stream
        assert stream is not None
        stream.expect(self._follower._schemas())
        batch = stream.next(0)
        if batch is not None:
            self._follower._apply(stream, batch)
        return batch is not None

    def _reach(self, position: Position) -> None:
        """A copy waits until the stream has come as far as its snapshot."""
        for _ in range(_ROUNDS_MAX):
            at = self._store.applied("mem").position
            if at is not None and self._source.positions.covers(at, position):
                return
            self.apply()
        raise AssertionError(f"never came to {position}")

    def _reopen(self) -> None:
        self.stop()

    def _ready(self) -> bool:
        states = {str(status.state) for status in self._store.catalog.tables.values()}
        return states == {"following"}
