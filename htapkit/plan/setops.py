"""Set operations and VALUES: several row sources whose columns become one type."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from htapkit.plan import casts, choices, groups, operators
from htapkit.plan.context import Context
from htapkit.plan.expr import Expr, collate_of, derived
from htapkit.plan.expressions import bind
from htapkit.plan.names import quote
from htapkit.plan.scopes import Scope, Statement
from htapkit.plan.selects import (
    Item,
    distinct_value,
    limit_clause,
    orders_rows,
    select_list,
)
from htapkit.plan.tables import OutputColumn, Query, Relations, columns_of, only
from htapkit.plan.unproven import UnprovenError
from htapkit.plan.windows import sort_flags, sort_key


def order_output(statement: Statement, query: Query, node: exp.Expression) -> Query:
    """ORDER BY and LIMIT over the output of a set operation or of parentheses."""
    order = node.args.get("order")
    context = Context(statement, Scope(), {}, bind)
    limit = limit_clause(context, node)
    if order is None and not limit:
        return query
    alias = statement.alias("u")
    seen = columns_of(query.columns, alias)
    items = [Item(name, None, expr) for name, expr in seen]
    keys = []
    for item in order.expressions if order is not None else ():
        at = groups.output_position(item.this, items, aliases=True)
        if at is None:
            raise UnprovenError("ORDER BY", "an expression over a set operation")
        keys.append(sort_key(seen[at][1], **sort_flags(item), shown=orders_rows(node)))
    values = [expr for _, expr in seen]
    text = f"SELECT {select_list(values)} FROM ({query.sql}) AS {alias}"  # noqa: S608 - quoted names
    if keys:
        text += " ORDER BY " + ", ".join(keys)
    columns = tuple(OutputColumn(name, expr) for name, expr in seen)
    return Query(text + limit, columns)


def set_operation(
    statement: Statement, node: exp.SetOperation, parent: Scope | None, ctes: Relations
) -> Query:
    """UNION, INTERSECT and EXCEPT; both sides are cast to the types that PostgreSQL resolves."""
    parts = frozenset({"this", "expression", "distinct", "order", "limit", "offset", "with_"})
    only(node, parts, type(node).__name__.upper())
    from htapkit.plan.queries import bind_query, with_clause  # noqa: PLC0415 - they hold each other

    prefix, ctes = with_clause(statement, node, parent, ctes)
    sides = [
        bind_query(statement, side, parent, ctes) for side in (node.this, node.args["expression"])
    ]
    if len(sides[0].columns) != len(sides[1].columns):
        raise UnprovenError("a set operation", "of different widths")
    distinct = bool(node.args.get("distinct")) or not isinstance(node, exp.Union)
    aliases = [statement.alias("u"), statement.alias("u")]
    left, right, columns = [], [], []
    for number, (a, b) in enumerate(zip(sides[0].columns, sides[1].columns, strict=True), 1):
        seen = [
            column.expr
            if column.expr.type == "unknown"
            else derived(column.expr, f"{alias}.{quote(f'c{number}')}", column.expr.dscale and None)
            for alias, column in zip(aliases, (a, b), strict=True)
        ]
        cast, pattern = _united(seen, distinct=distinct, utc=statement.utc)
        left.append(cast[0])
        right.append(cast[1])
        columns.append(OutputColumn(a.name, replace(pattern, sql=f"c{number}", constant=False)))
    word = {exp.Union: "UNION", exp.Except: "EXCEPT", exp.Intersect: "INTERSECT"}[type(node)]
    word += "" if node.args.get("distinct") else " ALL"
    texts = [
        f"SELECT {select_list(values)} FROM ({side.sql}) AS {alias}"  # noqa: S608 - quoted names
        for values, side, alias in zip((left, right), sides, aliases, strict=True)
    ]
    query = Query(f"({texts[0]}) {word} ({texts[1]})", tuple(columns))
    ordered = order_output(statement, query, node)
    return Query(prefix + ordered.sql, ordered.columns)


def _united(seen: list[Expr], *, distinct: bool, utc: bool) -> tuple[list[Expr], Expr]:
    if (
        all(part.opaque and part.type == seen[0].type and part.oid == seen[0].oid for part in seen)
        and not distinct
    ):
        lengths = {part.vector.dimensions if part.vector else 0 for part in seen}
        vector = seen[0].vector if len(lengths) == 1 else None
        return seen, replace(seen[0], origin=None, vector=vector)
    if all(part.type == "bpchar" and part.typmod == seen[0].typmod for part in seen):
        cast, pattern = seen, replace(seen[0], origin=None, collate=collate_of(seen))
    else:
        cast, pattern = choices.unify(seen, "a set operation", utc=utc)
        if pattern.type == "bpchar":
            raise UnprovenError("a set operation", "of char(n) of several lengths")
    if pattern.dscale != "":
        raise UnprovenError("a set operation", "of numerics of several scales")
    if distinct:
        operators.comparable(pattern, "a set operation", order=False)
        cast = [distinct_value(replace(part, dscale="")) for part in cast]
    return [replace(part, dscale="") for part in cast], pattern


def values(statement: Statement, node: exp.Values, parent: Scope | None, ctes: Relations) -> Query:
    """`VALUES (…), (…)`."""
    only(node, frozenset({"expressions", "alias"}), "VALUES")
    context = Context(statement, Scope(parent=parent), ctes, bind)
    rows = [[context(cell) for cell in row.expressions] for row in node.expressions]
    if not rows or len({len(row) for row in rows}) != 1:
        raise UnprovenError("VALUES", "rows of different lengths")
    columns, cells = [], []
    for number, column in enumerate(zip(*rows, strict=True), 1):
        cast, pattern = choices.unify(list(column), "VALUES", utc=statement.utc)
        if pattern.dscale != "" or pattern.type == "bpchar":
            raise UnprovenError("VALUES", "numerics of several scales")
        cells.append([casts.coerce(part, pattern.type, utc=statement.utc).sql for part in cast])
        columns.append(
            OutputColumn(f"column{number}", replace(pattern, sql=f"c{number}", constant=False))
        )
    alias = statement.alias("v")
    names = ", ".join(quote(f"c{n}") for n in range(1, len(columns) + 1))
    body = ", ".join(f"({', '.join(row)})" for row in zip(*cells, strict=True))
    return Query(f"SELECT * FROM (VALUES {body}) AS {alias}({names})", tuple(columns))  # noqa: S608 - quoted names
