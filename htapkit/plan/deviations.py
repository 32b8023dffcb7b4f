"""stddev and variance of integers and numerics, from three exact sums.

PostgreSQL keeps N, sum(x) and sum(x^2) as numerics, and computes from them a quotient, rounded as
its `/` rounds, and of that the root, rounded to the same scale (`numeric_stddev_internal`). Its
`sqrt` may round to another scale, so it is asked for so many digits that rounding again is exact: a
root of up to 38 digits before the point is a tie, or further from one than 10^-(2r + 41), where r
is the scale of the variance. Of float8 the result depends on the order of rows.
"""

from __future__ import annotations

from sqlglot import exp

from htapkit.model import DECIMAL_DIGITS_MAX
from htapkit.plan.expr import Expr
from htapkit.plan.unproven import UnprovenError

NAMES = frozenset({"stddev", "stddev_samp", "stddev_pop", "variance", "var_samp", "var_pop"})
_POPULATION = frozenset({"stddev_pop", "var_pop"})
_MORE_DIGITS = 42


def squared(call: exp.Anonymous, scale: int) -> None:
    """Make `sum(x)` the sum of squares, of as many digits as there are."""
    argument = call.expressions[0] if len(call.expressions) == 1 else None
    if argument is None or isinstance(argument, (exp.Distinct, exp.Order, exp.Star)):
        raise UnprovenError("a deviation", "of this form")
    wide = exp.DataType.build(f"numeric({DECIMAL_DIGITS_MAX}, {scale})")
    sides = [exp.Cast(this=exp.Paren(this=argument.copy()), to=wide.copy()) for _ in range(2)]
    call.set("expressions", [exp.Mul(this=sides[0], expression=sides[1])])


def check(name: str, whole: Expr) -> None:
    """Refuse numbers whose sum is not exact, or that have scales of their own."""
    if whole.type not in {"int8", "numeric"} or whole.dscale != "":
        raise UnprovenError(f"{name} of {whole.type}", "its digits depend on the order of rows")


def at_source(name: str, whole: str, squares: str, number: str) -> str:
    """PostgreSQL's expression; its arguments are columns."""
    whole, number = f"CAST({whole} AS numeric)", f"CAST({number} AS numeric)"
    above = f"({number} * {squares} - {whole} * {whole})"
    least, below = (
        (1, f"({number} * {number})")
        if name in _POPULATION
        else (2, f"({number} * ({number} - 1))")
    )
    made = f"{above} / {below}"
    if name.startswith("stddev"):
        made = f"round(sqrt(round({made}, 2 * scale({made}) + {_MORE_DIGITS})), scale({made}))"
    return (
        f"CASE WHEN {number} < {least} THEN NULL WHEN {above} <= 0 THEN 0::numeric ELSE {made} END"
    )
