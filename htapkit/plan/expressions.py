"""The walk: every node to its PostgreSQL type and its proven DuckDB text, bottom-up.

A node without an entry in HANDLERS is refused by its name, so nothing gets through unproven.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from sqlglot import exp

from htapkit.plan import aggregates, casts, clock, functions, literals, moments, operators, windows
from htapkit.plan.context import Context
from htapkit.plan.datatypes import type_of
from htapkit.plan.expr import Expr, boolean
from htapkit.plan.names import folded, quote_text
from htapkit.plan.subqueries import exists, in_subquery, scalar
from htapkit.plan.types import INTEGERS, PLAIN_TEXTS
from htapkit.plan.unproven import UnprovenError

Handler = Callable[[Context, exp.Expression], Expr]

LOOSE = (
    exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Like, exp.ILike, exp.In, exp.Between,
    exp.Is, exp.Not, exp.And, exp.Or, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Escape,
)  # fmt: skip
"""They may not stand bare inside others, where the two grammars' precedences could differ."""

COMPARISONS: Mapping[type[exp.Expression], str] = {
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=",
}  # fmt: skip
ARITHMETIC: Mapping[type[exp.Expression], str] = {
    exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.Mod: "%",
}  # fmt: skip


def bind(context: Context, node: exp.Expression) -> Expr:
    """The typed expression of one node."""
    grouping = context.grouping
    if grouping is not None:
        key = grouping.match(node)
        if key is not None:
            return key
    asked = clock.value(context, node)
    if asked is not None:
        return asked
    handler = HANDLERS.get(type(node))
    if handler is None:
        raise UnprovenError(type(node).__name__.lower(), "not on the list of what is proven")
    return handler(context, node)


def _tight(context: Context, node: exp.Expression | None) -> Expr:
    """An operand, which must not be a bare operator of lower precedence."""
    if isinstance(node, LOOSE):
        raise UnprovenError(
            type(node).__name__.lower(), "inside another operator without parentheses"
        )
    return context(node)


def _column(context: Context, node: exp.Expression) -> Expr:
    if isinstance(node.this, exp.Star) or node.args.get("catalog") is not None:
        raise UnprovenError("a column reference", "with * or a database name")
    table, schema = node.args.get("table"), node.args.get("db")
    return context.scope.column(
        context.statement,
        folded(schema) if schema else None,
        folded(table) if table else None,
        folded(node.this),
    )


def _literal(context: Context, node: exp.Expression) -> Expr:
    del context
    text = str(node.this)
    if node.args.get("is_string"):
        return Expr(quote_text(text), "unknown", text=text, constant=True)
    if text.isascii() and text.isdigit():
        type_ = literals.integer_type(int(text))
        return casts.decimal(text) if type_ == "numeric" else casts.integer(int(text), type_)
    return casts.decimal(text)


def _negative(context: Context, node: exp.Expression) -> Expr:
    if isinstance(node.this, exp.Literal) and not node.this.args.get("is_string"):
        value = _literal(context, node.this)
        if value.type != "numeric":
            return casts.integer(-int(str(node.this.this)), value.type)
    return operators.negate(_tight(context, node.this))


def _compare(context: Context, node: exp.Expression) -> Expr:
    operator = COMPARISONS[type(node)]
    left, right = node.this, node.args["expression"]
    if isinstance(left, exp.Tuple) and isinstance(right, exp.Tuple) and operator in {"=", "<>"}:
        return _rows(context, operator, left, right)
    if isinstance(right, (exp.Any, exp.All)):
        return _any(context, operator, node)
    if clock.constant_type(context, left) is not None:
        b = _tight(context, right)
        a = _beside(context, b, left)
    else:
        a = _tight(context, left)
        b = _beside(context, a, right)
    return operators.compare(operator, a, b, utc=context.statement.utc)


def _beside(context: Context, value: Expr, node: exp.Expression) -> Expr:
    """An operand that is compared with a value."""
    asked = clock.value(context, node, value.type)
    return asked if asked is not None else _tight(context, node)


