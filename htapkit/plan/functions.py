"""Scalar functions that are proven: PostgreSQL's name -> the types they take, the DuckDB text.

Each entry says what makes it equal; where some inputs differ, `guard` makes those an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from htapkit.plan import casts, choices
from htapkit.plan.expr import SEVERAL, Expr, collate_of, numeric, refused
from htapkit.plan.operators import (
    arithmetic,
    guard,
    texts,
)
from htapkit.plan.types import FLOATS, INTEGERS, MOMENTS, NUMERIC_ORDER, TEXTS, decimal_sql

Build = Callable[[list[Expr], bool], Expr]
"""Arguments and whether the session's zone is UTC."""


def _text(name: str, arguments: list[Expr], at: int) -> Expr:
    """The argument as text."""
    if at >= len(arguments):
        raise refused(name, arguments)
    argument = arguments[at]
    if argument.type not in TEXTS | {"unknown"} - {"name"} or argument.opaque:
        raise refused(name, arguments)
    if not argument.deterministic or collate_of(arguments) == SEVERAL:
        raise refused(name, arguments, "a nondeterministic collation, or several")
    return casts.coerce(argument, "text", utc=False)


def constant_number(name: str, arguments: list[Expr], at: int, least: int | None = None) -> int:
    """A constant whole number."""
    try:
        value = int(arguments[at].sql.removeprefix("CAST(").partition(" ")[0])
    except (IndexError, ValueError) as error:
        raise refused(name, arguments, "needs a constant number") from error
    if not arguments[at].constant or (least is not None and value < least):
        raise refused(name, arguments, "needs a constant number in range")
    return value


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
        raise refused("octet_length", arguments)
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
            raise refused(name, arguments, "the characters are not a literal")
        return texts(f"{name}({value.sql}, {characters.sql})", value)

    return build


def _replace(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    del utc
    parts = [_text("replace", arguments, at) for at in range(3)]
    if not parts[1].text:
        raise refused("replace", arguments, "what to replace is not a literal")
    return texts(f"replace({', '.join(part.sql for part in parts)})", *parts)


def _concat(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    parts = []
    for argument in arguments:
        if argument.type in {"bool", "bpchar"}:
            raise refused("concat", arguments)
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
        raise refused("split_part", arguments, "the separator is not a literal")
    return texts(
        f"split_part({value.sql}, {by.sql}, {constant_number('split_part', arguments, 2, 1)})",
        value,
    )


def _one_number(name: str, arguments: list[Expr]) -> Expr:
    if not arguments or arguments[0].type not in NUMERIC_ORDER or arguments[0].opaque:
        raise refused(name, arguments)
    if arguments[0].inexact:
        raise refused(name, arguments, "a float aggregate's last digits are open")
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
        raise refused("round", arguments)
    places = constant_number("round", arguments, 1, 0) if len(arguments) == 2 else 0
    value = casts.as_numeric(value)
    if places > 20:
        raise refused("round", arguments, "too many places")
    digits = min(value.digits - value.scale + places + 1, 38)
    return numeric(f"CAST({value.sql} AS {decimal_sql(digits, places)})", digits, places)


def _whole(name: str) -> Build:
    """`floor`, `ceil`, `trunc` to a whole number."""

    def build(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
        del utc
        value = _one_number(name, arguments)
        if len(arguments) > 1:
            raise refused(name, arguments)
        if value.type != "numeric":
            return Expr(f"{name}({casts.as_float(value).sql})", "float8")
        digits = min(value.digits - value.scale + 1, 38)
        return numeric(f"CAST({name}({value.sql}) AS {decimal_sql(digits, 0)})", digits, 0)

    return build


def _sign(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    del utc
    value = _one_number("sign", arguments)
    if value.type != "numeric":
        raise refused("sign", arguments)
    return numeric(f"CAST(sign({value.sql}) AS DECIMAL(1,0))", 1, 0)


def _mod(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    if len(arguments) != 2 or any(argument.type not in INTEGERS for argument in arguments):
        raise refused("mod", arguments)
    return arithmetic("%", arguments[0], arguments[1], utc=utc)


def _sqrt(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    del utc
    value = _one_number("sqrt", arguments)
    if value.type == "numeric":
        raise refused("sqrt", arguments)
    root = casts.as_float(value).sql
    return Expr(guard(f"{root} < 0", f"sqrt({root})", "root of a negative number"), "float8")


FUNCTIONS: Mapping[str, Build] = {
    "abs": _abs,
    "btrim": trim("trim"),
    "ceil": _whole("ceil"),
    "ceiling": _whole("ceil"),
    "char_length": _length,
    "character_length": _length,
    "coalesce": choices.coalesce,
    "concat": _concat,
    "floor": _whole("floor"),
    "greatest": choices.extreme("greatest"),
    "least": choices.extreme("least"),
    "left": _side("left"),
    "length": _length,
    "ltrim": trim("ltrim"),
    "md5": _md5,
    "mod": _mod,
    "nullif": choices.nullif,
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
}

__all__ = ["FUNCTIONS", "MOMENTS", "Build", "constant_number", "position", "substring", "trim"]
