"""What the local SQL's parameters are: the client's, decoded."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal

from htapkit.plan.plan import Parameter
from htapkit.serve.pgwire.messages import Bound
from htapkit.serve.pgwire.parameters import OddParameter, decode
from htapkit.serve.pgwire.portal import AtSource

_EXACT = Context(prec=200)  # more digits than any decoded number has


def local_values(
    parameters: Sequence[Parameter],
    types: Sequence[int],
    bound: Bound,
    clocks: Sequence[object] = (),
) -> list[object]:
    """The values of `parameters`, in their order; `types` are those of $1, $2, … at the source.

    `clocks` are the source's answers to LocalQuery.clocks. Raises AtSource where a value has no
    exact local form.
    """
    values: list[object] = []
    for parameter in parameters:
        if parameter.number < 0:
            values.append(clocks[-parameter.number - 1])
            continue
        index = parameter.number - 1
        if index >= len(bound.values) or index >= len(types):
            raise AtSource(f"there is no parameter ${parameter.number}")
        try:
            value = decode(bound.values[index], types[index], bound.parameter_format(index))
        except OddParameter as odd:
            raise AtSource(str(odd)) from odd
        if isinstance(value, Decimal) and not fits(value, parameter.type.decimal):
            raise AtSource(f"${parameter.number} has more digits than are compared here")
        values.append(value)
    return values


def fits(value: Decimal, digits: tuple[int, int] | None) -> bool:
    """Whether a DECIMAL of so many digits (precision, scale) holds exactly this number."""
    if digits is None or not value.is_finite():
        return False
    if value.is_zero():
        return True
    precision, scale = digits
    exponent = value.normalize(_EXACT).as_tuple().exponent
    return isinstance(exponent, int) and -exponent <= scale and value.adjusted() < precision - scale
