"""Waiting until the copy is as fresh as a statement asks: by positions, never by guessing.

The wait protocol and its three holes are those of PostgreSQL's log positions: the head may lie
behind a page header that no message will ever cover, an unflushed tail stalls the stream, and a
sleeping sender may miss a wake-up. So a waiter nudges by timer and, after a while, writes one mark
into the stream that all waiters share: a mark lies behind every acknowledged commit by
construction. It says nothing of a position that the head has not reached.
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from htapkit.errors import SourceUnavailable, Stale
from htapkit.hot import Applied, HotStore
from htapkit.model import Position
from htapkit.spi import HEAD_SECONDS, Head, PositionOrder

NUDGE_SECONDS = 0.02
_SAMPLES_MAX = 64


class Nudge(Protocol):
    """Asks the stream for its newest position; does nothing while there is no stream."""

    def __call__(self) -> None:
        """Ask."""
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """At `seconds` (monotonic), the source's head was at `position`."""

    seconds: float
    position: Position


class Freshness:
    """How fresh one source's copy is, and waiting for more. Thread-safe."""

    def __init__(
        self,
        name: str,
        store: HotStore,
        head: Head,
        order: PositionOrder,
        nudge: Nudge,
        monotonic: Callable[[], float],
        *,
        behind: Callable[[float], str] = lambda _: "",
    ) -> None:
        """`monotonic` is the clock of samples and deadlines, in seconds.

        `behind` says which parts of the source are so many seconds behind; "" = none in particular.
        """
        self._behind = behind
        self._name = name
        self._store = store
        self._head = head
        self._order = order
        self._nudge = nudge
        self._now = monotonic
        self._lock = threading.Lock()
        self._samples: deque[Sample] = deque()
        self._newest: Position | None = None  # of the head, as far as it was asked
        self._covered: Sample | None = None
        self._delay: float | None = None
        self._marking = threading.Lock()  # held while the source is asked; never `_lock` within
        self._mark: tuple[str, float] = ("", float("-inf"))
        store.on_applied(self._moved)

    def sample(self, timeout_seconds: float = HEAD_SECONDS) -> Position:
        """Read the source's head and remember when. Raises SourceUnavailable."""
        before = self._now()
        position = self._head.head(timeout_seconds)
        with self._lock:
            if len(self._samples) == _SAMPLES_MAX:
                self._thin_out()
            self._samples.append(Sample(before, position))
            self._newest = position
            self._cover(self._store.applied(self._name).position)
        return position

    def _thin_out(self) -> None:
        """Forget the sample that tells least, never the oldest: it says how long it takes."""
        kept = self._samples
        del kept[
            min(range(1, len(kept) - 1), key=lambda i: kept[i + 1].seconds - kept[i - 1].seconds)
        ]

    def age_seconds(self) -> float | None:
        """Age of the newest moment whose commits are all known to be applied; None: none is."""
        with self._lock:
            self._cover(self._store.applied(self._name).position)
            return self._now() - self._covered.seconds if self._covered else None

    def lag_seconds(self) -> float | None:
        """How long the newest samples took from the source's head to here, or take already."""
        with self._lock:
            self._cover(self._store.applied(self._name).position)
            if self._samples:
                waiting = self._now() - self._samples[0].seconds
                return max(waiting, self._delay or 0.0)
            return self._delay

    def _moved(self, source: str, applied: Applied) -> None:
        if source == self._name and self._samples:
            with self._lock:
                self._cover(applied.position)

    def _cover(self, applied: Position | None) -> None:
        """Take off the samples that are applied. Under the lock."""
        while applied and self._samples and self._order.covers(applied, self._samples[0].position):
            self._covered = self._samples.popleft()
            self._delay = self._now() - self._covered.seconds

    def wait_strong(self, timeout_seconds: float) -> str:
        """Return once all commits acknowledged before this call are applied; see `wait_for`."""
        started = self._now()
        with self._in_time(started + timeout_seconds):
            want = self.sample(timeout_seconds)
        return self._wait_for(want, timeout_seconds, started)

    def wait_age(self, age_seconds: float, timeout_seconds: float) -> str:
        """Return once the copy is at most that old.

        Costs no round trip while a sample is young enough.
        """
        age = self.age_seconds()
        if age is not None and age <= age_seconds:
            return "at once"
        return self.wait_strong(timeout_seconds)

    def wait_for(self, want: Position, timeout_seconds: float) -> str:
        """Return how it was reached once `want` is applied: "at once", "nudged" or "marked".

        Raises Stale at the timeout, SourceUnavailable when a mark cannot be written.
        """
        return self._wait_for(want, timeout_seconds, self._now())

    def _wait_for(self, want: Position, timeout_seconds: float, started: float) -> str:
        if self._reached(self._store.applied(self._name), want, ""):
            return "at once"
        self._nudge()
        token, written = "", None
        while True:
            left = timeout_seconds - (self._now() - started)
            reached = self._store.wait_applied(
                self._name,
                partial(self._reached, want=want, token=token),
                max(0.0, min(NUDGE_SECONDS, left)),
            )
            if reached:
                return "marked" if token else "nudged"
            if left <= 0:
                break
            if left > NUDGE_SECONDS:
                self._nudge()
                try:
                    with self._in_time(started + timeout_seconds):
                        if written is None:
                            written = self._is_written(want, left)
                        if written and not token:
                            token = self._shared_mark(started, left)
                except (SourceUnavailable, Stale):
                    # It may have been applied while the source was asked.
                    if not self._reached(self._store.applied(self._name), want, token):
                        raise
        behind = f" ({behind})" if (behind := self._behind(timeout_seconds / 2)) else ""
        raise Stale(
            f"{self._name} did not reach the position asked for within "
            f"{round(timeout_seconds, 3):g} s"
            f"{behind}; raise htapkit.wait_timeout, or set htapkit.on_stale = 'source'"
        )

    def readable(self, position: Position) -> bool:
        """Whether it is a position of this source."""
        try:
            return self._order.covers(position, position)
        except ValueError:
            return False

    def _reached(self, applied: Applied, want: Position, token: str) -> bool:
        if token and token in applied.marks:
            return True
        return applied.position is not None and self._order.covers(applied.position, want)

    @contextmanager
    def _in_time(self, until: float) -> Iterator[None]:
        """What the source does not answer till then is no reason to wait on. Raises Stale."""
        try:
            yield
        except SourceUnavailable as error:
            if self._now() < until:
                raise
            raise Stale(f"{error}; raise htapkit.wait_timeout, or try again later") from error

    def _is_written(self, want: Position, timeout_seconds: float) -> bool:
        """Whether the source has got there: only then does a later mark stand for it."""
        newest = self._newest
        known = newest is not None and self._order.covers(newest, want)
        return known or self._order.covers(self.sample(timeout_seconds), want)

    def _shared_mark(self, since: float, timeout_seconds: float) -> str:
        """A mark written after `since`: another waiter's if there is one, else our own.

        "" while another waiter's is being written: whoever waits looks at what is applied, too.
        """
        if not self._marking.acquire(timeout=min(NUDGE_SECONDS, timeout_seconds)):
            return ""
        try:
            if self._mark[1] > since:
                return self._mark[0]
            token = secrets.token_hex(8)
            begun = self._now()
            self._head.mark(token, timeout_seconds)
            self._mark = (token, begun)
            return token
        finally:
            self._marking.release()
