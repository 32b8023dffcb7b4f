"""Calls whose arguments have words between them: EXTRACT, SUBSTRING, POSITION, TRIM."""

from __future__ import annotations

from sqlglot import exp

from htapkit.plan import functions, moments, zoned
from htapkit.plan.context import Context
from htapkit.plan.expr import Expr


def extract(context: Context, node: exp.Expression) -> Expr:
    """`EXTRACT(field FROM moment)`."""
    field = str(node.this.this).lower()
    value = context(node.args["expression"])
    if field != "epoch":
        value = zoned.of_session(context.statement, value)
    return moments.extract(field, value, utc=context.statement.utc)


def substring(context: Context, node: exp.Expression) -> Expr:
    """`SUBSTRING(text FROM start FOR length)`."""
    parts = [node.this, node.args.get("start"), node.args.get("length")]
    return functions.substring(
        [context(part) for part in parts if part is not None], context.statement.utc
    )


def position(context: Context, node: exp.Expression) -> Expr:
    """`POSITION(part IN text)`."""
    return functions.position(
        [context(node.this), context(node.args["substr"])], context.statement.utc
    )


def trim(context: Context, node: exp.Expression) -> Expr:
    """`TRIM(LEADING letters FROM text)`."""
    side = str(node.args.get("position") or "BOTH").upper()
    name = {"BOTH": "trim", "LEADING": "ltrim", "TRAILING": "rtrim"}[side]
    parts = [context(part) for part in (node.this, node.args.get("expression")) if part is not None]
    return functions.trim(name)(parts, context.statement.utc)
