"""The logs of several nodes, read side by side: each goes on, whatever the others do.

A node that does not answer costs the others nothing: its reader is started by a thread of its own,
and tried again. The order between nodes means nothing, for cells have times.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from htapkit.errors import SourceUnavailable
from htapkit_cassandra.mutations import LogEvent
from htapkit_cassandra.tail import LogTail

_LOOK_SECONDS = 0.1  # a reader may be due to be started again


class _Lane:
    """One node's log."""

    def __init__(self, node: str, tail: LogTail) -> None:
        self.node = node
        self.tail = tail
        self.starting: Future[None] | None = None
        self.failed = ""  # why its reader could not be started

    def next(self, starters: ThreadPoolExecutor) -> LogEvent | None:
        """What is there, without waiting. Raises what `LogTail.next` raises."""
        if self.starting is None and self.tail.due:
            self.starting = starters.submit(self.tail.start)
        if self.starting is not None:
            if not self.starting.done():
                return None
            started, self.starting = self.starting, None
            try:
                started.result()
            except SourceUnavailable as error:
                self.failed = str(error)
                return None
            self.failed = ""
        return self.tail.next(0) if self.tail.pid is not None else None


class Tails:
    """Events of several tails, each tail's in its order. One thread calls `next`."""

    def __init__(self, tails: Mapping[str, LogTail], news: threading.Event) -> None:
        """By host id; each of the tails sets `news`."""
        self._tails = dict(tails)
        self._lanes = deque(_Lane(node, tail) for node, tail in tails.items())
        self._news = news
        self._woken = threading.Event()
        self._starters = ThreadPoolExecutor(len(tails), thread_name_prefix="start-log")

    def next(self, timeout_seconds: float) -> tuple[str, LogEvent] | None:
        """(host id, event) of any log, or None when none came in time, or it was woken.

        Raises what `LogTail.next` raises, and SourceUnavailable when no log can be read.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            self._news.clear()
            for _ in range(len(self._lanes)):
                self._lanes.rotate(-1)
                lane = self._lanes[0]
                event = lane.next(self._starters)
                if event is not None:
                    return lane.node, event
            if self._woken.is_set():
                self._woken.clear()
                return None
            if all(lane.failed for lane in self._lanes):
                raise SourceUnavailable("; ".join(sorted({lane.failed for lane in self._lanes})))
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self._news.wait(min(left, _LOOK_SECONDS))

    def wake(self) -> None:
        """Have `next` give None, at once, where nothing is there. Any thread."""
        self._woken.set()
        self._news.set()

    def why(self, node: str) -> str:
        """Why nothing comes from a node's log, "" = it is being read."""
        return self._tails[node].why

    @property
    def queued_bytes(self) -> int:
        """How many bytes were read and not given out."""
        return sum(tail.queued_bytes for tail in self._tails.values())

    @property
    def dropped(self) -> int:
        """How many tables the logs have met that their nodes have no more."""
        return sum(len(tail.dropped) for tail in self._tails.values())

    def close(self) -> None:
        """End all readers. Safe to call twice."""
        self._starters.shutdown(cancel_futures=True)  # none is started behind this
        for tail in self._tails.values():
            tail.close()
