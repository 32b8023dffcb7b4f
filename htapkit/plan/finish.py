"""Finish at the source: heavy work here, what is not proven by PostgreSQL on the small result.

A SELECT whose FROM, WHERE and GROUP BY are proven is split. The local query computes keys,
aggregates and columns with exact types; they travel as typed arrays, and PostgreSQL evaluates the
rest of the select list, HAVING, ORDER BY and LIMIT over `unnest`. Each local column is given back
the very type and modifier that it had in the statement, and a text its collation (by a NULL of
its own column), so the remaining expressions mean what they meant.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sqlglot import exp

from htapkit.plan import groups
from htapkit.plan.durations import DURATIONS
from htapkit.plan.expr import Expr, derived
from htapkit.plan.names import quote
from htapkit.plan.parse import source_text
from htapkit.plan.plan import Finish, OutColumn, Ranking
from htapkit.plan.queries import (
    Core,
    bind_query,
    core,
    distinct_clause,
    items_of,
    order_clause,
    value_of,
)
from htapkit.plan.ranked import ranked
from htapkit.plan.residue import Leaves, Residue
from htapkit.plan.scopes import Statement, known_name
from htapkit.plan.selects import Item, limit_clause
from htapkit.plan.tables import Query
from htapkit.plan.types import source_sql
from htapkit.plan.unproven import UnprovenError

ROWS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Local:
    """DuckDB's query, its columns, and what the source computes on its result."""

    sql: str
    columns: tuple[OutColumn, ...]
    finish: Finish | None
    why: str = ""
    ranking: Ranking | None = None


def local_query(statement: Statement, tree: exp.Expression) -> Local:
    """The whole statement as a local query, finished at the source where needed."""
    try:
        return _proven(bind_query(statement, tree, None, {}))
    except UnprovenError as refusal:
        if not isinstance(tree, exp.Select):
            raise
        try:
            fresh = _again(statement)
            query, ranking = ranked(fresh, tree)
            local = replace(_proven(query), why=str(refusal), ranking=ranking)
        except UnprovenError:
            fresh = _again(statement)
            local = _split(fresh, tree, refusal)
        statement.access, statement.parameters = fresh.access, fresh.parameters
        statement.references, statement.clocks = fresh.references, fresh.clocks
        statement.zones, statement.probes = fresh.zones, fresh.probes
        return local


def _again(statement: Statement) -> Statement:
    """The same statement, of which nothing is bound yet."""
    return Statement(
        statement.catalog,
        statement.session,
        statement.parameter_types,
        cuts=statement.cuts,
        clock=statement.clock,
        unseen=statement.unseen,
        parsed=statement.parsed,
    )


def _proven(query: Query) -> Local:
    for column in query.columns:
        _shown(column.expr)
    columns = tuple(
        OutColumn(known_name(column.name), derived(column.expr, "").sql_type)
        for column in query.columns
    )
    return Local(query.sql, columns, None)


def _split(statement: Statement, tree: exp.Select, refusal: UnprovenError) -> Local:
    try:
        return _Split(statement, tree).local(str(refusal))
    except UnprovenError as second:
        if str(second) == str(refusal):
            raise
        raise UnprovenError(
            str(refusal),
            f"and it cannot be finished at the source: {second}",
            by_value=refusal.by_value or second.by_value,
        ) from second


def _shown(expr: Expr) -> None:
    if expr.type in DURATIONS:
        raise UnprovenError("an interval", "PostgreSQL prints it")
    if expr.dscale != "":
        raise UnprovenError("a numeric result", "whose scale differs from row to row")
    if expr.doubtful:
        raise UnprovenError("a document's text", "that the source can compute in any case")


