"""How much copies read is decided by how the source answers, and never less than the floor."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from htapkit.testing.stack import wait_until
from htapkit_postgres.pace import FLOOR, Listener, Pace, Rhythm, Room

SECONDS = 20


def _judged(pace: Pace, resting_ms: float, reading_ms: float, times: int = 1) -> float:
    for _ in range(times):
        pace.judge(resting_ms, reading_ms)
    return pace.share


def test_a_suffering_source_is_read_slower_but_never_below_the_floor() -> None:
    """Half a second of it already counts, and an hour does not stop the copy."""
    pace = Pace()
    assert _judged(pace, 1.0, 10.0) < 1.0
    assert _judged(pace, 1.0, 10.0, times=1000) == FLOOR
    assert pace.pause_seconds(0.01) == pytest.approx(0.03)
    assert pace.pause_seconds(60.0) == 1.0


def test_it_recovers_to_one_reader_and_further_ones_join_only_where_wanted() -> None:
    """Growth ends with the readers that there are."""
    pace = Pace()
    _judged(pace, 1.0, 10.0, times=10)
    assert _judged(pace, 1.0, 1.0, times=10) == 1.0
    assert pace.pause_seconds(60.0) == 0.0
    pace.wanted(3)
    assert _judged(pace, 1.0, 1.0, times=3) < 2.0
    assert pace.places() == 1
    assert _judged(pace, 1.0, 1.0, times=20) == 3.0
    assert pace.places() == 3
    assert _judged(pace, 1.0, 10.0) < 3.0


def test_what_others_do_to_the_source_is_not_ours() -> None:
    """A source that is slow at rest as well is read at full pace."""
    pace = Pace()
    assert _judged(pace, 50.0, 60.0, times=5) == 1.0


def test_in_between_one_reader_stays_one() -> None:
    """A source that answers somewhat later is neither slowed further nor given a second reader."""
    pace = Pace()
    pace.wanted(2)
    assert _judged(pace, 1.0, 2.0, times=10) == 1.0


def test_what_is_said_of_it() -> None:
    """Only while somebody would read, and only where it is slow."""
    pace = Pace()
    pace.wanted(1)
    assert pace.why() == ""
    _judged(pace, 1.0, 10.0, times=20)
    assert pace.why() == (
        "copies are slowed to 25% of one reader: the source answers in 10.0 ms while they read, "
        "in 1.0 ms while they rest"
    )
    pace.wanted(-1)
    assert pace.why() == ""


class _Reading:
    """Threads that each want to read until they are told to end."""

    def __init__(self, room: Room, readers: int) -> None:
        self.inside = 0
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._read, args=(room,)) for _ in range(readers)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(SECONDS)
        assert not any(thread.is_alive() for thread in self._threads)

    def _read(self, room: Room) -> None:
        with room.reader():
            with self._lock:
                self.inside += 1
            self._end.wait(SECONDS)


@pytest.mark.parametrize(("careful", "at_once"), [(True, 1), (False, 2)])
def test_one_reader_at_first(*, careful: bool, at_once: int) -> None:
    """The second one waits for a place, unless nobody is careful; all read in the end."""
    pace, closed = Pace(careful=careful), threading.Event()
    reading = _Reading(Room(pace, closed), 2)
    wait_until(lambda: reading.inside == at_once and pace._wanted == 2, SECONDS)
    reading.end()
    assert reading.inside == 2


def test_a_further_reader_joins_when_the_pace_allows() -> None:
    """It need not wait for the first one's end."""
    pace, closed = Pace(), threading.Event()
    reading = _Reading(Room(pace, closed), 2)
    wait_until(lambda: pace._wanted == 2, SECONDS)
    _judged(pace, 1.0, 1.0, times=4)
    wait_until(lambda: reading.inside == 2, SECONDS)
    reading.end()


def test_who_waits_is_let_go_at_the_end() -> None:
    """A snapshot that is closed holds nobody."""
    pace, closed = Pace(), threading.Event()
    reading = _Reading(Room(pace, closed), 2)
    wait_until(lambda: pace._wanted == 2, SECONDS)
    closed.set()
    wait_until(lambda: reading.inside == 2, SECONDS)
    reading.end()


class _Never(threading.Event):
    """What is never set, and remembers how long it was waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout)
        return False


def test_a_reader_pauses_after_a_batch() -> None:
    """At the floor it reads for a quarter of the time."""
    pace, closed = Pace(), _Never()
    room = Room(pace, closed)
    room.breathe(0.2)
    _judged(pace, 1.0, 10.0, times=20)
    room.breathe(0.2)
    assert closed.waited == pytest.approx([0.0, 0.6])


def test_the_listener_compares_with_a_rest() -> None:
    """A source that answers later only while somebody may read is one that suffers from us."""
    pace, closed = Pace(), threading.Event()
    room, now = Room(pace, closed), [0.0]
    asked = _asked(room, now)

    def ask() -> None:
        next(asked)
        if pace.share == FLOOR:
            closed.set()

    Listener(room, closed, Rhythm(0, 0, 0, 0, 10, 2), clock=lambda: now[0]).run(ask)
    assert pace.share == FLOOR
    assert pace._heard == pytest.approx((1.0, 9.0))


def _asked(room: Room, now: list[float]) -> Iterator[None]:
    for _ in range(10_000):
        now[0] += 0.001 if room._resting else 0.009
        yield
