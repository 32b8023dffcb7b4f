"""percentile_cont, percentile_disc and mode: aggregates over the values of a group in their order.

The values become a sorted list, of which PostgreSQL's own arithmetic picks: its positions are
products of doubles, and percentile_cont puts `low + part * (high - low)` between two of them.
A compiler for other processors may round that once instead of twice; `PROBE` asks for it.
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from htapkit.plan import casts
from htapkit.plan.aggregates import Emit, unsigned_zero
from htapkit.plan.context import Context
from htapkit.plan.expr import Expr
from htapkit.plan.operators import comparable
from htapkit.plan.plan import Probe
from htapkit.plan.types import FLOATS, NUMERIC_ORDER
from htapkit.plan.unproven import UnprovenError

_PARTS = (0.1, 0.3, 0.7, 0.9)
_LOW, _HIGH = 0.1, 1234.7
PROBE = Probe(
    "SELECT percentile_cont(ARRAY[0.1, 0.3, 0.7, 0.9]) WITHIN GROUP (ORDER BY v) "
    "FROM (VALUES (float8 '0.1'), (float8 '1234.7')) AS t (v)",
    "{" + ",".join(repr(_LOW + part * (_HIGH - _LOW)) for part in _PARTS) + "}",
)
"""How the source interpolates."""
_SORTED = frozenset({*NUMERIC_ORDER, "date", "time", "timestamp", "timestamptz", "text", "varchar"})


def ordered_set(context: Context, node: exp.WithinGroup, emit: Emit, tail: str) -> Expr:
    """`call(…) WITHIN GROUP (ORDER BY value)`; `tail` is its FILTER. Raises UnprovenError."""
    call, order = node.this, node.args["expression"]
    keys = order.expressions if isinstance(order, exp.Order) else []
    if not isinstance(call, exp.Anonymous) or len(keys) != 1:
        raise UnprovenError("WITHIN GROUP", "of this form")
    name, value = str(call.this).lower(), context(keys[0].this)
    descending = bool(keys[0].args.get("desc"))
    if name == "mode" and not call.expressions:
        return _mode(_sorted(value, name), emit, tail, descending=descending)
    if name not in {"percentile_cont", "percentile_disc"} or len(call.expressions) != 1:
        raise UnprovenError(f"{name}()", "not on the list of what is proven")
    fraction = _fraction(name, context(call.expressions[0]))
    if name == "percentile_disc":
        return _discrete(_sorted(value, name), fraction, emit, tail, descending=descending)
    if value.type not in NUMERIC_ORDER or value.opaque or value.inexact:
        raise UnprovenError(f"{name} of {value.type}", "not proven equal")
    context.statement.probe(PROBE)
    return _continuous(
        casts.as_float(_sorted(value, name)), fraction, emit, tail, descending=descending
    )


def _fraction(name: str, given: Expr) -> str:
    """A constant from 0 to 1, as DuckDB's DOUBLE."""
    text = given.text or given.sql.removeprefix("CAST(").partition(" ")[0].strip("'")
    try:
        number = float(text)
    except ValueError as error:
        raise UnprovenError(name, "of a fraction that is not a constant") from error
    if not given.constant or given.type not in {*NUMERIC_ORDER, "unknown"} - {"float4"}:
        raise UnprovenError(name, "of a fraction that is not a constant")
    if not 0 <= number <= 1:
        raise UnprovenError(name, "a fraction outside of 0 to 1", by_value=True)
    return f"CAST({number!r} AS DOUBLE)"


def _sorted(value: Expr, name: str) -> Expr:
    """A value that both engines sort alike, and of which equal ones look the same."""
    comparable(replace(value, binary=value.binary or value.uniform), name, order=True)
    if value.type not in _SORTED or value.opaque or value.dscale != "":
        raise UnprovenError(f"{name} of {value.type}", "not proven equal")
    return replace(value, sql=unsigned_zero(value.sql)) if value.type in FLOATS else value


def _list(value: Expr, emit: Emit, tail: str, *, descending: bool) -> str:
    """The group's values in order, without NULLs; NULL where there are none."""
    way = "DESC" if descending else "ASC"
    present = f" FILTER (WHERE {value.sql} IS NOT NULL"
    given = tail.removeprefix(" FILTER (WHERE ").removesuffix(")")
    present += f" AND ({given}))" if tail else ")"
    return emit(f"list_sort(list({value.sql}){present}, '{way}')")


def _picked(value: Expr, sql: str) -> Expr:
    return replace(value, sql=sql, typmod=-1, origin=None, constant=False, text=None, moment=None)


def _discrete(value: Expr, fraction: str, emit: Emit, tail: str, *, descending: bool) -> Expr:
    values = _list(value, emit, tail, descending=descending)
    at = f"greatest(CAST(ceil({fraction} * CAST(len({values}) AS DOUBLE)) AS BIGINT), 1)"
    return _picked(value, f"({values})[{at}]")


def _continuous(value: Expr, fraction: str, emit: Emit, tail: str, *, descending: bool) -> Expr:
    values = _list(value, emit, tail, descending=descending)
    place = f"({fraction} * CAST(len({values}) - 1 AS DOUBLE))"
    low, high = (f"({values})[CAST({side}({place}) AS BIGINT) + 1]" for side in ("floor", "ceil"))
    between = f"({low} + (({place} - floor({place})) * ({high} - {low})))"
    return _picked(value, f"CASE WHEN floor({place}) = ceil({place}) THEN {low} ELSE {between} END")


def _mode(value: Expr, emit: Emit, tail: str, *, descending: bool) -> Expr:
    """The most frequent one; of several the first in the order."""
    found = f"map_entries({emit(f'histogram({value.sql}){tail}')})"
    first = ">" if descending else "<"
    better = f"b.value > a.value OR (b.value = a.value AND b.key {first} a.key)"
    return _picked(
        value, f"list_reduce({found}, lambda a, b: CASE WHEN {better} THEN b ELSE a END).key"
    )
