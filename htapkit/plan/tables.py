"""FROM: tables, subqueries, joins; all with fresh aliases and a spelled-out ON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlglot import exp

from htapkit.plan import bounds, choices, operators, past, series
from htapkit.plan.arms import Reference
from htapkit.plan.context import Context
from htapkit.plan.expr import Expr, derived
from htapkit.plan.names import folded, quote
from htapkit.plan.scopes import Relation, Scope, Statement, table_columns, used
from htapkit.plan.unproven import LocalOnlyError, UnprovenError


@dataclass(frozen=True, slots=True)
class OutputColumn:
    """A column of a query: PostgreSQL's name for it, and what it is."""

    name: str
    expr: Expr


@dataclass(frozen=True, slots=True)
class Query:
    """A bound query; its DuckDB columns are c1, c2, … and, where a scale varies by row, c1s."""

    sql: str
    columns: tuple[OutputColumn, ...]


@dataclass(frozen=True, slots=True)
class Cte:
    """A WITH item: its local name and its columns."""

    alias: str
    columns: tuple[OutputColumn, ...]


Relations = Mapping[str, Cte]
"""The WITH items in reach, by PostgreSQL's name."""

Part = str | Reference
"""A piece of FROM; tables are spelled out at the end, when all conditions are known."""

_TABLE_PARTS = frozenset({"this", "db", "catalog", "alias", "joins", "version"})
_JOIN_PARTS = frozenset({"this", "on", "using", "side", "kind", "method"})
_SIDES = {"": "INNER", "LEFT": "LEFT", "RIGHT": "RIGHT", "FULL": "FULL"}


def only(node: exp.Expression, parts: frozenset[str], construct: str) -> None:
    """Refuse a node that carries anything that is not known here."""
    for name, value in node.args.items():
        if value and name not in parts:
            raise UnprovenError(construct, f"with {name.replace('_', ' ').strip()}")


def columns_of(columns: tuple[OutputColumn, ...], alias: str) -> list[tuple[str, Expr]]:
    """A query's columns as seen through its alias."""
    seen = []
    for number, column in enumerate(columns, 1):
        dscale = column.expr.dscale
        if dscale:
            dscale = f"{alias}.{quote(f'c{number}s')}"
        seen.append((column.name, derived(column.expr, f"{alias}.{quote(f'c{number}')}", dscale)))
    return seen


