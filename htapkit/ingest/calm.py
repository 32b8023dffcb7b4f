"""How long changes may be gathered before they are applied. Pure but for its clock.

A transaction of the hot store costs about the same for one change as for a thousand. So while
nobody reads, there are few of them, and the cores are left to the source where it has the same.
Who waits for a position never waits for this: it ends at once (`Follower.nudge`).
"""

from __future__ import annotations

from collections.abc import Callable

READ_SECONDS = 0.03  # while somebody reads: less than a batch that waits for cores takes anyway
UNREAD_SECONDS = 0.25
_READ_LATELY_SECONDS = 5.0
_WAITED_LATELY_SECONDS = 0.1  # whoever waits says so every 20 ms


class Calm:
    """Of one source. Thread-safe: each attribute is written whole."""

    def __init__(self, read_at: Callable[[], float], now: Callable[[], float]) -> None:
        """`read_at` says when, by the clock `now`, somebody last began to read."""
        self._read_at = read_at
        self._now = now
        self._waited_at = float("-inf")

    def waited(self) -> None:
        """Somebody waits."""
        self._waited_at = self._now()

    def gather_seconds(self) -> float:
        """For the next batch."""
        now = self._now()
        if now - self._waited_at < _WAITED_LATELY_SECONDS:
            return 0.0
        return READ_SECONDS if now - self._read_at() < _READ_LATELY_SECONDS else UNREAD_SECONDS
