"""Queues of jobs, each with the one thread that does them in order."""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import structlog

from htapkit.errors import ConfigError, HtapkitError, LimitReached

_log = structlog.get_logger("htapkit.jobs")
_WAITING_MAX = 100
_KEPT_MAX = 1000


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Job:
    """One job, as it is now. `done` and `total` count rows; 0 of 0 where nobody counts."""

    id: str
    kind: str
    subject: str
    state: JobState = JobState.QUEUED
    step: str = ""
    done: int = 0
    total: int = 0
    why: str = ""
    sqlstate: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    queued_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in {JobState.DONE, JobState.FAILED}


Progress = Callable[[str, int, int], None]
"""What a job calls: the step that it is at, how many rows are done, and of how many."""

Work = Callable[[Progress], Mapping[str, Any]]


class Lane(StrEnum):
    """What may go on beside one another: within a lane, jobs run one after the other."""

    LAKE = "lake"  # moving and maintaining: never two at a time
    EXPORT = "export"  # an hour of export must not hold up the line between hot and lake


class JobRunner:
    """Does jobs, those of one lane one after the other. Thread-safe."""

    def __init__(self) -> None:
        """Nothing runs before `start`."""
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._work: Mapping[Lane, deque[tuple[str, Work]]] = {lane: deque() for lane in Lane}
        self._changed = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, args=(lane,), name=f"jobs {lane}", daemon=True)
            for lane in Lane
        ]

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_seconds: float = 20.0) -> None:
        """Take no further job; wait for those in hand."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout_seconds)

    @property
    def stopping(self) -> bool:
        """Whether a job should come to an end soon."""
        return self._stopping

    def submit(self, kind: str, subject: str, work: Work, lane: Lane = Lane.LAKE) -> Job:
        """Queue a job; one of the same kind and subject that still waits is given instead.

        Raises LimitReached.
        """
        with self._changed:
            for waiting in self._jobs.values():
                if (waiting.kind, waiting.subject, waiting.state) == (
                    kind,
                    subject,
                    JobState.QUEUED,
                ):
                    return waiting
            if len(self._work[lane]) >= _WAITING_MAX:
                raise LimitReached(f"{_WAITING_MAX} jobs wait already; try again later")
            job = Job(uuid.uuid4().hex, kind, subject, queued_at=datetime.now(UTC))
            self._jobs[job.id] = job
            while len(self._jobs) > _KEPT_MAX:
                self._jobs.popitem(last=False)
            self._work[lane].append((job.id, work))
            self._changed.notify_all()
            return job

    def get(self, job_id: str) -> Job:
        """The job as it is now. Raises ConfigError for an unknown id."""
        with self._changed:
            found = self._jobs.get(job_id)
        if found is None:
            raise ConfigError(f"no job '{job_id}': the server has started anew since, or it is old")
        return found

    def all(self) -> tuple[Job, ...]:
        """Every job that is still known, oldest first."""
        with self._changed:
            return tuple(self._jobs.values())

    def _run(self, lane: Lane) -> None:
        waiting = self._work[lane]
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or bool(waiting))
                if self._stopping:
                    return
                job_id, work = waiting.popleft()
            self._do(job_id, work)

    def _do(self, job_id: str, work: Work) -> None:
        self._change(job_id, state=JobState.RUNNING)

        def progress(step: str, done: int, total: int) -> None:
            self._change(job_id, step=step, done=done, total=total)

        try:
            result = work(progress)
        except HtapkitError as error:
            _log.warning("job failed", job=job_id, why=str(error))
            self._end(job_id, JobState.FAILED, why=str(error), sqlstate=error.sqlstate)
        except Exception as error:  # noqa: BLE001 - the top of a thread: it must go on
            _log.exception("job failed", job=job_id)
            why = f"{type(error).__name__}: {error}"
            self._end(job_id, JobState.FAILED, why=why, sqlstate=HtapkitError.sqlstate)
        else:
            self._end(job_id, JobState.DONE, result=dict(result))

    def _end(self, job_id: str, state: JobState, **changes: Any) -> None:  # noqa: ANN401 - fields of Job
        self._change(job_id, state=state, step="", ended_at=datetime.now(UTC), **changes)

    def _change(self, job_id: str, **changes: Any) -> None:  # noqa: ANN401 - fields of Job
        with self._changed:
            self._jobs[job_id] = replace(self._jobs[job_id], **changes)
            self._changed.notify_all()
