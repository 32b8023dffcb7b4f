"""A comparison as it stands in a statement: what is beside a literal decides what it is.

A literal beside an enum is one of its labels. Which labels there are is not known here, and need
not be: PostgreSQL has parsed the statement before it is answered, and refused it where one is none.
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from htapkit.plan import clock, collating, letters, operators, zoned
from htapkit.plan.context import Context
from htapkit.plan.expr import Expr
from htapkit.plan.names import quote_text
from htapkit.plan.operands import tight
from htapkit.plan.unproven import UnprovenError


def compare(context: Context, operator: str, left: Expr, right: Expr) -> Expr:
    """`=`, `<>`, `<`, `<=`, `>`, `>=` of two operands. Raises UnprovenError."""
    left, right = _label(context, left, right), _label(context, right, left)
    left, right = collating.prevailing(*zoned.beside(context.statement, left, right))
    if operator in operators.EQUALITIES:
        left, right = letters.beside(left, right), letters.beside(right, left)
    return operators.compare(operator, left, right, utc=context.statement.utc)


def operand(context: Context, value: Expr, node: exp.Expression) -> Expr:
    """An operand that is compared with a value. Raises UnprovenError."""
    asked = clock.value(context, node, value.type)
    if asked is not None:
        return asked
    if value.opaque and value.category == "e" and isinstance(node, exp.Parameter):
        return context.statement.label(parameter_number(node), value)
    return tight(context, node)


def parameter_number(node: exp.Parameter) -> int:
    """Of `$1` it is 1. Raises UnprovenError."""
    text = str(node.this.this if isinstance(node.this, exp.Literal) else node.this)
    if not text.isdigit():
        raise UnprovenError("a parameter", "not a number")
    return int(text)


def _label(context: Context, literal: Expr, beside: Expr) -> Expr:
    if literal.type != "unknown" or literal.text is None:
        return literal
    if not beside.opaque or beside.category != "e" or not context.statement.parsed:
        return literal
    return replace(beside, sql=quote_text(literal.text), constant=True, origin=None)
