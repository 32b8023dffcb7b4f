"""Which statements are read in parts: one table's rows, each by itself; all others whole."""

from __future__ import annotations

import pytest

from htapkit.plan import LocalQuery, SessionView, plan
from tests.unit.htapkit.plan.catalogs import TIERED

PARTS = SessionView("shop", parts=True)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM orders",
        "SELECT v.id AS one, page FROM visits v WHERE took > 3 AND page IS NOT NULL",
        "SELECT id FROM visits WHERE at < '2024-01-01'",
    ],
)
def test_a_plain_scan_reads_its_hot_rows_from_a_view(sql: str) -> None:
    made = plan(sql, TIERED, PARTS)
    assert isinstance(made, LocalQuery)
    assert made.parts is not None
    assert made.sql.count('"htapkit hot 1"') == 1
    assert '"shop.public"' not in made.sql
    whole = plan(sql, TIERED, SessionView("shop"))
    assert isinstance(whole, LocalQuery)
    relation = f'"shop.public"."{made.parts.table.name}"'
    assert made.sql.replace('"htapkit hot 1"', relation) == whole.sql
    assert (made.scans, made.cuts, whole.parts) == (whole.scans, whole.cuts, None)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM orders",
        "SELECT max(id) FROM orders",
        "SELECT DISTINCT note FROM orders",
        "SELECT id FROM orders ORDER BY id",
        "SELECT id FROM orders LIMIT 5",
        "SELECT id FROM orders OFFSET 5",
        "SELECT note FROM orders GROUP BY note",
        "SELECT id FROM orders WHERE id IN (SELECT id FROM visits)",
        "SELECT id FROM orders o WHERE EXISTS (SELECT 1 FROM visits v WHERE v.id = o.id)",
        "SELECT o.id FROM orders o JOIN visits v ON v.id = o.id",
        "SELECT o.id FROM orders o, visits v",
        "SELECT id FROM (SELECT id FROM orders) o",
        "WITH o AS (SELECT id FROM orders) SELECT id FROM o",
        "SELECT id FROM orders UNION ALL SELECT id FROM visits",
        "SELECT row_number() OVER () FROM orders",
        "SELECT upper(note) FROM orders",
        "SELECT id FROM visits FOR SYSTEM_TIME AS OF '2024-02-01 00:00:00+00'",
        "SELECT 1",
        "SELECT id FROM busy",
    ],
)
def test_anything_else_is_planned_as_ever(sql: str) -> None:
    asked = plan(sql, TIERED, PARTS)
    assert asked == plan(sql, TIERED, SessionView("shop"))
    assert getattr(asked, "parts", None) is None
