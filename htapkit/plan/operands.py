"""An operand as PostgreSQL's grammar sees it, where the parser's own precedences could differ."""

from __future__ import annotations

from sqlglot import exp

from htapkit.plan.context import Context
from htapkit.plan.expr import Expr
from htapkit.plan.unproven import UnprovenError

LOOSE = (
    exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Like, exp.ILike, exp.In, exp.Between,
    exp.Is, exp.Not, exp.And, exp.Or, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Escape,
)  # fmt: skip
"""They may not stand bare inside others, where the two grammars' precedences could differ."""


def tight(context: Context, node: exp.Expression | None) -> Expr:
    """An operand, which must not be a bare operator of lower precedence."""
    if isinstance(node, LOOSE):
        raise UnprovenError(
            type(node).__name__.lower(), "inside another operator without parentheses"
        )
    return context(node)
