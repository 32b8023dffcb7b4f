"""The planner: (SQL, catalog, session) to a Plan. See README.md for what it promises."""

from __future__ import annotations

from htapkit.plan.cache import PlanCache
from htapkit.plan.plan import (
    Considered,
    Effect,
    ExplainRoute,
    Finish,
    LocalQuery,
    OutColumn,
    Parameter,
    Plan,
    Refuse,
    Relay,
    SessionView,
    SetOption,
    ShowOption,
)
from htapkit.plan.planner import plan

__all__ = [
    "Considered",
    "Effect",
    "ExplainRoute",
    "Finish",
    "LocalQuery",
    "OutColumn",
    "Parameter",
    "Plan",
    "PlanCache",
    "Refuse",
    "Relay",
    "SessionView",
    "SetOption",
    "ShowOption",
    "plan",
]
