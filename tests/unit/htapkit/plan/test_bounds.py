"""Which times a statement asks for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime

import pytest

from htapkit.plan import LocalQuery, SessionView, plan, settled
from htapkit.plan.literals import moment_text
from tests.unit.htapkit.plan.catalogs import TIERED, micros

SESSION = SessionView("shop")
FOREVER = (None, None)


def _spans(sql: str, session: SessionView = SESSION) -> Mapping[str, tuple[str | None, str | None]]:
    """The spans of the scans, by table; a table without a scan is missing."""
    made = plan(sql, TIERED, session)
    assert isinstance(made, LocalQuery), made
    return {
        scan.table.name: (
            None if scan.lower is None else moment_text(scan.lower),
            None if scan.upper is None else moment_text(scan.upper),
        )
        for scan in made.scans
    }


@pytest.mark.parametrize(
    ("condition", "lower", "upper"),
    [
        ("at >= '2024-05-01'", "2024-05-01 00:00:00", None),
        ("at > '2024-05-01'", "2024-05-01 00:00:00.000001", None),
        ("at < timestamp '2024-05-01 10:00'", None, "2024-05-01 10:00:00"),
        ("at <= '2024-05-01 10:00:00.5'", None, "2024-05-01 10:00:00.500001"),
        ("at = date '2024-05-01'", "2024-05-01 00:00:00", "2024-05-01 00:00:00.000001"),
        ("'2024-05-01' < at", "2024-05-01 00:00:00.000001", None),
        ("'2024-05-01' <= at", "2024-05-01 00:00:00", None),
        ("'2024-05-01' > at", None, "2024-05-01 00:00:00"),
        ("'2024-05-01' >= at", None, "2024-05-01 00:00:00.000001"),
        ("(at >= '2024-05-01') AND ((took = 1 AND at < '2024-05-03'))",
         "2024-05-01 00:00:00", "2024-05-03 00:00:00"),
        ("at BETWEEN '2024-05-01' AND '2024-05-02'",
         "2024-05-01 00:00:00", "2024-05-02 00:00:00.000001"),
        ("at IN ('2024-05-03', '2024-05-01')",
         "2024-05-01 00:00:00", "2024-05-03 00:00:00.000001"),
        ("at >= date '2024-03-31' - interval '1' month", "2024-02-29 00:00:00", None),
        ("at < '2024-05-01'::timestamp + interval '36 hours'", None, "2024-05-02 12:00:00"),
        ("at::date = '2024-05-01'", "2024-05-01 00:00:00", "2024-05-02 00:00:00"),
        ("CAST(at AS date) <= '2024-05-01'", None, "2024-05-02 00:00:00"),
        ("at::date > timestamp '2024-05-01 10:00'", "2024-05-02 00:00:00", None),
        ("at >= '2024-04-01' AND at >= '2024-05-01'", "2024-05-01 00:00:00", None),
        ("at >= '2024-05-01' OR took = 1", None, None),
        ("NOT (at >= '2024-05-01')", None, None),
        ("NOT at >= '2024-05-01'", None, None),
        ("at <> '2024-05-01'", None, None),
        ("at NOT BETWEEN '2024-05-01' AND '2024-05-02'", None, None),
        ("at NOT IN ('2024-05-01')", None, None),
        ("at + interval '1' day >= '2024-05-01'", None, None),
        ("date_trunc('month', at) >= '2024-05-01'", None, None),
        ("(at >= '2024-05-01') IS NOT TRUE", None, None),
        ("coalesce(at, '2024-05-01') >= '2024-05-01'", None, None),
    ],
)  # fmt: skip
def test_span_of_a_condition(condition: str, lower: str | None, upper: str | None) -> None:
    """Half-open, in microseconds; what is not understood gives no bound."""
    assert _spans(f"SELECT count(*) FROM visits WHERE {condition}") == {"visits": (lower, upper)}


def test_a_time_without_an_offset_needs_utc() -> None:
    """With an offset, the session's zone does not matter."""
    berlin = SessionView("shop", time_zone="Europe/Berlin")
    sql = "SELECT count(*) FROM beats WHERE seen >= '2024-05-01 00:00+02'"
    expected = {"beats": ("2024-04-30 22:00:00", None)}
    assert _spans(sql, berlin) == expected
    assert _spans(sql) == expected
    assert not isinstance(plan(sql.replace("+02", ""), TIERED, berlin), LocalQuery)


@pytest.mark.parametrize(
    ("condition", "lower", "upper"),
    [
        ("at > timestamptz '2024-05-03 00:00+00'", "2024-05-02 00:00:00.000001", None),
        ("timestamptz '2024-05-03 00:00+00' >= at", None, "2024-05-04 00:00:00.000001"),
        ("at::date = timestamptz '2024-05-03 05:00+00'",
         "2024-05-03 00:00:00", "2024-05-05 00:00:00"),
    ],
)  # fmt: skip
def test_a_local_column_beside_an_instant_is_bounded_with_a_day_to_spare(
    condition: str, lower: str | None, upper: str | None
) -> None:
    """The column is local to the session's zone, the instant is not."""
    berlin = SessionView("shop", time_zone="Europe/Berlin", zones=True, clock=True)
    assert _spans(f"SELECT count(*) FROM visits WHERE {condition}", berlin) == {
        "visits": (lower, upper)
    }


