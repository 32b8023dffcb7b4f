"""What the local SQL is given for a client's parameters and for the source's clock."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Context, Decimal

import pytest

from htapkit.model import SqlType
from htapkit.plan.plan import Parameter
from htapkit.plan.types import numeric_typmod
from htapkit.plan.vectors import parameter_type
from htapkit.serve.pgwire.bound_values import fits, local_values
from htapkit.serve.pgwire.messages import Bound
from htapkit.serve.pgwire.own import Refused
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


def test_vectors_are_checked_before_they_are_bound() -> None:
    """DuckDB would say less of them, and not in PostgreSQL's codes."""
    parameters = (Parameter(1, parameter_type(25, 2)), Parameter(2, SqlType("text", 25)))
    for raw, oid in ((b"[1, 2]", 25), (b"{1,2}", 1021), (b"{1,2}", 1022)):
        both = (Parameter(1, parameter_type(oid, 2)), parameters[1])
        found = local_values(both, (oid, 25), Bound((), (raw, raw), ()))
        assert [str(value).replace(".0", "") for value in found] == ["[1, 2]", raw.decode()]
    assert local_values(parameters, (25, 25), Bound((), (None, None), ())) == [None, None]
    for raw, code in ((b"[1]", "22000"), (b"1,2", "22P02"), (b"[1,1e40]", "22003")):
        with pytest.raises(Refused, match=r"\$1: ") as refused:
            local_values(parameters, (25, 25), Bound((), (raw, raw), ()))
        assert refused.value.sqlstate == code
