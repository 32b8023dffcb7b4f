"""`text COLLATE "C"`: a text that is ordered by its bytes, whatever its column's collation is."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from htapkit.plan.context import Context
from htapkit.plan.expr import Expr
from htapkit.plan.operands import tight
from htapkit.plan.types import TEXTS
from htapkit.plan.unproven import UnprovenError


def collate(context: Context, node: exp.Expression) -> Expr:
    """`text COLLATE "C"`; other collations are the source's. Raises UnprovenError."""
    named = node.args["expression"]
    if not isinstance(named, exp.Identifier) or not named.args.get("quoted") or named.this != "C":
        raise UnprovenError("COLLATE", 'of another collation than "C"')
    value = tight(context, node.this)
    if value.type not in TEXTS - {"name"} or value.opaque:
        raise UnprovenError(f"{value.type} COLLATE", "not proven equal")
    return _bytewise(replace(value, explicit=True))


def prevailing(left: Expr, right: Expr) -> tuple[Expr, Expr]:
    """Both sides of a comparison: a collation that is written down holds for the other, too."""
    if left.explicit != right.explicit and {left.type, right.type} <= TEXTS:
        return _bytewise(left), _bytewise(right)
    return left, right


def _bytewise(value: Expr) -> Expr:
    return replace(
        value,
        binary=True,
        deterministic=True,
        collate="C",
        origin=None,
        collation=None,
        database_collation=False,
    )
