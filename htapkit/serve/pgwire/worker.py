"""The thread on which a session's local reads run.

Niced, so that the mirror and the relays go first.

One thread at most for each session, made when first needed. It runs what it is given and reports;
it never touches a socket.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

NICENESS = 10

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Job(Generic[T]):
    """A call on the worker. The first outcome counts, so that it can be given up from outside."""

    def __init__(self, call: Callable[[], T], discard: Callable[[T], None] | None = None) -> None:
        """Not begun. `discard` gets a result that comes after the job was given up."""
        self._call = call
        self._discard = discard
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._result: T | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do it, on the worker's thread."""
        try:
            result = self._call()
        except Exception as error:  # noqa: BLE001 - the task's top: whoever waits gets it
            self.fail(error)
        else:
            with self._lock:
                late = self._done.is_set()
                if not late:
                    self._result = result
                    self._done.set()
            if late and self._discard is not None:
                self._discard(result)

    def fail(self, error: BaseException) -> None:
        """Make it end with this error, unless it has ended."""
        with self._lock:
            if not self._done.is_set():
                self._error = error
                self._done.set()

    def wait(self, timeout_seconds: float) -> bool:
        """Whether it has ended."""
        return self._done.wait(timeout_seconds)

    def result(self) -> T:
        """Its outcome, once it has ended."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # set whenever there is no error


class Worker:
    """A niced thread and its queue."""

    def __init__(self, name: str) -> None:
        """The thread starts with the first job."""
        self._name = name
        self._jobs: queue.SimpleQueue[Job[object] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, call: Callable[[], T], discard: Callable[[T], None] | None = None) -> Job[T]:
        """Run `call` after those before it."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        job = Job(call, discard)
        self._jobs.put(job)  # type: ignore[arg-type]  # a queue of jobs of any result
        return job

    def stop(self) -> None:
        """End after the jobs that it has."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread = None

    def _run(self) -> None:
        _be_nice()
        while (job := self._jobs.get()) is not None:
            job.run()


def _be_nice() -> None:
    if sys.platform != "linux":
        return
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
    except OSError as error:
        _log.debug("a reading thread keeps its priority: %s", error)
