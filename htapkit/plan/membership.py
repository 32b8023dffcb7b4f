"""Membership: IN and = ANY of lists, arrays and subqueries."""

from __future__ import annotations

from sqlglot import exp

from htapkit.plan import casts, literals, operators
from htapkit.plan.comparing import compare, operand, parameter_number
from htapkit.plan.context import Context
from htapkit.plan.datatypes import type_of
from htapkit.plan.expr import Expr, boolean
from htapkit.plan.names import quote_text
from htapkit.plan.operands import tight
from htapkit.plan.subqueries import in_subquery
from htapkit.plan.types import INTEGERS, PLAIN_TEXTS
from htapkit.plan.unproven import UnprovenError


def rows(context: Context, operator: str, left: exp.Tuple, right: exp.Tuple) -> Expr:
    """`(a, b) = (c, d)` and `<>`."""
    if len(left.expressions) != len(right.expressions) or not left.expressions:
        raise UnprovenError("a row comparison", "of different lengths")
    parts = [
        compare(context, operator, context(a), context(b)).sql
        for a, b in zip(left.expressions, right.expressions, strict=True)
    ]
    return boolean("(" + (" AND " if operator == "=" else " OR ").join(parts) + ")")


def any_of(context: Context, operator: str, node: exp.Expression) -> Expr:
    """`x = ANY (subquery)` and `x <> ALL (subquery)`, or an ARRAY or an array of constants."""
    right = node.args["expression"]
    every = not isinstance(right, exp.Any)
    inner = right.expressions[0] if isinstance(right, exp.Anonymous) else right.this
    if (operator, every) not in {("=", False), ("<>", True)}:
        raise UnprovenError(f"{operator} {'ALL' if every else 'ANY'}", "not proven equal")
    while isinstance(inner, exp.Paren):
        inner = inner.this
    subject = tight(context, node.this)
    items = _items(context, inner)
    if items is not None:
        found = _member(context, subject, items)
    elif isinstance(inner, exp.Parameter):
        found = _of_parameter(context, subject, inner)
    elif isinstance(inner, exp.Cast) and isinstance(inner.this, exp.Parameter):
        found = _of_parameter(context, subject, inner.this, _element_type(inner.args["to"]))
    elif isinstance(inner, exp.Expression) and isinstance(inner, (exp.Query, exp.Subquery)):
        found = in_subquery(context, subject, inner)
    else:
        raise UnprovenError(
            "ANY or ALL", "of something else than a subquery or an array of constants"
        )
    return boolean(f"(NOT {found.sql})") if every else found


def _member(context: Context, subject: Expr, items: list[Expr]) -> Expr:
    if not items:
        return boolean("FALSE", constant=True)  # also where the subject is NULL
    if subject.type == "unknown":
        raise UnprovenError("IN", "a literal without a type")
    parts = [compare(context, "=", subject, item).sql for item in items]
    prefix = f"({subject.sql} = "
    if len(parts) > 1 and all(
        item.constant and p.startswith(prefix) for item, p in zip(items, parts, strict=True)
    ):
        return boolean(f"({subject.sql} IN ({', '.join(p[len(prefix) : -1] for p in parts)}))")
    return boolean(f"({' OR '.join(parts)})")


def is_quantified(node: object) -> bool:
    """ANY (…) or ALL (…); the parser takes the latter for a call where no subquery is in it."""
    if isinstance(node, exp.Anonymous):
        return str(node.this).lower() == "all" and len(node.expressions) == 1
    return isinstance(node, (exp.Any, exp.All))


def listed(context: Context, node: exp.Expression) -> Expr:
    """`x IN (…)`."""
    query = node.args.get("query")
    if isinstance(node.this, exp.Tuple):
        if query is not None or not all(isinstance(item, exp.Tuple) for item in node.expressions):
            raise UnprovenError("a row IN", "not a list of rows")
        same = [rows(context, "=", node.this, item) for item in node.expressions]
        return boolean("(" + " OR ".join(row.sql for row in same) + ")")
    subject = tight(context, node.this)
    if query is not None:
        return in_subquery(context, subject, query)
    if node.args.get("unnest") is not None or node.args.get("field") is not None:
        raise UnprovenError("IN", "of something else than a list or a subquery")
    items = [operand(context, subject, item) for item in node.expressions]
    if subject.type == "unknown":
        raise UnprovenError("IN", "a literal without a type")
    types = {item.type for item in items if item.type != "unknown"} - {subject.type}
    if types and not types <= {*INTEGERS, "numeric", *PLAIN_TEXTS}:
        raise UnprovenError("IN", "a list of mixed types")
    if types and subject.type == "float4" and len(items) > 1:
        raise UnprovenError("IN", "several numbers become real, where one is compared as float8")
    return _member(context, subject, items)


def _element_type(to: exp.Expression) -> str:
    """Of a cast to an array of plain elements."""
    if to.this is not exp.DType.ARRAY or len(to.expressions) != 1:
        raise UnprovenError("a cast", f"to {to.sql()}, which is not known here")
    type_, typmod = type_of(to.expressions[0])
    if typmod >= 0:
        raise UnprovenError("a cast", "of an array, with a modifier")
    return type_


def _of_parameter(context: Context, subject: Expr, node: exp.Parameter, cast_to: str = "") -> Expr:
    """`subject = ANY ($1)`; an array that is NULL is not bound, and goes to the source."""
    type_, values = context.statement.elements(parameter_number(node))
    if cast_to not in {"", type_}:
        raise UnprovenError(f"{type_}[] as {cast_to}[]", "not proven equal")
    alike = (INTEGERS, PLAIN_TEXTS, {type_})
    if subject.opaque or not any({subject.type, type_} <= set(types) for types in alike):
        raise UnprovenError(f"{subject.type} = ANY ({type_}[])", "not proven equal")
    operators.comparable(subject, "ANY", order=False)
    return boolean(f"({subject.sql} IN (SELECT unnest({values})))")


def _items(context: Context, node: exp.Expression) -> list[Expr] | None:
    """The elements of ARRAY[…], of '{…}' and of '{…}'::type[]; None of all else."""
    if isinstance(node, exp.Array):
        return _array([context(item) for item in node.expressions]) or None
    if isinstance(node, exp.Literal) and node.args.get("is_string"):
        return elements(str(node.this))
    if not isinstance(node, exp.Cast) or not isinstance(node.this, exp.Literal):
        return None
    to = node.args["to"]
    if not node.this.args.get("is_string") or to.this is not exp.DType.ARRAY:
        return None
    if len(to.expressions) != 1:
        raise UnprovenError("a cast", f"to {to.sql()}, which is not known here")
    type_, typmod = type_of(to.expressions[0])
    utc = context.statement.utc
    return [casts.explicit(item, type_, typmod, utc=utc) for item in elements(str(node.this.this))]


def _array(items: list[Expr]) -> list[Expr]:
    """The elements of ARRAY[…], of which literals are texts, whatever the array is beside."""
    known = {item.type for item in items} - {"unknown"}
    if known and not known <= PLAIN_TEXTS:
        return items
    type_ = "varchar" if known == {"varchar"} else "text"
    return [casts.coerce(item, type_, utc=True) for item in items]


def elements(text: str) -> list[Expr]:
    """The elements of an array's literal, as literals without a type. Raises UnprovenError."""
    return [
        Expr("NULL", "unknown", constant=True)
        if each is None
        else Expr(quote_text(each), "unknown", text=each, constant=True)
        for each in literals.read_array(text)
    ]
