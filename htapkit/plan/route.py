"""Which of the possible ways a statement takes, and what each would cost.

The rule is short on purpose. Cost is the number of rows that must be looked at. A statement that
names no table, and one that fixes the whole key of its only table by equality, is answered faster
by the source: one round trip to an index. Everything else that is proven equal goes to the hot
store, which also reads the lake where a table has rows there that can have a say (union).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from htapkit.model import ARCHIVE, Route, TableId
from htapkit.plan.arms import Reference, reasons
from htapkit.plan.literals import moment_text
from htapkit.plan.names import folded
from htapkit.plan.plan import Considered, Floor
from htapkit.plan.scopes import Statement
from htapkit.plan.unproven import UnprovenError

POINT_COST = 1.0
LOCAL = frozenset({"hot", "lake", "union", "spark"})
"""Values of htapkit.route that keep a statement away from the source."""

_CONSTANTS = (exp.Literal, exp.Parameter, exp.Cast, exp.Neg)


def source_choice(*, chosen: bool, reason: str, cost: float | None = None) -> Considered:
    """The source as a candidate."""
    return Considered(Route.SOURCE, chosen, reason, cost)


def hot_choice(*, chosen: bool, reason: str, cost: float | None = None) -> Considered:
    """The hot store as a candidate."""
    return Considered(Route.HOT, chosen, reason, cost)


def sources(statement: Statement) -> tuple[str, ...]:
    """The sources whose tables are read; with an archive, also the one that it is as far as."""
    named = {table.source for table in statement.access}
    return tuple(sorted(named | ({statement.session.source} if ARCHIVE in named else set())))


def rows_touched(read: Sequence[Reference]) -> float:
    """Rows of all tables that are read, as last counted."""
    hot = sum({each.table: each.status.rows for each in read if not each.past}.values())
    lake = {
        each.table: each.boundary.pin.rows
        for each in read
        if each.scan and each.boundary is not None
    }
    return float(hot + sum(lake.values()))


def taken(forced: str, read: Sequence[Reference]) -> Route:
    """The route of a local plan."""
    if forced == "spark":
        return Route.SPARK
    if forced == "lake" or (read and all(each.imported for each in read)):
        return Route.LAKE
    return Route.UNION if any(each.scan for each in read) else Route.HOT


def forbidden(forced: str, read: Sequence[Reference], *, spark: bool) -> str:
    """Why the forced route cannot be taken, table and boundary named; "" = it can."""
    if forced == "spark" and not spark:
        return "no Spark is configured here (engines.spark)"
    if forced == "union" and all(each.boundary is None for each in read):
        return "no table of the statement has a part in the lake"
    if forced not in {"hot", "lake", "spark"}:
        return ""
    return next((why for each in read if (why := _forbidden(forced, each))), "")


def _forbidden(forced: str, each: Reference) -> str:
    """Why this table keeps the statement from being answered by hot, or by the lake, alone."""
    boundary = each.boundary
    if boundary is None:
        return "" if forced == "hot" else f"{each.table} has no part in the lake"
    if each.imported:
        return f"all rows of {each.table} lie in the lake" if forced == "hot" else ""
    asked = (
        f"it asks for rows of {each.table} at times in {each.span}, "
        f"and the boundary between hot and lake is {moment_text(boundary.below)}"
    )
    if forced == "hot":
        return asked if each.scan else ""
    if forced == "spark" and any(limit.upper for limit in each.span.limits):
        return ""  # the values decide, when it is run
    return asked if each.span.upper is None or each.span.upper > boundary.below else ""


def candidates(
    route: Route, read: Sequence[Reference], reason: str, cost: float
) -> tuple[Considered, ...]:
    """The chosen local route, and those that were not; with why each lake is read, or is not."""
    arms = reasons(read)
    chosen = Considered(
        route, chosen=True, reason="; ".join(filter(None, (reason, arms))), cost=cost
    )
    source = source_choice(chosen=False, reason="row store", cost=cost)
    if route is Route.HOT:
        return chosen, source
    if any(each.past for each in read):
        return chosen, replace(source, reason="has only the present", cost=None)
    return chosen, hot_choice(chosen=False, reason="does not have all rows"), source


def cuts(read: Sequence[Reference]) -> tuple[tuple[TableId, int], ...]:
    """The boundaries that the plan relies on."""
    found = {
        each.table: each.boundary.below
        for each in read
        if each.boundary is not None and not each.past
    }
    return tuple(sorted(found.items()))


def check_horizons(forced: str, read: Sequence[Reference]) -> None:
    """Raise UnprovenError where rows that only the source has may be asked for.

    A forced route reads what is kept.
    """
    for each in read:
        horizon = each.status.horizon
        if forced == "auto" and horizon is not None and not each.above_horizon():
            since = moment_text(horizon.since)
            why = f"may be asked for rows before {since}, which the copy no longer keeps"
            raise UnprovenError(f"table {each.table}", why, by_value=True)


def floors(forced: str, read: Sequence[Reference]) -> tuple[Floor, ...]:
    """What must be above the horizons when the statement runs."""
    if forced != "auto":
        return ()
    return tuple(dict.fromkeys(each.floor() for each in read if each.status.horizon is not None))


def faster_at_source(statement: Statement, tree: exp.Expression, forced: str) -> str:
    """Why the source is faster; "" = it is not, or may not be asked."""
    if not statement.access and forced != "hot":
        return "no table is read"
    if forced == "auto" and is_point_lookup(statement, tree):
        return "one row by its key"
    return ""


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
