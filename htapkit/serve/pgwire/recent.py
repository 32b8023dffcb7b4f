"""The last statements of a database and where they went, for `htapkit.routes`.

Texts are cut and kept as they came, and shown without their literals; nothing of it is written
anywhere. Refusals of other engines may quote values, so only their first words are shown.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from htapkit.plan.plan import Effect, LocalQuery, Plan, Relay
from htapkit.plan.skeleton import without_values

KEPT_MAX = 1000
_TEXT_BYTES_MAX = 4096
_UNTOLD = frozenset({Effect.BEGIN, Effect.END, Effect.SETTINGS, Effect.RESET})


@dataclass(frozen=True, slots=True)
class Routed:
    """One statement, ready to be shown."""

    at: datetime
    route: str
    reason: str
    statement: str


class Recent:
    """A bounded memory of statements. Thread-safe."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._kept: deque[tuple[float, str, bytes, Plan, str]] = deque(maxlen=KEPT_MAX)

    def note(self, user: str, text: bytes, plan: Plan, why: str = "") -> None:
        """A statement was answered. `why`: what sent a local plan to the source after all."""
        told = isinstance(plan, LocalQuery) and not plan.only_views
        if told or (isinstance(plan, Relay) and plan.effect not in _UNTOLD):
            self._kept.append((time.time(), user, text[:_TEXT_BYTES_MAX], plan, why))

    def of(self, user: str) -> Iterator[Routed]:
        """Those of one user, the newest first."""
        for at, who, text, plan, why in reversed(tuple(self._kept)):
            if who == user and isinstance(plan, (LocalQuery, Relay)):
                here = isinstance(plan, LocalQuery) and not why
                yield Routed(
                    datetime.fromtimestamp(at, UTC),
                    plan.route.value if isinstance(plan, LocalQuery) and here else "source",
                    without_values(why or _reason(plan)),
                    without_values(text.decode(errors="replace")),
                )


def _reason(plan: LocalQuery | Relay) -> str:
    """Why the copy answered, or why it did not."""
    return plan.considered[0].reason if plan.considered else ""