class From:
    """One FROM clause being bound, left to right."""

    def __init__(self, statement: Statement, parent: Scope | None, ctes: Relations) -> None:
        """Start with nothing in reach but the queries around."""
        from htapkit.plan.expressions import bind  # noqa: PLC0415 - they hold each other

        self._statement, self._parent, self._ctes = statement, parent, ctes
        self._bind = bind
        self.scope = Scope(parent=parent)
        self.references: list[Reference] = []
        self._parts: list[Part] = []
        self._comma = False

    def sql(self) -> str:
        """The clause; each table reads the lake as far as the conditions let it."""
        return "".join(
            part if isinstance(part, str) else self._statement.from_item(part)
            for part in self._parts
        )

    def parts(self) -> list[Part]:
        """The clause in pieces, the first of which is its word."""
        return self._parts

    def add(self, node: exp.Expression) -> None:
        """The first item, with the joins that sqlglot hangs on it."""
        parts, relation, nested = self._item(node)
        self._parts = ["FROM ", *parts]
        self._extend(relation, nested)

    def join(self, node: exp.Join) -> None:
        """One more item."""
        only(node, _JOIN_PARTS, "JOIN")
        side, kind = (
            str(node.args.get("side") or "").upper(),
            str(node.args.get("kind") or "").upper(),
        )
        method = str(node.args.get("method") or "").upper()
        on, using = node.args.get("on"), node.args.get("using")
        if (
            kind not in {"", "INNER", "OUTER", "CROSS"}
            or side not in _SIDES
            or method not in {"", "NATURAL"}
        ):
            raise UnprovenError(f"{method} {side} {kind} JOIN", "not proven equal")
        comma = not (side or kind or method or on or using)
        if self._comma and (side in {"RIGHT", "FULL"} or using or method):
            raise UnprovenError("a join", "after a comma, where its scope is another")
        self._comma = self._comma or comma
        before = list(self.references)
        parts, relation, nested = self._item(node.this)
        if nested is not None:
            raise UnprovenError("a join", "nested inside a join")
        left, right = list(self.scope.visible), list(relation.columns)
        if method == "NATURAL":
            names = [name for name, _ in left if name in {column for column, _ in right}]
        else:
            names = [folded(name) for name in using or []]
        self._extend(relation, None)
        if comma or kind == "CROSS":
            self._parts += [" CROSS JOIN ", *parts]
            return
        if using or method:
            condition = self._merge(left, right, names, side)
        else:
            # A row that fails ON comes out all the same on the sides that an outer join preserves.
            joined = self.references[len(before) :]
            lost = {"": self.references, "LEFT": joined, "RIGHT": before}.get(side, [])
            condition = self._on(on, lost)
        self._parts += [f" {_SIDES[side]} JOIN ", *parts, f" ON {condition}"]

    def _on(self, node: exp.Expression | None, lost: list[Reference]) -> str:
        if node is None:
            raise UnprovenError("JOIN", "without a condition")
        context = self._context()
        condition = context(node)
        if condition.type != "bool":
            raise UnprovenError("ON", "not boolean")
        bounds.narrow(context, node, lost)
        return condition.sql

    def _context(self) -> Context:
        return Context(self._statement, self.scope, self._ctes, self._bind)

    def _extend(self, relation: Relation, nested: Scope | None) -> None:
        if nested is not None:
            self.scope.relations.extend(nested.relations)
            self.scope.visible.extend(nested.visible)
            return
        if relation.name and any(other.name == relation.name for other in self.scope.relations):
            raise UnprovenError(f"table name {relation.name}", "used twice")
        self.scope.relations.append(relation)
        self.scope.visible.extend(relation.columns)

    def _merge(
        self,
        left: list[tuple[str, Expr]],
        right: list[tuple[str, Expr]],
        names: list[str],
        side: str,
    ) -> str:
        """USING and NATURAL: equal columns become one, and come first."""
        parts, merged = [], []
        for name in names:
            a = [expr for column, expr in left if column == name]
            b = [expr for column, expr in right if column == name]
            if len(a) != 1 or len(b) != 1 or a[0].type != b[0].type:
                raise UnprovenError(
                    f"USING ({name})", "not one column of the same type on each side"
                )
            for expr in (a[0], b[0]):
                used(self._statement, expr)
            parts.append(operators.compare("=", a[0], b[0], utc=self._statement.utc).sql)
            if side == "FULL":
                merged.append((name, choices.coalesce([a[0], b[0]], self._statement.utc)))
            else:
                merged.append((name, b[0] if side == "RIGHT" else a[0]))
        if not parts:
            raise UnprovenError("NATURAL JOIN", "without a common column")
        rest = [item for item in left + right if item[0] not in names]
        self.scope.visible = merged + rest
        return f"({' AND '.join(parts)})"

    def _item(self, node: exp.Expression) -> tuple[list[Part], Relation, Scope | None]:
        if isinstance(node, exp.Table):
            called = isinstance(node.this, exp.Anonymous)
            return self._series(node) if called else self._table(node)
        if isinstance(node, exp.Lateral):
            if not isinstance(node.this, exp.Subquery):
                raise UnprovenError("LATERAL", "of something else than a subquery")
            return self._derived(node.this.this, node.args.get("alias"), self.scope, "LATERAL ")
        if isinstance(node, exp.Values):
            return self._derived(node, node.args.get("alias"), self._parent, "")
        if (
            isinstance(node, exp.Subquery)
            and isinstance(node.this, exp.Table)
            and not node.args.get("alias")
        ):
            inner = From(self._statement, self._parent, self._ctes)
            joins = node.this.args.get("joins") or []
            inner.add(node.this)
            for join in joins:
                inner.join(join)
            self.references += inner.references
            return ["(", *inner.parts()[1:], ")"], Relation("", []), inner.scope
        if isinstance(node, exp.Subquery):
            only(node, frozenset({"this", "alias"}), "a subquery in FROM")
            return self._derived(node.this, node.args.get("alias"), self._parent, "")
        raise UnprovenError(
            type(node).__name__.lower(), "in FROM, not on the list of what is proven"
        )

    def _table(self, node: exp.Table) -> tuple[list[Part], Relation, Scope | None]:
        only(node, _TABLE_PARTS, "a table")
        if node.args.get("joins") and not isinstance(node.parent, exp.Subquery):
            raise UnprovenError("a join", "nested inside a join")
        name = folded(node.this)
        schema = folded(node.args["db"]) if node.args.get("db") else None
        catalog = folded(node.args["catalog"]) if node.args.get("catalog") else None
        alias, renamed = _alias(node.args.get("alias"))
        local = self._statement.alias("t")
        as_of = past.time_of(node, self._statement.session)
        if schema is None and name in self._ctes:
            if node.args.get("version") is not None:
                raise LocalOnlyError(f"{name} is a WITH item, which has no past")
            cte = self._ctes[name]
            columns = _renamed(columns_of(cte.columns, local), renamed)
            return [f"{cte.alias} AS {local}"], Relation(alias or name, columns), None
        status = self._statement.table(catalog, schema, name)
        table = status.schema
        columns = _renamed(table_columns(table, local), renamed)
        relation = Relation(alias or name, columns, None if alias else table.table.schema)
        reference = self._statement.reference(status, local, as_of)
        self.references.append(reference)
        return [reference], relation, None

    def _series(self, node: exp.Table) -> tuple[list[Part], Relation, Scope | None]:
        """`generate_series(…) AS name (column)`; its column is called like it, else."""
        only(node, frozenset({"this", "alias"}), "a function in FROM")
        sql, value = series.series(self._context(), node.this)
        alias, renamed = _alias(node.args.get("alias"))
        local, name = self._statement.alias("t"), alias or series.NAME
        column = derived(value, f"{local}.{quote('c1')}")
        columns = _renamed([(name, column)], renamed)
        return [f"({sql}) AS {local}"], Relation(name, columns), None

    def _derived(
        self,
        query: exp.Expression,
        alias_node: exp.Expression | None,
        parent: Scope | None,
        prefix: str,
    ) -> tuple[list[Part], Relation, Scope | None]:
        from htapkit.plan.queries import bind_query  # noqa: PLC0415 - they hold each other

        alias, renamed = _alias(alias_node)
        bound = bind_query(self._statement, query, parent, self._ctes)
        local = self._statement.alias("t")
        columns = _renamed(columns_of(bound.columns, local), renamed)
        return [f"{prefix}({bound.sql}) AS {local}"], Relation(alias, columns), None


def _alias(node: exp.Expression | None) -> tuple[str, list[str]]:
    if node is None:
        return "", []
    if not isinstance(node, exp.TableAlias):
        return folded(node), []
    name = folded(node.this) if node.this is not None else ""
    return name, [folded(column) for column in node.args.get("columns") or []]


def _renamed(columns: list[tuple[str, Expr]], names: list[str]) -> list[tuple[str, Expr]]:
    if len(names) > len(columns):
        raise UnprovenError("a column alias list", "longer than the columns")
    return [
        (names[at] if at < len(names) else name, expr) for at, (name, expr) in enumerate(columns)
    ]