@dataclass(slots=True)
class _Split:
    """One SELECT on its way to two."""

    statement: Statement
    tree: exp.Select
    leaves: Leaves = field(init=False)

    def __post_init__(self) -> None:
        """Nothing is local yet."""
        self.leaves = Leaves(self.statement.session.source)

    def local(self, why: str) -> Local:
        """The local query and the finishing one."""
        bound, having = self._core()
        items = items_of(bound, self.tree)
        distinct = self.tree.args.get("distinct") is not None
        ordering = self._local_order(bound, items) if not distinct and having is None else None
        collated = ordering is None
        residue = Residue(bound.context, self.leaves)
        final = [
            self.leaves.column(item.expr, collated=collated)
            if item.expr is not None
            else residue.split(item.node, collated=collated)
            for item in items
        ]
        select = exp.Select(expressions=final)
        if having is not None:
            select = select.where(residue.split(having, collated=True, computed=True))
        tail = ordering if ordering is not None else self._finish_order(select, items, residue)
        if distinct:
            distinct_clause(
                bound, self.tree, items, [Expr("", "bool")] * len(items)
            ) if self._distinct_on() else None
            select.set("distinct", exp.Distinct())
        if not self.leaves.columns:
            self.leaves.column(Expr("CAST(1 AS INTEGER)", "int4"), collated=False)
        local_list = ", ".join(
            f"{sql} AS {quote(name)}" for name, (sql, _) in self.leaves.columns.items()
        )
        sql = f"{bound.prefix}SELECT {local_list} {bound.body()}{tail}"
        columns = tuple(
            OutColumn(name, expr.sql_type) for name, (_, expr) in self.leaves.columns.items()
        )
        names = [item.name for item in items]
        return Local(sql.rstrip(), columns, self._finish(select, names), why)

    def _core(self) -> tuple[Core, exp.Expression | None]:
        """The proven part, and HAVING where that is not part of it."""
        try:
            return core(self.statement, self.tree, None, {}), None
        except UnprovenError:
            having = self.tree.args.get("having")
            if having is None:
                raise
            return core(self.statement, self.tree, None, {}, having=False), having.this

    def _distinct_on(self) -> bool:
        if self.tree.args["distinct"].args.get("on") is not None:
            raise UnprovenError("DISTINCT ON", "with a part that only the source can compute")
        return False

    def _local_order(self, bound: Core, items: list[Item]) -> str | None:
        """ORDER BY and LIMIT here, if all keys are proven; else None."""
        if self.tree.args.get("order") is None:
            return limit_clause(bound.context, self.tree)
        values = []
        for item in items:
            try:
                values.append(value_of(bound, item))
            except UnprovenError:
                values.append(Expr("", "unknown", opaque=True))
        try:
            return order_clause(bound, self.tree, items, values) + limit_clause(
                bound.context, self.tree
            )
        except UnprovenError:
            return None

    def _finish_order(self, select: exp.Select, items: list[Item], residue: Residue) -> str:
        """ORDER BY and LIMIT at the source."""
        order = self.tree.args.get("order")
        keys = []
        for item in order.expressions if order is not None else ():
            at = groups.output_position(item.this, items, aliases=True)
            key = (
                exp.Literal.number(at + 1)
                if at is not None
                else residue.split(item.this, collated=True)
            )
            keys.append(
                exp.Ordered(
                    this=key,
                    desc=bool(item.args.get("desc")),
                    nulls_first=bool(item.args.get("nulls_first")),
                )
            )
        if keys:
            select.set("order", exp.Order(expressions=keys))
        limit_clause(residue.context, self.tree)  # refuses what is not a plain number
        for part in ("limit", "offset"):
            node = self.tree.args.get(part)
            if node is not None:
                if node.find(exp.Parameter) is not None:
                    raise UnprovenError("LIMIT", "a parameter, which cannot go to the source")
                select.set(part, node.copy())
        return ""

    def _finish(self, select: exp.Select, shown: list[str]) -> Finish:
        types = [f"{source_sql(expr.type)}[]" for _, expr in self.leaves.columns.values()]
        names = ", ".join(self.leaves.columns)
        marker = exp.to_table("l")
        text = source_text(select.from_(marker))
        head, _, tail = text.partition(" FROM l")
        if text.count(" FROM l") != 1:
            head, _, tail = _cut(text)
        arrays = ", ".join(f"${number}::{type_}" for number, type_ in enumerate(types, 1))
        nothing = ", ".join(f"NULL::{type_}" for type_ in types)
        sql, shape = (
            f"{head} FROM unnest({given}) AS l({names}){tail}" for given in (arrays, nothing)
        )
        described = ", ".join(quote(known_name(name)) for name in shown)
        return Finish(sql, ROWS_MAX, f"({shape}) AS f({described})")


def _cut(text: str) -> tuple[str, str, str]:
    raise UnprovenError("a text", f"that looks like our own FROM ({len(text)} characters)")
