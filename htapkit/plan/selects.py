"""The pieces of a select list that every kind of query shares."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlglot import exp

from htapkit.plan import operators
from htapkit.plan.aggregates import unsigned_zero
from htapkit.plan.context import Context
from htapkit.plan.expr import Expr
from htapkit.plan.names import quote
from htapkit.plan.types import FLOATS, INTEGERS
from htapkit.plan.unproven import UnprovenError


@dataclass(frozen=True, slots=True)
class Item:
    """One expression of a select list, `*` already spread."""

    name: str
    node: exp.Expression | None
    expr: Expr | None


def select_list(values: list[Expr], *, scales: bool = True) -> str:
    """The columns c1, c2, …, each followed by its scale where that varies and is asked for."""
    parts = []
    for number, value in enumerate(values, 1):
        parts.append(f"{_typed(value)} AS {quote(f'c{number}')}")
        if value.dscale and scales:
            parts.append(f"{value.dscale} AS {quote(f'c{number}s')}")
    return ", ".join(parts)


def _typed(value: Expr) -> str:
    return "CAST(NULL AS VARCHAR)" if value.is_null else value.sql


def distinct_value(value: Expr) -> Expr:
    """A value whose equal values look the same, so that any of them may stand for all."""
    operators.comparable(value, "DISTINCT", order=False)
    if value.dscale != "" or (value.type == "bpchar" and value.typmod < 4):
        raise UnprovenError("DISTINCT", f"of {value.type} whose equal values may look different")
    value = replace(value, doubtful=False)
    return replace(value, sql=unsigned_zero(value.sql)) if value.type in FLOATS else value


def keeps_first(node: exp.Expression) -> bool:
    """Whether a query is DISTINCT ON: its order decides which rows there are."""
    distinct = node.args.get("distinct")
    # Of UNION it is only a flag.
    return isinstance(distinct, exp.Expression) and distinct.args.get("on") is not None


def orders_rows(node: exp.Expression) -> bool:
    """Whether ORDER BY of a query says no more than in which order its rows are sent."""
    if keeps_first(node):
        return False
    return node.parent is None or not (node.args.get("limit") or node.args.get("offset"))


def limit_clause(context: Context, node: exp.Expression) -> str:
    """LIMIT and OFFSET of whole numbers or parameters."""
    parts = ""
    limit, offset = node.args.get("limit"), node.args.get("offset")
    if isinstance(limit, exp.Fetch):
        options = limit.args.get("limit_options")
        if options is not None and (options.args.get("with_ties") or options.args.get("percent")):
            raise UnprovenError("FETCH", "WITH TIES")
        parts += f" LIMIT {_row_count(context, limit.args.get('count') or exp.Literal.number(1))}"
    elif limit is not None and not (
        isinstance(limit.expression, exp.Var) and str(limit.expression.this).upper() == "ALL"
    ):
        parts += f" LIMIT {_row_count(context, limit.expression)}"
    if offset is not None:
        parts += f" OFFSET {_row_count(context, offset.expression)}"
    return parts


def _row_count(context: Context, node: exp.Expression) -> str:
    if (
        isinstance(node, exp.Literal)
        and str(node.this).isdigit()
        and not node.args.get("is_string")
    ):
        return str(node.this)
    if isinstance(node, exp.Parameter):
        value = context.statement.parameter(int(str(node.name)), "int8")
        if value.type in INTEGERS:
            # A NULL is no limit in both engines, a negative number an error.
            return f"CAST({value.sql} AS BIGINT)"
    raise UnprovenError("LIMIT", "of something else than a number or a parameter")
