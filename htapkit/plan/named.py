"""Which relations a statement names: tables, system catalogs, what the source must never see."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from htapkit.model import OWN
from htapkit.plan.names import folded
from htapkit.plan.plan import SessionView
from htapkit.plan.scopes import Statement
from htapkit.plan.unproven import LocalOnlyError, UnprovenError


def tables(tree: exp.Expression) -> Iterator[exp.Table]:
    """The relations that are named, without WITH items and system catalogs."""
    ctes = {cte.alias for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if not table.db and table.name in ctes:
            continue
        if table.db in {"pg_catalog", "information_schema"} or table.name.startswith("pg_"):
            continue
        yield table


def only_system(tree: exp.Expression) -> bool:
    """Whether no table but system catalogs is named: that is never the hot store's business."""
    return not any(True for _ in tables(tree))


def unknown_relation(statement: Statement, tree: exp.Expression) -> bool:
    """Whether a relation is named that may be a view, whose functions may do anything."""
    for table in tables(tree):
        if not isinstance(table.this, exp.Identifier):
            continue  # a function, which `unknown_calls` has looked at
        try:
            statement.known(
                folded(table.args["catalog"]) if table.args.get("catalog") else None,
                folded(table.args["db"]) if table.args.get("db") else None,
                folded(table.this),
            )
        except (UnprovenError, LocalOnlyError):
            return True
    return False


def foreign(tree: exp.Expression, session: SessionView) -> bool:
    """Whether what is named the connected source must never see: others' tables, our views."""
    return any(
        table.db.lower() == OWN
        or (table.catalog and table.catalog.lower() != session.source.lower())
        for table in tree.find_all(exp.Table)
    )
