"""How much copies may read at once, so that the source answers others as well as it can.

One reader at first: of what was measured, the second one harms the source's clients most and makes
a copy hardly shorter. Then the source is listened to: how long an answer takes while copies read,
against how long while they rest for a moment, so that a source that others make slow is not taken
for one that we make slow. Where both are alike, a further reader joins; where it suffers, readers
leave, and the last one pauses. A copy is never stopped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

FLOOR: Final = 0.25
"""Of one reader's time: with less, a snapshot only lives longer."""

_SLOWER: Final = 0.7
_FASTER: Final = 0.25
# In what answers take at rest, and ms. In between nothing changes.
_ALIKE: Final = (1.25, 0.2)
_SUFFERS: Final = (3.0, 1.0)
_PAUSE_SECONDS_MAX: Final = 1.0
_LOOK_SECONDS: Final = 0.1  # for more places


class Pace:
    """What the copies of one source may read together, in readers. Thread-safe."""

    def __init__(self, *, careful: bool = True) -> None:
        """`careful` False: everybody reads whenever they want."""
        self.careful = careful
        self.share = 1.0
        self._heard = (0.0, 0.0)  # ms at rest, ms while reading
        self._wanted = 0
        self._lock = threading.Lock()

    def judge(self, resting_ms: float, reading_ms: float) -> None:
        """Draw the consequence of how long answers took."""
        with self._lock:
            self._heard = (resting_ms, reading_ms)
            if reading_ms > resting_ms * _SUFFERS[0] + _SUFFERS[1]:
                self.share = max(self.share * _SLOWER, FLOOR)
            elif self.share < 1.0:
                self.share = min(self.share + _FASTER, 1.0)
            elif reading_ms <= resting_ms * _ALIKE[0] + _ALIKE[1]:
                self.share = max(min(self.share + _FASTER, self._wanted), 1.0)

    def wanted(self, more: int) -> None:
        """So many more readers would read now than before."""
        with self._lock:
            self._wanted += more

    def why(self) -> str:
        """What to say while copies are slowed; "" = they are not."""
        with self._lock:
            if not self._wanted or self.share >= 1.0:
                return ""
            resting, reading = self._heard
            return (
                f"copies are slowed to {self.share:.0%} of one reader: the source answers in "
                f"{reading:.1f} ms while they read, in {resting:.1f} ms while they rest"
            )

    def places(self) -> int:
        """How many may read at once."""
        return max(int(self.share), 1)

    def pause_seconds(self, took_seconds: float) -> float:
        """How long to pause after a batch that took so long."""
        if not self.careful or self.share >= 1.0:
            return 0.0
        return min(took_seconds * (1.0 / self.share - 1.0), _PAUSE_SECONDS_MAX)


class Room:
    """Where the readers of one snapshot read, at their source's pace. Thread-safe."""

    def __init__(self, pace: Pace, closed: threading.Event) -> None:
        """`closed`: nobody has to wait any more."""
        self.pace = pace
        self._closed = closed
        self._changed = threading.Condition()
        self._reading = 0
        self._resting = False

    @contextmanager
    def reader(self) -> Iterator[None]:
        """From the beginning to the end of one read; waits for a place."""
        self.pace.wanted(1)
        try:
            with self._changed:
                while not self._closed.is_set() and self._full():
                    self._changed.wait(_LOOK_SECONDS)
                self._reading += 1
            try:
                yield
            finally:
                with self._changed:
                    self._reading -= 1
                    self._changed.notify_all()
        finally:
            self.pace.wanted(-1)

    def breathe(self, took_seconds: float) -> None:
        """Between two batches: pause as the pace says, and rest when all do."""
        self._closed.wait(self.pace.pause_seconds(took_seconds))
        with self._changed:
            while self._resting and not self._closed.is_set():
                self._changed.wait(_LOOK_SECONDS)

    @contextmanager
    def rest(self) -> Iterator[None]:
        """No reader begins another batch meanwhile."""
        with self._changed:
            self._resting = True
        try:
            yield
        finally:
            with self._changed:
                self._resting = False
                self._changed.notify_all()

    def _full(self) -> bool:
        return self.pace.careful and (self._resting or self._reading >= self.pace.places())


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When the source is listened to."""

    begin_seconds: float = 0.5  # short copies are over by then
    drain_seconds: float = 0.1  # until a reader's backend has filled the buffers in between
    resting_gap_seconds: float = 0.005
    reading_gap_seconds: float = 0.05
    answers: int = 20
    rounds: int = 5  # of listening to readers, for one rest


class Listener:
    """Compares the source's answers while copies read and while they rest. For one thread."""

    def __init__(
        self,
        room: Room,
        closed: threading.Event,
        rhythm: Rhythm = Rhythm(),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`closed`: nothing is to be read any more."""
        self._room = room
        self._closed = closed
        self._rhythm = rhythm
        self._clock = clock

    def wait(self) -> bool:
        """Whether the copy takes long enough to be listened to."""
        return not self._closed.wait(self._rhythm.begin_seconds)

    def run(self, ask: Callable[[], object]) -> None:
        """Until closed; `ask` is one short question. Raises what it raises."""
        rhythm = self._rhythm
        while not self._closed.is_set():
            with self._room.rest():
                self._closed.wait(rhythm.drain_seconds)
                resting = self._listen(ask, rhythm.resting_gap_seconds)
            for _ in range(rhythm.rounds):
                reading = self._listen(ask, rhythm.reading_gap_seconds)
                if self._closed.is_set():
                    return
                self._room.pace.judge(resting, reading)

    def _listen(self, ask: Callable[[], object], gap_seconds: float) -> float:
        """What nine of ten answers take at most, in ms."""
        took = []
        for _ in range(self._rhythm.answers):
            if self._closed.wait(gap_seconds):
                return 0.0
            begun = self._clock()
            ask()
            took.append((self._clock() - begun) * 1000)
        return sorted(took)[len(took) * 9 // 10 - 1]
