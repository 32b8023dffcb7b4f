"""Expressions of the local SQL as Spark's: what is not on this list is refused.

The local SQL is DuckDB's, of our own making: names are fresh, casts are spelled out. Each node is
spelled anew with its type, and only where Spark's rule gives PostgreSQL's value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation

from sqlglot import exp

from htapkit.model import DECIMAL_DIGITS_MAX
from htapkit.plan.literals import read_date, read_moment
from htapkit.plan.plan import SparkType
from htapkit.plan.spark_types import (
    EQUAL,
    INTEGERS,
    ORDERED,
    Typed,
    cast_type,
    comparable,
    decimal,
    null,
    only,
    quoted,
    spark_sql,
    text_literal,
)
from htapkit.plan.spark_windows import window
from htapkit.plan.unproven import UnprovenError

Scope = Mapping[str, Mapping[str, SparkType]]
"""The columns of each alias in FROM."""

BOOL = SparkType("bool")
_INT8 = SparkType("int8")
_PATTERN = re.compile(r"([^\\]|\\[\\%_])*", re.DOTALL)
"""A pattern of LIKE in which a backslash stands only before what it takes its meaning from."""

_COMPARISONS: Mapping[type[exp.Expression], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}


class Expressions:
    """Expressions over one FROM. `grouped`: aggregates may stand here."""

    def __init__(self, scope: Scope) -> None:
        """Of these columns."""
        self._scope = scope

    def __call__(self, node: exp.Expression) -> Typed:
        """The expression for Spark. Raises UnprovenError."""
        build = _BUILDERS.get(type(node))
        if build is None:
            name = str(node.this) if isinstance(node, exp.Anonymous) else type(node).__name__
            raise UnprovenError(f"{name.lower()}", "not proven equal in Spark")
        return build(self, node)

    def condition(self, node: exp.Expression) -> str:
        """A WHERE, an ON, or a part of one."""
        found = self(node)
        if found.type != BOOL:
            raise UnprovenError("a condition", "not boolean")
        return found.sql

    def column(self, node: exp.Expression) -> Typed:
        """A column by its alias."""
        table, name = str(node.args["table"].this), str(node.this.this)
        if table not in self._scope:
            raise UnprovenError("a correlated subquery", "not proven equal in Spark")
        return Typed(f"{table}.{quoted(name)}", self._scope[table][name])

    def boolean(self, node: exp.Expression) -> Typed:
        """TRUE and FALSE."""
        return Typed("TRUE" if node.this else "FALSE", BOOL)

    def literal(self, node: exp.Expression) -> Typed:
        """A text; numbers stand in casts."""
        if not node.args.get("is_string"):
            raise UnprovenError(f"the number {node.this}", "without a type")
        return Typed(text_literal(str(node.this)), SparkType("text"))

    def parenthesized(self, node: exp.Expression) -> Typed:
        """Itself."""
        inner = self(node.this)
        return Typed(f"({inner.sql})", inner.type)

    def veiled(self, node: exp.Expression) -> Typed:
        """The one element of a list: what choices.veiled keeps from DuckDB's optimizer."""
        inner, at = node.this, node.expressions
        while isinstance(inner, exp.Paren):
            inner = inner.this
        if not isinstance(inner, exp.Array) or len(inner.expressions) != 1 or len(at) != 1:
            raise UnprovenError("bracket", "not proven equal in Spark")
        return self(inner.expressions[0])

    def joined(self, node: exp.Expression) -> Typed:
        """AND and OR, with three values in both engines."""
        word = "AND" if isinstance(node, exp.And) else "OR"
        left, right = self.condition(node.this), self.condition(node.args["expression"])
        return Typed(f"({left} {word} {right})", BOOL)

    def negated(self, node: exp.Expression) -> Typed:
        """NOT."""
        return Typed(f"(NOT {self.condition(node.this)})", BOOL)

    def compared(self, node: exp.Expression) -> Typed:
        """A comparison."""
        operator = _COMPARISONS[type(node)]
        left, right = self(node.this), self(node.args["expression"])
        allowed = EQUAL if operator in {"=", "<>"} else ORDERED
        comparable(left.type, right.type, allowed, operator)
        return Typed(f"({left.sql} {operator} {right.sql})", BOOL)

    def null_test(self, node: exp.Expression) -> Typed:
        """IS NULL."""
        if not isinstance(node.args["expression"], exp.Null):
            raise UnprovenError("IS", "of something else than NULL, not proven equal in Spark")
        return Typed(f"({self(node.this).sql} IS NULL)", BOOL)

    def between(self, node: exp.Expression) -> Typed:
        """BETWEEN."""
        only(node, "this", "low", "high")
        value, low, high = self(node.this), self(node.args["low"]), self(node.args["high"])
        for side in (low, high):
            comparable(value.type, side.type, ORDERED, "BETWEEN")
        return Typed(f"({value.sql} BETWEEN {low.sql} AND {high.sql})", BOOL)

    def listed(self, node: exp.Expression) -> Typed:
        """IN a list: equal to one of them, and each comparison by itself."""
        only(node, "this", "expressions")
        value = self(node.this)
        parts = []
        for each in node.expressions:
            item = self(each)
            comparable(value.type, item.type, EQUAL, "IN")
            parts.append(item.sql)
        # Spark makes one type of all of a list; of one type they stay what they are.
        types = {self(each).type for each in node.expressions} | {value.type}
        if len(types) == 1:
            return Typed(f"({value.sql} IN ({', '.join(parts)}))", BOOL)
        return Typed("(" + " OR ".join(f"{value.sql} = {part}" for part in parts) + ")", BOOL)

    def like(self, node: exp.Expression) -> Typed:
        """LIKE and NOT LIKE with a pattern that is a constant; `_` is a letter in both."""
        escape = node.args["expression"] if isinstance(node, exp.Escape) else None
        inner = node if escape is None else node.this
        if not isinstance(inner, exp.Like):
            raise UnprovenError("ESCAPE", "of something else than LIKE, not proven equal in Spark")
        only(inner, "this", "expression", "negate")
        value, pattern = self(inner.this), inner.args["expression"]
        constant = isinstance(pattern, exp.Literal) and bool(pattern.args.get("is_string"))
        text = str(pattern.this) if constant else "\\"
        # Without ESCAPE, a backslash is a letter for DuckDB, and none for Spark.
        backslash = "\\" not in text if escape is None else str(escape.this) == "\\"
        if value.type.name != "text" or not backslash or not _PATTERN.fullmatch(text):
            raise UnprovenError("LIKE", "of this pattern, not proven equal in Spark")
        word = "NOT LIKE" if inner.args.get("negate") else "LIKE"
        return Typed(f"({value.sql} {word} {text_literal(text)})", BOOL)

    def case(self, node: exp.Expression) -> Typed:
        """CASE of conditions, whose results are of one type."""
        only(node, "ifs", "default")
        branches = node.args["ifs"]
        results = [branch.args["true"] for branch in branches]
        results.append(node.args.get("default") or exp.Null())
        values, type_ = self._alike(results, "CASE")
        whens = (
            f"WHEN {self.condition(branch.this)} THEN {value}"
            for branch, value in zip(branches, values[:-1], strict=True)
        )
        return Typed(f"(CASE {' '.join(whens)} ELSE {values[-1]} END)", type_)

    def coalesced(self, node: exp.Expression) -> Typed:
        """COALESCE of one type."""
        only(node, "this", "expressions")
        values, type_ = self._alike([node.this, *node.expressions], "COALESCE")
        return Typed(f"coalesce({', '.join(values)})", type_)

    def _alike(self, nodes: Sequence[exp.Expression], what: str) -> tuple[list[str], SparkType]:
        """Values of one type, NULL among them."""
        found = [None if isinstance(each, exp.Null) else self(each) for each in nodes]
        types = {each.type for each in found if each is not None}
        if len(types) != 1:
            raise UnprovenError(what, "of several types, not proven equal in Spark")
        (type_,) = types
        return [null(type_) if each is None else each.sql for each in found], type_

    def filtered(self, node: exp.Expression) -> Typed:
        """An aggregate of those rows only that satisfy a condition."""
        only(node, "this", "expression")
        found, where = self(node.this), node.args["expression"]
        return Typed(f"{found.sql} FILTER (WHERE {self.condition(where.this)})", found.type)

    def cast(self, node: exp.Expression) -> Typed:
        """Constants of each type, and exact numbers that lose nothing."""
        only(node, "this", "to")
        wanted, inner = cast_type(node.args["to"]), node.this
        if isinstance(inner, exp.Null):
            return Typed(null(wanted), wanted)
        if isinstance(inner, exp.Placeholder):
            return Typed(f"CAST(${inner.this} AS {spark_sql(wanted)})", wanted)
        sign, bare = ("-", inner.this) if isinstance(inner, exp.Neg) else ("", inner)
        if isinstance(bare, exp.Literal):
            return Typed(_constant(sign + str(bare.this), wanted), wanted)
        found = self(inner)
        if found.type == wanted:
            return found
        if not _widens(found.type, wanted):
            name = f"a cast from {found.type.name} to {wanted.name}"
            raise UnprovenError(name, "not proven equal in Spark")
        return Typed(f"CAST({found.sql} AS {spark_sql(wanted)})", wanted)

    def count(self, node: exp.Expression) -> Typed:
        """How many rows, values, or different values."""
        only(node, "this", "big_int")
        inner = node.this
        if isinstance(inner, exp.Star):
            return Typed("count(*)", _INT8)
        word, argument = self._argument(inner, "count", EQUAL)
        return Typed(f"count({word}{argument.sql})", _INT8)

    def total(self, node: exp.Expression) -> Typed:
        """Sum of exact numbers, in 38 digits: more of them are an error."""
        only(node, "this")
        word, argument = self._argument(node.this, "sum", EQUAL)
        if argument.type.name not in {*INTEGERS, "decimal"}:
            raise UnprovenError(f"sum({argument.type.name})", "not proven equal in Spark")
        wide = decimal(DECIMAL_DIGITS_MAX, argument.type.scale)
        return Typed(f"sum({word}CAST({argument.sql} AS {spark_sql(wide)}))", wide)

    def extreme(self, node: exp.Expression) -> Typed:
        """Min and max."""
        only(node, "this")
        name = "min" if isinstance(node, exp.Min) else "max"
        argument = self(node.this)
        if argument.type.name not in ORDERED:
            raise UnprovenError(f"{name}({argument.type.name})", "not proven equal in Spark")
        return Typed(f"{name}({argument.sql})", argument.type)

    def _argument(
        self, node: exp.Expression, name: str, distinct: frozenset[str]
    ) -> tuple[str, Typed]:
        """DISTINCT or not, and the one argument."""
        if not isinstance(node, exp.Distinct):
            return "", self(node)
        only(node, "expressions")
        if len(node.expressions) != 1:
            raise UnprovenError(f"{name}(DISTINCT …)", "of several, not proven equal in Spark")
        argument = self(node.expressions[0])
        if argument.type.name not in distinct:
            kind = f"{name}(DISTINCT {argument.type.name})"
            raise UnprovenError(kind, "not proven equal in Spark")
        return "DISTINCT ", argument


