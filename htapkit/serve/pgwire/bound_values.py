"""What the local SQL's parameters are: the client's, decoded."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal

from htapkit.plan.plan import Parameter, Refuse
from htapkit.plan.types import ARRAYS, OIDS
from htapkit.plan.unproven import LocalOnlyError
from htapkit.plan.vectors import read_vector
from htapkit.serve.pgwire.messages import Bound
from htapkit.serve.pgwire.own import Refused
from htapkit.serve.pgwire.parameters import OddParameter, decode, decode_array
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
    exact local form, Refused where it is no vector as it should be one.
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
            raw, format_code = bound.values[index], bound.parameter_format(index)
            value = typed(_decoded(raw, types[index], format_code, parameter), parameter)
        except OddParameter as odd:
            raise AtSource(str(odd)) from odd
        if isinstance(value, Decimal) and not fits(value, parameter.type.decimal):
            raise AtSource(f"${parameter.number} has more digits than are compared here")
        values.append(value)
    return values


def _decoded(raw: bytes | None, oid: int, format_code: int, parameter: Parameter) -> object:
    if parameter.type.category == "e":  # a label
        return decode(raw, OIDS["text"], format_code)
    if oid in ARRAYS:
        return decode_array(raw, OIDS[ARRAYS[oid]], format_code)
    return decode(raw, oid, format_code)


def typed(value: object, parameter: Parameter) -> object:
    """The decoded value, as its place in the local SQL takes it. Raises Refused."""
    if not parameter.type.dimensions or not isinstance(value, str | list):
        return value
    try:
        return read_vector(value, parameter.type.dimensions)
    except LocalOnlyError as odd:
        message = f"${parameter.number}: {odd}"
        raise Refused(Refuse(odd.sqlstate, message, ())) from None


def fits(value: Decimal, digits: tuple[int, int] | None) -> bool:
    """Whether a DECIMAL of so many digits (precision, scale) holds exactly this number."""
    if digits is None or not value.is_finite():
        return False
    if value.is_zero():
        return True
    precision, scale = digits
    exponent = value.normalize(_EXACT).as_tuple().exponent
    return isinstance(exponent, int) and -exponent <= scale and value.adjusted() < precision - scale
