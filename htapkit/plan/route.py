"""Which of the possible ways a statement takes, and what each would cost.

The rule is short on purpose. Cost is the number of rows that must be looked at. A statement that
names no table, and one that fixes the whole key of its only table by equality, is answered faster
by the source: one round trip to an index. Everything else that is proven equal goes to the hot
store.
"""

from __future__ import annotations

from sqlglot import exp

from htapkit.model import Route
from htapkit.plan.names import folded
from htapkit.plan.plan import Considered
from htapkit.plan.scopes import Statement
from htapkit.plan.unproven import UnprovenError

POINT_COST = 1.0
_CONSTANTS = (exp.Literal, exp.Parameter, exp.Cast, exp.Neg)


def source_choice(*, chosen: bool, reason: str, cost: float | None = None) -> Considered:
    """The source as a candidate."""
    return Considered(Route.SOURCE, chosen, reason, cost)


def hot_choice(*, chosen: bool, reason: str, cost: float | None = None) -> Considered:
    """The hot store as a candidate."""
    return Considered(Route.HOT, chosen, reason, cost)


def rows_touched(statement: Statement) -> float:
    """Rows of all tables that the statement reads, as last counted."""
    return float(sum(statement.catalog.tables[table].rows for table in statement.access))


def is_point_lookup(statement: Statement, tree: exp.Expression) -> bool:
    """Whether the whole key of the one table is fixed by equality with constants."""
    if len(statement.access) != 1 or not isinstance(tree, exp.Select):
        return False
    if tree.args.get("joins") or tree.find(exp.Subquery, exp.SetOperation) is not None:
        return False
    schema = statement.catalog.tables[next(iter(statement.access))].schema
    where = tree.args.get("where")
    if not schema.key or where is None:
        return False
    parts = where.this.flatten() if isinstance(where.this, exp.And) else [where.this]
    fixed: set[str] = set()
    for part in parts:
        if isinstance(part, exp.EQ):
            fixed |= _fixed(part.this, part.expression) | _fixed(part.expression, part.this)
    return set(schema.key) <= fixed


def _fixed(column: exp.Expression, value: exp.Expression) -> set[str]:
    """The column, where it is one that equals a constant."""
    if not isinstance(column, exp.Column) or not isinstance(value, _CONSTANTS):
        return set()
    if value.find(exp.Column) is not None:
        return set()
    try:
        return {folded(column.this)}
    except UnprovenError:
        return set()
