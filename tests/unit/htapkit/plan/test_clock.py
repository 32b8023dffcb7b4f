"""What of a statement the source is asked for before it runs here: now() and its like."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from htapkit.plan import LocalQuery, Refuse, Relay, SessionView, plan, settled
from htapkit.plan.literals import moment_text
from tests.unit.htapkit.plan.catalogs import TIERED, catalog, status

TABLES = catalog(status("t", "id int8, at timestamptz, seen timestamp, day date"))
UTC_SESSION = SessionView("shop", clock=True)
BERLIN = SessionView("shop", time_zone="Europe/Berlin", clock=True)


def _asked(sql: str, session: SessionView = UTC_SESSION) -> list[tuple[str, str]]:
    made = plan(sql, TABLES, session)
    assert isinstance(made, LocalQuery), made
    assert [p.number for p in made.parameters if p.number < 0] == [
        -number for number in range(1, len(made.clocks) + 1)
    ]
    return [(clock.sql, clock.type.name) for clock in made.clocks]


@pytest.mark.parametrize(
    ("condition", "asked"),
    [
        ("at > now()", [("now()", "timestamptz")]),
        ("at > NOW()", [("now()", "timestamptz")]),
        ("at > now() - interval '2 days'", [("now() - INTERVAL '2 days'", "timestamptz")]),
        ("at > now() - interval '2' day", [("now() - INTERVAL '2 DAY'", "timestamptz")]),
        ("at > current_timestamp(3)", [("current_timestamp(3)", "timestamptz")]),
        ("day > current_date - 7", [("CURRENT_DATE - 7", "date")]),
        ("day > current_date - interval '1 week'",
         [("CURRENT_DATE - INTERVAL '1 week'", "timestamp")]),
        ("seen > localtimestamp", [("LOCALTIMESTAMP", "timestamp")]),
        ("day = now()::date", [("CAST(now() AS DATE)", "date")]),
        ("at > date_trunc('month', now())", [("date_trunc('month', now())", "timestamptz")]),
        ("at > now() - 3 * interval '1 week'",
         [("now() - 3 * INTERVAL '1 week'", "timestamptz")]),
        ("seen > now() AT TIME ZONE 'UTC'", [("now() AT TIME ZONE 'UTC'", "timestamp")]),
        ("at > now() AND at < now()", [("now()", "timestamptz")]),
        ("at > now() AND day < current_date", [("now()", "timestamptz"), ("CURRENT_DATE", "date")]),
        ("at > statement_timestamp()", [("statement_timestamp()", "timestamptz")]),
    ],
)  # fmt: skip
def test_what_is_asked(condition: str, asked: list[tuple[str, str]]) -> None:
    assert [
        (sql.lower(), type_) for sql, type_ in _asked(f"SELECT count(*) FROM t WHERE {condition}")
    ] == [(sql.lower(), type_) for sql, type_ in asked]


@pytest.mark.parametrize(
    "condition",
    [
        "at > clock_timestamp()",
        "at > now() AND at < statement_timestamp()",
        "at > now() - interval '1 day ago'",
        "at > now() - 9000 * interval '1 year'",
        "seen > now() AT TIME ZONE 'Europe/Berlin'",
        "at > now() - make_interval(days => 3)",
        "at > other.now()",
        "at > now(1)",
        "at > current_timestamp(9)",
        "at > (SELECT max(at) FROM t) - (now() - at)",
    ],
)
def test_what_could_fail_or_is_another_time_is_relayed(condition: str) -> None:
    assert isinstance(plan(f"SELECT count(*) FROM t WHERE {condition}", TABLES, UTC_SESSION), Relay)


def test_what_could_leave_the_range_of_dates_is_not_asked() -> None:
    """It is computed here where that is proven, and an error goes to the source as any other."""
    sql = "SELECT count(*) FROM t WHERE at > now() - interval '10000 years'"
    assert _asked(sql) == [("now()", "timestamptz")]
    assert isinstance(plan(sql, TABLES, BERLIN), Relay)
    sql = "SELECT count(*) FROM t WHERE day > current_date - 999999"
    assert [text.lower() for text, _ in _asked(sql, BERLIN)] == ["current_date"]


def test_nothing_is_asked_where_the_caller_cannot() -> None:
    made = plan("SELECT count(*) FROM t WHERE at > now()", TABLES, SessionView("shop"))
    assert isinstance(made, Relay)


def test_in_another_zone_the_source_says_when_its_midnight_is() -> None:
    sql = "SELECT count(*) FROM t WHERE at >= current_date AND seen < localtimestamp"
    assert _asked(sql, BERLIN) == [
        ("CAST(CURRENT_DATE AS timestamptz)", "timestamptz"),
        ("LOCALTIMESTAMP", "timestamp"),
    ]
    zoned = "SELECT count(*) FROM t WHERE seen > now() AT TIME ZONE 'Europe/Berlin'"
    assert _asked(zoned, BERLIN) == [("now() AT TIME ZONE 'Europe/Berlin'", "timestamp")]


def test_the_step_at_the_source_uses_the_same_time() -> None:
    sql = "SELECT to_char(now(), 'FF6'), max(at) FROM t WHERE at < now()"
    made = plan(sql, TABLES, UTC_SESSION)
    assert isinstance(made, LocalQuery)
    assert made.finish is not None
    assert "now()" not in made.finish.sql.lower()
    assert [clock.sql for clock in made.clocks] == ["now()"]


@pytest.mark.parametrize(
    ("condition", "value", "lower", "upper"),
    [
        ("at >= now() - interval '2 days'", datetime(2024, 5, 3, 10, tzinfo=UTC),
         "2024-05-03 10:00:00", None),
        ("at > current_date", date(2024, 5, 3), "2024-05-03 00:00:00.000001", None),
        ("now() > at", datetime(2024, 5, 3, 10, tzinfo=UTC), None, "2024-05-03 10:00:00"),
        ("at::date < current_date", date(2024, 5, 3), None, "2024-05-03 00:00:00"),
        ("at BETWEEN now() AND '2024-06-01'", datetime(2024, 5, 3, 10, tzinfo=UTC),
         "2024-05-03 10:00:00", "2024-06-01 00:00:00.000001"),
        ("at >= now() OR took = 1", datetime(2024, 5, 3, 10, tzinfo=UTC), None, None),
    ],
)  # fmt: skip
def test_the_time_bounds_what_is_read_of_the_lake(
    condition: str, value: object, lower: str | None, upper: str | None
) -> None:
    made = plan(f"SELECT count(*) FROM visits WHERE {condition}", TIERED, UTC_SESSION)
    assert isinstance(made, LocalQuery)
    (scan,) = made.scans
    span = settled(scan, made.parameters, [value])
    assert tuple(None if edge is None else moment_text(edge) for edge in span) == (lower, upper)


def test_the_past_is_not_bounded_by_the_clock() -> None:
    sql = (
        "SELECT count(*) FROM visits FOR SYSTEM_TIME AS OF '2024-01-01 00:00+00' v WHERE at < now()"
    )
    assert isinstance(plan(sql, TIERED, UTC_SESSION), Refuse)
