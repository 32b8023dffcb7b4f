"""Numeric division as PostgreSQL rounds it, in DuckDB's integers.

PostgreSQL rounds a quotient half away from zero, to a scale that depends on the values: with
digits of base 10000, weight(x) the exponent of x's first digit and w = weight(a) - weight(b),
less 1 where first(a) <= first(b), the scale is r = max(16 - 4 w, scale of a, scale of b, 0).

Here |a| and |b| become integers U and V at scales 4A and 4B, so that their decimal digits group
as PostgreSQL's do; then |a / b| 10^r = U 10^e / V with e = r + 4B - 4A, divided as integers, with
the remainder deciding the last digit. Nothing is approximated: where an integer needs more than
38 digits, or the quotient more than VALUE_SCALE decimals, DuckDB raises an error and the source
answers.

So a quotient may be compared and computed with. The scale with which it is shown differs by row
and travels beside it (`Expr.dscale`).
"""

from __future__ import annotations

from htapkit.plan.expr import Expr, fails, numeric
from htapkit.plan.unproven import UnprovenError

VALUE_SCALE = 20
"""Decimals that a quotient is kept with; those of 1 and more have at most 16."""


def quotient(left: Expr, right: Expr) -> Expr:
    """`left / right`, both numeric; division by zero is an error."""
    if left.dscale is None or right.dscale is None:
        raise UnprovenError("numeric / numeric", "a display scale that is not known")
    a, b = -(-left.scale // 4), -(-right.scale // 4)
    start = (
        f"[{{'u': {_integer(left, a)}, 'v': {_integer(right, b)}, "
        f"'s': sign({left.sql}) * sign({right.sql}), "
        f"'m': greatest({left.shown_scale}, {right.shown_scale}, 0)}}]"
    )
    weight = f"{_weight('x.u', a)} - {_weight('x.v', b)}"
    less = f"CASE WHEN {_first('x.u')} <= {_first('x.v')} THEN 1 ELSE 0 END"
    scaled = (
        f"list_transform({start}, lambda x: {{'u': x.u, 'v': x.v, 's': x.s, "
        f"'r': CAST(greatest(16 - 4 * ({weight} - {less}), x.m) AS INTEGER)}})"
    )
    shift = 4 * (b - a)
    divided = (
        f"list_transform({scaled}, lambda y: {{"
        f"'n': y.u * {_power(f'greatest(y.r + {shift}, 0)')}, "
        f"'d': y.v * {_power(f'greatest(-(y.r + {shift}), 0)')}, 's': y.s, 'r': y.r}})"
    )
    rounded = "(z.n // z.d + CASE WHEN z.n % z.d >= z.d - z.n % z.d THEN 1 ELSE 0 END)"
    value = (
        f"CAST(z.s * {rounded} * {_power(f'{VALUE_SCALE} - z.r')} AS DECIMAL(38,0))"
        f" * CAST('0.{'1'.rjust(VALUE_SCALE, '0')}' AS DECIMAL({VALUE_SCALE},{VALUE_SCALE}))"
    )
    final = (
        f"list_transform({divided}, lambda z: {{'v': CASE "
        "WHEN z.n IS NULL OR z.d IS NULL THEN NULL "
        f"WHEN {fails('z.d = 0', 'division by zero')} THEN NULL "
        f"WHEN z.n = 0 THEN CAST(0 AS DECIMAL(38,{VALUE_SCALE})) "
        f"WHEN {fails(f'z.r > {VALUE_SCALE}', 'quotient scale')} THEN NULL "
        f"ELSE {value} END, 'r': z.r}})[1]"
    )
    return numeric(f"({final}).v", 38, VALUE_SCALE, f"({final}).r")


def _integer(expr: Expr, groups: int) -> str:
    """|expr| times 10^(4 groups), a HUGEINT: the digits of its text are the digits of its value."""
    digits = f"CAST(replace(CAST(abs({expr.sql}) AS VARCHAR), '.', '') AS HUGEINT)"
    return f"{digits} * CAST({10 ** (4 * groups - expr.scale)} AS HUGEINT)"


def _weight(name: str, groups: int) -> str:
    """The exponent of the first digit of base 10000 (0 for zero, as PostgreSQL has it)."""
    length = f"strlen(CAST({name} AS VARCHAR))"
    return f"CASE WHEN {name} = 0 THEN 0 ELSE ({length} - 1) // 4 - {groups} END"


def _first(name: str) -> str:
    """The first digit of base 10000."""
    text = f"CAST({name} AS VARCHAR)"
    return f"CAST(left({text}, (strlen({text}) - 1) % 4 + 1) AS INTEGER)"


def _power(exponent: str) -> str:
    """10 to a small power, exactly."""
    return f"CAST('1' || repeat('0', CAST({exponent} AS INTEGER)) AS HUGEINT)"
