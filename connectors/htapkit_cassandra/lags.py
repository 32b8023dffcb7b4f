"""How far behind each log is: by when our marks come back through it. Pure but for a lock."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class Lags:
    """The newest mark that came through each of several logs. Thread-safe.

    Times are monotonic seconds. A mark says: what was acknowledged before it was written, and is in
    that log, was read. So only what came through all of them says so of everything.
    """

    def __init__(self, logs: Iterable[str], mark: int = 0) -> None:
        """That mark came through all of them already."""
        self._lock = threading.Lock()
        self._came = dict.fromkeys(logs, mark)
        self._waiting: dict[str, tuple[int, float]] = {}  # the oldest mark that has not come, when
        self._took: dict[str, float] = {}

    @property
    def logs(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._came)

    @property
    def mark(self) -> int:
        """The newest that came through every log, or a newer one did; 0 = none."""
        return min(self._came.values(), default=0)

    def written(self, mark: int, now: float) -> None:
        """A mark is being written."""
        with self._lock:
            for log in self._came:
                self._waiting.setdefault(log, (mark, now))

    def came(self, log: str, mark: int, now: float) -> None:
        """A mark came through a log. Older ones need not come any more."""
        with self._lock:
            self._came[log] = max(self._came[log], mark)
            wanted, since = self._waiting.get(log, (mark + 1, now))
            if mark >= wanted:
                del self._waiting[log]
                self._took[log] = now - since

    def seconds(self, log: str, now: float) -> float:
        """How long the last mark took through a log, or the one takes that it owes us."""
        with self._lock:
            _, since = self._waiting.get(log, (0, now))
            return max(now - since, self._took.get(log, 0.0))
