"""SELECT, VALUES, set operations and WITH: each query becomes one DuckDB text."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlglot import exp

from htapkit.plan import bounds, groups, operators, setops
from htapkit.plan.context import Context, Grouping
from htapkit.plan.expr import Expr
from htapkit.plan.expressions import bind
from htapkit.plan.names import folded, quote
from htapkit.plan.scopes import UNSURE, Scope, Statement
from htapkit.plan.selects import (
    Item,
    distinct_value,
    keeps_first,
    limit_clause,
    orders_rows,
    select_list,
)
from htapkit.plan.tables import Cte, From, OutputColumn, Query, Relations, only
from htapkit.plan.unproven import UnprovenError
from htapkit.plan.windows import sort_flags, sort_key

SELECT_PARTS = frozenset(
    {
        "expressions",
        "from_",
        "joins",
        "where",
        "group",
        "having",
        "windows",
        "distinct",
        "order",
        "limit",
        "offset",
        "with_",
    }
)


@dataclass(slots=True)
class Core:
    """FROM, WHERE, GROUP BY and HAVING, bound; the select list is still to come."""

    source: str  # FROM … WHERE …
    context: Context
    grouping: Grouping | None
    group_sql: str
    having: list[str]
    prefix: str  # WITH …

    def body(self) -> str:
        """Everything after the select list, once that is bound and all aggregates are known."""
        if self.grouping is None:
            return self.source
        items = [
            f"{shown} AS {quote(f'k{n}')}"
            for n, (_, _, _, shown) in enumerate(self.grouping.keys, 1)
        ]
        items += [f"{sql} AS {quote(name)}" for sql, name in self.grouping.columns.items()]
        inner = f"SELECT {', '.join(items) or '1 AS one'} {self.source} {self.group_sql}".rstrip()
        if not items:
            inner = f"SELECT count(*) AS one {self.source} {self.group_sql}".rstrip()
        where = f" WHERE {' AND '.join(self.having)}" if self.having else ""
        return f"FROM ({inner}) AS {self.grouping.alias}{where}"


def bind_query(
    statement: Statement, node: exp.Expression, parent: Scope | None, ctes: Relations
) -> Query:
    """Any query that stands where rows are wanted."""
    if isinstance(node, exp.Select):
        return select(statement, node, parent, ctes)
    if isinstance(node, exp.SetOperation):
        return setops.set_operation(statement, node, parent, ctes)
    if isinstance(node, exp.Values):
        return setops.values(statement, node, parent, ctes)
    if isinstance(node, exp.Subquery):
        only(node, frozenset({"this", "order", "limit", "offset"}), "a query in parentheses")
        inner = bind_query(statement, node.this, parent, ctes)
        return setops.order_output(statement, inner, node)
    raise UnprovenError(type(node).__name__.lower(), "not a query that is known here")


def core(
    statement: Statement,
    node: exp.Select,
    parent: Scope | None,
    ctes: Relations,
    *,
    having: bool = True,
) -> Core:
    """Bind all of a SELECT but its list, ORDER BY and LIMIT."""
    only(node, SELECT_PARTS, "SELECT")
    prefix, ctes = with_clause(statement, node, parent, ctes)
    source = From(statement, parent, ctes)
    if node.args.get("from_") is not None:
        source.add(node.args["from_"].this)
    for join in node.args.get("joins") or []:
        source.join(join)
    named = {folded(window.this): window for window in node.args.get("windows") or []}
    below = Context(statement, source.scope, ctes, bind, named)
    tail = ""
    if node.args.get("where") is not None:
        where = node.args["where"].this
        tail = f" WHERE {condition(below, where)}"
        bounds.narrow(below, where, source.references)
    text = source.sql() + tail
    grouping, group_sql = None, ""
    above = below
    if groups.is_grouped(node):
        grouping = Grouping(below, statement.alias("g"))
        group_sql = groups.bind_group(grouping, node)
        above = replace(below, scope=replace(source.scope, grouping=grouping))
    bound = Core(text, replace(above, window_calls=True), grouping, group_sql, [], prefix)
    if having and node.args.get("having") is not None:
        bound.having.append(condition(above, node.args["having"].this))
    return bound


def condition(context: Context, node: exp.Expression) -> str:
    """A WHERE, ON or HAVING."""
    value = context(node)
    if value.type != "bool" or value.opaque:
        raise UnprovenError("a condition", "not boolean")
    return value.sql


def items_of(bound: Core, node: exp.Select) -> list[Item]:
    """The select list with every `*` spread in PostgreSQL's order."""
    items: list[Item] = []
    for entry in node.expressions:
        plain = entry.this if isinstance(entry, exp.Alias) else entry
        if isinstance(plain, exp.Star) or (
            isinstance(plain, exp.Column) and isinstance(plain.this, exp.Star)
        ):
            table, schema = plain.args.get("table"), plain.args.get("db")
            if any(plain.args.get(part) for part in ("except_", "replace", "rename")):
                raise UnprovenError("*", "with exceptions")
            for name, expr in bound.context.scope.star(
                folded(schema) if schema else None, folded(table) if table else None
            ):
                column = (
                    bound.context.scope.grouping.lift(expr)
                    if bound.context.scope.grouping
                    else expr
                )
                groups.note_use(bound.context.statement, expr)
                items.append(Item(name, None, column))
            continue
        name = folded(entry.args["alias"]) if isinstance(entry, exp.Alias) else figured_name(plain)
        items.append(Item(name, plain, None))
    if not items:
        raise UnprovenError("SELECT", "without columns")
    return items


