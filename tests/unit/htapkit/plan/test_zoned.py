"""Statements whose answer depends on a time zone: which zones the caller has to compare."""

from __future__ import annotations

from dataclasses import replace

import pytest

from htapkit.plan import LocalQuery, Relay, SessionView, plan
from htapkit.plan.literals import moment_text
from tests.unit.htapkit.plan.catalogs import TIERED

UTC = SessionView("shop", zones=True)
BERLIN = replace(UTC, time_zone="Europe/Berlin")


def _zones(sql: str, session: SessionView) -> tuple[str, ...] | None:
    made = plan(sql, TIERED, session)
    return made.zones if isinstance(made, LocalQuery) else None


@pytest.mark.parametrize(
    ("expression", "in_utc", "in_berlin"),
    [
        ("seen AT TIME ZONE 'Asia/Tokyo'", ("Asia/Tokyo",), ("Asia/Tokyo",)),
        ("timezone('Asia/Tokyo', seen)", ("Asia/Tokyo",), ("Asia/Tokyo",)),
        ("seen AT TIME ZONE 'UTC'", (), ()),
        ("seen AT TIME ZONE 'UTC' AT TIME ZONE 'Asia/Tokyo'", ("Asia/Tokyo",), ("Asia/Tokyo",)),
        ("date_trunc('day', seen, 'Asia/Tokyo')", ("Asia/Tokyo",), ("Asia/Tokyo",)),
        ("date_trunc('day', seen)", (), ("Europe/Berlin",)),
        ("seen::date", (), ("Europe/Berlin",)),
        ("extract(hour FROM seen)", (), ("Europe/Berlin",)),
        ("extract(epoch FROM seen)", (), ()),
        ("to_char(seen, 'HH24')", (), ("Europe/Berlin",)),
        ("seen > '2024-07-01'", (), ("Europe/Berlin",)),
        ("seen > '2024-07-01 00:00+02'", (), ()),
        ("seen = date '2024-07-01'", (), ("Europe/Berlin",)),
    ],
)
def test_zones_are_named(
    expression: str, in_utc: tuple[str, ...], in_berlin: tuple[str, ...]
) -> None:
    sql = f"SELECT count(*) FROM beats GROUP BY {expression}"
    assert _zones(sql, UTC) == in_utc
    assert _zones(sql, BERLIN) == in_berlin


@pytest.mark.parametrize("zone", ["CET", "EST5EDT", "+02", "europe/berlin", "Europe/Berlin'; --"])
def test_only_names_of_regions_are_computed_in(zone: str) -> None:
    quoted = zone.replace("'", "''")
    sql = f"SELECT count(*) FROM beats GROUP BY seen AT TIME ZONE '{quoted}'"
    assert isinstance(plan(sql, TIERED, UTC), Relay)


def test_nobody_computes_in_a_zone_that_nobody_compares() -> None:
    sql = "SELECT count(*) FROM beats GROUP BY seen AT TIME ZONE 'Asia/Tokyo'"
    assert isinstance(plan(sql, TIERED, replace(UTC, zones=False)), Relay)


@pytest.mark.parametrize(
    ("condition", "lower", "upper"),
    [
        ("seen >= '2024-05-02'", "2024-05-01 00:00:00", None),
        ("seen < '2024-05-02 10:00'", None, "2024-05-03 10:00:00"),
        ("seen < '2024-05-02 10:00+02'", None, "2024-05-02 08:00:00"),
        ("seen = date '2024-05-02'", "2024-05-01 00:00:00", "2024-05-03 00:00:00.000001"),
        ("seen::date = '2024-05-02'", "2024-05-01 00:00:00", "2024-05-04 00:00:00"),
        ("seen IN ('2024-05-02', '2024-05-04 00:00+00')",
         "2024-05-01 00:00:00", "2024-05-04 00:00:00.000001"),
        ("seen::date IN ('2024-05-02', '2024-05-04')",
         "2024-05-01 00:00:00", "2024-05-06 00:00:00"),
    ],
)  # fmt: skip
def test_a_local_time_bounds_with_a_day_to_spare(
    condition: str, lower: str | None, upper: str | None
) -> None:
    made = plan(f"SELECT count(*) FROM beats WHERE {condition}", TIERED, BERLIN)
    assert isinstance(made, LocalQuery), made
    (scan,) = made.scans
    edges = tuple(None if e is None else moment_text(e) for e in (scan.lower, scan.upper))
    assert edges == (lower, upper)
