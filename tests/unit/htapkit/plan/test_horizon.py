"""A table that is not kept as far back as the source has it: who answers what."""

from __future__ import annotations

from dataclasses import replace

import pytest

from htapkit.model import Horizon, Route
from htapkit.plan import LocalQuery, Plan, PlanCache, Refuse, Relay, SessionView, plan, settled
from htapkit.plan.types import OIDS
from tests.unit.htapkit.plan.catalogs import EVENTS, ORDERS, VISITS, catalog, micros

SINCE = "2024-01-01"
KEPT = replace(VISITS, horizon=Horizon(2, micros(SINCE)))
HOT = replace(ORDERS, horizon=Horizon(4, micros(SINCE)))
TABLES = catalog(KEPT, HOT, EVENTS)


def _plan(sql: str, route: str = "auto", types: tuple[int, ...] = ()) -> Plan:
    return plan(sql, TABLES, SessionView("shop", route=route, clock=True), types)


@pytest.mark.parametrize(
    ("sql", "route"),
    [
        ("SELECT count(*) FROM visits WHERE at >= '2024-01-01'", Route.UNION),
        ("SELECT count(*) FROM visits WHERE at >= '2024-07-01'", Route.HOT),
        ("SELECT count(*) FROM visits WHERE at = '2024-03-01' AND took > 3", Route.UNION),
        ("SELECT count(*) FROM visits WHERE at BETWEEN '2024-01-01' AND '2024-02-01'", Route.UNION),
        ("SELECT count(*) FROM orders WHERE placed >= '2024-01-01'", Route.HOT),
        (
            "SELECT count(*) FROM visits v JOIN orders o ON o.id = v.id "
            "AND v.at >= '2024-01-01' WHERE o.placed > '2024-01-01'",
            Route.UNION,
        ),
    ],
)
def test_what_lies_above_the_horizon_is_answered_here(sql: str, route: Route) -> None:
    made = _plan(sql)
    assert isinstance(made, LocalQuery), made
    assert made.route is route
    assert made.floors


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM visits",
        "SELECT count(*) FROM visits WHERE at >= '2023-12-31 23:59:59.999999'",
        "SELECT count(*) FROM visits WHERE at < '2024-07-01'",
        "SELECT count(*) FROM visits WHERE at >= '2024-01-01' OR took > 3",
        "SELECT count(*) FROM orders",
        "SELECT count(*) FROM orders WHERE placed > '2023-12-30'",
        "SELECT count(*) FROM visits v LEFT JOIN orders o ON o.placed >= '2024-01-01' "
        "AND v.at >= '2024-01-01'",
        "SELECT count(*) FROM (SELECT id FROM visits) v",
    ],
)
def test_what_may_lie_below_it_goes_to_the_source(sql: str) -> None:
    made = _plan(sql)
    assert isinstance(made, Relay), made
    assert SINCE in made.considered[0].reason
    assert "no longer keeps" in made.considered[0].reason


def test_a_date_after_the_horizon_begins_the_day_after() -> None:
    assert isinstance(_plan("SELECT count(*) FROM orders WHERE placed > '2023-12-31'"), LocalQuery)


@pytest.mark.parametrize("route", ["union", "hot", "lake"])
def test_a_forced_route_reads_what_is_kept(route: str) -> None:
    sql = {"lake": "SELECT count(*) FROM visits WHERE at < '2024-06-01'"}.get(
        route, "SELECT count(*) FROM orders o" + (", visits" if route == "union" else "")
    )
    made = _plan(sql, route)
    assert isinstance(made, LocalQuery), made
    assert made.floors == ()
    assert f"kept since {SINCE}" in made.considered[0].reason


def test_values_decide_when_the_statement_runs() -> None:
    types = (OIDS["timestamp"],)
    made = _plan("SELECT count(*) FROM visits WHERE at >= $1", types=types)
    assert isinstance(made, LocalQuery), made
    (floor,) = made.floors
    assert floor.lower is None
    assert len(floor.limits) == 1
    assert settled(floor, made.parameters, [None]) == (None, None)
    assert isinstance(_plan("SELECT count(*) FROM visits WHERE at <= $1", types=types), Relay), (
        "an upper bound is none from below"
    )
    asked = _plan("SELECT count(*) FROM orders WHERE placed >= current_date - 30")
    assert isinstance(asked, LocalQuery), asked
    assert asked.floors[0].limits


def test_where_the_source_cannot_be_asked_it_is_refused() -> None:
    made = _plan("SELECT count(*) FROM visits, other.public.events")
    assert isinstance(made, Refuse), made
    assert "no longer keeps" in made.message


def test_another_literal_is_planned_anew() -> None:
    cache = PlanCache()
    session = SessionView("shop")
    old = "SELECT count(*) FROM visits WHERE at >= '2020-01-01'"
    assert isinstance(cache.plan(old, TABLES, session), Relay)
    assert isinstance(cache.plan(old.replace("2020", "2024"), TABLES, session), LocalQuery)
