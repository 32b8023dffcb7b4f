"""Numbers that only grow, across restarts too: of marks, and of what is read over CQL."""

from __future__ import annotations

import threading
import time


class Ticks:
    """Microseconds of this machine's clock, or one more than the last. Thread-safe."""

    def __init__(self) -> None:
        """From now on."""
        self._lock = threading.Lock()
        self._last = 0

    @property
    def last(self) -> int:
        """The largest that was given."""
        return self._last

    def after(self, number: int) -> None:
        """Go on behind one that is stored, whatever the clock says."""
        with self._lock:
            self._last = max(self._last, number)

    def next(self) -> int:
        """The next one."""
        with self._lock:
            self._last = max(self._last + 1, time.time_ns() // 1000)
            return self._last
