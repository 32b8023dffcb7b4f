"""Events between the thread that reads a program's output and the one that takes them.

Bounded by number and by bytes, so that a slow taker makes the program wait and not us grow.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

EVENTS_MAX = 256
E = TypeVar("E")


class Waiting(Generic[E]):
    """A queue; one thread puts, one gets."""

    def __init__(self, bytes_max: int, news: threading.Event | None = None) -> None:
        """A single event may be larger; it waits alone then. `news` is set with each that comes."""
        self._bytes_max = bytes_max
        self._news = news
        self._held: deque[tuple[E, int]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closed = False

    @property
    def bytes(self) -> int:
        """How many wait."""
        return self._bytes

    def put(self, event: E, size: int) -> None:
        """Add one once there is room; nothing once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room(size))
            if not self._closed:
                self._held.append((event, size))
                self._bytes += size
                self._changed.notify_all()
        if self._news is not None:
            self._news.set()

    def get(self, timeout_seconds: float) -> E | None:
        """The oldest; None when none came in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._held or self._closed, timeout_seconds)
            if not self._held:
                return None
            event, size = self._held.popleft()
            self._bytes -= size
            self._changed.notify_all()
            return event

    def close(self) -> None:
        """Let whoever waits go on. Safe to call twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        few = len(self._held) < EVENTS_MAX
        return not self._held or (few and self._bytes + size <= self._bytes_max)
