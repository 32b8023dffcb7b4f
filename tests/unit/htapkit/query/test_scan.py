"""limits.scan: who runs a statement, by the bytes of the files that are left; a real hot store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from htapkit.errors import CatalogChanged, ScanTooLarge
from htapkit.hot import HotStore
from htapkit.model import LakeFiles, Pin, Route, TableId
from htapkit.plan import LocalQuery, Refuse, plan
from htapkit.query import ScanLimit, beyond_values
from tests.unit.htapkit.query import test_run as over
from tests.unit.htapkit.query.test_run import SESSION, START, FakeLake, lake, store

__all__ = ["lake", "store"]
LINE = START + timedelta(days=6)
FILE_BYTES = 1000
TWO_DAYS = f"SELECT count(*) FROM visits WHERE at < '{START + timedelta(days=2)}'"
TIMESTAMP = 1114


def _limit(lake: FakeLake, bytes_max: int) -> ScanLimit:
    """Each file has a thousand bytes."""

    def files(table: TableId, pin: Pin, lower: int | None, upper: int | None) -> LakeFiles:
        found = lake.files(table, pin, lower, upper)
        return replace(found, bytes=FILE_BYTES * len(found.paths))

    return ScanLimit(bytes_max, files)


def _planned(
    store: HotStore,
    sql: str,
    types: Sequence[int] = (),
    *,
    spark: bool = True,
    route: str = "auto",
) -> LocalQuery:
    session = replace(SESSION, route=route, spark=spark, beyond=spark)
    made = plan(sql, store.catalog, session, types)
    assert isinstance(made, LocalQuery), made
    return made


@pytest.fixture
def tiered(store: HotStore, lake: FakeLake) -> HotStore:
    over._follow(store, over._visits(40))
    over._tier(store, lake, LINE)
    return store


def _taken(
    limit: ScanLimit, store: HotStore, query: LocalQuery, values: Sequence[object] = ()
) -> LocalQuery:
    return limit.taken(query, store, values, store.catalog.version)


def test_what_is_within_the_limit_stays_here(tiered: HotStore, lake: FakeLake) -> None:
    query = _planned(tiered, TWO_DAYS)
    taken = _taken(_limit(lake, 2 * FILE_BYTES), tiered, query)
    assert (taken.route, taken.sql, taken.spark) == (Route.UNION, query.sql, None)
    told = taken.considered[-1]
    assert (told.route, told.chosen) == (Route.SPARK, False)
    assert "limits.scan: it reads 2000 bytes of the lake, and may read 2000 here" in told.reason


def test_what_is_beyond_it_is_sparks(tiered: HotStore, lake: FakeLake) -> None:
    taken = _taken(_limit(lake, 2 * FILE_BYTES - 1), tiered, _planned(tiered, TWO_DAYS))
    assert taken.route is Route.SPARK
    assert taken.spark is not None
    assert [(each.route, each.chosen) for each in taken.considered] == [
        (Route.SPARK, True),
        (Route.UNION, False),
        (Route.HOT, False),
        (Route.SOURCE, False),
    ]
    assert all("reads 2000 bytes" in each.reason for each in taken.considered[:2])


def test_hot_rows_alone_have_no_limit(tiered: HotStore, lake: FakeLake) -> None:
    query = _planned(tiered, f"SELECT count(*) FROM visits WHERE at >= '{LINE}'")
    assert _taken(_limit(lake, 0), tiered, query) is query


@pytest.mark.parametrize(
    ("sql", "route", "spark", "why"),
    [
        (f"SELECT id FROM visits WHERE at < '{LINE}' LIMIT 2", "auto", True, "without ORDER BY"),
        ("SELECT count(*) FROM visits", "auto", True, "the boundary between hot and lake"),
        (TWO_DAYS, "union", True, "htapkit.route is union"),
        (TWO_DAYS, "auto", False, "none is configured"),
    ],
)
def test_what_is_beyond_and_not_sparks_is_refused(
    tiered: HotStore, lake: FakeLake, sql: str, route: str, spark: bool, why: str
) -> None:
    query = _planned(tiered, sql, spark=spark, route=route)
    limit = _limit(lake, 10)
    with pytest.raises(ScanTooLarge, match=r"limits\.scan: it reads \d000 bytes") as refused:
        _taken(limit, tiered, query)
    assert refused.value.sqlstate == "53400"
    assert why in str(refused.value)
    assert "raise limits.scan" in str(refused.value)
    told = limit.explained(query, tiered)
    assert isinstance(told, Refuse)
    assert (told.sqlstate, told.message) == ("53400", str(refused.value))
    assert not any(each.chosen for each in told.considered)
    assert any(each.route is Route.SPARK and why in each.reason for each in told.considered)


def test_values_decide(tiered: HotStore, lake: FakeLake) -> None:
    """A parameter's value is what leaves files out."""
    query = _planned(tiered, "SELECT count(*) FROM visits WHERE at >= $1", [TIMESTAMP])
    limit = _limit(lake, 2 * FILE_BYTES)
    assert _taken(limit, tiered, query, [LINE - timedelta(days=1)]).route is Route.UNION
    with pytest.raises(ScanTooLarge, match="reads 6000 bytes"):
        _taken(limit, tiered, query, [START])
    told = limit.explained(query, tiered)  # which has no values
    assert isinstance(told, Refuse)


def test_another_catalog_needs_another_plan(tiered: HotStore, lake: FakeLake) -> None:
    query = _planned(tiered, TWO_DAYS)
    with pytest.raises(CatalogChanged):
        _limit(lake, 0).taken(query, tiered, (), tiered.catalog.version - 1)


def test_values_go_to_their_places(tiered: HotStore) -> None:
    sql = "SELECT id + $1 FROM visits WHERE page = $2"
    query = _planned(tiered, sql, [20, 25])
    assert len(query.parameters) == 2
    turned = replace(query, parameters=query.parameters[::-1])
    assert beyond_values(query, turned, [1, "a"]) == ["a", 1]
