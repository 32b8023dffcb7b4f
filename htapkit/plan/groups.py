"""GROUP BY: which queries are grouped, what its items mean, grouping sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from sqlglot import exp

from htapkit.plan import casts, operators
from htapkit.plan.aggregates import BUILDERS, unsigned_zero
from htapkit.plan.context import Grouping
from htapkit.plan.expr import Expr
from htapkit.plan.names import folded
from htapkit.plan.scopes import UNSURE, Statement, used
from htapkit.plan.types import FLOATS
from htapkit.plan.unproven import UnprovenError

_AGGREGATES = """
string_agg grouping array_agg json_agg jsonb_agg json_object_agg jsonb_object_agg xmlagg stddev
stddev_pop stddev_samp variance var_pop var_samp corr covar_pop covar_samp regr_avgx regr_avgy
regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy bit_and bit_or bit_xor
mode percentile_cont percentile_disc range_agg range_intersect_agg any_value
"""

AGGREGATES = frozenset(BUILDERS) | frozenset(_AGGREGATES.split())
"""PostgreSQL's aggregates, proven or not: each makes its query a grouped one."""


class Named(Protocol):
    """A select-list entry."""

    @property
    def name(self) -> str:
        """What PostgreSQL calls it."""


def note_use(statement: Statement, expr: Expr) -> None:
    """A column that `*` stands for is read too."""
    used(statement, expr)


def _shallow(node: exp.Expression) -> Iterator[exp.Expression]:
    """A node and all below it that belong to the same query."""
    yield node
    for child in node.iter_expressions():
        if not isinstance(child, (exp.Query, exp.Subquery)):
            yield from _shallow(child)


def is_aggregate(node: exp.Expression) -> bool:
    """An aggregate call that is not a window call."""
    if isinstance(node, exp.WithinGroup):
        return True
    if not isinstance(node, exp.Anonymous) or str(node.this).lower() not in AGGREGATES:
        return False
    parent = node.parent
    if isinstance(parent, exp.Filter) and parent.this is node:
        node, parent = parent, parent.parent
    return not (isinstance(parent, exp.Window) and parent.this is node)


def is_grouped(node: exp.Select) -> bool:
    """Whether a SELECT has groups, be it one of all rows."""
    if node.args.get("group") is not None or node.args.get("having") is not None:
        return True
    places = [*node.expressions, *([node.args["order"]] if node.args.get("order") else [])]
    return any(is_aggregate(inner) for place in places for inner in _shallow(place))


def output_position(node: exp.Expression, items: Sequence[Named], *, aliases: bool) -> int | None:
    """The select-list entry that an item names, by number or by output name."""
    if isinstance(node, exp.Literal) and not node.args.get("is_string"):
        text = str(node.this)
        if not text.isdigit() or not 1 <= int(text) <= len(items):
            raise UnprovenError("a position", "outside of the select list")
        return int(text) - 1
    if isinstance(node, exp.Literal):
        raise UnprovenError("a constant", "in ORDER BY or GROUP BY")
    if (
        aliases
        and isinstance(node, exp.Column)
        and not node.args.get("table")
        and isinstance(node.this, exp.Identifier)
    ):
        name = folded(node.this)
        found = [at for at, item in enumerate(items) if item.name == name]
        if len(found) > 1:
            raise UnprovenError(f"name {name}", "several output columns have it")
        return found[0] if found else None
    return None


def bind_group(grouping: Grouping, node: exp.Select) -> str:
    """Bind the keys and give DuckDB's GROUP BY."""
    group = node.args.get("group")
    if group is None:
        return ""
    if group.args.get("all") is not None or group.args.get("totals"):
        raise UnprovenError("GROUP BY", "ALL or DISTINCT")
    parts = list(group.expressions)
    for name in ("grouping_sets", "cube", "rollup"):
        parts.extend(group.args.get(name) or [])
    special = [
        part
        for part in parts
        if isinstance(part, (exp.GroupingSets, exp.Cube, exp.Rollup, exp.Tuple))
    ]
    grouping.nullable_keys = bool(special)
    texts = [_group_part(grouping, node, part) for part in parts]
    return f"GROUP BY {', '.join(text for text in texts if text)}"


def _group_part(grouping: Grouping, node: exp.Select, part: exp.Expression) -> str:
    if isinstance(part, exp.GroupingSets):
        sets = [_group_part(grouping, node, inner) or "()" for inner in part.expressions]
        return f"GROUPING SETS ({', '.join(sets)})"
    if isinstance(part, (exp.Cube, exp.Rollup)):
        word = "CUBE" if isinstance(part, exp.Cube) else "ROLLUP"
        return f"{word} ({', '.join(_group_part(grouping, node, p) for p in part.expressions)})"
    if isinstance(part, exp.Tuple):
        return f"({', '.join(_group_part(grouping, node, p) for p in part.expressions)})"
    return _key(grouping, node, part)


def _key(grouping: Grouping, node: exp.Select, part: exp.Expression) -> str:
    while isinstance(part, exp.Paren):
        part = part.this
    target = _meant(grouping, node, part)
    below = grouping.base(target)
    if below.type == "unknown":
        below = casts.literal_as(below, "text", utc=True)
    operators.comparable(below, "GROUP BY", order=False)
    if grouping.nullable_keys and target.find(exp.Column) is None:
        raise UnprovenError("a constant", "as a key of grouping sets, which make it NULL")
    if below.dscale != "" or (below.type == "bpchar" and below.typmod < 4):
        raise UnprovenError("GROUP BY", f"{below.type} whose equal values may look different")
    shown = unsigned_zero(below.sql) if below.type in FLOATS else below.sql
    number = grouping.add_key(target, below, shown)
    return shown if grouping.nullable_keys else str(number)


def _meant(grouping: Grouping, node: exp.Select, part: exp.Expression) -> exp.Expression:
    """The expression behind a position or a name; input columns come before output names."""
    entries = node.expressions
    if isinstance(part, exp.Literal):
        text = str(part.this)
        if part.args.get("is_string") or not text.isdigit() or not 1 <= int(text) <= len(entries):
            raise UnprovenError("GROUP BY", "a constant")
        if any(
            isinstance(e, exp.Star) or (isinstance(e, exp.Column) and isinstance(e.this, exp.Star))
            for e in entries
        ):
            raise UnprovenError("GROUP BY", "a position beside *")
        entry = entries[int(text) - 1]
        found: exp.Expression = entry.this if isinstance(entry, exp.Alias) else entry
        return found
    if isinstance(part, exp.Column) and not part.args.get("table"):
        name = folded(part.this)
        if any(column == UNSURE for column, _ in grouping.base.scope.visible):
            raise UnprovenError("GROUP BY", "a subquery has a column without a certain name")
        if not any(column == name for column, _ in grouping.base.scope.visible):
            named = [
                e for e in entries if isinstance(e, exp.Alias) and folded(e.args["alias"]) == name
            ]
            if len(named) > 1:
                raise UnprovenError(f"name {name}", "several output columns have it")
            if named:
                meant: exp.Expression = named[0].this
                return meant
    return part
