"""Waiting for freshness, on a clock that only the test moves: no wait here takes any time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from htapkit.errors import SourceUnavailable, Stale
from htapkit.ingest.freshness import NUDGE_SECONDS
from htapkit.testing.memory import position_of
from tests.unit.htapkit.ingest.waited import DEADLINE_SECONDS, World

TICK = 1 / 32  # longer than NUDGE_SECONDS, and added up without error
STEP = TICK / 8
WAITERS = 8


@pytest.fixture
def world() -> World:
    return World()


@contextmanager
def waiting(world: World, wait: Callable[[], str], count: int = 1) -> Iterator[list[Future[str]]]:
    """So many threads in `wait`, all asleep."""
    with ThreadPoolExecutor(count) as pool:
        waits = [pool.submit(wait) for _ in range(count)]
        try:
            world.asleep(waits)
            yield waits
        finally:
            world.move(3600.0)  # a test that failed leaves nobody asleep


def results(waits: list[Future[str]]) -> list[str]:
    return [wait.result(DEADLINE_SECONDS) for wait in waits]


# -- the head lies behind what the stream will ever say


def test_all_waiters_share_one_mark(world: World) -> None:
    """The log's end is a page header further than its last record: the stream stays short of it."""
    world.apply(100)
    world.end = 124
    fresh = world.freshness()
    with waiting(world, lambda: fresh.wait_strong(5.0), WAITERS) as waits:
        assert not world.marks, "a nudge may do"
        world.move(TICK)
        world.asleep(waits)
        assert len(world.marks) == 1
        world.move(TICK)
        world.asleep(waits)
        assert not any(wait.done() for wait in waits)
        world.apply(100, *world.marks)
        assert results(waits) == ["marked"] * WAITERS
    assert len(world.marks) == 1
    assert world.heads == WAITERS
    assert world.state.position == position_of(100)


def test_an_older_mark_says_nothing_of_later_commits(world: World) -> None:
    """Not even one that is begun in the same moment as the wait."""
    fresh = world.freshness()
    for commits in (100, 200):
        world.end = commits
        with waiting(world, lambda: fresh.wait_strong(5.0)) as waits:
            world.move(TICK)
            world.asleep(waits)
            world.apply(0, *world.marks)
            assert results(waits) == ["marked"]
            moment = world.seconds
        world.seconds = moment  # in which the next wait begins
    assert len(set(world.marks)) == 2


def test_a_foreign_mark_ends_no_wait(world: World) -> None:
    world.end = 10
    fresh = world.freshness()
    with waiting(world, lambda: fresh.wait_strong(5.0)) as waits:
        world.apply(9, "of somebody else")
        world.move(TICK)
        world.asleep(waits)
        world.apply(9, "of somebody else", "another")
        world.move(TICK)
        world.asleep(waits)
        assert not waits[0].done()
        world.apply(10)
        assert results(waits)


def test_no_mark_stands_for_a_position_that_the_source_has_not_reached(world: World) -> None:
    """It lies behind all that was committed, and not behind what was asked for."""
    world.apply(100)
    world.end = 100
    fresh = world.freshness()
    with waiting(world, lambda: fresh.wait_for(position_of(500), 1.0)) as waits:
        for _ in range(3):
            world.move(TICK)
            world.asleep(waits)
            world.apply(100, *world.marks)
            world.asleep(waits)
        assert not waits[0].done()
        world.apply(500)
        assert results(waits) == ["nudged"]


# -- nudges


def test_a_stream_that_speaks_when_it_is_nudged(world: World) -> None:
    world.end = 10
    world.answers = lambda _: world.apply(10)
    assert world.freshness().wait_strong(5.0) == "nudged"
    assert (len(world.nudges), world.marks) == (1, [])


def test_nothing_is_nudged_where_nothing_is_missing(world: World) -> None:
    world.apply(10)
    world.end = 10
    assert world.freshness().wait_strong(0.0) == "at once"
    assert world.nudges == []


def test_one_nudge_in_20_ms(world: World) -> None:
    """Whatever else the stream brings meanwhile: who asks at each answer asks without end."""
    world.end = 10
    fresh = world.freshness()
    with waiting(world, lambda: fresh.wait_strong(5.0)) as waits:
        for step in range(1, 50):
            world.apply(step % 10)
            world.move(STEP)
            world.asleep(waits)
        world.apply(10)
        assert results(waits)
    gaps = [after - before for before, after in zip(world.nudges, world.nudges[1:], strict=False)]
    assert min(gaps) >= NUDGE_SECONDS
    assert max(gaps) < NUDGE_SECONDS + STEP, "a lost one is made good"
    assert len(world.marks) == 1


# -- the end of a wait


@pytest.mark.parametrize("marked", [False, True], ids=["unmarked", "marked"])
def test_a_timeout(world: World, *, marked: bool) -> None:
    """It is told what is behind, once, and the source is left alone from then on."""
    world.end = 10
    asked: list[float] = []

    def behind(seconds: float) -> str:
        asked.append(seconds)
        return "node 2 is 7 s behind"

    fresh = world.freshness(behind)
    seconds = 1.0 if marked else 3 * STEP
    with waiting(world, lambda: fresh.wait_strong(seconds)) as waits:
        while not waits[0].done():
            world.move(STEP)
            world.asleep(waits)
            assert world.seconds < 1000 + seconds + NUDGE_SECONDS
        ended = world.seconds
        with pytest.raises(
            Stale, match=rf"within {round(seconds, 3):g} s \(node 2 is 7 s behind\)"
        ):
            results(waits)
    assert ended == 1000 + seconds
    assert asked == [seconds / 2]
    assert len(world.marks) <= marked
    assert world.nudges[-1] <= ended