def _rows(context: Context, operator: str, left: exp.Tuple, right: exp.Tuple) -> Expr:
    if len(left.expressions) != len(right.expressions) or not left.expressions:
        raise UnprovenError("a row comparison", "of different lengths")
    parts = [
        operators.compare(operator, context(a), context(b), utc=context.statement.utc).sql
        for a, b in zip(left.expressions, right.expressions, strict=True)
    ]
    return boolean("(" + (" AND " if operator == "=" else " OR ").join(parts) + ")")


def _any(context: Context, operator: str, node: exp.Expression) -> Expr:
    """`x = ANY (subquery)` and `x <> ALL (subquery)`, or an ARRAY of constants."""
    inner = node.args["expression"].this
    every = isinstance(node.args["expression"], exp.All)
    if (operator, every) not in {("=", False), ("<>", True)}:
        raise UnprovenError(f"{operator} {'ALL' if every else 'ANY'}", "not proven equal")
    while isinstance(inner, exp.Paren):
        inner = inner.this
    subject = _tight(context, node.this)
    if isinstance(inner, exp.Array):
        found = _member(context, subject, [context(item) for item in inner.expressions])
    elif isinstance(inner, exp.Expression) and isinstance(inner, (exp.Query, exp.Subquery)):
        found = in_subquery(context, subject, inner)
    else:
        raise UnprovenError("ANY or ALL", "of something else than a subquery or an ARRAY")
    return boolean(f"(NOT {found.sql})") if every else found


def _member(context: Context, subject: Expr, items: list[Expr]) -> Expr:
    if not items:
        raise UnprovenError("IN", "an empty list")
    utc = context.statement.utc
    parts = [operators.compare("=", subject, item, utc=utc).sql for item in items]
    prefix = f"({subject.sql} = "
    if len(parts) > 1 and all(
        item.constant and p.startswith(prefix) for item, p in zip(items, parts, strict=True)
    ):
        return boolean(f"({subject.sql} IN ({', '.join(p[len(prefix) : -1] for p in parts)}))")
    return boolean(f"({' OR '.join(parts)})")


def _in(context: Context, node: exp.Expression) -> Expr:
    query = node.args.get("query")
    if isinstance(node.this, exp.Tuple):
        if query is not None or not all(isinstance(item, exp.Tuple) for item in node.expressions):
            raise UnprovenError("a row IN", "not a list of rows")
        rows = [_rows(context, "=", node.this, item) for item in node.expressions]
        return boolean("(" + " OR ".join(row.sql for row in rows) + ")")
    subject = _tight(context, node.this)
    if query is not None:
        return in_subquery(context, subject, query)
    if node.args.get("unnest") is not None or node.args.get("field") is not None:
        raise UnprovenError("IN", "of something else than a list or a subquery")
    items = [context(item) for item in node.expressions]
    if subject.type == "unknown":
        raise UnprovenError("IN", "a literal without a type")
    types = {item.type for item in items if item.type != "unknown"} - {subject.type}
    if types and not types <= {*INTEGERS, "numeric", *PLAIN_TEXTS}:
        raise UnprovenError("IN", "a list of mixed types")
    if types and subject.type == "float4" and len(items) > 1:
        raise UnprovenError("IN", "several numbers become real, where one is compared as float8")
    return _member(context, subject, items)


def _between(context: Context, node: exp.Expression) -> Expr:
    if node.args.get("symmetric"):
        raise UnprovenError("BETWEEN SYMMETRIC", "not proven equal")
    utc = context.statement.utc
    value = _tight(context, node.this)
    low = operators.compare(">=", value, _beside(context, value, node.args["low"]), utc=utc)
    high = operators.compare("<=", value, _beside(context, value, node.args["high"]), utc=utc)
    return boolean(f"({low.sql} AND {high.sql})")


def _distinct_from(context: Context, node: exp.Expression) -> Expr:
    left, right = (_tight(context, side) for side in (node.this, node.args["expression"]))
    same = operators.compare("=", left, right, utc=context.statement.utc)
    word = "IS NOT DISTINCT FROM" if isinstance(node, exp.NullSafeEQ) else "IS DISTINCT FROM"
    marker = " = "
    if same.sql.count(marker) != 1:
        raise UnprovenError("IS DISTINCT FROM", "of computed values")
    return boolean(same.sql.replace(marker, f" {word} "))


