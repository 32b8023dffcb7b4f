"""Window functions of the local SQL as Spark's: ranks and exact aggregates, frames spelled out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlglot import exp

from htapkit.plan.plan import SparkType
from htapkit.plan.spark_types import EQUAL, Typed, only
from htapkit.plan.unproven import UnprovenError

_RANKS: Mapping[type[exp.Expression], str] = {
    exp.RowNumber: "row_number",
    exp.Rank: "rank",
    exp.DenseRank: "dense_rank",
}
_AGGREGATES = (exp.Count, exp.Sum, exp.Min, exp.Max)
_EDGES = frozenset({"UNBOUNDED PRECEDING", "CURRENT ROW", "UNBOUNDED FOLLOWING"})

Expression = Callable[[exp.Expression], Typed]


def window(expression: Expression, node: exp.Expression) -> Typed:
    """A call with its OVER. `expression` is for what stands in it. Raises UnprovenError."""
    only(node, "this", "partition_by", "order", "spec", "over")
    function, order = node.this, node.args.get("order")
    keys = [_key(expression(each), "PARTITION BY") for each in node.args.get("partition_by") or ()]
    parts = ["PARTITION BY " + ", ".join(keys)] if keys else []
    if order is not None:
        only(order, "expressions")
        parts.append("ORDER BY " + ", ".join(_ordered(expression, e) for e in order.expressions))
    rank, spec = _RANKS.get(type(function)), node.args.get("spec")
    if rank is not None:
        only(function)
        if order is None or spec is not None:
            how = "without an order" if order is None else "with a frame"
            raise UnprovenError(f"{rank}()", f"{how}, not proven equal in Spark")
        # Spark's are of 32 bits.
        return Typed(f"CAST({rank}() OVER ({' '.join(parts)}) AS BIGINT)", SparkType("int8"))
    argument = function.this if isinstance(function, _AGGREGATES) else None
    if argument is None or isinstance(argument, exp.Distinct):
        name = type(function).__name__.lower()
        raise UnprovenError(f"{name} OVER", "not proven equal in Spark")
    if spec is not None:
        parts.append(_frame(spec))
    found = expression(function)
    return Typed(f"{found.sql} OVER ({' '.join(parts)})", found.type)


def _key(key: Typed, word: str) -> str:
    if key.type.name not in EQUAL:
        raise UnprovenError(f"{word} {key.type.name}", "in OVER, not proven equal in Spark")
    return key.sql


def _ordered(expression: Expression, node: exp.Expression) -> str:
    only(node, "this", "desc", "nulls_first")
    direction = "DESC" if node.args.get("desc") else "ASC"
    place = "FIRST" if node.args.get("nulls_first") else "LAST"
    return f"{_key(expression(node.this), 'ORDER BY')} {direction} NULLS {place}"


def _frame(spec: exp.Expression) -> str:
    """ROWS between any two; RANGE between what needs no arithmetic on the ordered value."""
    only(spec, "kind", "start", "start_side", "end", "end_side")
    kind = str(spec.args.get("kind"))
    edges = [_edge(spec, side) for side in ("start", "end")]
    if kind not in {"ROWS", "RANGE"} or (kind == "RANGE" and not _EDGES.issuperset(edges)):
        raise UnprovenError("a frame", f"of {kind} like this, not proven equal in Spark")
    return f"{kind} BETWEEN {edges[0]} AND {edges[1]}"


def _edge(spec: exp.Expression, side: str) -> str:
    """One side of a frame; a missing end is the current row."""
    value, direction = spec.args.get(side), str(spec.args.get(f"{side}_side") or "")
    if isinstance(value, exp.Literal) and not value.args.get("is_string"):
        return f"{int(str(value.this))} {direction}"
    text = f"{value or 'CURRENT ROW'} {direction}".strip()
    if text not in _EDGES:
        raise UnprovenError("a frame", f"from {text}, not proven equal in Spark")
    return text
