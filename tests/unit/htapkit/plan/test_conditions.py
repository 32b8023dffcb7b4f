"""A condition by itself: counted where it is one, refused where it is something else."""

from __future__ import annotations

import pytest

from htapkit.errors import ConfigError
from htapkit.model import TableId
from htapkit.plan import LocalQuery, SessionView, counting, plan
from tests.unit.htapkit.plan.catalogs import SHOP

ORDERS = TableId("shop", "public", "orders")


@pytest.mark.parametrize(
    "condition",
    ["customer = 17", "note = 'a) OR (b' AND id IN (1, 2)", "(id > 3)", "id > 3 -- more", "true"],
)
def test_conditions_are_counted(condition: str) -> None:
    made = plan(counting(ORDERS, condition), SHOP, SessionView("shop", route="hot"))
    assert isinstance(made, LocalQuery), made
    further = counting(ORDERS, condition, "placed < '2024-01-01'")
    more = plan(further, SHOP, SessionView("shop", route="hot"))
    assert isinstance(more, LocalQuery), more
    assert "2024-01-01" in more.sql


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("", "is not a condition"),
        ("true) OR (true", "is not a condition"),
        ("id = 1) LIMIT (0", "more than a condition"),
        ("id = 1) GROUP BY (id", "more than a condition"),
        ("id = 1); DELETE FROM orders WHERE (true", "is not a condition"),
        ("id IN (SELECT id FROM lines)", "no other query"),
        ("EXISTS (SELECT 1)", "no other query"),
        ("id = 1) UNION SELECT (1", "is not a condition"),
    ],
)
def test_anything_else_is_refused(condition: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        counting(ORDERS, condition)
