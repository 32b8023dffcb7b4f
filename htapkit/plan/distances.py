"""Distances of vectors as pgvector spells them: `<->` Euclidean, `<=>` cosine, `<#>` product.

The elements are float4; they are multiplied and summed as float8, so nothing overflows and no digit
of them is lost. Each is exact to float8's last digits. Only for columns that the model says are
vectors: those of an extension of PostgreSQL are that extension's business.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from htapkit.plan.context import Context
from htapkit.plan.expr import Expr
from htapkit.plan.names import quote_text
from htapkit.plan.parse import CosineDistance, InnerProduct
from htapkit.plan.plan import Parameter
from htapkit.plan.unproven import LocalOnlyError, UnprovenError
from htapkit.plan.vectors import parameter_type, read_vector

FUNCTIONS: Mapping[type[exp.Expression], tuple[str, str]] = {
    exp.Distance: ("<->", "array_distance"),
    CosineDistance: ("<=>", "array_cosine_distance"),
    InnerProduct: ("<#>", "array_negative_inner_product"),
}
_OPERANDS = (exp.Column, exp.Cast, exp.Paren, exp.Literal, exp.Parameter, exp.Null, exp.Subquery)
_TIGHTER = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.DPipe, exp.Neg, exp.Pow)


def distance(context: Context, node: exp.Expression) -> Expr:
    """`vector <-> vector`, of which one at least comes from a table: float8, NULL of a NULL."""
    operator, function = FUNCTIONS[type(node)]
    left, right = node.this, node.args["expression"]
    if isinstance(node.parent, _TIGHTER) or not all(
        isinstance(e, _OPERANDS) for e in (left, right)
    ):
        raise UnprovenError(operator, "beside another operator without parentheses")
    if not _given(left) or not _given(right):
        first, second = (None if _given(each) else _vector(context, each) for each in (left, right))
        known = first or second
        if known is not None and known.vector is not None:
            dimensions = known.vector.dimensions
            sides = [
                _elements(found, dimensions) if found else _read(context, each, dimensions)
                for found, each in ((first, left), (second, right))
            ]
            a, b = (f"CAST({side} AS DOUBLE[{dimensions}])" for side in sides)
            return Expr(f"{function}({a}, {b})", "float8")
    raise UnprovenError(operator, "not of a vector of a mirrored table")


def _plain(node: exp.Expression) -> tuple[exp.Expression, int]:
    """(what stands in parentheses and casts to vector, the length that is asked for; 0: none)."""
    asked = 0
    while isinstance(node, exp.Paren) or (
        isinstance(node, exp.Cast) and node.to.this is exp.DType.VECTOR
    ):
        if isinstance(node, exp.Cast) and node.to.expressions:
            text = node.to.expressions[0].name
            if len(node.to.expressions) != 1 or not text.isdigit() or asked:
                raise UnprovenError("a cast to vector", "with something else than a length")
            asked = int(text)
        node = node.this
    return node, asked


def _given(node: exp.Expression) -> bool:
    """Whether it is a constant of the statement or a parameter."""
    plain, _ = _plain(node)
    return isinstance(plain, exp.Parameter | exp.Literal | exp.Null)


def _vector(context: Context, node: exp.Expression) -> Expr:
    plain, asked = _plain(node)
    found = context(plain)
    if found.vector is None:
        raise UnprovenError(f"a distance of {found.type}", "which is not a vector here")
    if asked:
        _same(found.vector.dimensions, asked)
    return found


def _elements(found: Expr, dimensions: int) -> str:
    assert found.vector is not None
    _same(dimensions, found.vector.dimensions)
    return found.elements


def _read(context: Context, node: exp.Expression, dimensions: int) -> str:
    """A literal or parameter, as what stands beside it."""
    plain, asked = _plain(node)
    if asked:
        _same(dimensions, asked)
    wanted = f"FLOAT[{dimensions}]"
    if isinstance(plain, exp.Null):
        return f"CAST(NULL AS {wanted})"
    if isinstance(plain, exp.Parameter):
        if not plain.name.isdigit():
            raise UnprovenError("a parameter", "not a number")
        statement, number = context.statement, int(plain.name)
        type_ = parameter_type(statement.parameter_oid(number, "text"), dimensions)
        return f"CAST({statement.numbered(Parameter(number, type_))} AS {wanted})"
    if not plain.args.get("is_string"):
        raise UnprovenError("a distance", "of a number")
    return f"CAST({quote_text(read_vector(plain.name, dimensions))} AS {wanted})"


def _same(dimensions: int, others: int) -> None:
    if dimensions != others:
        raise LocalOnlyError(f"different vector dimensions {dimensions} and {others}", "22000")
