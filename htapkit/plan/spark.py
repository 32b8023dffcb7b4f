"""The local SQL of a statement as Spark's, where Spark is proven to give the same rows.

It is spelled anew from the DuckDB text: what that means was proven already, so here only the list
of constructs counts that both engines answer alike. The tables are named by their lake scans; who
runs it says which version each one is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from htapkit.model import ARCHIVE
from htapkit.plan.arms import Reference
from htapkit.plan.plan import SparkQuery, SparkType
from htapkit.plan.spark_expressions import Expressions
from htapkit.plan.spark_tables import WITH
from htapkit.plan.spark_types import EQUAL, Typed, column_type, only, quoted
from htapkit.plan.unproven import UnprovenError

_SIDES = {"": "INNER", "LEFT": "LEFT", "RIGHT": "RIGHT", "FULL": "FULL"}
_SELECT = ("expressions", "from_", "joins", "where", "group", "order", "limit", "offset")

Columns = Mapping[str, SparkType]


def spark_query(sql: str, references: Sequence[Reference]) -> SparkQuery:
    """The statement for Spark; `sql` reads each table by the view of its lake scan alone.

    Raises UnprovenError, which names the construct.
    """
    tables = {each.scan: _table(each) for each in references if each.scan}
    try:
        tree = sqlglot.parse_one(sql, read="duckdb")
    except SqlglotError as error:
        raise UnprovenError("the statement", "its local SQL is not read for Spark") from error
    assert isinstance(tree, exp.Expression), "a statement"
    text, columns = _Queries(tables).query(tree)
    return SparkQuery(text, tuple(columns.values()))


def _table(reference: Reference) -> Columns:
    """The columns of a table that Spark can read."""
    table = reference.table
    if reference.imported or table.source == ARCHIVE:
        raise UnprovenError(f"table {table}", "imported or an archive, which Spark does not read")
    found = {}
    for column in reference.status.schema.columns:
        if column.type.name == "time" and column.computable:
            raise UnprovenError(
                f"table {table}", f"column {column.name} is a time, and Spark reads no such table"
            )
        found[column.name] = column_type(column)
    return found


class _Queries:
    """SELECTs over these tables, one inside the other."""

    def __init__(self, tables: Mapping[str, Columns]) -> None:
        self._tables = dict(tables)  # WITH items come to them: their names are given once

    def query(self, node: exp.Expression) -> tuple[str, Columns]:
        """A SELECT, and its columns. Raises UnprovenError."""
        if not isinstance(node, exp.Select):
            raise UnprovenError(type(node).__name__.upper(), "not proven equal in Spark")
        distinct = node.args.get("distinct")
        if distinct is not None:
            only(distinct)
        only(node, *_SELECT, "distinct", "with_")
        head = self._with(node.args.get("with_"))
        scope, source = self._from(node)
        expressions = Expressions(scope)
        items: dict[str, Typed] = {}
        for each in node.expressions:
            assert isinstance(each, exp.Alias), "the planner names every column"
            items[each.alias] = expressions(each.this)
        if distinct is not None:
            for item in items.values():
                _groups(item, "DISTINCT")
        chosen = ", ".join(f"{item.sql} AS {quoted(name)}" for name, item in items.items())
        parts = ["SELECT DISTINCT" if distinct is not None else "SELECT", chosen, "FROM", source]
        if node.args.get("where") is not None:
            parts += ["WHERE", expressions.condition(node.args["where"].this)]
        parts += _group(node, expressions, items)
        parts += _order(node, expressions, items, distinct=distinct is not None)
        return " ".join(head + parts), {name: e.type for name, e in items.items()}

    def _with(self, node: exp.Expression | None) -> list[str]:
        """WITH, whose items are tables from here on."""
        if node is None:
            return []
        only(node, "expressions")
        texts = []
        for item in node.expressions:
            only(item, "this", "alias")
            text, self._tables[item.alias] = self.query(item.this)
            texts.append(f"{quoted(item.alias)} AS ({text})")
        return [WITH + ", ".join(texts)]

    def _from(self, node: exp.Select) -> tuple[dict[str, Columns], str]:
        """FROM with its joins: the columns in reach, and the text."""
        start = node.args.get("from_")
        if start is None:
            raise UnprovenError("a SELECT", "without FROM, not proven equal in Spark")
        scope: dict[str, Columns] = {}
        text = self._item(start.this, scope)
        for join in node.args.get("joins") or []:
            only(join, "this", "side", "kind", "on")
            side, kind = str(join.args.get("side") or ""), str(join.args.get("kind") or "")
            on = join.args.get("on")
            if side not in _SIDES or kind not in {"", "INNER", "OUTER"} or on is None:
                word = " ".join(filter(None, (side, kind, "JOIN")))
                raise UnprovenError(word, "not proven equal in Spark")
            item = self._item(join.this, scope)
            if on.find(exp.EQ) is None:
                raise UnprovenError("a join", "without an equality, not proven equal in Spark")
            text += f" {_SIDES[side]} JOIN {item} ON {Expressions(scope).condition(on)}"
        return scope, text

    def _item(self, node: exp.Expression, scope: dict[str, Columns]) -> str:
        """A table or a subquery, whose columns come into reach."""
        alias = node.alias
        if isinstance(node, exp.Table):
            only(node, "this", "alias")
            if node.name not in self._tables:
                raise UnprovenError(f"table {node.name}", "has rows that Spark does not have")
            scope[alias] = self._tables[node.name]
            return f"{quoted(node.name)} AS {alias}"
        if isinstance(node, exp.Subquery):
            only(node, "this", "alias")
            text, scope[alias] = self.query(node.this)
            return f"({text}) AS {alias}"
        raise UnprovenError(type(node).__name__.upper(), "in FROM, not proven equal in Spark")


def _groups(item: Typed, word: str) -> None:
    if item.type.name not in EQUAL:
        raise UnprovenError(f"{word} of {item.type.name}", "not proven equal in Spark")


def _group(node: exp.Select, expressions: Expressions, items: Mapping[str, Typed]) -> list[str]:
    """GROUP BY, with positions spelled out: what they mean is a setting of Spark's."""
    group = node.args.get("group")
    if group is None:
        return []
    only(group, "expressions")
    keys = []
    for key in group.expressions:
        numbered = isinstance(key, exp.Literal) and not key.args.get("is_string")
        item = list(items.values())[int(str(key.this)) - 1] if numbered else expressions(key)
        _groups(item, "GROUP BY")
        keys.append(item.sql)
    return ["GROUP BY", ", ".join(keys)]


