"""What a session remembers between statements.

Settings, options, and what its transaction has done.

It only keeps score; messages are `session`'s and `answer`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from htapkit.model import Position
from htapkit.plan.plan import Effect, SessionView
from htapkit.serve.pgwire.settings import (
    Fresh,
    FreshnessWanted,
    Options,
    SourceSettings,
    WrongSetting,
)


@dataclass(frozen=True, slots=True)
class Last:
    """What SHOW htapkit.last_… tells of the last statement."""

    route: str = ""
    position: str = ""
    lag: str = ""
    reason: str = ""


RELAYED = Last("source")
KEEPS_TABLES = (
    b"INSERT", b"UPDATE", b"DELETE", b"MERGE", b"COPY", b"FETCH", b"MOVE", b"DECLARE", b"CLOSE",
    b"BEGIN", b"COMMIT\0", b"ROLLBACK", b"SAVEPOINT", b"RELEASE", b"LOCK", b"SET", b"SHOW",
    b"PREPARE", b"DEALLOCATE", b"LISTEN", b"NOTIFY", b"UNLISTEN", b"ANALYZE", b"TRUNCATE",
    b"VACUUM", b"GRANT", b"REVOKE", b"CREATE INDEX", b"COMMENT",
)  # fmt: skip
"""Command tags of what cannot make a table another one without a word in the stream of changes."""


class SessionState:
    """The score of one session."""

    def __init__(
        self,
        source: str,
        options: Options,
        user: str = "",
        *,
        alone: bool = False,
        readable: Callable[[Position], bool] = bool,
    ) -> None:
        """Nothing is known of the source's settings yet. `user`: who logged in; "": everybody.

        `alone`: the source answers no SQL. `readable`: what is a position there.
        """
        self.source = source
        self._readable = readable
        self.alone = alone
        self.user = user
        self.options = self._first = options
        self.settings: SourceSettings | None = None
        self.view = SessionView(source)
        self._look()
        self.unknown = True  # settings must be read before anything can be said
        self.doubtful = False  # settings must be read before a local answer
        self.pure = True  # the open transaction has only read
        self.relayed = False  # since the last local answer: freshness must look at the head
        self.floors = self._floors(options)
        self.redefined_at: float | None = (
            None  # when a transaction that may have changed tables ended
        )
        self.redefining = False  # the open transaction may have changed tables
        self.last = Last()
        self._before: Options | None = None  # options when the transaction first changed one
        self._local: set[str] = set()  # options set by SET LOCAL
        self._settings_moved = False  # the transaction's end may take settings back

    def learn(self, settings: SourceSettings) -> None:
        """Settings as the source has them now."""
        self.settings = settings
        self.unknown = self.doubtful = False
        self._look()

    def _look(self) -> None:
        route, as_of = self.options.route, self.options.as_of
        if self.settings is None:
            view = SessionView(
                self.source, route=route, as_of=as_of, clock=not self.alone, alone=self.alone
            )
        else:
            view = self.settings.view(
                self.source, route, as_of, clock=not self.alone, alone=self.alone
            )
        view = replace(view, copies=True)
        if view != self.view:
            self.view = view

    def done(self, effect: Effect) -> None:
        """A relayed statement has run."""
        if effect is Effect.READ:
            self.relayed = True
        elif effect in {Effect.SETTINGS, Effect.RESET}:
            self.unknown = self._settings_moved = True
            if effect is Effect.RESET:
                self._begin_again()
        elif effect in {Effect.OTHER, Effect.VIEW}:
            self.pure = False
            self.relayed = self.doubtful = self._settings_moved = True

    def _begin_again(self) -> None:
        """All options as they were when the session began, unless the transaction is undone."""
        if self._before is None:
            self._before = self.options
        if self.options.position != self._first.position:
            self.floors = self._floors(self._first)
        self.options = self._first
        self._local.clear()
        self._look()

    def ready(self, status: str, *, rolled_back: bool) -> None:
        """ReadyForQuery."""
        if status != "I":
            return
        self.pure = True
        if self.redefining:
            self.redefining, self.redefined_at = False, time.monotonic()
        if self._settings_moved:
            self.doubtful = True
            self.unknown = self.unknown or self.settings is None or not self.settings.read_committed
            self._settings_moved = False
        if self._before is not None:
            self._end_of_options(rolled_back=rolled_back)

    def _end_of_options(self, *, rolled_back: bool) -> None:
        before = self._before
        assert before is not None
        if rolled_back:
            self.options = before
        else:
            for name in self._local:
                self.options = self.options.set(name, getattr(before, name))
        self._before = None
        self._local.clear()
        self._look()

    def set_option(self, name: str, value: str | None, *, in_block: bool, local: bool) -> None:
        """SET htapkit.<name>. Raises WrongSetting."""
        changed = self.options.set(name, value)
        if in_block and self._before is None:
            self._before = self.options
        if local and not in_block:
            return  # as PostgreSQL: SET LOCAL outside a transaction has no effect
        if name == "position":
            self.floors = self._floors(changed)
        self.options = changed
        if local:
            self._local.add(name)
        else:
            self._local.discard(name)
        self._look()

    def _floors(self, options: Options) -> tuple[Position, ...]:
        """What `htapkit.position` asks for. Raises WrongSetting."""
        position = Position(options.position)
        if position and not self._readable(position):
            raise WrongSetting(
                f"htapkit.position = '{position}': expected what SHOW htapkit.position says in "
                f"a session of {self.source}"
            )
        return (position,) if position else ()

    def wanted(self) -> FreshnessWanted:
        """How fresh the next local answer must be."""
        fresh = self.options.fresh
        head = fresh is Fresh.STRONG or (fresh is Fresh.SESSION and self.relayed)
        floors = () if fresh is Fresh.ANY else self.floors
        return FreshnessWanted(fresh, head, floors, self.options.bound)

    def show(self, name: str) -> str | None:
        """The value of SHOW htapkit.<name>; None where there is no such name."""
        if name == "position":
            return self.floors[-1] if self.floors else ""
        if name.startswith("last_"):
            return getattr(self.last, name.removeprefix("last_"), None)
        return getattr(self.options, name, None) if name in Options.__dataclass_fields__ else None
