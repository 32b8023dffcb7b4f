"""Calls over several rows: aggregates of a group, and window functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sqlglot import exp

from htapkit.plan import aggregates, casts, functions
from htapkit.plan.context import Context
from htapkit.plan.expr import Expr
from htapkit.plan.names import folded
from htapkit.plan.operators import comparable, trimmed
from htapkit.plan.ordered_sets import ordered_set
from htapkit.plan.unproven import UnprovenError

_RANKS = {
    "row_number": "int8",
    "rank": "int8",
    "dense_rank": "int8",
    "percent_rank": "float8",
    "cume_dist": "float8",
}
_VALUES = frozenset({"lag", "lead", "first_value", "last_value", "nth_value"})
_SIDES = frozenset({"unbounded", "current row"})


def sort_key(value: Expr, *, descending: bool, nulls_first: bool, shown: bool = False) -> str:
    """One ORDER BY item, with the place of NULLs spelled out: the engines' defaults differ.

    `shown`: it only decides where the statement's own rows stand. Elsewhere the last digits of a
    float sum would decide what the rows are.
    """
    if value.inexact and shown:
        value = replace(value, inexact=False)
    if value.uniform:
        value = replace(value, binary=True)
    comparable(value, "ORDER BY", order=True)
    direction, place = "DESC" if descending else "ASC", "FIRST" if nulls_first else "LAST"
    return f"{trimmed(value)} {direction} NULLS {place}"


def sort_flags(node: exp.Ordered) -> dict[str, bool]:
    """Direction and place of NULLs as PostgreSQL reads the item."""
    if node.args.get("with_fill") is not None:
        raise UnprovenError("ORDER BY", "WITH FILL")
    return {
        "descending": bool(node.args.get("desc")),
        "nulls_first": bool(node.args.get("nulls_first")),
    }


def group_call(context: Context, node: exp.Expression, filtered: exp.Expression | None) -> Expr:
    """An aggregate of the group: a column of the grouped query."""
    grouping = context.grouping
    if grouping is None:
        raise UnprovenError("an aggregate", "where no group is")
    name = str(node.this).lower() if isinstance(node, exp.Anonymous) else type(node).__name__
    if name == "grouping":
        arguments = [grouping.base(argument) for argument in node.expressions]
        below = [key.sql for _, key, _, _ in grouping.keys]
        if filtered is not None or not all(argument.sql in below for argument in arguments):
            raise UnprovenError("grouping()", "not of a grouping key")
        numbers = ", ".join(argument.sql for argument in arguments)
        return Expr(f"CAST({grouping.emit(f'grouping({numbers})')} AS INTEGER)", "int4")
    before = grouping.base.scope.hits
    built = _aggregate(grouping.base, node, filtered, grouping.emit)
    named = any(isinstance(inner, exp.Column) for inner in node.walk())
    if named and grouping.base.scope.hits == before:
        # PostgreSQL computes it in the query that its columns come from.
        raise UnprovenError(f"{name}()", "an aggregate of a query around")
    return built


def _aggregate(
    context: Context, node: exp.Expression, filtered: exp.Expression | None, emit: aggregates.Emit
) -> Expr:
    """Bind an aggregate's arguments and filter in `context`."""
    tail = ""
    if filtered is not None:
        condition = context(filtered.args["expression"].this)
        if condition.type != "bool":
            raise UnprovenError("FILTER", "not boolean")
        tail = f" FILTER (WHERE {condition.sql})"
    if isinstance(node, exp.WithinGroup):
        return ordered_set(context, node, emit, tail)
    if not isinstance(node, exp.Anonymous):
        raise UnprovenError(type(node).__name__.lower(), "not on the list of what is proven")
    name = str(node.this).lower()
    inner, distinct, order = _arguments(node)
    arguments = [context(argument) for argument in inner]
    if name == "string_agg":
        if distinct:
            raise UnprovenError("string_agg(DISTINCT)", "not proven equal")
        keys = [sort_key(context(item.this), **sort_flags(item)) for item in order]
        return aggregates.joined_text(arguments, ", ".join(keys), emit, tail)
    build = aggregates.BUILDERS.get(name)
    if build is None or (order and name not in {"count", "min", "max"}):
        raise UnprovenError(f"{name}()", "not on the list of what is proven")
    if not arguments and name != "count":
        raise UnprovenError(f"{name}()", "without an argument")
    return build(arguments, emit, distinct=distinct, tail=tail)


def _arguments(node: exp.Anonymous) -> tuple[list[exp.Expression], bool, list[exp.Ordered]]:
    """(arguments without `*`, DISTINCT, ORDER BY inside the call)."""
    distinct, order, plain = False, [], []
    for argument in node.expressions:
        if isinstance(argument, exp.Order):
            order = [item for item in argument.expressions if isinstance(item, exp.Ordered)]
            argument = argument.this  # noqa: PLW2901 - unwrapped
        if isinstance(argument, exp.Distinct):
            if argument.args.get("on") is not None:
                raise UnprovenError("DISTINCT ON", "inside a call")
            distinct = True
            plain.extend(argument.expressions)
        elif isinstance(argument, exp.Star):
            if len(node.expressions) != 1 or str(node.this).lower() != "count":
                raise UnprovenError("*", "as an argument")
        elif argument is not None:
            plain.append(argument)
    if not node.expressions and str(node.this).lower() == "count":
        raise UnprovenError("count()", "without an argument")
    return plain, distinct, order


