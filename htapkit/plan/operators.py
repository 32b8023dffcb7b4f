"""Operators that are proven: the types they take, the type they give, the DuckDB text.

Division by zero, overflow and everything else that is an error in PostgreSQL must be an error
here too (the statement then goes to the source, whose word counts): `fails` stands where DuckDB
itself would answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from htapkit.plan import casts, durations, literals
from htapkit.plan.durations import ELAPSED, ELAPSED_SUM
from htapkit.plan.expr import SEVERAL, Expr, as_decimal, boolean, collate_of, fails, numeric
from htapkit.plan.names import quote_text
from htapkit.plan.types import DUCKDB, FLOATS, INTEGERS, MOMENTS, NUMERIC_ORDER, PLAIN_TEXTS, TEXTS
from htapkit.plan.unproven import UnprovenError

EQUALITIES = frozenset({"=", "<>"})
DIGITS = 38
_SMALL_DIGITS = 4
TEXT_MAX = 20_000


def guard(condition: str, sql: str, what: str) -> str:
    """`sql`, or an error (and so the source's answer) where the condition holds."""
    return bounded(f"CASE WHEN {fails(condition, what)} THEN NULL ELSE {sql} END")


def bounded(sql: str) -> str:
    """Refuse what has grown beyond reason: guards repeat their operands."""
    if len(sql) > TEXT_MAX:
        raise UnprovenError("an expression", "nested too deeply")
    return sql


def kept_infinite(moment: str, sql: str, beside: str = "") -> str:
    """`sql`, or an infinite date or timestamp as it is, unless `beside` is NULL."""
    computed = f"isfinite({moment})" + (f" OR {beside} IS NULL" if beside else "")
    return bounded(f"CASE WHEN {computed} THEN {sql} ELSE {moment} END")


def common_type(parts: list[Expr], construct: str) -> str:
    """The type that PostgreSQL resolves CASE, COALESCE, UNION, VALUES and IN to."""
    known = [part.type for part in parts if part.type != "unknown"]
    if not known:
        return "text"
    if len(set(known)) == 1:
        return known[0]
    if all(type_ in NUMERIC_ORDER for type_ in known):
        return max(known, key=NUMERIC_ORDER.index)
    if all(type_ in PLAIN_TEXTS for type_ in known):
        return known[0]  # each is implicitly cast to the other: the first one stays
    if all(type_ in MOMENTS for type_ in known):
        return max(known, key=("date", "timestamp", "timestamptz").index)
    raise UnprovenError(construct, f"mixes {', '.join(sorted(set(known)))}")


def comparable(expr: Expr, construct: str, *, order: bool) -> None:
    """Refuse what both engines do not compare alike."""
    if expr.inexact:
        raise UnprovenError(construct, "a float aggregate's last digits are open")
    if expr.opaque and not (expr.category == "e" and not order):
        raise UnprovenError(construct, f"{expr.type} is kept as text and is not compared here")
    if expr.type in TEXTS:
        if not expr.deterministic:
            raise UnprovenError(construct, "a nondeterministic collation")
        if expr.collate == SEVERAL:
            raise UnprovenError(construct, "a text of several collations")
        if order and not expr.binary:
            raise UnprovenError(construct, "text order under a collation other than C")
    if expr.type in {"interval", "json", ELAPSED_SUM}:
        raise UnprovenError(construct, f"{expr.type} is not compared here")


def compare(operator: str, left: Expr, right: Expr, *, utc: bool) -> Expr:
    """`=`, `<>`, `<`, `<=`, `>`, `>=`."""
    construct = f"{left.type} {operator} {right.type}"
    left, right = _unified(left, right, construct, utc=utc)
    for side in (left, right):
        comparable(side, construct, order=operator not in EQUALITIES)
    if collate_of((left, right)) == SEVERAL:
        raise UnprovenError(construct, "texts of two collations")
    constant = left.constant and right.constant
    if left.type == "bpchar" or right.type == "bpchar":
        return boolean(_compare_padded(operator, left, right), constant=constant)
    if left.type == "numeric":
        a, b = _aligned(left, right)
        return boolean(f"({a} {operator} {b})", constant=constant)
    if left.opaque and left.oid != right.oid:
        raise UnprovenError(construct, "two enum types")
    return boolean(f"({left.sql} {operator} {right.sql})", constant=constant)


def _unified(left: Expr, right: Expr, construct: str, *, utc: bool) -> tuple[Expr, Expr]:  # noqa: PLR0911 - one line for each rule
    if ELAPSED in {left.type, right.type}:
        return _duration(left, construct), _duration(right, construct)
    if left.type == "unknown" and right.type == "unknown":
        raise UnprovenError(construct, "both sides are literals without a type")
    if left.type == "unknown":
        return casts.coerce(_as_known(left, right), right.type, utc=utc), right
    if right.type == "unknown":
        return left, casts.coerce(_as_known(right, left), left.type, utc=utc)
    if left.type == right.type:
        return left, right
    types = {left.type, right.type}
    if types <= set(INTEGERS):
        return left, right
    if types <= set(NUMERIC_ORDER):
        if types & FLOATS:
            return casts.as_float(left), casts.as_float(right)
        return casts.as_numeric(left), casts.as_numeric(right)
    if types <= PLAIN_TEXTS:
        return left, right
    if types == {"text", "bpchar"}:
        return casts.coerce(left, "text", utc=utc), casts.coerce(right, "text", utc=utc)
    if types <= MOMENTS:
        return _unified_moments(left, right, utc=utc)
    raise UnprovenError(construct, "not proven equal")


def _duration(expr: Expr, construct: str) -> Expr:
    if expr.type == ELAPSED:
        return expr
    value = expr.months_days_micros
    if expr.text is not None and expr.type == "unknown":
        value = literals.read_interval(expr.text, None)
    if value is None:
        raise UnprovenError(construct, "not proven equal")
    return durations.constant(value)


def _as_known(literal: Expr, other: Expr) -> Expr:
    if other.opaque:
        raise UnprovenError(f"a literal compared with {other.type}", "the column is kept as text")
    return literal


def _unified_moments(left: Expr, right: Expr, *, utc: bool) -> tuple[Expr, Expr]:
    """Dates and timestamps; a constant midnight becomes a date, so the column is not cast."""
    for column, constant, flip in ((left, right, False), (right, left, True)):
        if column.type == "date" and constant.moment is not None and not column.constant:
            days, rest = divmod(constant.moment, literals.DAY_MICROS)
            if rest == 0 and (utc or constant.type == "timestamp"):
                day = Expr(literals.date_sql(days), "date", moment=days, constant=True)
                return (day, column) if flip else (column, day)
    type_ = common_type([left, right], "a comparison of dates")
    return casts.coerce(left, type_, utc=utc), casts.coerce(right, type_, utc=utc)


def _compare_padded(operator: str, left: Expr, right: Expr) -> str:
    """char(n) ignores trailing blanks; equal lengths are stored padded and compare as they are."""
    if operator in EQUALITIES:
        for column, other in ((left, right), (right, left)):
            width = column.typmod - 4
            if column.typmod < 4:
                continue
            if other.typmod == column.typmod:
                return f"({left.sql} {operator} {right.sql})"
            if other.text is not None and len(other.text.rstrip(" ")) <= width:
                padded = quote_text(other.text.rstrip(" ").ljust(width))
                return f"({column.sql} {operator} {padded})"
    return f"({trimmed(left)} {operator} {trimmed(right)})"


def trimmed(expr: Expr) -> str:
    """The text by which a value is ordered: char(n) without its padding."""
    return casts.unpadded(expr) if expr.type == "bpchar" else expr.sql


def _aligned(left: Expr, right: Expr) -> tuple[str, str]:
    """Two decimals as one DECIMAL type when theirs has no common width; overflow is an error."""
    scale = max(left.scale, right.scale)
    whole = max(left.digits - left.scale, right.digits - right.scale)
    if whole + scale <= DIGITS:
        return left.sql, right.sql
    return as_decimal(left, DIGITS, scale), as_decimal(right, DIGITS, scale)


def arithmetic(operator: str, left: Expr, right: Expr, *, utc: bool) -> Expr:
    """`+`, `-`, `*`, `/`, `%` of numbers, dates and intervals."""
    construct = f"{left.type} {operator} {right.type}"
    if left.opaque or right.opaque:
        raise UnprovenError(construct, "the column is kept as text")
    if left.type in MOMENTS or right.type in MOMENTS or "interval" in {left.type, right.type}:
        return _moment_arithmetic(operator, left, right, construct, utc=utc)
    if left.type == "unknown" and right.type in NUMERIC_ORDER:
        left = casts.literal_as(left, right.type, utc=utc)
    elif right.type == "unknown" and left.type in NUMERIC_ORDER:
        right = casts.literal_as(right, left.type, utc=utc)
    if left.type not in NUMERIC_ORDER or right.type not in NUMERIC_ORDER:
        raise UnprovenError(construct, "not proven equal")
    if {left.type, right.type} & FLOATS:
        return _float_arithmetic(operator, left, right, construct)
    if left.type in INTEGERS and right.type in INTEGERS:
        return _integer_arithmetic(operator, left, right)
    return _NUMERIC[operator](casts.as_numeric(left), casts.as_numeric(right))


def _small(expr: Expr) -> bool:
    """A literal of so few digits that no operation of two of them leaves its type."""
    return 0 < expr.digits <= _SMALL_DIGITS


def _integer_arithmetic(operator: str, left: Expr, right: Expr) -> Expr:
    type_ = max((left.type, right.type), key=NUMERIC_ORDER.index)
    a, b = (casts.coerce(side, type_, utc=True) for side in (left, right))
    constant = a.constant and b.constant
    by_zero = operator in {"/", "%"} and right.sql == casts.integer(0, right.type).sql
    harmless = _small(left) and _small(right) and not by_zero
    if constant and not harmless:
        # PostgreSQL computes it while it plans: an error comes even where there is no row.
        raise UnprovenError(f"{operator} of two constants", "its error may come before any row")
    if operator in {"+", "-", "*"}:
        return Expr(f"({a.sql} {operator} {b.sql})", type_, constant=constant)
    # Both truncate towards zero and keep the dividend's sign; a zero divisor is an error in both.
    return Expr(f"({a.sql} {'//' if operator == '/' else '%'} {b.sql})", type_, constant=constant)


def _float_arithmetic(operator: str, left: Expr, right: Expr, construct: str) -> Expr:
    type_ = "float4" if left.type == right.type == "float4" else "float8"
    inexact = left.inexact or right.inexact
    if inexact and operator in {"+", "-"}:
        raise UnprovenError(construct, "adding float aggregates may cancel their exact digits")
    if operator == "%":
        raise UnprovenError(construct, "PostgreSQL has no such operator")
    a, b = casts.as_float(left, type_).sql, casts.as_float(right, type_).sql
    result = f"({a} {operator} {b})"
    finite = f"isfinite({a}) AND isfinite({b})"
    good, bad = f"isfinite{result}", f"{finite} AND NOT isfinite{result}"
    if operator in {"*", "/"}:
        # A result of 0 from operands that are not is an underflow, which PostgreSQL reports.
        good = f"({good} AND {result} <> 0)"
        bad = f"({bad}) OR ({result} = 0 AND {a} <> 0 AND {finite}" + (
            f" AND {b} <> 0)" if operator == "*" else ")"
        )
    if operator == "/":
        good, bad = f"({good} AND {b} <> 0)", f"{b} = 0 OR {bad}"
    sql = bounded(
        f"CASE WHEN {good} THEN {result} "
        f"WHEN {fails(bad, 'float range')} THEN NULL ELSE {result} END"
    )
    return Expr(sql, type_, constant=left.constant and right.constant, inexact=inexact)


def _dscale_of(operator: str, left: Expr, right: Expr) -> str | None:
    if left.dscale is None or right.dscale is None:
        return None
    if left.dscale == right.dscale == "":
        return ""
    if operator == "*":
        return f"({left.shown_scale} + {right.shown_scale})"
    return f"greatest({left.shown_scale}, {right.shown_scale})"


def _numeric_sum(operator: str) -> Callable[[Expr, Expr], Expr]:
    def render(left: Expr, right: Expr) -> Expr:
        scale = max(left.scale, right.scale)
        digits = max(left.digits - left.scale, right.digits - right.scale) + scale + 1
        a, b = _aligned(left, right) if digits > DIGITS else (left.sql, right.sql)
        return numeric(
            _within(f"({a} {operator} {b})", digits),
            digits,
            scale,
            _dscale_of(operator, left, right),
            constant=left.constant and right.constant,
        )

    return render


def _within(sql: str, digits: int) -> str:
    """A number that may have more digits than DuckDB has, which is an error of its own there.

    Nothing is computed for it: the text says that such an error may come (`MADE_ERROR`), so that it
    comes before the first rows are shown.
    """
    return guard("FALSE", sql, "digits of a number") if digits > DIGITS else sql


def _numeric_product(left: Expr, right: Expr) -> Expr:
    scale = left.scale + right.scale
    if scale > DIGITS:
        raise UnprovenError("numeric * numeric", "a scale over 38 digits")
    return numeric(
        _within(f"({left.sql} * {right.sql})", left.digits + right.digits),
        left.digits + right.digits,
        scale,
        _dscale_of("*", left, right),
        constant=left.constant and right.constant,
    )


def _numeric_quotient(left: Expr, right: Expr) -> Expr:
    from htapkit.plan.division import quotient  # noqa: PLC0415 - they hold each other

    return quotient(left, right)


def _numeric_remainder(left: Expr, right: Expr) -> Expr:
    raise UnprovenError(f"{left.type} % {right.type}", "not proven equal")


_NUMERIC: dict[str, Callable[[Expr, Expr], Expr]] = {
    "+": _numeric_sum("+"),
    "-": _numeric_sum("-"),
    "*": _numeric_product,
    "/": _numeric_quotient,
    "%": _numeric_remainder,
}


def _moment_arithmetic(
    operator: str, left: Expr, right: Expr, construct: str, *, utc: bool
) -> Expr:
    if operator == "+" and (left.type in INTEGERS or left.type == "interval"):
        left, right = right, left
    if left.type == right.type == "date" and operator == "-":
        sql = f"date_diff('day', {right.sql}, {left.sql})"
        bad = f"NOT isfinite({left.sql}) OR NOT isfinite({right.sql})"
        return Expr(f"CAST({guard(bad, sql, 'infinite date')} AS INTEGER)", "int4")
    if operator == "-" and {left.type, right.type} <= MOMENTS:
        type_ = common_type([left, right], construct)
        later, earlier = (casts.coerce(side, type_, utc=utc) for side in (left, right))
        return replace(
            durations.elapsed(later, earlier), constant=later.constant and earlier.constant
        )
    if left.type == "date" and right.type in {"int2", "int4"} and operator in {"+", "-"}:
        sql = f"({left.sql} {operator} CAST({right.sql} AS INTEGER))"
        return Expr(kept_infinite(left.sql, _in_range(sql, "date"), right.sql), "date")
    value = right.months_days_micros
    if left.type in MOMENTS and value is not None and operator in {"+", "-"}:
        if left.type == "timestamptz" and not utc:
            raise UnprovenError(construct, "the session's time zone is not UTC")
        type_ = "timestamp" if left.type == "date" else left.type
        base = casts.coerce(left, type_, utc=utc)
        if base.moment is not None:
            sign = 1 if operator == "+" else -1
            return casts.moment(literals.add_interval(base.moment, value, sign), type_)
        sql = f"CAST({base.sql} {operator} {right.sql} AS {DUCKDB[type_]})"
        return Expr(kept_infinite(base.sql, _in_range(sql, type_)), type_)
    raise UnprovenError(construct, "not proven equal")


_FIRST = {
    "date": "DATE '4714-11-24 (BC)'",
    "timestamp": "TIMESTAMP '4714-11-24 (BC) 00:00:00'",
    "timestamptz": "TIMESTAMPTZ '4714-11-24 (BC) 00:00:00+00'",
}


def _in_range(sql: str, type_: str) -> str:
    """An error before PostgreSQL's first day and after its last date, which DuckDB exceeds."""
    bad = f"{sql} < {_FIRST[type_]}"
    if type_ == "date":
        bad += f" OR {sql} > DATE '5874897-12-31'"
    return guard(bad, sql, "date range")


def negate(expr: Expr) -> Expr:
    """Unary minus."""
    if expr.type in INTEGERS:
        return replace(
            expr, sql=f"(CAST(0 AS {DUCKDB[expr.type]}) - {expr.sql})", text=None, origin=None
        )
    if expr.type in FLOATS or expr.type == "numeric":
        return replace(expr, sql=f"(- {expr.sql})", typmod=-1, origin=None)
    raise UnprovenError(f"- {expr.type}", "not proven equal")


def concatenate(left: Expr, right: Expr, *, utc: bool) -> Expr:
    """`||` of texts, or of a text and a value whose cast to text is proven."""
    if not {left.type, right.type} & TEXTS:
        raise UnprovenError(f"{left.type} || {right.type}", "not a concatenation of texts")
    parts = []
    for side in (left, right):
        text = casts.literal_as(side, "text", utc=utc) if side.type == "unknown" else side
        if text.type == "bool":
            raise UnprovenError("text || bool", "not proven equal")
        parts.append(casts.explicit(text, "text", -1, utc=utc))
    return texts(f"({parts[0].sql} || {parts[1].sql})", *parts)


def texts(sql: str, *parts: Expr, type_: str = "text") -> Expr:
    """A text computed from other texts: it keeps the doubts about their collations."""
    collations = {part.origin or part.collation for part in parts if not part.constant}
    plain = bool(collations) and all(part.constant or part.database_collation for part in parts)
    return Expr(
        sql,
        type_,
        constant=all(part.constant for part in parts),
        binary=all(part.binary for part in parts),
        deterministic=all(part.deterministic for part in parts),
        collate=collate_of(parts),
        collation=collations.pop() if len(collations) == 1 else None,
        database_collation=plain,
    )
