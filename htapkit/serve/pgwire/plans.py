"""The plans that one session has seen, so that most statements cost it a look into a dictionary.

A plan holds under one view of the session's settings and one version of the catalog. It never
decides anything itself: the planner does.
"""

from __future__ import annotations

from collections.abc import Callable

from htapkit.plan.plan import READS, Effect, LocalQuery, Plan, Relay
from htapkit.plan.skeleton import skeleton
from htapkit.serve.pgwire import messages
from htapkit.serve.pgwire.database import Database, Described
from htapkit.serve.pgwire.portal import Statement
from htapkit.serve.pgwire.state import SessionState

_PLANS_MAX = 512
_UNPLANNED = Relay(Effect.OTHER, ())


class Plans:
    """Remembers plans. One for each session."""

    def __init__(
        self,
        database: Database,
        state: SessionState,
        describe: Callable[[bytes, bytes], Described],
    ) -> None:
        """`describe` asks the source for the types of a statement; it may raise HiddenFailed."""
        self._database = database
        self._state = state
        self._describe = describe
        self._plans: dict[tuple[bytes, bytes], tuple[object, int, Plan]] = {}
        self._final: dict[tuple[bytes, bytes], tuple[object, int, Plan]] = {}
        self._relayed: dict[str, tuple[object, int]] = {}  # skeletons of relayed reads

    def plan(self, text: bytes, types: bytes) -> Plan:
        """The plan of a text under the settings as last known; `types` as Parse declared them."""
        version = self._database.catalog_version()
        key = (text, types)
        found = self._plans.get(key)
        if found is not None and found[0] is self._state.view and found[1] == version:
            return found[2]
        try:
            words = text.decode()
        except UnicodeDecodeError:
            return _UNPLANNED
        oids = messages.read_oids(types) if types else ()
        plan = self._database.planner(words, self._state.view, oids)
        if len(self._plans) >= _PLANS_MAX:
            self._plans.clear()
            self._relayed.clear()
        self._plans[key] = (self._state.view, version, plan)
        if isinstance(plan, Relay) and plan.effect is Effect.READ and plan.shape and not types:
            self._relayed[plan.shape] = (self._state.view, version)
        return plan

    def reads_there(self, text: bytes) -> bool:
        """Whether a text is known to be a read that is relayed. Plans nothing."""
        try:
            shape = skeleton(text.decode())
        except UnicodeDecodeError:
            return False
        found = None if shape is None else self._relayed.get(shape)
        return (
            found is not None
            and found[0] is self._state.view
            and found[1] == self._database.catalog_version()
        )

    def settled(self, statement: Statement) -> bool:
        """Whether the plan of a statement holds under the settings as last known.

        Sets it if it does.
        """
        view, version = self._state.view, self._database.catalog_version()
        seen = statement.seen
        if seen is not None and seen[0] is view and seen[1] == version:
            return True
        found = self._final.get((statement.sql, statement.types))
        if found is None or found[0] is not view or found[1] != version:
            return False
        statement.plan, statement.seen = found[2], (view, version)
        return True

    def plan_now(self, statement: Statement) -> Plan:
        """The plan of a statement without parameters; sets it."""
        # The version comes first: if the catalog changes meanwhile, the plan counts as old.
        view, version = self._state.view, self._database.catalog_version()
        statement.plan, statement.seen = self.plan(statement.sql, b""), (view, version)
        return statement.plan

    def replan(self, statement: Statement) -> Plan:
        """The plan now, with the types that the source knows. May raise HiddenFailed."""
        if self.settled(statement):
            return statement.plan
        # Before the plan is made: if it changes meanwhile, the plan counts as old.
        version = self._database.catalog_version()
        plan = self.plan(statement.sql, statement.types)
        declared = messages.read_oids(statement.types) if statement.types else ()
        open_types = b"$" in statement.sql and (not declared or 0 in declared)
        reads = isinstance(plan, Relay) and plan.effect in READS
        if open_types and (reads or isinstance(plan, LocalQuery)):
            known = self._describe(statement.asked, statement.types).parameters
            plan = self._database.planner(statement.sql.decode(), self._state.view, known)
        statement.plan, statement.seen = plan, (self._state.view, version)
        if len(self._final) >= _PLANS_MAX:
            self._final.clear()
        self._final[statement.sql, statement.types] = (self._state.view, version, plan)
        return plan
