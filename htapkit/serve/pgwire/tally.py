"""What a server counts of its clients: statements that went to the source, and errors told.

An error that the source words itself is not counted: it is the source's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from htapkit.errors import HtapkitError, SourceRefused


class Relays:
    """Statements of one session that went to the source. Of whoever works for the session."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        """None yet."""
        self.count = 0


class Tally:
    """The counts of one server. Thread-safe, but for `Relays`, which cost an addition."""

    def __init__(self, fail: Callable[[str], object] = str) -> None:
        """`fail` counts an error by the name of its class."""
        self._fail = fail
        self._lock = threading.Lock()
        self._sessions: set[Relays] = set()
        self._ended = 0
        self._taken = 0

    def failed(self, problem: HtapkitError) -> None:
        """A client is told, or a limit of ours sends a statement to the source."""
        if not isinstance(problem, SourceRefused):
            self._fail(type(problem).__name__)

    def begin(self) -> Relays:
        """The count of a new session; give it back with `end`."""
        relays = Relays()
        with self._lock:
            self._sessions.add(relays)
        return relays

    def end(self, relays: Relays) -> None:
        """The session is over."""
        with self._lock:
            if relays in self._sessions:
                self._sessions.remove(relays)
                self._ended += relays.count

    def relayed(self) -> None:
        """A statement without a session went to the source."""
        with self._lock:
            self._ended += 1

    def take(self) -> int:
        """How many statements went to the source since this was asked last."""
        with self._lock:
            count = self._ended + sum(each.count for each in self._sessions)
            new, self._taken = count - self._taken, count
            return new
