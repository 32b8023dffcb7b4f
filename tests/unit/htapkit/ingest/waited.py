"""A source, a store and a clock for tests of waiting, which take no time.

Whoever waits sleeps until the test has moved the clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import cast

from htapkit.hot import Applied, HotStore
from htapkit.ingest import Freshness
from htapkit.model import Position
from htapkit.spi import HEAD_SECONDS
from htapkit.testing.memory import MemoryOrder, position_of

DEADLINE_SECONDS = 60.0  # of a test that is broken


@dataclass
class World:
    """A source's head and stream, what of it is applied, and the only clock.

    A spi.Head, and as much of a HotStore as Freshness asks. Whoever waits sleeps until the clock
    has been moved to the end of the wait, or what is waited for is applied.
    """

    seconds: float = 1000.0
    end: int = 0  # of the source's log
    state: Applied = field(default_factory=lambda: Applied(position_of(0)))
    heads: int = 0  # how often the head was asked
    marks: list[str] = field(default_factory=list)
    nudges: list[float] = field(default_factory=list)
    answers: Callable[[int], None] = lambda _: None  # the stream, to the so-manieth nudge
    asking: Callable[[float], None] = lambda _: None  # the head, for so long at most
    marking: Callable[[], None] = lambda: None
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _until: dict[int, float] = field(default_factory=dict)  # of each sleeper
    _moved: list[Callable[[str, Applied], None]] = field(default_factory=list)

    def freshness(self, behind: Callable[[float], str] = lambda _: "") -> Freshness:
        """Over all of this."""
        store = cast("HotStore", self)
        return Freshness("w", store, self, MemoryOrder(), self.nudge, self.now, behind=behind)

    def now(self) -> float:
        return self.seconds

    # -- the source

    def head(self, timeout_seconds: float = HEAD_SECONDS) -> Position:
        self.heads += 1
        self.asking(timeout_seconds)
        return position_of(self.end)

    def mark(self, token: str, timeout_seconds: float = HEAD_SECONDS) -> None:
        assert timeout_seconds <= 5.0, "more than anybody here waits"
        self.marking()
        self.marks.append(token)

    def nudge(self) -> None:
        with self._changed:
            self.nudges.append(self.seconds)
            count = len(self.nudges)
        self.answers(count)

    # -- the store

    def applied(self, source: str) -> Applied:
        assert source == "w"
        return self.state

    def on_applied(self, callback: Callable[[str, Applied], None]) -> None:
        self._moved.append(callback)

    def wait_applied(
        self, source: str, predicate: Callable[[Applied], bool], timeout_seconds: float
    ) -> bool:
        assert source == "w"
        me, until = threading.get_ident(), self.seconds + timeout_seconds
        with self._changed:
            self._until[me] = until
            self._changed.notify_all()
            woken = lambda: predicate(self.state) or self.seconds >= until  # noqa: E731
            assert self._changed.wait_for(woken, DEADLINE_SECONDS)
            del self._until[me]
            return predicate(self.state)

    # -- what the test does

    def apply(self, position: int, *marks: str) -> None:
        """The stream brought this, and it is applied."""
        with self._changed:
            self.state = Applied(position_of(position), marks=self.state.marks | {*marks})
            self._changed.notify_all()
        for callback in self._moved:
            callback("w", self.state)

    def move(self, seconds: float) -> None:
        """The clock goes on."""
        with self._changed:
            self.seconds += seconds
            self._changed.notify_all()

    def asleep(self, waits: list[Future[str]]) -> None:
        """Until each wait sleeps beyond this moment, or has ended."""

        def quiet() -> bool:
            sleeping = sum(until > self.seconds for until in self._until.values())
            return sleeping + sum(wait.done() for wait in waits) >= len(waits)

        for wait in waits:
            wait.add_done_callback(lambda _: self._notify())
        with self._changed:
            assert self._changed.wait_for(quiet, DEADLINE_SECONDS)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
