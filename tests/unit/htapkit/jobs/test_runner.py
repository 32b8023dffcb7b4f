"""Jobs run one after the other, keep their outcome, and are limited in number."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

import pytest

from htapkit.errors import ConfigError, LimitReached, Stale
from htapkit.jobs import Job, JobRunner, JobState, Lane, Progress
from htapkit.testing.stack import wait_until


@pytest.fixture
def runner() -> Iterator[JobRunner]:
    made = JobRunner()
    made.start()
    yield made
    made.stop()


def _ended(runner: JobRunner, job: Job) -> Job:
    wait_until(lambda: runner.get(job.id).ended, 60)
    return runner.get(job.id)


def test_a_job_tells_how_far_it_is_and_what_it_did(runner: JobRunner) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def work(progress: Progress) -> Mapping[str, object]:
        progress("half", 5, 10)
        reached.set()
        assert go_on.wait(60)
        return {"rows": 10}

    job = runner.submit("tier", "shop.public.orders", work)
    assert reached.wait(60)
    now = runner.get(job.id)
    assert (now.state, now.step, now.done, now.total) == (JobState.RUNNING, "half", 5, 10)
    go_on.set()
    done = _ended(runner, job)
    assert (done.state, dict(done.result)) == (JobState.DONE, {"rows": 10})
    assert done.ended_at is not None


def test_a_failure_keeps_its_reason_and_the_next_job_runs(runner: JobRunner) -> None:
    def fails(_: Progress) -> Mapping[str, object]:
        raise Stale("too old")

    def breaks(_: Progress) -> Mapping[str, object]:
        return {"never": 1 // 0}

    failed = _ended(runner, runner.submit("tier", "a", fails))
    assert (failed.state, failed.why, failed.sqlstate) == (JobState.FAILED, "too old", "57014")
    broken = _ended(runner, runner.submit("tier", "b", breaks))
    assert broken.why.startswith("ZeroDivisionError")
    assert _ended(runner, runner.submit("tier", "c", lambda _: {})).state is JobState.DONE


def test_a_job_that_waits_is_not_queued_twice(runner: JobRunner) -> None:
    go_on = threading.Event()

    def held(_: Progress) -> Mapping[str, object]:
        assert go_on.wait(60)
        return {}

    first = runner.submit("tier", "a", held)
    wait_until(lambda: runner.get(first.id).state is JobState.RUNNING, 60)
    second = runner.submit("tier", "a", held)
    assert second.id != first.id
    assert runner.submit("tier", "a", held).id == second.id
    for number in range(99):
        runner.submit("tier", str(number), held)
    with pytest.raises(LimitReached, match="100 jobs wait already"):
        runner.submit("tier", "one more", held)
    go_on.set()
    _ended(runner, second)


def test_an_unknown_job_is_named(runner: JobRunner) -> None:
    with pytest.raises(ConfigError, match="no job 'x'"):
        runner.get("x")


def test_lanes_go_on_beside_one_another(runner: JobRunner) -> None:
    """A job that waits for one of its own lane would wait for ever; for another lane's it may."""
    moved = threading.Event()

    def waits(_: Progress) -> Mapping[str, object]:
        return {"moved": moved.wait(60)}

    def moves(_: Progress) -> Mapping[str, object]:
        moved.set()
        return {}

    first = runner.submit("export", "a", waits, Lane.EXPORT)
    runner.submit("tier", "b", moves)
    assert dict(_ended(runner, first).result) == {"moved": True}
