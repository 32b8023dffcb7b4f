"""Scalar functions that are proven: PostgreSQL's name -> the types they take, the DuckDB text.

Each entry says what makes it equal; where some inputs differ, `guard` makes those an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from htapkit.plan import casts
from htapkit.plan.expr import SEVERAL, Expr, collate_of, numeric
from htapkit.plan.operators import (
    arithmetic,
    common_type,
    comparable,
    compare,
    guard,
    texts,
)
from htapkit.plan.types import DUCKDB, FLOATS, INTEGERS, MOMENTS, NUMERIC_ORDER, TEXTS, decimal_sql
from htapkit.plan.unproven import UnprovenError

Build = Callable[[list[Expr], bool], Expr]
"""Arguments and whether the session's zone is UTC."""


def _refuse(name: str, arguments: list[Expr], why: str = "not proven equal") -> UnprovenError:
    return UnprovenError(f"{name}({', '.join(argument.type for argument in arguments)})", why)


def _text(name: str, arguments: list[Expr], at: int) -> Expr:
    """The argument as text."""
    if at >= len(arguments):
        raise _refuse(name, arguments)
    argument = arguments[at]
    if argument.type not in TEXTS | {"unknown"} - {"name"} or argument.opaque:
        raise _refuse(name, arguments)
    if not argument.deterministic or collate_of(arguments) == SEVERAL:
        raise _refuse(name, arguments, "a nondeterministic collation, or several")
    return casts.coerce(argument, "text", utc=False)


def constant_number(name: str, arguments: list[Expr], at: int, least: int | None = None) -> int:
    """A constant whole number."""
    try:
        value = int(arguments[at].sql.removeprefix("CAST(").partition(" ")[0])
    except (IndexError, ValueError) as error:
        raise _refuse(name, arguments, "needs a constant number") from error
    if not arguments[at].constant or (least is not None and value < least):
        raise _refuse(name, arguments, "needs a constant number in range")
    return value


