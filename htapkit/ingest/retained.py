"""When the source is told to forget log that it keeps for us: its disk goes before our copy.

`limits.slot_lag` alone does not decide, because a burst of writes is caught up with sooner than
all tables are copied again. What counts is log over the limit that goes on growing. Pure: the
times and sizes come in as arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_PAUSES_SECONDS = (0.0, 600.0, 1800.0, 3600.0)


@dataclass(slots=True)
class Retained:
    """The decision for one source."""

    bytes_max: int
    grace_seconds: float
    rounds: int = field(default=0, init=False)  # how often it was let go since we had caught up
    _since: float | None = field(default=None, init=False)  # it is over the limit and not shrinking
    _least: int = field(default=0, init=False)  # since then

    def look(self, retained: int, now: float, *, caught_up: bool) -> bool:
        """Whether to let go now. `caught_up`: no table is being copied."""
        if retained <= self.bytes_max:
            self._since = None
            if caught_up and retained <= self.bytes_max // 2:
                self.rounds = 0
            return False
        if self._since is None or retained < self._least:
            self._since, self._least = now, retained
            return False
        if now - self._since < self.grace_seconds:
            return False
        self._since = None
        self.rounds += 1
        return True

    @property
    def pause_seconds(self) -> float:
        """How long to leave the source alone after letting go: longer each time, none at first."""
        return _PAUSES_SECONDS[min(max(self.rounds, 1), len(_PAUSES_SECONDS)) - 1]