def window(context: Context, node: exp.Expression) -> Expr:
    """`call OVER (…)`."""
    if not context.window_calls:
        raise UnprovenError("a window function", "in this place")
    call, filtered = node.this, None
    if isinstance(call, exp.Filter):
        call, filtered = call.this, call
    if not isinstance(call, exp.Anonymous):
        raise UnprovenError("a window function", "of this form")
    inner = replace(context, window_calls=False)
    over, ordered = _over(inner, node)
    emit = _placed(over)
    name = str(call.this).lower()
    if name in _RANKS or name == "ntile" or name in _VALUES:
        if filtered is not None or not (ordered or name in _VALUES | {"row_number"}):
            raise UnprovenError(name, "needs an ORDER BY, and no FILTER")
        return _ranking(inner, call, name, emit)
    if name in {"string_agg", "grouping"} or name not in aggregates.BUILDERS:
        raise UnprovenError(f"{name}() OVER", "not on the list of what is proven")
    if _arguments(call)[1] or _arguments(call)[2]:
        raise UnprovenError(f"{name}() OVER", "DISTINCT or ORDER BY inside a window call")
    return _aggregate(inner, call, filtered, emit)


def _placed(over: str) -> Callable[[str], str]:
    return lambda call: f"({call} OVER ({over}))"


def _ranking(context: Context, call: exp.Anonymous, name: str, emit: aggregates.Emit) -> Expr:
    arguments = [context(argument) for argument in call.expressions]
    if name in _RANKS:
        if arguments:
            raise UnprovenError(name, "takes no argument")
        return Expr(
            f"CAST({emit(f'{name}()')} AS {'BIGINT' if _RANKS[name] == 'int8' else 'DOUBLE'})",
            _RANKS[name],
        )
    if name == "ntile":
        if (
            len(arguments) != 1
            or not arguments[0].sql.startswith("CAST(")
            or arguments[0].type != "int4"
        ):
            raise UnprovenError(name, "needs a constant number")
        return Expr(f"CAST({emit(f'ntile({arguments[0].sql})')} AS INTEGER)", "int4")
    value = arguments[0] if arguments else None
    if value is None or value.type == "unknown" or value.dscale != "":
        raise UnprovenError(name, "of this value")
    rest = arguments[1:]
    numbers = rest[:1] if name != "first_value" else []
    if any(not number.constant or number.type != "int4" for number in numbers) or len(rest) > (
        2 if name in {"lag", "lead"} else 1
    ):
        raise UnprovenError(name, "needs a constant offset")
    if name == "nth_value":
        functions.constant_number(name, arguments, 1, 1)  # of none or 0 DuckDB makes no error
    texts = [value.sql, *(number.sql for number in numbers)]
    if len(rest) == 2:
        if rest[1].type not in {value.type, "unknown"} or value.type == "numeric":
            raise UnprovenError(name, "a default of another type")
        texts.append(casts.coerce(rest[1], value.type, utc=context.statement.utc).sql)
    return replace(
        value,
        sql=emit(f"{name}({', '.join(texts)})"),
        origin=None,
        constant=False,
        uniform=value.uniform and len(rest) < 2,
        typmod=value.typmod if len(rest) < 2 else -1,
    )


def _over(context: Context, node: exp.Expression) -> tuple[str, bool]:
    """The OVER clause in DuckDB's words, and whether it orders rows."""
    partition = list(node.args.get("partition_by") or [])
    order = node.args.get("order")
    spec = node.args.get("spec")
    alias = node.args.get("alias")
    if alias is not None:
        definition = context.windows.get(folded(alias))
        if (
            definition is None
            or partition
            or order is not None
            or definition.args.get("alias") is not None
        ):
            raise UnprovenError("a named window", "not a plain reference")
        return _over(context, definition) if spec is None else _refuse_copy()
    if node.args.get("first") is not None and not node.args.get("first"):
        raise UnprovenError("a window", "of this form")
    parts = []
    if partition:
        bound = [context(item) for item in partition]
        for value in bound:
            comparable(value, "PARTITION BY", order=False)
        parts.append("PARTITION BY " + ", ".join(trimmed(value) for value in bound))
    if order is not None:
        keys = [sort_key(context(item.this), **sort_flags(item)) for item in order.expressions]
        parts.append("ORDER BY " + ", ".join(keys))
    if spec is not None:
        parts.append(_frame(spec))
    return " ".join(parts), order is not None


def _refuse_copy() -> tuple[str, bool]:
    raise UnprovenError("a named window", "with a frame of its own")


def _frame(spec: exp.Expression) -> str:
    kind = str(spec.args.get("kind") or "").upper()
    if kind not in {"ROWS", "RANGE"} or spec.args.get("exclude"):
        raise UnprovenError("a window frame", f"of kind {kind}")
    sides = []
    for name in ("start", "end"):
        value, side = spec.args.get(name), str(spec.args.get(f"{name}_side") or "").upper()
        if value is None:
            sides.append("CURRENT ROW")
        elif isinstance(value, str):
            if value.lower() not in _SIDES:
                raise UnprovenError("a window frame", value)
            sides.append(f"{value.upper()} {side}".strip())
        elif kind == "ROWS" and isinstance(value, exp.Literal) and str(value.this).isdigit():
            sides.append(f"{value.this} {side}")
        else:
            raise UnprovenError("a window frame", "with this bound")
    return f"{kind} BETWEEN {sides[0]} AND {sides[1]}"
