"""How far the logs were read: by when our marks come back through them. Pure but for a lock."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from htapkit_cassandra.positions import Vouched
from htapkit_cassandra.replicas import Placed, Replicas, bound

_VOUCHED = ""  # no log's name: what the copy vouches for


class Lags:
    """The newest mark that came through each of several logs. Thread-safe.

    Times are monotonic seconds. A mark says: what was acknowledged before it was written, and is in
    that log, was read. So what came through all of them says so of everything; what came through
    some says so of what at least one of these acknowledged, as long as the same nodes did since a
    mark that came through all. Who does is looked at behind each mark: where it was the same in two
    looks it was in between, and a mark before the second one has nothing behind it that was not.
    """

    def __init__(
        self, logs: Iterable[str], through: int = 0, placed: Mapping[str, str] | None = None
    ) -> None:
        """That mark came through all of them already, and so the keyspaces lay since then."""
        self._lock = threading.Lock()
        self._came = dict.fromkeys(logs, through)
        self._waiting: dict[str, tuple[int, float]] = {}  # the oldest mark that has not come, when
        self._took: dict[str, float] = {}
        self._placed = placed
        self._replicas: frozenset[Replicas] | None = None  # None = nobody has looked
        self._looked = 0  # the newest mark that was written before a look
        self._changed = -1  # the one before the look that saw others: the next must come everywhere
        self._vouched = self._found()  # asked more often than it changes

    @property
    def logs(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._came)

    @property
    def mark(self) -> int:
        """The newest that the copy vouches for; 0 = none."""
        return self.vouched().mark

    def vouched(self) -> Vouched:
        """As far as it is known now."""
        return self._vouched

    def _found(self) -> Vouched:
        through = min(self._came.values(), default=0)
        if self._changed >= through:
            return Vouched(through, through, None)
        if self._replicas is None:
            return Vouched(through, through, self._placed)
        mark = min(bound(self._replicas, self._came), self._looked)
        return Vouched(max(mark, through), through, self._placed)

    def written(self, mark: int, now: float) -> None:
        """A mark is being written."""
        with self._lock:
            for log in (*self._came, _VOUCHED):
                self._waiting.setdefault(log, (mark, now))

    def came(self, log: str, mark: int, now: float) -> None:
        """A mark came through a log. Older ones need not come any more."""
        with self._lock:
            self._came[log] = max(self._came[log], mark)
            self._arrived(log, mark, now)
            self._vouched = self._found()
            self._arrived(_VOUCHED, self._vouched.mark, now)

    def followed(self, keyspaces: Mapping[str, Placed]) -> None:
        """These are. One that was not is copied from all nodes: how it lies counts from now on."""
        with self._lock:
            if (before := self._placed) is not None:
                now = keyspaces.items()
                self._placed = {name: before.get(name, placed.digest) for name, placed in now}
                self._vouched = self._found()

    def looked(self, mark: int, keyspaces: Mapping[str, Placed], now: float) -> None:
        """So all that are followed lay behind the writing of a mark, the newest one."""
        with self._lock:
            digests = {name: placed.digest for name, placed in keyspaces.items()}
            before = self._placed or {}
            if any(before.get(name) != digest for name, digest in digests.items()):
                self._changed = mark
            # Some may be followed by now that nobody knew of when this look began.
            self._placed, self._looked = {**before, **digests}, mark
            self._replicas = frozenset(each for p in keyspaces.values() for each in p.replicas)
            self._vouched = self._found()
            self._arrived(_VOUCHED, self._vouched.mark, now)

    def _arrived(self, what: str, mark: int, now: float) -> None:
        wanted, since = self._waiting.get(what, (mark + 1, now))
        if mark >= wanted:
            del self._waiting[what]
            self._took[what] = now - since

    def seconds(self, log: str, now: float) -> float:
        """How long the last mark took through a log, or the one takes that it owes us."""
        with self._lock:
            _, since = self._waiting.get(log, (0, now))
            return max(now - since, self._took.get(log, 0.0))

    def vouched_seconds(self, now: float) -> float:
        """How long it took until the copy vouched for a mark, or takes."""
        return self.seconds(_VOUCHED, now)
