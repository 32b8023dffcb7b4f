"""Where an expression stands: the statement, the names in reach, the grouping above them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sqlglot import exp

from htapkit.plan.expr import Expr, derived
from htapkit.plan.names import quote
from htapkit.plan.scopes import Scope, Statement
from htapkit.plan.unproven import UnprovenError

if TYPE_CHECKING:
    from htapkit.plan.tables import Relations

Bind = Callable[["Context", exp.Expression], Expr]


@dataclass(frozen=True, slots=True)
class Context:
    """What `bind` needs to know around a node."""

    statement: Statement
    scope: Scope
    ctes: Relations
    bind: Bind
    windows: Mapping[str, exp.Window] = field(default_factory=dict)  # of the WINDOW clause
    window_calls: bool = False  # whether window functions may stand here

    @property
    def grouping(self) -> Grouping | None:
        """The grouping that the expression stands above, if any."""
        found = self.scope.grouping
        return found if isinstance(found, Grouping) else None

    def __call__(self, node: exp.Expression | None) -> Expr:
        """Bind a node here."""
        if not isinstance(node, exp.Expression):
            raise UnprovenError(str(node), "not an expression")
        return self.bind(self, node)


@dataclass(slots=True)
class Grouping:
    """GROUP BY: an inner query of keys and aggregates, and how the outer expressions name them.

    A key is its node, its expression below the grouping and above it, and the text that is
    grouped by.
    """

    base: Context
    alias: str
    keys: list[tuple[exp.Expression, Expr, Expr, str]] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)  # DuckDB aggregate -> column name
    nullable_keys: bool = False  # grouping sets put NULL where a key is left out

    def add_key(self, node: exp.Expression, below: Expr, shown: str) -> int:
        """One more key, or an equal one that there is; its number."""
        for number, (_, existing, _, _) in enumerate(self.keys, 1):
            if existing.sql == below.sql:
                return number
        name = f"{self.alias}.{quote(f'k{len(self.keys) + 1}')}"
        above = derived(below, name)
        if self.nullable_keys:
            seen = below.origin or below.collation
            above = replace(above, origin=None, collation=seen)
        self.keys.append((node, below, above, shown))
        return len(self.keys)

    def emit(self, sql: str) -> str:
        """The inner column that holds this aggregate."""
        name = self.columns.setdefault(sql, f"a{len(self.columns) + 1}")
        return f"{self.alias}.{quote(name)}"

    def lift(self, expr: Expr) -> Expr:
        """A bare column: a key, or one that the keys determine (the source has checked that)."""
        for _, below, above, _ in self.keys:
            if below.sql == expr.sql:
                return above
        if self.nullable_keys:
            raise UnprovenError("an ungrouped column", "under grouping sets")
        return derived(expr, self.emit(f"any_value({expr.sql})"), expr.dscale and None)

    def match(self, node: exp.Expression) -> Expr | None:
        """The key that this expression repeats."""
        for key, below, above, _ in self.keys:
            if type(key) is type(node) and not isinstance(node, exp.Column):
                try:
                    if self.base(node).sql == below.sql:
                        return above
                except UnprovenError:
                    continue
        return None
