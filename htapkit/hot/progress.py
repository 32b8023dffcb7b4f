"""How far each source is applied, and waiting for it. Never touches the file.

A position that came without changes moves here at once and reaches the file only now and then. So
a reader finds an older position in the file than the data deserves; `effective` gives it the newer
one, which is exact because nothing changed between the two.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from htapkit.model import Position

_MARKS = 256


@dataclass(frozen=True, slots=True)
class Applied:
    """How far one source is applied, also by batches that only moved the position."""

    position: Position | None = None
    committed_at: datetime | None = None  # of the newest applied commit, by the source's clock
    observed_at: datetime | None = None  # when the position last moved, by our clock
    marks: frozenset[str] = frozenset()  # the most recent marks that the stream has passed


@dataclass(slots=True)
class _Source:
    applied: Applied = field(default_factory=Applied)
    stored: Position | None = None  # what the file says; `applied` holds the same rows
    stored_at: float = float("-inf")  # monotonic clock
    marks: deque[str] = field(default_factory=lambda: deque(maxlen=_MARKS))


class Progress:
    """The positions of all sources. Thread-safe."""

    def __init__(self) -> None:
        self._sources: dict[str, _Source] = {}
        self._moved = threading.Condition()
        self._callbacks: list[Callable[[str, Applied], None]] = []

    def applied(self, source: str) -> Applied:
        """How far the source is applied."""
        with self._moved:
            return self._of(source).applied

    def stored(self, source: str) -> tuple[Position | None, float]:
        """The position in the file, and when (monotonic clock) it was written."""
        with self._moved:
            found = self._of(source)
            return found.stored, found.stored_at

    def effective(
        self, source: str, stored: Position, committed_at: datetime | None
    ) -> tuple[Position, datetime | None]:
        """The newest position at which the rows are what they were at `stored`."""
        with self._moved:
            found = self._of(source)
            if found.stored == stored and found.applied.position is not None:
                return found.applied.position, found.applied.committed_at
            return stored, committed_at

    def restore(self, source: str, stored: Position | None, committed_at: datetime | None) -> None:
        """Take over what the file says, after it was opened."""
        with self._moved:
            found = self._of(source)
            if found.stored != stored or found.applied.position is None:
                found.stored = stored
                found.applied = replace(found.applied, position=stored, committed_at=committed_at)
            self._moved.notify_all()

    def stored_again(self, source: str, position: Position, now: float) -> None:
        """The position in memory was written to the file as it is."""
        with self._moved:
            found = self._of(source)
            found.stored, found.stored_at = position, now

    def fall_back(self, source: str) -> None:
        """What the file does not say is not known any more: another server may not have it."""
        with self._moved:
            found = self._of(source)
            if found.applied.position is not None:
                found.applied = replace(found.applied, position=found.stored)

    def move(
        self,
        source: str,
        position: Position,
        committed_at: datetime | None,
        observed_at: datetime,
        marks: Sequence[str],
        stored_at: float | None,
    ) -> None:
        """The source is applied up to `position`, in the file as well if `stored_at` is given."""
        with self._moved:
            found = self._of(source)
            if marks:
                found.marks.extend(marks)
            found.applied = Applied(
                position,
                committed_at or found.applied.committed_at,
                observed_at,
                frozenset(found.marks) if marks else found.applied.marks,
            )
            if stored_at is not None:
                found.stored, found.stored_at = position, stored_at
            applied, callbacks = found.applied, tuple(self._callbacks)
            self._moved.notify_all()
        for callback in callbacks:
            callback(source, applied)

    def forget(self, source: str) -> None:
        """The source is gone."""
        with self._moved:
            self._sources.pop(source, None)
            self._moved.notify_all()

    def watch(self, callback: Callable[[str, Applied], None]) -> None:
        """Call `callback` after each move, in the thread that applied."""
        with self._moved:
            self._callbacks.append(callback)

    def wait(
        self, source: str, predicate: Callable[[Applied], bool], timeout_seconds: float
    ) -> bool:
        """Wait until `predicate` holds; whether it does. Called under a lock: no I/O in it."""
        with self._moved:
            return self._moved.wait_for(
                lambda: predicate(self._of(source).applied), timeout=timeout_seconds
            )

    def _of(self, source: str) -> _Source:
        return self._sources.setdefault(source, _Source())
