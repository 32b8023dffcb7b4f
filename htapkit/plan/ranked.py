"""ORDER BY of texts and enums, whose order only the source knows: it ranks the different values.

A SELECT whose every part but the order is proven runs here whole. Of the texts to sort by, each
different one goes to PostgreSQL once, as an array, and comes back as its rank in the order of its
column's collation (of its type, where that is an enum); the caller then sorts the result by ranks.
A report of 18,000 rows has a few hundred different names.
"""

from __future__ import annotations

import re

from sqlglot import exp

from htapkit.plan import groups
from htapkit.plan.expr import SEVERAL, Expr
from htapkit.plan.parse import source_text
from htapkit.plan.plan import Ranking, SortKey
from htapkit.plan.queries import Core, core, distinct_clause, items_of, value_of
from htapkit.plan.residue import Leaves, enum_labels
from htapkit.plan.scopes import Statement
from htapkit.plan.selects import Item, distinct_value, limit_clause, orders_rows, select_list
from htapkit.plan.tables import OutputColumn, Query
from htapkit.plan.types import INTEGERS, MOMENTS, TEXTS, source_sql
from htapkit.plan.unproven import UnprovenError
from htapkit.plan.windows import sort_flags, sort_key

ROWS_MAX = 20_000
_SORTED_ALIKE = frozenset({*INTEGERS, *MOMENTS, "numeric", "bool", "time"})
"""Types whose values Arrow sorts as PostgreSQL does; floats are not, for their NaN."""
_LIMIT = re.compile(r"(?: LIMIT (?P<limit>\d+))?(?: OFFSET (?P<offset>\d+))?")


def ranked(statement: Statement, tree: exp.Expression) -> tuple[Query, Ranking]:
    """The query without its order, and that order. Raises UnprovenError."""
    if not isinstance(tree, exp.Select) or tree.args.get("order") is None:
        raise UnprovenError("a query", "without an order of its own")
    bound = core(statement, tree, None, {})
    items = items_of(bound, tree)
    values = [value_of(bound, item) for item in items]
    distinct = distinct_clause(bound, tree, items, values)
    if distinct:
        if distinct != "DISTINCT ":
            raise UnprovenError("DISTINCT ON", "ordered by a text")
        values = [distinct_value(value) for value in values]
    sorted_by = list(values)
    keys = _keys(bound, tree, items, sorted_by)
    if distinct and len(sorted_by) > len(values):
        raise UnprovenError("ORDER BY", "an expression that is not in the DISTINCT list")
    limits = _LIMIT.fullmatch(limit_clause(bound.context, tree))
    if limits is None:
        raise UnprovenError("LIMIT", "a parameter, beside an order by text")
    columns = tuple(
        OutputColumn(item.name, value) for item, value in zip(items, values, strict=True)
    )
    sql = f"{bound.prefix}SELECT {distinct}{select_list(sorted_by)} {bound.body()}".rstrip()
    limit, offset = limits["limit"], limits["offset"]
    ranking = Ranking(
        tuple(keys), ROWS_MAX, None if limit is None else int(limit), int(offset or 0)
    )
    return Query(sql, columns), ranking


def _keys(bound: Core, tree: exp.Select, items: list[Item], sorted_by: list[Expr]) -> list[SortKey]:
    """The items of ORDER BY. What is not in the select list is appended to `sorted_by`."""
    keys = []
    for node in tree.args["order"].expressions:
        at = groups.output_position(node.this, items, aliases=True)
        value = sorted_by[at] if at is not None else bound.context(node.this)
        if value.constant:
            continue
        if at is None:
            at = next((n for n, known in enumerate(sorted_by) if known.sql == value.sql), None)
        if at is None:
            at = len(sorted_by)
            sorted_by.append(value)
        flags = sort_flags(node)
        ranks = ""
        source = bound.context.statement.session.source
        if value.type in TEXTS:
            ranks = _ranks(value, source)
        elif value.opaque and value.category == "e":
            ranks = _labels(value, source)
        elif value.type in _SORTED_ALIKE and value.dscale == "":
            sort_key(value, **flags, shown=orders_rows(tree))  # refuses what is not comparable
        else:
            raise UnprovenError("ORDER BY", f"{value.type}, beside a text")
        keys.append(SortKey(at, flags["descending"], flags["nulls_first"], ranks))
    return keys


def _labels(value: Expr, source: str) -> str:
    """As `_ranks`, of the labels of an enum type: their places in its list."""
    if value.origin is None or value.origin[0].source != source:
        raise UnprovenError("ORDER BY", f"{value.type}, whose labels {source} may not have")
    return (
        f"SELECT array_position(CAST({enum_labels(*value.origin)} AS text[]), l.c1) "  # noqa: S608 - quoted names
        "FROM unnest($1::text[]) WITH ORDINALITY AS l(c1, n) ORDER BY l.n"
    )


def _ranks(value: Expr, source: str) -> str:
    """PostgreSQL's statement: from $1, an array of texts, their ranks, in the array's order."""
    if value.opaque or value.collate == SEVERAL:
        raise UnprovenError("ORDER BY", "a text whose collation is not one of its column")
    leaves = Leaves(source)
    text = source_text(exp.Select(expressions=[leaves.column(value, collated=True)]))
    type_ = source_sql(value.type)
    return (
        f"SELECT CAST(dense_rank() OVER (ORDER BY {text.removeprefix('SELECT ')}) AS int4) "  # noqa: S608 - quoted names
        f"FROM unnest($1::{type_}[]) WITH ORDINALITY AS l(c1, n) ORDER BY l.n"
    )