def _order(
    node: exp.Select, expressions: Expressions, items: Mapping[str, Typed], *, distinct: bool
) -> list[str]:
    """ORDER BY with the place of NULLs, LIMIT and OFFSET."""
    order, limit, offset = (node.args.get(part) for part in ("order", "limit", "offset"))
    parts = []
    if order is None and (limit is not None or offset is not None):
        raise UnprovenError("LIMIT", "without ORDER BY, not proven equal in Spark")
    if order is not None:
        only(order, "expressions")
        keys = []
        for each in order.expressions:
            only(each, "this", "desc", "nulls_first")
            key = expressions(each.this)
            if key.type.name not in EQUAL:
                raise UnprovenError(f"ORDER BY {key.type.name}", "not proven equal in Spark")
            sql = _shown(key, items) if distinct else key.sql
            direction = "DESC" if each.args.get("desc") else "ASC"
            place = "FIRST" if each.args.get("nulls_first") else "LAST"
            keys.append(f"{sql} {direction} NULLS {place}")
        parts += ["ORDER BY", ", ".join(keys)]
    for word, clause in (("LIMIT", limit), ("OFFSET", offset)):
        if clause is not None:
            count = clause.args["expression"]
            if not isinstance(count, exp.Literal) or not 0 <= int(str(count.this)) < 2**31:
                raise UnprovenError(word, "of something else than a number that Spark takes")
            parts += [word, str(count.this)]
    return parts


def _shown(key: Typed, items: Mapping[str, Typed]) -> str:
    """What DISTINCT rows are ordered by: a column of theirs."""
    name = next((name for name, item in items.items() if item.sql == key.sql), None)
    if name is None:
        raise UnprovenError("ORDER BY", "of what DISTINCT does not show, not proven in Spark")
    return quoted(name)
