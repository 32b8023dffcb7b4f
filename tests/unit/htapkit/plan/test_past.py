"""AS OF: which cut is read, and that nothing but the lake's past ever answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from htapkit.model import Boundary, Pin, Position, Route, TableId
from htapkit.plan import (
    Cut,
    ExplainRoute,
    LocalQuery,
    Plan,
    PlanCache,
    Refuse,
    Relay,
    SessionView,
    SetOption,
    asks_past,
    plan,
)
from tests.unit.htapkit.plan.catalogs import TIERED, VISITS, micros

NOON = datetime(2024, 8, 1, 12, tzinfo=UTC)
_COLUMNS = {"visits": 2, "sales": 2, "beats": 2}
OLD = "SELECT count(*) FROM visits WHERE at < '2024-01-01'"


def _cut(number: int, **below: str) -> Cut:
    """The n-th, an hour after the one before; `visits="2024-02-01"`, or with `@n`: cut earlier."""
    boundaries = {}
    for name, text in below.items():
        moment, _, at = text.partition("@")
        place = TableId("shop", "public", name)
        pin = Pin(f"{name}-{at or number}", int(at or number), 10)
        position = Position(f"0/{at or number}")
        boundaries[place] = Boundary(_COLUMNS[name], micros(moment), pin, position)
    return Cut(Position(f"0/{number}"), NOON + timedelta(hours=number), boundaries)


CUTS = (
    _cut(1, visits="2024-02-01"),
    _cut(2, visits="2024-03-01", sales="2024-03-01"),
    _cut(3, visits="2024-04-01", sales="2024-03-01@2"),
)


TIME = "2024-08-01 14:30+00"


def _plan(sql: str, as_of: str = TIME, zone: str = "UTC", route: str = "auto") -> Plan:
    view = SessionView("shop", time_zone=zone, route=route, as_of=as_of)
    return plan(sql, TIERED, view, (), CUTS)


def _local(sql: str, as_of: str = TIME, zone: str = "UTC", route: str = "auto") -> LocalQuery:
    made = _plan(sql, as_of, zone, route)
    assert isinstance(made, LocalQuery), made
    return made


def _refused(sql: str, as_of: str = TIME, zone: str = "UTC", route: str = "auto") -> str:
    made = _plan(sql, as_of, zone, route)
    assert isinstance(made, Refuse), made
    assert made.sqlstate == "0A000"
    return made.message


@pytest.mark.parametrize(
    ("as_of", "number"),
    [
        ("2024-08-01 13:00:00+00", 1),
        ("2024-08-01 13:59:59.999999+00", 1),
        ("2024-08-01 16:00+02", 2),
        ("2024-08-01T14:30:00Z", 2),
        ("2031-01-01", 3),
    ],
)
def test_the_newest_cut_that_is_not_later(as_of: str, number: int) -> None:
    """Its version, and nothing of the hot store."""
    made = _local(OLD, as_of)
    (scan,) = made.scans
    assert scan.pin == CUTS[number - 1].boundaries[VISITS.schema.table].pin
    assert made.as_of == f"0/{number}"
    assert made.route is Route.LAKE
    assert (
        made.sql == 'SELECT g2."a1" AS "c1" FROM (SELECT count(*) AS "a1" FROM "htapkit lake 1" '
        "AS t1 WHERE (t1.\"at\" < TIMESTAMP '2024-01-01 00:00:00.000000')) AS g2"
    )
    assert made.cuts == ()


def test_a_time_before_all_cuts() -> None:
    """It says which is the first."""
    assert "2024-08-01 13:00:00" in _refused(OLD, "2024-08-01 12:00+00")


def test_rows_above_the_boundary_are_not_in_the_past() -> None:
    """The whole statement is refused, and told where the boundary was."""
    for condition in ("true", "at > '2024-01-01'", "at <= '2024-03-01'", "at < '2024-03-02'"):
        assert "2024-03-01 00:00:00" in _refused(f"SELECT id FROM visits WHERE {condition}")
    assert _local("SELECT id FROM visits WHERE at < '2024-03-01'")
    assert _local("SELECT id FROM visits WHERE at < '2024-03-02'", "2024-08-02")


def test_all_tables_are_of_one_position() -> None:
    """A table that a later run left alone lacks the changes since: no mixture."""
    sql = (
        "SELECT count(*) FROM visits v JOIN sales s ON s.id = v.id "
        "AND v.at < '2024-01-01' AND s.day < '2024-01-01'"
    )
    assert {scan.pin.snapshot for scan in _local(sql).scans if scan.pin} == {2}
    assert "shop.public.sales" in _refused(sql, "2024-08-02")
    assert "no part in the lake" in _refused(sql, "2024-08-01 13:30+00")
    assert "orders" in _refused("SELECT count(*) FROM orders")


def test_nothing_of_the_present_answers() -> None:
    """What the lake cannot answer is refused; the source is not asked instead."""
    for sql in (
        "SELECT id FROM visits WHERE at < '2024-01-01' AND page ~ 'a'",
        "SELECT * FROM missing",
        "SELECT id FROM visits WHERE id = 7",
        "INSERT INTO visits SELECT * FROM visits",
        "SELECT 1; SELECT id FROM visits",
        "COPY visits TO STDOUT",
        "DELETE FROM visits",
    ):
        assert _refused(sql)
    for route in ("source", "hot", "union"):
        assert route in _refused(OLD, route=route)
    assert _local(OLD, route="lake")


def test_what_has_no_time_goes_on() -> None:
    """Settings, transactions, system catalogs."""
    for sql in (
        "BEGIN", "COMMIT", "SET timezone = 'UTC'", "SHOW server_version", "SELECT 1", "",
        "SELECT relname FROM pg_catalog.pg_class",
    ):  # fmt: skip
        assert isinstance(_plan(sql), Relay), sql
    assert isinstance(_plan("RESET htapkit.as_of"), SetOption)


def test_a_time_needs_an_offset_or_utc() -> None:
    """Local time in another zone is not read here."""
    assert "+00" in _refused(OLD, "2024-08-01 14:30", zone="Europe/Berlin")
    assert _local(OLD, "2024-08-01 16:30+02", zone="Europe/Berlin")


def test_for_system_time() -> None:
    """By table, without a setting; PostgreSQL must not see it."""
    sql = "SELECT v.id FROM visits FOR SYSTEM_TIME AS OF '2024-08-01 14:30+00' v WHERE v.at < '{}'"
    assert asks_past(sql, SessionView("shop"))
    made = _local(sql.format("2024-03-01"), "")
    assert made.own_words
    assert made.as_of == "0/2"
    assert "2024-03-01" in _refused(sql.format("2024-03-02"), "")
    # It goes before the setting.
    assert _local(sql.format("2024-01-01"), "2024-08-02").as_of == "0/2"
    assert not _local(OLD).own_words


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT to_tsvector(page) FROM visits FOR SYSTEM_TIME AS OF '2024-08-01 14:30+00' "
        "WHERE at < '2024-01-01'",
        "SELECT id FROM visits FOR SYSTEM_TIME AS OF '2024-08-01 14:30+00' "
        "WHERE at < '2024-01-01' AND page ~ 'a'",
        "SELECT v.id FROM visits FOR SYSTEM_TIME AS OF '2024-08-01 14:30+00' v, orders o "
        "WHERE v.at < '2024-01-01'",
        "SELECT id FROM visits FOR SYSTEM_TIME AS OF now() WHERE at < '2024-01-01'",
        "SELECT id FROM visits FOR VERSION AS OF '7' WHERE at < '2024-01-01'",
        "SELECT 1; SELECT id FROM visits FOR SYSTEM_TIME AS OF '2024-08-01 14:30+00'",
    ],
)
def test_for_system_time_is_never_relayed(sql: str) -> None:
    """The source would call it a syntax error."""
    assert _refused(sql, "")


def test_explain_tells_the_past() -> None:
    """The lake alone is considered."""
    made = _plan(f"EXPLAIN (ROUTE) {OLD}")
    assert isinstance(made, ExplainRoute)
    assert isinstance(made.plan, LocalQuery)
    chosen, source = made.plan.considered
    assert (chosen.route, chosen.chosen) == (Route.LAKE, True)
    assert "as it was" in chosen.reason
    assert (source.chosen, source.reason) == (False, "has only the present")


def test_other_cuts_are_other_plans() -> None:
    """A cut that was forgotten is not read from the cache."""
    cache, view = PlanCache(), SessionView("shop", as_of=TIME)
    assert isinstance(cache.plan(OLD, TIERED, view, (), CUTS), LocalQuery)
    assert isinstance(cache.plan(OLD, TIERED, view, (), CUTS[2:]), Refuse)
    assert isinstance(cache.plan(OLD, TIERED, SessionView("shop"), (), CUTS), LocalQuery)


def test_a_table_that_is_kept_cell_by_cell_has_no_past() -> None:
    """Rows that were to end were not in the lake."""
    table = TableId("shop", "public", "visits")
    status = TIERED.tables[table]
    cells = replace(status, schema=replace(status.schema, reconciled=True))
    catalog = replace(TIERED, tables={**TIERED.tables, table: cells})
    view = SessionView("shop", time_zone="UTC", as_of=TIME)
    made = plan(OLD, catalog, view, (), CUTS)
    assert isinstance(made, Refuse), made
    assert "kept cell by cell and has no past" in made.message
