"""How long clients waited for their answers: measured where they are, summed up here. Pure."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

KEPT_MAX = 100_000  # of each kind: minutes of a busy load


@dataclass(frozen=True, slots=True)
class Waited:
    """Half of the operations of one kind took at most `p50_ms`, 99 of 100 at most `p99_ms`."""

    operations: int
    p50_ms: float
    p99_ms: float


def waited(ms: Sequence[float]) -> Waited | None:
    """By nearest rank: each figure is one that was measured. None: nothing was."""
    if not ms:
        return None
    ordered = sorted(ms)
    p50, p99 = (ordered[math.ceil(len(ordered) * share) - 1] for share in (0.5, 0.99))
    return Waited(len(ordered), p50, p99)


class Latencies:
    """What has come since the last `restart`, by kind."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._ms: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT_MAX))

    def add(self, ms: Mapping[str, Sequence[float]]) -> None:
        """What a report of the load has."""
        for kind, found in ms.items():
            self._ms[kind].extend(found)

    def restart(self) -> None:
        """Forget: another time of the demo begins."""
        self._ms.clear()

    def of(self, kind: str, last: int = KEPT_MAX) -> Waited | None:
        """Of the last so many of one kind; None while there is none."""
        return waited(list(self._ms.get(kind, ()))[-last:])