def figured_name(node: exp.Expression) -> str:
    """The name that PostgreSQL gives to an unnamed column, where that is certain."""
    if isinstance(node, exp.Column) and isinstance(node.this, exp.Identifier):
        return folded(node.this)
    if isinstance(node, exp.Anonymous):
        return str(node.this).lower()
    if isinstance(node, (exp.Window, exp.Filter, exp.Paren, exp.WithinGroup, exp.Collate)):
        return figured_name(node.this)
    if isinstance(node, exp.Cast) and isinstance(node.this, (exp.Column, exp.Anonymous)):
        return figured_name(node.this)
    if isinstance(node, (exp.Literal, exp.Null, exp.Binary)) and not isinstance(node, exp.Dot):
        return "?column?"
    return UNSURE


def value_of(bound: Core, item: Item) -> Expr:
    """The item's expression."""
    if item.expr is not None:
        return item.expr
    return bound.context(item.node)


def select(
    statement: Statement,
    node: exp.Select,
    parent: Scope | None,
    ctes: Relations,
    *,
    scales: bool = True,
) -> Query:
    """A SELECT; without `scales` for one whose values are computed with, and never shown."""
    bound = core(statement, node, parent, ctes)
    items = items_of(bound, node)
    values = [value_of(bound, item) for item in items]
    distinct = distinct_clause(bound, node, items, values)
    if node.args.get("distinct") is not None:
        values = [distinct_value(value) for value in values]
    order = order_clause(bound, node, items, values)
    columns = tuple(
        OutputColumn(item.name, value) for item, value in zip(items, values, strict=True)
    )
    tail = order + limit_clause(bound.context, node)
    return Query(
        f"{bound.prefix}SELECT {distinct}{select_list(values, scales=scales)} {bound.body()}"
        f"{tail}".rstrip(),
        columns,
    )


def distinct_clause(bound: Core, node: exp.Select, items: list[Item], values: list[Expr]) -> str:
    """DISTINCT or DISTINCT ON."""
    distinct = node.args.get("distinct")
    if distinct is None:
        return ""
    on = distinct.args.get("on")
    if on is None:
        return "DISTINCT "
    nodes = (
        on.expressions
        if isinstance(on, exp.Tuple)
        else [on.this if isinstance(on, exp.Paren) else on]
    )
    keys = []
    for key in nodes:
        at = groups.output_position(key, items, aliases=False)
        value = values[at] if at is not None else bound.context(key)
        keys.append(operators.trimmed(distinct_value(value)))
    return f"DISTINCT ON ({', '.join(keys)}) "


def order_clause(bound: Core, node: exp.Select, items: list[Item], values: list[Expr]) -> str:
    """ORDER BY: positions, output names first, then expressions over the input."""
    order = node.args.get("order")
    if order is None:
        return ""
    if order.args.get("siblings"):
        raise UnprovenError("ORDER SIBLINGS BY", "not PostgreSQL's")
    plain_distinct = node.args.get("distinct") is not None and not keeps_first(node)
    keys = []
    for item in order.expressions:
        at = groups.output_position(item.this, items, aliases=True)
        value = values[at] if at is not None else bound.context(item.this)
        if value.constant:
            continue
        if plain_distinct:
            at = (
                next((n for n, known in enumerate(values) if known.sql == value.sql), None)
                if at is None
                else at
            )
            if at is None:
                raise UnprovenError("ORDER BY", "an expression that is not in the DISTINCT list")
            value = replace(values[at], sql=values[at].sql)
        keys.append(sort_key(value, **sort_flags(item), shown=orders_rows(node)))
    return " ORDER BY " + ", ".join(keys) if keys else ""


def with_clause(
    statement: Statement, node: exp.Expression, parent: Scope | None, ctes: Relations
) -> tuple[str, Relations]:
    """WITH: each item under a fresh name."""
    clause = node.args.get("with_")
    if clause is None:
        return "", ctes
    if clause.args.get("recursive"):
        raise UnprovenError("WITH RECURSIVE", "not proven equal")
    known, parts = dict(ctes), []
    for cte in clause.expressions:
        only(cte, frozenset({"this", "alias", "materialized"}), "a WITH item")
        query = bind_query(statement, cte.this, parent, known)
        name = folded(cte.args["alias"].this)
        names = [folded(column) for column in cte.args["alias"].args.get("columns") or []]
        columns = tuple(
            replace(column, name=names[at]) if at < len(names) else column
            for at, column in enumerate(query.columns)
        )
        alias = statement.alias("q")
        hint = {True: "MATERIALIZED ", False: "NOT MATERIALIZED "}.get(
            cte.args.get("materialized"), ""
        )
        parts.append(f"{alias} AS {hint}({query.sql})")
        known[name] = Cte(alias, columns)
    return f"WITH {', '.join(parts)} ", known