_BUILDERS: Mapping[type[exp.Expression], Callable[[Expressions, exp.Expression], Typed]] = {
    exp.Column: Expressions.column,
    exp.Boolean: Expressions.boolean,
    exp.Literal: Expressions.literal,
    exp.Bracket: Expressions.veiled,
    exp.Paren: Expressions.parenthesized,
    exp.And: Expressions.joined,
    exp.Or: Expressions.joined,
    exp.Not: Expressions.negated,
    **dict.fromkeys(_COMPARISONS, Expressions.compared),
    exp.Is: Expressions.null_test,
    exp.Between: Expressions.between,
    exp.In: Expressions.listed,
    exp.Cast: Expressions.cast,
    exp.Like: Expressions.like,
    exp.Escape: Expressions.like,
    exp.Case: Expressions.case,
    exp.Coalesce: Expressions.coalesced,
    exp.Filter: Expressions.filtered,
    exp.Window: window,
    exp.Count: Expressions.count,
    exp.Sum: Expressions.total,
    exp.Min: Expressions.extreme,
    exp.Max: Expressions.extreme,
}


def _constant(text: str, wanted: SparkType) -> str:
    """A constant whose value no setting of the session can change. Raises UnprovenError."""
    if wanted.name in INTEGERS and text.removeprefix("-").isdigit():
        return f"CAST({text} AS {spark_sql(wanted)})"
    if wanted.name == "decimal":
        try:
            exact = Decimal(text)
        except InvalidOperation:
            exact = Decimal("NaN")
        exponent = exact.as_tuple().exponent
        if isinstance(exponent, int) and -exponent <= wanted.scale:
            return f"CAST('{exact:f}' AS {spark_sql(wanted)})"
    if wanted.name == "date":
        return f"date_from_unix_date({read_date(text)})"
    if wanted.name == "timestamptz":
        return f"timestamp_micros({read_moment(text, wanted.name, utc=True)})"
    if wanted.name == "timestamp":
        micros = read_moment(text, wanted.name, utc=True)
        return f"CAST(timestamp_micros({micros}) AS TIMESTAMP_NTZ)"
    if wanted.name == "text":
        return text_literal(text)
    raise UnprovenError(f"a constant of type {wanted.name}", "not proven equal in Spark")


def _widens(given: SparkType, wanted: SparkType) -> bool:
    """Whether the cast changes no value: it is exact, or an error in both engines."""
    if given.name in INTEGERS:
        return wanted.name in {*INTEGERS, "decimal"}
    if given.name == "decimal":
        if wanted.name == "decimal":
            return wanted.scale >= given.scale
        return wanted.name in INTEGERS and given.scale == 0
    return False
