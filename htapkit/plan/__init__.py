"""The planner: (SQL, catalog, session) to a Plan. See README.md for what it promises."""

from __future__ import annotations

from htapkit.plan.arms import settled
from htapkit.plan.cache import PlanCache
from htapkit.plan.conditions import counting
from htapkit.plan.past import asks_past, is_time
from htapkit.plan.plan import (
    Clock,
    Considered,
    Cut,
    Effect,
    ExplainRoute,
    Finish,
    HotScan,
    LakeScan,
    Limit,
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
    "Clock",
    "Considered",
    "Cut",
    "Effect",
    "ExplainRoute",
    "Finish",
    "HotScan",
    "LakeScan",
    "Limit",
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
    "asks_past",
    "counting",
    "is_time",
    "plan",
    "settled",
]
