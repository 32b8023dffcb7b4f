"""What a local answer waits for: the copy's look at changed tables, and its freshness."""

from __future__ import annotations

import time
from collections.abc import Sequence

from htapkit.model import Position
from htapkit.serve.flight.clients import Memory
from htapkit.serve.flight.statement import Session
from htapkit.serve.flight.watch import Watched
from htapkit.serve.pgwire.database import Database
from htapkit.serve.pgwire.fresh import wait_fresh
from htapkit.serve.pgwire.portal import AtSource
from htapkit.serve.pgwire.settings import Fresh, FreshnessWanted

_LOOK_SECONDS = 0.02


class Waiting:
    """Waits for one call."""

    def __init__(self, database: Database, session: Session, watched: Watched) -> None:
        """`database` is the one that the session names."""
        self._database = database
        self._session = session
        self._name = session.name
        self._watched = watched

    def unseen(self, redefined_at: float | None) -> bool:
        """Whether the client may have changed tables since the copy last looked at them."""
        return redefined_at is not None and redefined_at >= self._database.looked_at()

    def looked(self, redefined_at: float | None) -> None:
        """Raise AtSource while the copy has not looked at tables that the client has changed."""
        if not self.unseen(redefined_at):
            return
        options = self._session.options
        self._database.look()
        patience = 0.0 if options.route == "auto" else options.wait_seconds
        deadline = time.monotonic() + patience
        while self.unseen(redefined_at):
            if time.monotonic() >= deadline or self._watched.stopped:
                raise AtSource("the client has changed tables, which the copy has not looked at")
            time.sleep(_LOOK_SECONDS)

    def fresh(self, want: FreshnessWanted, sources: Sequence[str]) -> None:
        """Raises AtSource, Stale."""
        wait_fresh(
            self._database.freshness,
            self._name,
            self._session.options,
            want,
            sources,
            given_up=lambda: bool(self._watched.stopped),
        )


def wanted(session: Session, memory: Memory) -> FreshnessWanted:
    """How fresh the next local answer must be."""
    options = session.options
    fresh = options.fresh
    head = fresh is Fresh.STRONG or (fresh is Fresh.SESSION and memory.relayed)
    floors = () if fresh is Fresh.ANY else memory.floors
    if options.position and fresh is not Fresh.ANY:
        floors = (*floors, Position(options.position))
    return FreshnessWanted(fresh, head, floors, options.bound)
