"""Stops what runs for clients that went away, and what runs too long.

gRPC tells a server of a cancelled call only when asked, and a thread that waits for a database
asks nobody; so one thread asks for all calls.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from htapkit.errors import HtapkitError, QueryCancelled

_POLL_SECONDS = 0.05
_log = logging.getLogger(__name__)


class Context(Protocol):
    """The part of a Flight call that can be asked."""

    def is_cancelled(self) -> bool:
        """Whether the client has gone, or cancelled the call."""
        ...


class Watched:
    """One call: whatever runs for it is stopped when the call ends early."""

    def __init__(self, context: Context | None) -> None:
        """`context` None: nobody can cancel it."""
        self._context = context
        self._lock = threading.Lock()
        self._stop: Callable[[], None] | None = None
        self._deadline: float | None = None
        self.stopped = ""

    @contextlib.contextmanager
    def running(self, stop: Callable[[], None], until: float | None = None) -> Iterator[None]:
        """While the block runs, `stop` stops it: when the client goes, or at `until`.

        `until` is of time.monotonic. Raises QueryCancelled where the call was stopped before.
        """
        with self._lock:
            if self.stopped:
                raise QueryCancelled(self.stopped)
            self._stop, self._deadline = stop, until
        try:
            yield
        finally:
            with self._lock:
                self._stop = self._deadline = None

    def forget(self) -> None:
        """The call is over: its context may not be asked any more."""
        with self._lock:
            self._context = None

    def look(self, now: float) -> None:
        """Stop it if there is a reason to. On the watching thread."""
        with self._lock:
            if self.stopped:
                return
            if self._context is not None and self._context.is_cancelled():
                self._end("canceling statement due to user request")
            elif self._deadline is not None and now >= self._deadline:
                self._end("canceling statement due to statement timeout")

    def end(self, why: str) -> None:
        """Stop it. Any thread."""
        with self._lock:
            self._end(why)

    def _end(self, why: str) -> None:
        self.stopped = self.stopped or why
        if self._stop is not None:
            try:
                # Under the lock: once the block is left, what ran in it may serve another call.
                self._stop()
            except HtapkitError as problem:
                _log.warning("a statement could not be stopped: %s", problem)


class Watch:
    """The calls that are under way, and the thread that looks after them."""

    def __init__(self) -> None:
        """The thread starts with the first call."""
        self._lock = threading.Lock()
        self._calls: dict[int, Watched] = {}
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    @contextlib.contextmanager
    def over(self, context: Context | None) -> Iterator[Watched]:
        """Watch a call while the block runs. The context is not asked after it."""
        watched, number = Watched(context), next(self._numbers)
        with self._lock:
            self._calls[number] = watched
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="flight watch", daemon=True)
                self._thread.start()
        try:
            yield watched
        finally:
            with self._lock:
                del self._calls[number]
            watched.forget()

    def stop_all(self, why: str) -> None:
        """Stop all that runs now."""
        with self._lock:
            calls = list(self._calls.values())
        for watched in calls:
            watched.end(why)

    def stop(self) -> None:
        """No more looking."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(_POLL_SECONDS):
            with self._lock:
                calls = list(self._calls.values())
            now = time.monotonic()
            for watched in calls:
                watched.look(now)