def _case(name: str) -> Build:
    """ASCII letters under a binary collation; other letters depend on the locale."""

    def build(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
        del utc
        value = _text(name, arguments, 0)
        if not value.binary:
            raise _refuse(name, arguments, "letters depend on the collation")
        ascii_only = f"strlen({value.sql}) <> length({value.sql})"
        return texts(guard(ascii_only, f"{name}({value.sql})", "letters beyond ASCII"), value)

    return build


def _length(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    del utc
    return Expr(f"CAST(length({_text('length', arguments, 0).sql}) AS INTEGER)", "int4")


def _octets(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    del utc
    if (
        len(arguments) != 1
        or arguments[0].type not in {"text", "varchar", "bpchar"}
        or arguments[0].opaque
    ):
        raise _refuse("octet_length", arguments)
    return Expr(f"CAST(strlen({arguments[0].sql}) AS INTEGER)", "int4")


def substring(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    """From a constant start of at least 1: DuckDB counts others from the end."""
    del utc
    value = _text("substring", arguments, 0)
    start = constant_number("substring", arguments, 1, 1)
    if len(arguments) == 2:
        return texts(f"substring({value.sql}, {start})", value)
    return texts(
        f"substring({value.sql}, {start}, {constant_number('substring', arguments, 2, 0)})", value
    )


def position(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    """`strpos(text, part)`: characters from 1, 0 where it does not occur."""
    del utc
    value, part = _text("position", arguments, 0), _text("position", arguments, 1)
    return Expr(f"CAST(strpos({value.sql}, {part.sql}) AS INTEGER)", "int4")


def _side(name: str) -> Build:
    def build(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
        del utc
        value = _text(name, arguments, 0)
        return texts(f"{name}({value.sql}, {constant_number(name, arguments, 1)})", value)

    return build


def trim(name: str) -> Build:
    """Blanks, or the characters of a literal."""

    def build(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
        del utc
        value = _text(name, arguments, 0)
        if len(arguments) == 1:
            return texts(f"{name}({value.sql}, ' ')", value)
        characters = _text(name, arguments, 1)
        if not characters.text:
            raise _refuse(name, arguments, "the characters are not a literal")
        return texts(f"{name}({value.sql}, {characters.sql})", value)

    return build


def _replace(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    del utc
    parts = [_text("replace", arguments, at) for at in range(3)]
    if not parts[1].text:
        raise _refuse("replace", arguments, "what to replace is not a literal")
    return texts(f"replace({', '.join(part.sql for part in parts)})", *parts)


def _concat(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    parts = []
    for argument in arguments:
        if argument.type in {"bool", "bpchar"}:
            raise _refuse("concat", arguments)
        parts.append(casts.explicit(argument, "text", -1, utc=utc))
    return texts(f"concat({', '.join(part.sql for part in parts)})", *parts)


def _starts_with(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    del utc
    value, part = _text("starts_with", arguments, 0), _text("starts_with", arguments, 1)
    return Expr(f"starts_with({value.sql}, {part.sql})", "bool")


def _md5(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    del utc
    return texts(f"md5({_text('md5', arguments, 0).sql})", _text("md5", arguments, 0))


def _split_part(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    del utc
    value, by = _text("split_part", arguments, 0), _text("split_part", arguments, 1)
    if not by.text:
        raise _refuse("split_part", arguments, "the separator is not a literal")
    return texts(
        f"split_part({value.sql}, {by.sql}, {constant_number('split_part', arguments, 2, 1)})",
        value,
    )


def _one_number(name: str, arguments: list[Expr]) -> Expr:
    if not arguments or arguments[0].type not in NUMERIC_ORDER or arguments[0].opaque:
        raise _refuse(name, arguments)
    if arguments[0].inexact:
        raise _refuse(name, arguments, "a float aggregate's last digits are open")
    return arguments[0]


def _abs(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    del utc
    value = _one_number("abs", arguments)
    return replace(value, sql=f"abs({value.sql})", typmod=-1, origin=None)


def _round(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    del utc
    value = _one_number("round", arguments)
    if len(arguments) == 1 and value.type != "numeric":
        return Expr(f"round_even({casts.as_float(value).sql}, 0)", "float8")
    if value.type in FLOATS:
        raise _refuse("round", arguments)
    places = constant_number("round", arguments, 1, 0) if len(arguments) == 2 else 0
    value = casts.as_numeric(value)
    if places > 20:
        raise _refuse("round", arguments, "too many places")
    digits = min(value.digits - value.scale + places + 1, 38)
    return numeric(f"CAST({value.sql} AS {decimal_sql(digits, places)})", digits, places)


def _whole(name: str) -> Build:
    """`floor`, `ceil`, `trunc` to a whole number."""

    def build(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
        del utc
        value = _one_number(name, arguments)
        if len(arguments) > 1:
            raise _refuse(name, arguments)
        if value.type != "numeric":
            return Expr(f"{name}({casts.as_float(value).sql})", "float8")
        digits = min(value.digits - value.scale + 1, 38)
        return numeric(f"CAST({name}({value.sql}) AS {decimal_sql(digits, 0)})", digits, 0)

    return build


def _sign(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    del utc
    value = _one_number("sign", arguments)
    if value.type != "numeric":
        raise _refuse("sign", arguments)
    return numeric(f"CAST(sign({value.sql}) AS DECIMAL(1,0))", 1, 0)


def _mod(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    if len(arguments) != 2 or any(argument.type not in INTEGERS for argument in arguments):
        raise _refuse("mod", arguments)
    return arithmetic("%", arguments[0], arguments[1], utc=utc)


def _sqrt(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    del utc
    value = _one_number("sqrt", arguments)
    if value.type == "numeric":
        raise _refuse("sqrt", arguments)
    root = casts.as_float(value).sql
    return Expr(guard(f"{root} < 0", f"sqrt({root})", "root of a negative number"), "float8")


def unify(parts: list[Expr], construct: str, *, utc: bool) -> tuple[list[Expr], Expr]:
    """The parts as their common type, and a pattern of the result (its `sql` is empty)."""
    type_ = common_type(parts, construct)
    if any(part.opaque for part in parts):
        raise UnprovenError(construct, "a column is kept as text")
    cast = [casts.coerce(part, type_, utc=utc) for part in parts]
    typmods = {part.typmod for part in parts}
    pattern = Expr(
        "",
        type_,
        typmod=typmods.pop()
        if len(typmods) == 1 and len({part.type for part in parts}) == 1
        else -1,
        binary=all(part.binary for part in parts),
        deterministic=all(part.deterministic for part in parts),
        collate=collate_of(parts),
        inexact=any(part.inexact for part in parts),
        constant=all(part.constant for part in parts),
    )
    if type_ == "numeric":
        scale = max(part.scale for part in cast)
        digits = max(part.digits - part.scale for part in cast) + scale
        digits = min(digits, 38)
        cast = [
            replace(
                part,
                sql=f"CAST({part.sql} AS {decimal_sql(digits, scale)})",
                dscale=_kept_scale(part),
            )
            for part in cast
        ]
        same = {part.dscale for part in cast}
        dscale = "" if same == {str(scale)} else None
        pattern = replace(pattern, digits=digits, scale=scale, dscale=dscale)
    elif type_ in DUCKDB:
        cast = [
            replace(part, sql=f"CAST({part.sql} AS {DUCKDB[type_]})")
            if part.type != type_
            else part
            for part in cast
        ]
    return cast, pattern


def _kept_scale(part: Expr) -> str | None:
    return None if part.dscale is None else part.shown_scale


def case(conditions: list[str], values: list[Expr], *, utc: bool) -> Expr:
    """CASE: as many values as conditions, and one more for ELSE."""
    # PostgreSQL looks at ELSE first when it chooses the type.
    cast, pattern = unify([values[-1], *values[:-1]], "CASE", utc=utc)
    cast = [*cast[1:], cast[0]]

    def render(parts: list[str]) -> str:
        arms = " ".join(f"WHEN {c} THEN {v}" for c, v in zip(conditions, parts, strict=False))
        return f"CASE {arms} ELSE {parts[-1]} END"

    dscale = pattern.dscale
    if pattern.type == "numeric" and dscale is None:
        scales = [part.dscale for part in cast]
        if all(scale is not None for scale in scales):
            dscale = f"({render([scale or '' for scale in scales])})"
    # Constant arms do not make it constant: which one is taken depends on the row.
    sql = f"({render([part.sql for part in cast])})"
    return replace(pattern, sql=sql, dscale=dscale, constant=False)


def coalesce(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    """The first that is not NULL, as the common type of all."""
    cast, pattern = unify(arguments, "COALESCE", utc=utc)
    if pattern.type == "numeric" and pattern.dscale is None:
        return case([f"{part.sql} IS NOT NULL" for part in cast[:-1]], arguments, utc=utc)
    return replace(pattern, sql=f"coalesce({', '.join(part.sql for part in cast)})")


def _nullif(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    if len(arguments) != 2 or arguments[0].type == "unknown":
        raise _refuse("nullif", arguments)
    same = compare("=", arguments[0], arguments[1], utc=utc)
    value, types = arguments[0], {argument.type for argument in arguments}
    # The result is the left operand as `=` takes it.
    if types & {"text", "varchar"}:
        value = casts.coerce(replace(value, typmod=-1), "text", utc=utc)
    elif (
        types <= set(NUMERIC_ORDER)
        and len(types) > 1
        and not types <= FLOATS
        and not types <= set(INTEGERS)
    ):
        value = casts.as_float(value) if types & FLOATS else casts.as_numeric(value)
    return replace(
        value,
        sql=f"(CASE WHEN {same.sql} THEN NULL ELSE {value.sql} END)",
        origin=None,
        text=None,
        moment=None,
        constant=False,
    )


def _extreme(name: str) -> Build:
    """`greatest` and `least`: NULLs are passed over in both engines."""

    def build(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
        cast, pattern = unify(arguments, name, utc=utc)
        for part in [*cast, pattern]:
            comparable(part, name, order=True)
        if pattern.type in FLOATS | {"bpchar", "bool"} or (
            pattern.type == "numeric" and pattern.dscale is None
        ):
            raise _refuse(name, arguments)
        return replace(pattern, sql=f"{name}({', '.join(part.sql for part in cast)})", typmod=-1)

    return build


FUNCTIONS: Mapping[str, Build] = {
    "abs": _abs,
    "btrim": trim("trim"),
    "ceil": _whole("ceil"),
    "ceiling": _whole("ceil"),
    "char_length": _length,
    "character_length": _length,
    "coalesce": coalesce,
    "concat": _concat,
    "floor": _whole("floor"),
    "greatest": _extreme("greatest"),
    "least": _extreme("least"),
    "left": _side("left"),
    "length": _length,
    "lower": _case("lower"),
    "ltrim": trim("ltrim"),
    "md5": _md5,
    "mod": _mod,
    "nullif": _nullif,
    "octet_length": _octets,
    "replace": _replace,
    "right": _side("right"),
    "round": _round,
    "rtrim": trim("rtrim"),
    "sign": _sign,
    "split_part": _split_part,
    "sqrt": _sqrt,
    "starts_with": _starts_with,
    "strpos": position,
    "substr": substring,
    "trunc": _whole("trunc"),
    "upper": _case("upper"),
}

__all__ = [
    "FUNCTIONS",
    "MOMENTS",
    "Build",
    "case",
    "coalesce",
    "constant_number",
    "position",
    "substring",
    "trim",
    "unify",
]