def _logical(word: str) -> Handler:
    def handle(context: Context, node: exp.Expression) -> Expr:
        sides = [_truth(context, side).sql for side in (node.this, node.args["expression"])]
        return boolean(f"({sides[0]} {word} {sides[1]})")

    return handle


def _truth(context: Context, node: exp.Expression) -> Expr:
    value = context(node)
    if value.type == "unknown":
        value = casts.literal_as(value, "bool", utc=context.statement.utc)
    if value.type != "bool" or value.opaque:
        raise UnprovenError(f"a condition of type {value.type}", "not boolean")
    return value


def _not(context: Context, node: exp.Expression) -> Expr:
    return boolean(f"(NOT {_truth(context, node.this).sql})")


def _is(context: Context, node: exp.Expression) -> Expr:
    word = "IS NOT" if node.args.get("negate") else "IS"
    right = node.args["expression"]
    if isinstance(right, exp.Null):
        value = context(node.this)
        if value.is_null or value.type == "unknown":
            raise UnprovenError("IS NULL", "of a literal")
        return boolean(f"({value.sql} {word} NULL)")
    if isinstance(right, exp.Boolean):
        return boolean(
            f"({_truth(context, node.this).sql} {word} {'TRUE' if right.this else 'FALSE'})"
        )
    raise UnprovenError("IS", "of something else than NULL, TRUE or FALSE")


def _like(context: Context, node: exp.Expression, escape: str = "\\") -> Expr:
    value, pattern = _tight(context, node.this), _tight(context, node.args["expression"])
    if (
        pattern.type != "unknown"
        or pattern.text is None
        or value.type not in {"text", "varchar", "bpchar"}
    ):
        raise UnprovenError("LIKE", "only of a text and a literal")
    operators.comparable(replace(value, inexact=False), "LIKE", order=False)
    text = pattern.text
    rest = text.replace(escape * 2, "") if escape else ""
    if escape and rest.endswith(escape):
        raise UnprovenError("LIKE", "the pattern ends with its escape character", by_value=True)
    tail = f" ESCAPE {quote_text(escape)}" if escape and escape in text else ""
    sql = f"({value.sql} LIKE {quote_text(text)}{tail})"
    if isinstance(node, exp.ILike):
        if not value.binary or not text.isascii() or tail:
            raise UnprovenError("ILIKE", "letters depend on the collation")
        lowered = functions.FUNCTIONS["lower"]([replace(value, type="text")], context.statement.utc)
        sql = f"({lowered.sql} LIKE {quote_text(text.lower())})"
    return boolean(f"(NOT {sql})" if node.args.get("negate") else sql)


def _escape(context: Context, node: exp.Expression) -> Expr:
    character = node.args["expression"]
    if not isinstance(node.this, exp.Like) or not isinstance(character, exp.Literal):
        raise UnprovenError("ESCAPE", "only of LIKE with a literal")
    if len(str(character.this)) != 1:
        raise UnprovenError("ESCAPE", "not one character")
    return _like(context, node.this, str(character.this))


def _case(context: Context, node: exp.Expression) -> Expr:
    utc = context.statement.utc
    subject = context(node.this) if node.this is not None else None
    conditions, values = [], []
    for arm in node.args["ifs"]:
        if subject is None:
            conditions.append(_truth(context, arm.this).sql)
        else:
            conditions.append(operators.compare("=", subject, context(arm.this), utc=utc).sql)
        values.append(context(arm.args["true"]))
    default = node.args.get("default")
    values.append(
        context(default) if default is not None else Expr("NULL", "unknown", constant=True)
    )
    return functions.case(conditions, values, utc=utc)


def _cast(context: Context, node: exp.Expression) -> Expr:
    type_, typmod = type_of(node.args["to"])
    return casts.explicit(_tight(context, node.this), type_, typmod, utc=context.statement.utc)


def _interval(context: Context, node: exp.Expression) -> Expr:
    del context
    unit = node.args.get("unit")
    if not isinstance(node.this, exp.Literal) or (
        unit is not None and not isinstance(unit, exp.Var)
    ):
        raise UnprovenError("an interval", "not a simple literal")
    value = literals.read_interval(str(node.this.this), str(unit.this).lower() if unit else None)
    return Expr(literals.interval_sql(value), "interval", months_days_micros=value, constant=True)


