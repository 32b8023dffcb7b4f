"""Which way is taken where a table has a part in the lake, by itself and forced."""

from __future__ import annotations

import pytest

from htapkit.model import Route
from htapkit.plan import ExplainRoute, LocalQuery, Plan, Refuse, Relay, SessionView, plan
from tests.unit.htapkit.plan.catalogs import SHOP, TIERED, micros

RECENT = "SELECT count(*) FROM visits WHERE at >= '2024-07-01'"
OLD = "SELECT count(*) FROM visits WHERE at < '2024-02-01'"
ACROSS = "SELECT count(*) FROM visits"


def _plan(sql: str, route: str) -> Plan:
    return plan(sql, TIERED, SessionView("shop", route=route))


@pytest.mark.parametrize(
    ("route", "sql", "taken"),
    [
        ("auto", RECENT, Route.HOT),
        ("auto", OLD, Route.UNION),
        ("auto", ACROSS, Route.UNION),
        ("hot", RECENT, Route.HOT),
        ("union", RECENT, Route.UNION),
        ("union", OLD, Route.UNION),
        ("union", "SELECT count(*) FROM visits v JOIN orders o ON o.id = v.id", Route.UNION),
        ("lake", OLD, Route.LAKE),
        ("lake", "SELECT count(*) FROM visits WHERE at < '2024-06-01'", Route.LAKE),
    ],
)
def test_the_route_taken(route: str, sql: str, taken: Route) -> None:
    """A forced union reads the lake even where no row of it can count."""
    made = _plan(sql, route)
    assert isinstance(made, LocalQuery), made
    assert made.route is taken
    assert [each.route for each in made.considered if each.chosen] == [taken]
    assert bool(made.scans) is (taken is not Route.HOT)


@pytest.mark.parametrize(
    ("route", "sql", "words"),
    [
        ("hot", OLD, ("shop.public.visits", "2024-02-01", "2024-06-01 00:00:00")),
        ("hot", ACROSS, ("shop.public.visits", "2024-06-01 00:00:00")),
        ("lake", ACROSS, ("shop.public.visits", "2024-06-01 00:00:00")),
        ("lake", RECENT, ("shop.public.visits", "2024-06-01 00:00:00")),
        ("lake", OLD.replace("<", "<=").replace("02-01", "06-01"), ("shop.public.visits",)),
        ("lake", f"{OLD} AND id IN (SELECT id FROM orders)", ("shop.public.orders", "no part")),
        ("union", "SELECT count(*) FROM orders", ("no table", "part in the lake")),
        ("union", "SELECT count(*) FROM visits WHERE page ~ 'a'", ("union", "regexp")),
    ],
)
def test_a_route_that_cannot_be_taken(route: str, sql: str, words: tuple[str, ...]) -> None:
    """It says which table, and where its boundary is."""
    made = _plan(sql, route)
    assert isinstance(made, Refuse), made
    assert made.sqlstate == "0A000"
    assert all(word in made.message for word in words), made.message


@pytest.mark.parametrize("route", ["lake", "union"])
def test_what_reads_no_table_of_ours_goes_on(route: str) -> None:
    """Clients ask the system catalogs, or for 1, whatever is forced."""
    for sql in ("SELECT 1", "SELECT relname FROM pg_class", "INSERT INTO visits VALUES (1)"):
        assert isinstance(_plan(sql, route), Relay), sql


def test_point_lookups_of_tiered_tables_go_to_the_source() -> None:
    """It has the row by its key, wherever it lies here."""
    assert isinstance(_plan("SELECT * FROM visits WHERE id = 7", "auto"), Relay)