def test_a_wait_of_no_time(world: World) -> None:
    world.end = 1
    with pytest.raises(Stale):
        world.freshness().wait_strong(0.0)
    assert world.marks == []


@pytest.mark.parametrize("where", ["head", "mark"])
def test_a_source_that_does_not_answer_in_time(world: World, where: str) -> None:
    """The same as a copy that does not get there: what then happens is the session's choice."""

    def silent(timeout_seconds: float) -> None:
        assert timeout_seconds <= 5.0
        world.move(timeout_seconds)
        raise SourceUnavailable("w: no answer")

    world.end = 10
    if where == "head":
        world.asking = silent
    else:
        world.marking = lambda: silent(5.0)
    fresh = world.freshness()
    with waiting(world, lambda: fresh.wait_strong(5.0)) as waits:
        world.move(TICK)
        with pytest.raises(Stale, match=r"w: no answer; raise htapkit\.wait_timeout"):
            results(waits)


def test_a_source_that_is_away_is_told_at_once(world: World) -> None:
    def away(_: float) -> None:
        raise SourceUnavailable("w is down")

    world.asking = away
    with pytest.raises(SourceUnavailable):
        world.freshness().wait_strong(5.0)


def test_a_mark_that_cannot_be_written(world: World) -> None:
    """Each who waits is told, and the next one tries again."""

    def fails() -> None:
        raise SourceUnavailable("w is down")

    world.end, world.marking = 10, fails
    fresh = world.freshness()
    with waiting(world, lambda: fresh.wait_strong(5.0), 2) as waits:
        world.move(TICK)
        world.asleep(waits)
        for wait in waits:
            with pytest.raises(SourceUnavailable, match="w is down"):
                wait.result(DEADLINE_SECONDS)
    world.marking = lambda: None
    with waiting(world, lambda: fresh.wait_strong(5.0)) as waits:
        world.move(TICK)
        world.asleep(waits)
        world.apply(0, *world.marks)
        assert results(waits) == ["marked"]


def test_what_is_applied_while_the_source_is_asked_ends_the_wait(world: World) -> None:
    """Whatever becomes of the question."""

    def fails() -> None:
        world.apply(10)
        raise SourceUnavailable("w is down")

    world.end, world.marking = 10, fails
    fresh = world.freshness()
    with waiting(world, lambda: fresh.wait_strong(5.0)) as waits:
        world.move(TICK)
        world.asleep(waits)
        assert results(waits) == ["nudged"]


def test_a_source_that_does_not_take_a_mark_stops_nobody_else(world: World) -> None:
    """Least of all the thread that applies, and whoever asks how it goes."""
    begun, goes_on = threading.Event(), threading.Event()

    def hangs() -> None:
        begun.set()
        assert goes_on.wait(DEADLINE_SECONDS)

    world.end, world.marking = 10, hangs
    fresh = world.freshness()
    with ThreadPoolExecutor(2) as pool:
        try:
            wait = pool.submit(fresh.wait_strong, 5.0)
            world.asleep([wait])
            world.move(TICK)
            assert begun.wait(DEADLINE_SECONDS)
            pool.submit(world.apply, 10).result(5.0)
            assert pool.submit(fresh.lag_seconds).result(5.0) == TICK
            assert pool.submit(fresh.age_seconds).result(5.0) == TICK
        finally:
            goes_on.set()
        assert wait.result(DEADLINE_SECONDS)


# -- an age


def test_a_copy_that_is_young_enough_costs_no_question(world: World) -> None:
    """Its age is that of the moment before the head was read, once that is applied."""
    fresh = world.freshness()
    world.end = 10
    fresh.sample()
    assert fresh.age_seconds() is None
    world.move(0.3)
    world.apply(10)
    assert fresh.age_seconds() == pytest.approx(0.3)
    assert fresh.lag_seconds() == pytest.approx(0.3)
    world.end = 20
    world.move(0.7)
    assert fresh.wait_age(1.001, 0.0) == "at once"
    assert world.heads == 1


def test_a_copy_that_is_too_old_is_waited_for(world: World) -> None:
    fresh = world.freshness()
    fresh.sample()
    world.end = 10
    world.move(1.1)
    with waiting(world, lambda: fresh.wait_age(1.0, 5.0)) as waits:
        assert not waits[0].done()
        world.apply(10)
        assert results(waits) == ["nudged"]
    assert world.heads == 2


def test_a_copy_that_stays_too_old(world: World) -> None:
    """And one of which nothing is known, which is as old."""
    fresh = world.freshness()
    world.end = 10
    with pytest.raises(Stale):
        fresh.wait_age(3600.0, 0.0)
    world.apply(10)
    assert fresh.wait_age(3600.0, 0.0) == "at once"
    world.end = 20
    fresh.sample()
    world.move(10)
    with pytest.raises(Stale):
        fresh.wait_age(9.0, 0.0)
    assert fresh.wait_age(11.0, 0.0) == "at once"
    assert fresh.lag_seconds() == 10


def test_an_idle_source_is_as_young_as_its_last_look(world: World) -> None:
    fresh = world.freshness()
    world.apply(10)
    world.end = 10
    world.move(100)
    assert fresh.wait_age(1.0, 0.0) == "at once"
    assert fresh.age_seconds() == 0


def test_the_lag_is_told_however_long_it_takes(world: World) -> None:
    """What is kept of the looks at the head is bounded; the first and the last are among it."""
    fresh = world.freshness()
    for commits in range(3600):
        world.end = commits + 1
        fresh.sample()
        world.move(1)
    assert fresh.lag_seconds() == 3600
    world.apply(1800)
    assert fresh.lag_seconds() == pytest.approx(1800, rel=0.1)
    world.apply(3600)
    assert fresh.age_seconds() == 1
