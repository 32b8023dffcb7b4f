"""Percentiles: what the source has to be asked before they are computed here."""

from __future__ import annotations

from fractions import Fraction

import pytest

from htapkit.plan import LocalQuery, Relay, SessionView, plan
from tests.unit.htapkit.plan.catalogs import SHOP

ASKS = SessionView("shop", zones=True)
BETWEEN = "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY f) FROM orders"
VALUE = "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY f) FROM orders"


def test_only_interpolation_depends_on_the_sources_processor() -> None:
    between, value = plan(BETWEEN, SHOP, ASKS), plan(VALUE, SHOP, ASKS)
    assert isinstance(between, LocalQuery)
    assert isinstance(value, LocalQuery)
    assert len(between.probes) == 1
    assert value.probes == ()


def test_the_probe_tells_one_rounding_from_two() -> None:
    """One of its parts, rounded once, is another double."""
    made = plan(BETWEEN, SHOP, ASKS)
    assert isinstance(made, LocalQuery)
    once = float(Fraction(0.1) + Fraction(0.3) * Fraction(1234.7 - 0.1))
    twice = 0.1 + 0.3 * (1234.7 - 0.1)
    assert once != twice
    assert repr(twice) in made.probes[0].answer.strip("{}").split(",")


def test_nobody_interpolates_where_nobody_asks() -> None:
    assert isinstance(plan(BETWEEN, SHOP, SessionView("shop")), Relay)
    assert isinstance(plan(VALUE, SHOP, SessionView("shop")), LocalQuery)


@pytest.mark.parametrize("fraction", ["1.5", "-0.1", "f", "$1", "NULL", "ARRAY[0.5]"])
def test_a_fraction_is_a_constant_from_0_to_1(fraction: str) -> None:
    sql = f"SELECT percentile_cont({fraction}) WITHIN GROUP (ORDER BY f) FROM orders"
    assert isinstance(plan(sql, SHOP, ASKS, (701,)), Relay)
