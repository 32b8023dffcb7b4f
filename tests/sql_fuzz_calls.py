"""Random calls over several rows: aggregates of a group, and window functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sql_fuzz_words import NUMBERS, SHOWN, Column

if TYPE_CHECKING:
    from tests.sql_fuzz import Grammar

_ADDING = ("sum", "sum", "avg", "avg", "stddev", "var_pop")
_FLOATS = ("float4", "float8")


def aggregate(g: Grammar, columns: list[Column]) -> Column:
    """An aggregate call; one that adds floats up is loose."""
    column = g.random.choice([c for c in columns if c.type in SHOWN] or columns)
    if g.chance(0.35):
        type_ = g.pick("int4", "numeric", "numeric", "float8", "text", "date")
        column = g.computed(type_, columns, 1)
    argument, type_ = column.sql, column.type
    filtered = f" FILTER (WHERE {g.boolean(columns, 1)})" if g.chance(0.15) else ""
    once = "DISTINCT " if g.chance(0.15) else ""
    if type_ in NUMBERS and g.chance(0.1):
        call = f"percentile_cont({g.pick('0.5', '0.25', '0.95', '0.333', '1')})"
        ordered = f"WITHIN GROUP (ORDER BY {argument}{g.pick('', ' DESC')})"
        return Column(f"{call} {ordered}{filtered}", "float8", column.loose)
    if type_ in NUMBERS and g.chance(0.65):
        name = g.pick(*_ADDING)
        return Column(f"{name}({once}{argument}){filtered}", _added(name, type_), type_ in _FLOATS)
    if type_ not in ("bool", "uuid") and g.chance(0.12):
        call = g.pick("mode()", f"percentile_disc({g.pick('0', '0.5', '0.9', '1')})")
        way = g.pick("", "", " DESC")
        return Column(
            f"{call} WITHIN GROUP (ORDER BY {argument}{way}){filtered}", type_, column.loose
        )
    if type_ == "bool":
        name = g.pick("bool_and", "bool_or", "every")
        return Column(f"{name}({argument}){filtered}", "bool")
    if type_ in SHOWN and type_ != "uuid" and g.chance(0.5):
        shown = "text" if type_ == "varchar" else type_
        return Column(f"{g.pick('min', 'max')}({argument}){filtered}", shown, column.loose)
    if type_ == "text" and g.chance(0.3):
        return Column(f"string_agg({argument}, ',' ORDER BY {argument}){filtered}", "text")
    if g.chance(0.4):
        return Column(f"count(*){filtered}", "int8")
    return Column(f"count({once if type_ in SHOWN else ''}{argument}){filtered}", "int8")


def over_groups(g: Grammar, keys: list[Column], calls: list[Column]) -> Column:
    """A window function over the groups: a rank by an aggregate, a running sum of an aggregate."""
    exact = [call for call in calls if not call.loose] or [Column("count(*)", "int8")]
    by = g.random.choice(exact)
    if g.chance(0.5):
        return Column(f"{g.pick('rank', 'dense_rank')}() OVER (ORDER BY {by.sql} DESC)", "int8")
    call = g.random.choice([each for each in calls if each.type in NUMBERS] or exact)
    order = ", ".join(each.sql for each in (by, *keys))
    if call.type not in NUMBERS:
        return Column(f"count({call.sql}) OVER (ORDER BY {order})", "int8")
    text = f"sum({call.sql}) OVER (ORDER BY {order})"
    return Column(text, _added("sum", call.type), call.type in _FLOATS)


def window_call(g: Grammar, usable: list[Column]) -> Column:
    """A function, without its OVER."""
    column = g.random.choice(usable)
    kind = g.random.randint(0, 5)
    if kind == 0:
        return Column(f"{g.pick('row_number', 'rank', 'dense_rank')}()", "int8")
    if kind == 1:
        offset = g.pick("", ", 2", ", 0")
        return Column(f"{g.pick('lag', 'lead')}({column.sql}{offset})", column.type, column.loose)
    if kind == 2:
        name = g.pick("first_value", "last_value")
        return Column(f"{name}({column.sql})", column.type, column.loose)
    if kind == 3:
        return Column(g.pick("ntile(3)", "count(*)"), "int8")
    column = g.random.choice(
        [c for c in usable if c.type in NUMBERS] or [Column("1::int4", "int4")]
    )
    name = g.pick("sum", "sum", "avg")
    return Column(f"{name}({column.sql})", _added(name, column.type), column.type in _FLOATS)


def _added(name: str, type_: str) -> str:
    """The type of a sum, an average or a deviation."""
    if type_ in _FLOATS:
        return type_ if name == "sum" else "float8"
    return "int8" if name == "sum" and type_ in ("int2", "int4") else "numeric"
