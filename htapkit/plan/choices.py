"""One of several values: CASE, COALESCE, NULLIF, GREATEST and LEAST."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from htapkit.plan import casts
from htapkit.plan.expr import Expr, collate_of, refused
from htapkit.plan.operators import common_type, comparable, compare
from htapkit.plan.types import DUCKDB, FLOATS, INTEGERS, NUMERIC_ORDER, TEXTS, decimal_sql
from htapkit.plan.unproven import UnprovenError


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
    if pattern.type in TEXTS and not all(part.text is not None for part in cast):
        sql = veiled(sql)
    return replace(pattern, sql=sql, dscale=dscale, constant=False)


def veiled(sql: str) -> str:
    """A text that may be NULL where the one column in it is not, as DuckDB is to see it.

    DuckDB 2.0 makes a filter by LIKE or IN that is true of all texts between the least and the
    greatest one `column IS NOT NULL`, so it takes `nullif(c, 'x')` and `CASE WHEN c THEN 'x' END`
    for never NULL. Of what is taken from a list it knows neither.
    """
    return f"([{sql}])[1]"


def coalesce(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    """The first that is not NULL, as the common type of all."""
    cast, pattern = unify(arguments, "COALESCE", utc=utc)
    if pattern.type == "numeric" and pattern.dscale is None:
        return case([f"{part.sql} IS NOT NULL" for part in cast[:-1]], arguments, utc=utc)
    return replace(pattern, sql=f"coalesce({', '.join(part.sql for part in cast)})")


def nullif(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
    """NULL where both are equal, else the first."""
    if len(arguments) != 2 or arguments[0].type == "unknown":
        raise refused("nullif", arguments)
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
    sql = f"(CASE WHEN {same.sql} THEN NULL ELSE {value.sql} END)"
    return replace(
        value,
        sql=veiled(sql) if value.type in TEXTS else sql,
        origin=None,
        text=None,
        moment=None,
        constant=False,
    )


def extreme(name: str) -> Callable[[list[Expr], bool], Expr]:
    """`greatest` and `least`: NULLs are passed over in both engines."""

    def build(arguments: list[Expr], utc: bool) -> Expr:  # noqa: FBT001
        cast, pattern = unify(arguments, name, utc=utc)
        for part in [*cast, pattern]:
            comparable(part, name, order=True)
        if pattern.type in FLOATS | {"bpchar", "bool"} or (
            pattern.type == "numeric" and pattern.dscale is None
        ):
            raise refused(name, arguments)
        return replace(pattern, sql=f"{name}({', '.join(part.sql for part in cast)})", typmod=-1)

    return build