def test_the_plan_says_what_it_relies_on() -> None:
    """The boundary of every table that has one, also where its lake is left out."""
    made = _plan(
        "SELECT count(*) FROM visits v, sales s, orders o WHERE v.at > '2024-07-01'", "auto"
    )
    assert isinstance(made, LocalQuery)
    assert {(table.name, below) for table, below in made.cuts} == {
        ("visits", micros("2024-06-01")),
        ("sales", micros("2024-03-01")),
    }
    assert [scan.table.name for scan in made.scans] == ["sales"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT page, (SELECT max(day) FROM sales), count(*) FROM visits GROUP BY 1, 2",
        "SELECT to_char(at, 'YYYY'), (SELECT max(day) FROM sales) FROM visits",
        "SELECT page, to_char(max(at), 'YYYY') FROM visits GROUP BY 1 "
        "ORDER BY (SELECT max(day) FROM sales), 2",
    ],
)
def test_scans_are_those_that_the_sql_reads(sql: str) -> None:
    """What was bound on the way to another plan, or twice, is not scanned."""
    made = _plan(sql, "auto")
    assert isinstance(made, LocalQuery)
    assert {scan.table.name for scan in made.scans} == {"visits", "sales"}
    assert made.sql.count('"htapkit lake ') == len({scan.name for scan in made.scans})
    assert len({scan.name for scan in made.scans}) == len(made.scans)


def test_explain_says_why_each_lake_is_read_or_not() -> None:
    """One chosen candidate with the reason of every table; the others refused."""
    sql = (
        "EXPLAIN (ROUTE) SELECT count(*) FROM visits v "
        "JOIN sales s ON s.id = v.id AND s.day > '2024-04-01'"
    )
    made = _plan(sql, "auto")
    assert isinstance(made, ExplainRoute)
    assert isinstance(made.plan, LocalQuery)
    chosen, *others = made.plan.considered
    assert chosen.route is Route.UNION
    assert "shop.public.visits: with its lake, times in [-infinity, infinity)" in chosen.reason
    assert "shop.public.sales: no lake, times in [2024-04-02 00:00:00, infinity)" in chosen.reason
    assert "its boundary is 2024-06-01 00:00:00" in chosen.reason
    assert "its boundary is 2024-03-01 00:00:00" in chosen.reason
    assert chosen.cost == 1000 + 1000 + 5000
    assert [(each.route, each.chosen) for each in others] == [
        (Route.HOT, False),
        (Route.SOURCE, False),
    ]


def test_without_a_lake_nothing_is_different() -> None:
    """No scans, no cuts, the candidates as before."""
    made = plan("SELECT count(*) FROM orders", SHOP, SessionView("shop"))
    assert isinstance(made, LocalQuery)
    assert (made.scans, made.cuts, made.route) == ((), (), Route.HOT)
    assert [each.route for each in made.considered] == [Route.HOT, Route.SOURCE]
    assert made.considered[0].reason == "proven equal"


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT version()", "function version()"),
        ("SELECT * FROM nothing", "public.nothing: not mirrored"),
        ("SELECT oid FROM pg_catalog.pg_class", "system catalog"),
        ("SELECT now()", "function now()"),
        ("DELETE FROM orders", "may write"),
        ("SELECT 1; SELECT 2", "several statements"),
    ],
)
def test_a_source_that_answers_no_sql_is_never_a_way(sql: str, why: str) -> None:
    """The refusal has the planner's own reason, and EXPLAIN (ROUTE) does not name the source."""
    alone = SessionView("shop", clock=False, alone=True)
    made = plan(sql, TIERED, alone)
    assert isinstance(made, Refuse), made
    assert made.sqlstate == "0A000"
    assert made.message.startswith("shop has no PostgreSQL behind it")
    assert why in made.message
    explained = plan(f"EXPLAIN (ROUTE) {sql}", TIERED, alone)
    if ";" not in sql:
        assert explained == ExplainRoute(made)
        assert not any(each.chosen or each.route is Route.SOURCE for each in made.considered)
    assert isinstance(plan(sql, TIERED, SessionView("shop")), Relay | LocalQuery)


def test_commands_stay_the_sessions() -> None:
    """BEGIN, SET and the like: what stands in for the source answers them."""
    alone = SessionView("shop", alone=True)
    for sql in ("BEGIN", "COMMIT", "SET search_path TO x", "DISCARD ALL", "DEALLOCATE ALL", ""):
        assert isinstance(plan(sql, TIERED, alone), Relay), sql
    assert isinstance(plan(RECENT, TIERED, alone), LocalQuery)
