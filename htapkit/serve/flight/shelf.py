"""Things kept between calls under handles that nobody can guess: tickets, prepared statements.

Each belongs to one client and is forgotten some time after its last use. The number is limited.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from htapkit.errors import HtapkitError, LimitReached

T = TypeVar("T")
_HANDLE_BYTES = 16


class NoSuchHandle(HtapkitError):
    """It never was, has expired, was used up, or is another client's."""

    sqlstate = "26000"


@dataclass(slots=True)
class _Kept(Generic[T]):
    owner: object
    thing: T
    until: float


class Shelf(Generic[T]):
    """The things of one kind. Thread-safe."""

    def __init__(
        self,
        what: str,
        count_max: int,
        seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`what` names them in errors; `seconds` is how long one is kept after its last use."""
        self._what = what
        self._count_max = count_max
        self._seconds = seconds
        self._now = monotonic
        self._lock = threading.Lock()
        self._kept: dict[bytes, _Kept[T]] = {}

    @property
    def seconds(self) -> float:
        """How long one is kept after its last use."""
        return self._seconds

    def put(self, owner: object, thing: T) -> bytes:
        """Keep it; its handle. Raises LimitReached."""
        handle = secrets.token_bytes(_HANDLE_BYTES)
        now = self._now()
        with self._lock:
            if len(self._kept) >= self._count_max:
                self._kept = {h: kept for h, kept in self._kept.items() if kept.until > now}
            if len(self._kept) >= self._count_max:
                raise LimitReached(f"there are {self._count_max} {self._what}s; close some")
            self._kept[handle] = _Kept(owner, thing, now + self._seconds)
        return handle

    def get(self, owner: object, handle: bytes) -> T:
        """The thing, for some time more. Raises NoSuchHandle."""
        now = self._now()
        with self._lock:
            kept = self._kept.get(handle)
            if kept is None or kept.owner is not owner or kept.until <= now:
                raise NoSuchHandle(
                    f"no such {self._what}: it is kept for {self._seconds:g} s after its last use"
                )
            kept.until = now + self._seconds
            return kept.thing

    def drop(self, owner: object, handle: bytes) -> bool:
        """Forget it; whether this call did."""
        with self._lock:
            kept = self._kept.get(handle)
            if kept is None or kept.owner is not owner:
                return False
            del self._kept[handle]
            return True
