"""Plans that were made before: by exact text, and relayed reads by their text without literals."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from htapkit.model import Catalog
from htapkit.plan.plan import READS, Cut, Plan, Relay, SessionView
from htapkit.plan.planner import Given, decide
from htapkit.plan.skeleton import skeleton

ENTRIES_MAX = 4096


class PlanCache:
    """A bounded memory of plans; the oldest unused one goes first. Safe from several threads."""

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        """Start empty."""
        self._entries_max = entries_max
        self._plans: OrderedDict[tuple[object, ...], Plan] = OrderedDict()
        self._lock = threading.Lock()

    def plan(
        self,
        sql: str,
        catalog: Catalog,
        session: SessionView,
        parameter_types: Sequence[int] = (),
        cuts: Sequence[Cut] = (),
    ) -> Plan:
        """The same as `htapkit.plan.plan`, remembered."""
        known = tuple((cut.at, cut.position) for cut in cuts)
        view = (tuple(parameter_types), catalog.version, session, known)
        exact = (sql, *view)
        found = self._find(exact)
        if found is not None:
            return found
        shape = skeleton(sql)
        similar = (shape, "shape", *view) if shape is not None else None
        if similar is not None:
            found = self._find(similar)
            if found is not None:
                return found
        decision = decide(sql, Given(catalog, session, parameter_types, cuts))
        made = decision.plan
        # A relayed read stays one whatever its literals are: they never decide what it may change.
        if isinstance(made, Relay) and made.effect in READS and decision.by_shape and shape:
            made = replace(made, shape=shape)
            self._keep((shape, "shape", *view), made)
        else:
            self._keep(exact, made)
        return made

    def _find(self, key: tuple[object, ...]) -> Plan | None:
        with self._lock:
            found = self._plans.get(key)
            if found is not None:
                self._plans.move_to_end(key)
            return found

    def _keep(self, key: tuple[object, ...], made: Plan) -> None:
        with self._lock:
            self._plans[key] = made
            while len(self._plans) > self._entries_max:
                self._plans.popitem(last=False)

    def __len__(self) -> int:
        """How many plans are remembered."""
        return len(self._plans)
