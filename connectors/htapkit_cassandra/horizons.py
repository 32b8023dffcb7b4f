"""Since when the log of each table that was copied over CQL counts for itself (`scanned.judged`).

A table's horizon is a time behind the beginning of its copy: whatever was deleted before, so that
neither the copy nor the log behind it shows it, was deleted at an earlier time. It is kept with the
copy, in its fingerprint, and told here again after a restart, before the log is read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from htapkit.errors import SourceUnavailable
from htapkit.model import Position, TableId
from htapkit_cassandra.scanned import CLOCKS_MAX
from htapkit_cassandra.ticks import Ticks

WAIT_SECONDS_MAX = 60.0


class Horizons:
    """Of all tables of a source. Thread-safe."""

    def __init__(self, ticks: Ticks) -> None:
        """None has one; nothing is followed."""
        self._ticks = ticks
        self._known: dict[TableId, int] = {}
        self._changed = threading.Condition()
        self._streams = 0
        self._rounds = 0

    def of(self, table: TableId) -> int:
        """In microseconds; 0: all that the log says counts for itself."""
        return self._known.get(table, 0)

    def told(self, table: TableId, horizon: int) -> None:
        """What is kept with a table's copy. A later one stays: perhaps a copy has begun."""
        with self._changed:
            if horizon > self.of(table):
                self._known[table] = horizon

    def forget(self, tables: Iterable[TableId]) -> None:
        """They are copied from files, which have every tombstone."""
        with self._changed:
            for table in tables:
                self._known.pop(table, None)

    def begin(self, table: TableId, now: Callable[[], Position]) -> tuple[int, Position]:
        """A copy begins: its horizon, and a position that it covers, with which that holds.

        It is what the log's stream has given out between two batches (`round`), or `now()` where
        nothing is followed. Raises SourceUnavailable.
        """
        with self._changed:
            horizon = self._ticks.next() + CLOCKS_MAX
            self._known[table] = horizon
            if not self._streams:
                return horizon, now()
            before = self._rounds
            if not self._changed.wait_for(lambda: self._rounds > before, WAIT_SECONDS_MAX):
                raise SourceUnavailable(f"no log was read for {WAIT_SECONDS_MAX:g} s")
            return horizon, self._given

    def opened(self) -> None:
        """A stream begins."""
        with self._changed:
            self._streams += 1

    def round(self, given: Position) -> None:
        """A stream is between two batches: what it takes from now on is judged anew."""
        with self._changed:
            self._given = given
            self._rounds += 1
            self._changed.notify_all()

    def closed(self) -> None:
        """A stream ends."""
        with self._changed:
            self._streams -= 1
            self._changed.notify_all()
