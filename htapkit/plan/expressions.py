"""The walk: every node to its PostgreSQL type and its proven DuckDB text, bottom-up.

A node without an entry in HANDLERS is refused by its name, so nothing gets through unproven.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from sqlglot import exp

from htapkit.plan import (
    aggregates,
    casts,
    choices,
    clock,
    collating,
    distances,
    documents,
    functions,
    keywords,
    letters,
    literals,
    membership,
    moment_calls,
    operators,
    windows,
    zoned,
)
from htapkit.plan.comparing import compare, operand, parameter_number
from htapkit.plan.context import Context
from htapkit.plan.datatypes import type_of
from htapkit.plan.expr import Expr, boolean
from htapkit.plan.names import folded, quote_text
from htapkit.plan.operands import tight
from htapkit.plan.subqueries import exists, scalar
from htapkit.plan.unproven import UnprovenError

Handler = Callable[[Context, exp.Expression], Expr]

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
    return operators.negate(tight(context, node.this))


def _compare(context: Context, node: exp.Expression) -> Expr:
    operator = COMPARISONS[type(node)]
    left, right = node.this, node.args["expression"]
    if isinstance(left, exp.Tuple) and isinstance(right, exp.Tuple) and operator in {"=", "<>"}:
        return membership.rows(context, operator, left, right)
    if membership.is_quantified(right):
        return membership.any_of(context, operator, node)
    if clock.constant_type(context, left) is not None:
        b = tight(context, right)
        a = operand(context, b, left)
    else:
        a = tight(context, left)
        b = operand(context, a, right)
    return compare(context, operator, a, b)


def _between(context: Context, node: exp.Expression) -> Expr:
    if node.args.get("symmetric"):
        raise UnprovenError("BETWEEN SYMMETRIC", "not proven equal")
    value = tight(context, node.this)
    low = compare(context, ">=", value, operand(context, value, node.args["low"]))
    high = compare(context, "<=", value, operand(context, value, node.args["high"]))
    return boolean(f"({low.sql} AND {high.sql})")


def _distinct_from(context: Context, node: exp.Expression) -> Expr:
    left, right = (tight(context, side) for side in (node.this, node.args["expression"]))
    same = compare(context, "=", left, right)
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
        return boolean(f"({value.elements} {word} NULL)")
    if isinstance(right, exp.Boolean):
        return boolean(
            f"({_truth(context, node.this).sql} {word} {'TRUE' if right.this else 'FALSE'})"
        )
    raise UnprovenError("IS", "of something else than NULL, TRUE or FALSE")


def _like(context: Context, node: exp.Expression, escape: str = "\\") -> Expr:
    value, pattern = tight(context, node.this), tight(context, node.args["expression"])
    if (
        pattern.type != "unknown"
        or pattern.text is None
        or value.type not in {"text", "varchar", "bpchar"}
    ):
        raise UnprovenError("LIKE", "only of a text and a literal")
    operators.comparable(replace(value, inexact=False), "LIKE", order=False)
    if pattern.text.isascii():
        value = value.beside_ascii(places=True)
    text = pattern.text
    rest = text.replace(escape * 2, "") if escape else ""
    if escape and rest.endswith(escape):
        raise UnprovenError("LIKE", "the pattern ends with its escape character", by_value=True)
    tail = f" ESCAPE {quote_text(escape)}" if escape and escape in text else ""
    like = "NOT LIKE" if node.args.get("negate") else "LIKE"  # of NOT (…) DuckDB expects 20 %
    sql = f"({value.sql} {like} {quote_text(text)}{tail})"
    if isinstance(node, exp.ILike):
        lowered = letters.matched(context, value, text)
        sql = f"({lowered.sql} {like} {quote_text(text.lower())}{tail})"
    return boolean(sql)


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
            conditions.append(compare(context, "=", subject, context(arm.this)).sql)
        values.append(context(arm.args["true"]))
    default = node.args.get("default")
    values.append(
        context(default) if default is not None else Expr("NULL", "unknown", constant=True)
    )
    return choices.case(conditions, values, utc=utc)


def _cast(context: Context, node: exp.Expression) -> Expr:
    type_, typmod = type_of(node.args["to"])
    return zoned.cast(context.statement, tight(context, node.this), type_, typmod)


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
    left, right = tight(context, node.this), tight(context, node.args["expression"])
    return operators.arithmetic(ARITHMETIC[type(node)], left, right, utc=context.statement.utc)


def _concatenate(context: Context, node: exp.Expression) -> Expr:
    left, right = tight(context, node.this), tight(context, node.args["expression"])
    return operators.concatenate(left, right, utc=context.statement.utc)


def _parameter(context: Context, node: exp.Expression) -> Expr:
    assert isinstance(node, exp.Parameter)  # by HANDLERS
    return context.statement.parameter(parameter_number(node))


def _call(context: Context, node: exp.Expression) -> Expr:
    name = str(node.this).lower()
    if name in aggregates.BUILDERS or name in {"string_agg", "grouping"}:
        return windows.group_call(context, node, None)
    if any(
        isinstance(argument, (exp.Star, exp.Distinct, exp.Order)) for argument in node.expressions
    ):
        raise UnprovenError(f"{name}()", "not on the list of what is proven")
    utc = context.statement.utc
    if name in letters.CASES:
        return letters.cased(context, name, node.expressions)
    if name in moment_calls.CALLS:
        return moment_calls.call(context, name, node.expressions)
    known = functions.FUNCTIONS.get(name)
    if known is None:
        raise UnprovenError(f"function {name}()", "not on the list of what is proven")
    return known([context(argument) for argument in node.expressions], utc)


HANDLERS: Mapping[type[exp.Expression], Handler] = {
    **dict.fromkeys(COMPARISONS, _compare),
    **dict.fromkeys(ARITHMETIC, _arithmetic),
    **dict.fromkeys(distances.FUNCTIONS, distances.distance),
    exp.And: _logical("AND"),
    exp.Anonymous: _call,
    exp.AtTimeZone: zoned.at_zone,
    exp.Between: _between,
    exp.Boolean: lambda _, node: boolean("TRUE" if node.this else "FALSE", constant=True),
    exp.Case: _case,
    exp.Cast: _cast,
    exp.Collate: collating.collate,
    exp.Column: _column,
    exp.DPipe: _concatenate,
    exp.Escape: _escape,
    exp.Exists: exists,
    exp.Extract: keywords.extract,
    exp.Filter: lambda context, node: windows.group_call(context, node.this, node),
    exp.ILike: _like,
    exp.In: membership.listed,
    exp.Interval: _interval,
    exp.Is: _is,
    exp.JSONExtractScalar: documents.text_of_key,
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
    exp.StrPosition: keywords.position,
    exp.Subquery: scalar,
    exp.Substring: keywords.substring,
    exp.Trim: keywords.trim,
    exp.Window: windows.window,
    exp.WithinGroup: lambda context, node: windows.group_call(context, node, None),
}
