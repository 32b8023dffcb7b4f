"""Type names in casts: sqlglot's node to PostgreSQL's name and modifier."""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from htapkit.plan.types import numeric_typmod
from htapkit.plan.unproven import UnprovenError

_T = exp.DType
_NAMES: Mapping[exp.DType, str] = {
    _T.BOOLEAN: "bool",
    _T.SMALLINT: "int2",
    _T.INT: "int4",
    _T.BIGINT: "int8",
    _T.FLOAT: "float4",
    _T.DOUBLE: "float8",
    _T.DECIMAL: "numeric",
    _T.TEXT: "text",
    _T.VARCHAR: "varchar",
    _T.CHAR: "bpchar",
    _T.DATE: "date",
    _T.TIME: "time",
    _T.TIMESTAMP: "timestamp",
    _T.TIMESTAMPTZ: "timestamptz",
    _T.INTERVAL: "interval",
    _T.UUID: "uuid",
}


def type_of(node: exp.Expression) -> tuple[str, int]:
    """PostgreSQL's (name, modifier) of a cast's target."""
    if not isinstance(node, exp.DataType) or node.args.get("nested"):
        raise UnprovenError("a cast", f"to {node.sql()}, which is not known here")
    name = _NAMES.get(node.this)
    if name is None:
        raise UnprovenError("a cast", f"to {node.sql()}, which is not known here")
    numbers = []
    for parameter in node.expressions:
        text = str(getattr(parameter.this, "this", ""))
        if not text.isdigit():
            raise UnprovenError("a cast", "with a modifier that is not a number")
        numbers.append(int(text))
    if name == "bpchar" and not numbers:
        numbers = [1]
    if not numbers:
        return name, -1
    if name == "numeric" and len(numbers) <= 2:
        return name, numeric_typmod(numbers[0], numbers[1] if len(numbers) == 2 else 0)
    if name in {"varchar", "bpchar"} and len(numbers) == 1:
        return name, numbers[0] + 4
    raise UnprovenError("a cast", f"to {node.sql()}, which is not known here")