@pytest.mark.parametrize("value", ["$1", "$1::timestamptz", "now()", "date_trunc('day', now())"])
def test_a_local_column_beside_an_instant_that_is_not_known_yet(value: str) -> None:
    """It is not bounded by it, but where both are UTC."""
    sql = f"SELECT count(*) FROM visits WHERE at > {value}"
    for zone, limits in (("Europe/Berlin", 0), ("UTC", 1)):
        session = SessionView("shop", time_zone=zone, zones=True, clock=True)
        made = plan(sql, TIERED, session, (1184,) if "$" in value else ())
        assert isinstance(made, LocalQuery), made
        assert len(made.scans[0].limits) == limits


def test_above_the_boundary_there_is_no_lake() -> None:
    """To the microsecond."""
    assert _spans("SELECT * FROM visits WHERE at >= '2024-06-01'") == {}
    assert _spans("SELECT * FROM visits WHERE at > '2024-05-31 23:59:59.999999'") == {}
    assert _spans("SELECT * FROM visits WHERE at >= '2024-05-31 23:59:59.999999'")
    assert _spans("SELECT * FROM sales WHERE day > '2024-02-29'") == {}
    assert _spans("SELECT * FROM sales WHERE day > '2024-02-28'")
    assert _spans("SELECT * FROM visits WHERE at > '2024-01-02' AND at < '2024-01-02'") == {}


def test_each_query_has_its_own_bounds() -> None:
    """Subqueries, CTEs and the same table twice."""
    sql = (
        "WITH old AS (SELECT id FROM visits WHERE at < '2024-02-01') "
        "SELECT count(*) FROM visits v WHERE v.at >= '2024-05-01' AND v.id IN (SELECT id FROM old) "
        "AND EXISTS (SELECT 1 FROM sales s WHERE s.day < '2024-01-05' AND v.at < '2024-05-03')"
    )
    made = plan(sql, TIERED, SESSION)
    assert isinstance(made, LocalQuery)
    found = {(s.table.name, s.lower, s.upper) for s in made.scans}
    assert found == {
        ("visits", None, micros("2024-02-01")),
        ("visits", micros("2024-05-01"), None),
        ("sales", None, micros("2024-01-05")),
    }
    assert len({scan.name for scan in made.scans}) == 3
    assert all(f'"{scan.name}"' in made.sql for scan in made.scans)


@pytest.mark.parametrize(
    ("side", "visits", "sales"),
    [
        ("JOIN", ("2024-05-01 00:00:00", None), (None, "2024-02-01 00:00:00")),
        ("LEFT JOIN", FOREVER, (None, "2024-02-01 00:00:00")),
        ("RIGHT JOIN", ("2024-05-01 00:00:00", None), FOREVER),
        ("FULL JOIN", FOREVER, FOREVER),
    ],
)
def test_on_says_nothing_of_a_preserved_side(
    side: str, visits: tuple[str | None, str | None], sales: tuple[str | None, str | None]
) -> None:
    """Its rows come out even where ON is false."""
    sql = (
        f"SELECT count(*) FROM visits v {side} sales s "
        "ON v.id = s.id AND v.at >= '2024-05-01' AND s.day < '2024-02-01'"
    )
    assert _spans(sql) == {"visits": visits, "sales": sales}


def test_parameters_bound_when_they_have_values() -> None:
    """Also through a cast to their own type; NULL says nothing."""
    sql = "SELECT count(*) FROM visits WHERE at > $2::timestamp AND at::date <= $1 AND took = $3"
    made = plan(sql, TIERED, SESSION, (1082, 1114, 23))
    assert isinstance(made, LocalQuery)
    (scan,) = made.scans
    known = {1: date(2024, 5, 3), 2: datetime(2024, 5, 1, 10), 3: 5}  # noqa: DTZ001 - a timestamp
    values = [known[parameter.number] for parameter in made.parameters]
    assert settled(scan, made.parameters, values) == (
        micros("2024-05-01 10:00:00.000001"),
        micros("2024-05-04"),
    )
    assert settled(scan, made.parameters, [None, None, None]) == FOREVER


def test_a_zoned_parameter_is_an_instant() -> None:
    """Whatever its offset is."""
    made = plan("SELECT count(*) FROM beats WHERE seen < $1", TIERED, SESSION, (1184,))
    assert isinstance(made, LocalQuery)
    value = datetime(2024, 5, 1, tzinfo=UTC)
    assert settled(made.scans[0], made.parameters, [value]) == (None, micros("2024-05-01"))
