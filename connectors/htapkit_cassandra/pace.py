"""A limit of cells a second for those who copy from a node."""

from __future__ import annotations

import threading
import time


class Pace:
    """Holds those who share it to so many a second, together. Thread-safe."""

    def __init__(self, per_second_max: int | None) -> None:
        """From now on; None: as fast as they can."""
        self._max = per_second_max
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._count = 0

    def passed(self, count: int) -> None:
        """So many more came: wait where that is too soon."""
        if self._max is None:
            return
        with self._lock:
            self._count += count
            due = self._begun + self._count / self._max
        time.sleep(max(0.0, due - time.monotonic()))