def _arithmetic(context: Context, node: exp.Expression) -> Expr:
    left, right = _tight(context, node.this), _tight(context, node.args["expression"])
    return operators.arithmetic(ARITHMETIC[type(node)], left, right, utc=context.statement.utc)


def _concatenate(context: Context, node: exp.Expression) -> Expr:
    left, right = _tight(context, node.this), _tight(context, node.args["expression"])
    return operators.concatenate(left, right, utc=context.statement.utc)


def _parameter(context: Context, node: exp.Expression) -> Expr:
    text = str(node.this.this if isinstance(node.this, exp.Literal) else node.this)
    if not text.isdigit():
        raise UnprovenError("a parameter", "not a number")
    return context.statement.parameter(int(text))


def _call(context: Context, node: exp.Expression) -> Expr:
    name = str(node.this).lower()
    if name in aggregates.BUILDERS or name in {"string_agg", "grouping"}:
        return windows.group_call(context, node, None)
    if any(
        isinstance(argument, (exp.Star, exp.Distinct, exp.Order)) for argument in node.expressions
    ):
        raise UnprovenError(f"{name}()", "not on the list of what is proven")
    utc = context.statement.utc
    if name in {"date_trunc", "date_part"}:
        arguments = [context(argument) for argument in node.expressions]
        if len(arguments) != 2 or not arguments[0].text or arguments[0].type != "unknown":
            raise UnprovenError(name, "needs a literal field and a value")
        build = moments.date_trunc if name == "date_trunc" else moments.date_part
        return build(arguments[0].text.lower(), arguments[1], utc=utc)
    known = functions.FUNCTIONS.get(name)
    if known is None:
        raise UnprovenError(f"function {name}()", "not on the list of what is proven")
    return known([context(argument) for argument in node.expressions], utc)


def _extract(context: Context, node: exp.Expression) -> Expr:
    field = str(node.this.this).lower()
    return moments.extract(field, context(node.args["expression"]), utc=context.statement.utc)


def _substring(context: Context, node: exp.Expression) -> Expr:
    parts = [node.this, node.args.get("start"), node.args.get("length")]
    return functions.substring(
        [context(part) for part in parts if part is not None], context.statement.utc
    )


def _position(context: Context, node: exp.Expression) -> Expr:
    return functions.position(
        [context(node.this), context(node.args["substr"])], context.statement.utc
    )


def _trim(context: Context, node: exp.Expression) -> Expr:
    side = str(node.args.get("position") or "BOTH").upper()
    name = {"BOTH": "trim", "LEADING": "ltrim", "TRAILING": "rtrim"}[side]
    parts = [context(part) for part in (node.this, node.args.get("expression")) if part is not None]
    return functions.trim(name)(parts, context.statement.utc)


HANDLERS: Mapping[type[exp.Expression], Handler] = {
    **dict.fromkeys(COMPARISONS, _compare),
    **dict.fromkeys(ARITHMETIC, _arithmetic),
    exp.And: _logical("AND"),
    exp.Anonymous: _call,
    exp.Between: _between,
    exp.Boolean: lambda _, node: boolean("TRUE" if node.this else "FALSE", constant=True),
    exp.Case: _case,
    exp.Cast: _cast,
    exp.Column: _column,
    exp.DPipe: _concatenate,
    exp.Escape: _escape,
    exp.Exists: exists,
    exp.Extract: _extract,
    exp.Filter: lambda context, node: windows.group_call(context, node.this, node),
    exp.ILike: _like,
    exp.In: _in,
    exp.Interval: _interval,
    exp.Is: _is,
    exp.Like: _like,
    exp.Literal: _literal,
    exp.Neg: _negative,
    exp.Not: _not,
    exp.Null: lambda _, __: Expr("NULL", "unknown", constant=True),
    exp.NullSafeEQ: _distinct_from,
    exp.NullSafeNEQ: _distinct_from,
    exp.Or: _logical("OR"),
    exp.Parameter: _parameter,
    exp.Paren: lambda context, node: context(node.this),
    exp.RawString: _literal,
    exp.StrPosition: _position,
    exp.Subquery: scalar,
    exp.Substring: _substring,
    exp.Trim: _trim,
    exp.Window: windows.window,
}
