"""What the local SQL is given for a client's parameters and for the source's clock."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Context, Decimal

import pytest

from htapkit.model import SqlType
from htapkit.plan.plan import Parameter
from htapkit.plan.types import numeric_typmod
from htapkit.serve.pgwire.bound_values import fits, local_values
from htapkit.serve.pgwire.messages import Bound
from htapkit.serve.pgwire.portal import AtSource

EXACT = Context(prec=300)


@pytest.mark.parametrize(
    ("text", "digits", "expected"),
    [
        ("0", (5, 2), True),
        ("0.0000000000000000000000000000000000000000000000001e-50", (5, 2), False),
        ("0E-60", (5, 2), True),
        ("-0.000", (2, 2), True),
        ("1.10", (3, 1), True),
        ("1.11", (3, 1), False),
        ("999.99", (5, 2), True),
        ("1000", (5, 2), False),
        ("1E+3", (5, 2), False),
        ("9.9E+2", (5, 2), True),
        ("1", (2, 2), False),
        ("0.99", (2, 2), True),
        ("NaN", (5, 2), False),
        ("Infinity", (5, 2), False),
        ("1", None, False),
    ],
)
def test_fits(text: str, digits: tuple[int, int] | None, *, expected: bool) -> None:
    assert fits(Decimal(text), digits) is expected


def test_fits_as_rounding_says() -> None:
    """A number fits where it is a multiple of the last place, and small enough."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    source = random.Random(seed)
    for _ in range(2000):
        precision = source.randint(1, 38)
        scale = source.randint(0, precision)
        value = Decimal(source.randint(-(10**40), 10**40)).scaleb(source.randint(-60, 0), EXACT)
        units = EXACT.scaleb(value, scale)
        expected = units == EXACT.to_integral_value(units) and abs(units) < 10**precision
        assert fits(value, (precision, scale)) is expected, (value, precision, scale)


def test_values_stand_in_the_order_of_the_local_parameters() -> None:
    at = datetime(2024, 5, 3, tzinfo=UTC)
    parameters = (
        Parameter(2, SqlType("numeric", 1700, numeric_typmod(38, 12))),
        Parameter(-1, SqlType("timestamptz", 1184)),
        Parameter(1, SqlType("int4", 23)),
    )
    bound = Bound((), (b"7", b"1.5"), ())
    assert local_values(parameters, (23, 1700), bound, (at,)) == [Decimal("1.5"), at, 7]
    for odd in (Bound((), (b"7", b"0.0000000000001"), ()), Bound((), (b"7",), ())):
        with pytest.raises(AtSource):
            local_values(parameters, (23, 1700), odd, (at,))
