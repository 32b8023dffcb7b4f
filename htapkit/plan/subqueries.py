"""Subqueries in expressions: EXISTS, IN and scalar ones, correlated or not."""

from __future__ import annotations

from sqlglot import exp

from htapkit.plan import operators
from htapkit.plan.context import Context
from htapkit.plan.expr import Expr, boolean, derived
from htapkit.plan.names import quote
from htapkit.plan.unproven import UnprovenError


def _inner(node: exp.Expression) -> exp.Expression:
    while isinstance(node, exp.Subquery) and not any(
        node.args.get(part)
        for part in ("alias", "order", "limit", "offset", "with_", "joins", "pivots", "sample")
    ):
        node = node.this
    return node


def _bound(context: Context, node: exp.Expression) -> tuple[str, list[Expr]]:
    from htapkit.plan.queries import bind_query  # noqa: PLC0415 - they hold each other

    query = bind_query(context.statement, _inner(node), context.scope, context.ctes)
    return query.sql, [column.expr for column in query.columns]


def exists(context: Context, node: exp.Expression) -> Expr:
    """`EXISTS (query)`."""
    sql, _ = _bound(context, node.this)
    return boolean(f"(EXISTS ({sql}))")


def in_subquery(context: Context, subject: Expr, node: exp.Expression) -> Expr:
    """`subject IN (query)` of one column, compared as PostgreSQL resolves `=`."""
    sql, columns = _bound(context, node)
    if len(columns) != 1:
        raise UnprovenError("IN", "a subquery of several columns")
    alias = context.statement.alias("s")
    column = derived(columns[0], f"{alias}.{quote('c1')}")
    same = operators.compare("=", subject, column, utc=context.statement.utc)
    if same.sql == f"({subject.sql} = {column.sql})":
        return boolean(f"({subject.sql} IN (SELECT {column.sql} FROM ({sql}) AS {alias}))")  # noqa: S608 - quoted names
    if same.sql.startswith("(") and same.sql.count(" = ") == 1:
        left, right = same.sql[1:-1].split(" = ")
        if column.sql in right and column.sql not in left:
            return boolean(f"({left} IN (SELECT {right} FROM ({sql}) AS {alias}))")  # noqa: S608 - quoted names
    raise UnprovenError("IN", f"compares {subject.type} with {column.type}")


def scalar(context: Context, node: exp.Expression) -> Expr:
    """A subquery as a value; more than one row is an error in both engines."""
    from htapkit.plan.queries import select  # noqa: PLC0415 - they hold each other

    inner = _inner(node)
    if isinstance(inner, exp.Select):
        # Its scale is not asked for: DuckDB takes as long to plan that as the value.
        query = select(context.statement, inner, context.scope, context.ctes, scales=False)
        sql, columns = query.sql, [column.expr for column in query.columns]
    else:
        sql, columns = _bound(context, inner)
    if len(columns) != 1:
        raise UnprovenError("a scalar subquery", "of several columns")
    value = columns[0]
    if not value.dscale:
        return derived(value, f"({sql})", value.dscale)
    if not isinstance(inner, exp.Select):
        alias = context.statement.alias("s")
        sql = f"SELECT {alias}.{quote('c1')} FROM ({sql}) AS {alias}"  # noqa: S608 - quoted names
    return derived(value, f"({sql})", None)
