"""The planner: (SQL, catalog, session) to a Plan. See README.md for what it promises."""

from __future__ import annotations

from htapkit.plan.arms import settled
from htapkit.plan.cache import PlanCache
from htapkit.plan.conditions import archived, counting
from htapkit.plan.literals import moment_text
from htapkit.plan.past import asks_past, is_time
from htapkit.plan.plan import (
    LOOKED_UP,
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
    Probe,
    Refuse,
    Relay,
    SessionView,
    SetOption,
    ShowOption,
    SparkQuery,
    SparkType,
)
from htapkit.plan.planner import plan
from htapkit.plan.spark_bound import bound
from htapkit.plan.spark_tables import SparkTable, with_tables
from htapkit.plan.unproven import UnprovenError

__all__ = [
    "LOOKED_UP",
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
    "Probe",
    "Refuse",
    "Relay",
    "SessionView",
    "SetOption",
    "ShowOption",
    "SparkQuery",
    "SparkTable",
    "SparkType",
    "UnprovenError",
    "archived",
    "asks_past",
    "bound",
    "counting",
    "is_time",
    "moment_text",
    "plan",
    "settled",
    "with_tables",
]
