"""The tables, types and frames that random statements are made of, and what a statement is."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.sql_fuzz_values import Values

INTEGERS = ("int2", "int4", "int8")
NUMBERS = (*INTEGERS, "numeric", "float4", "float8")
TEXTS = ("text", "varchar", "bpchar")
MOMENTS = ("date", "timestamp", "timestamptz")
SHOWN = (*NUMBERS, *TEXTS, *MOMENTS, "bool", "uuid")
COMPARED = ("=", "<>", "<", "<=", ">", ">=")
FRAMES = (
    "",
    "",
    " ROWS BETWEEN 2 PRECEDING AND CURRENT ROW",
    " ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
    " ROWS BETWEEN 1 FOLLOWING AND 3 FOLLOWING",
    " RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
    " GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING",
)


@dataclass(frozen=True, slots=True)
class Column:
    """What an expression can name: as it is written, and its type.

    `loose`: a sum or an average of floats is in it, so PostgreSQL leaves its last digits open.
    """

    sql: str
    type: str
    loose: bool = False


TABLES = {
    "facts": "id int8, a int2, b int4, c int8, k int4, m numeric, n numeric, nu numeric, f float4,"
    " g float8, t text, v varchar, p bpchar, ci text, ok bool, d date, ts timestamp,"
    " tz timestamptz, tm time, iv interval, u uuid, e mood, by bytea, j jsonb, arr int4[], co text",
    "sales": "id int4, customer int4, item int4, quantity int2, price numeric, discount numeric,"
    " weight float8, rate float8, grade float4, region text, note varchar, flag bpchar, sold date,"
    " at timestamp,"
    " seen timestamptz, paid bool",
    "customers": "id int4, name text, segment varchar, parent int4, credit numeric, since date,"
    " town text",
    '"Order Lines"': '"select" int4, "From" int4, "a_b" text, "Group" numeric, "user" int8,'
    ' "é""q" date',
    "empty_t": "id int4, x int4, t text, n numeric, d date, g float8",
    "nulls_t": "id int4, x int4, t text, n numeric, d date, g float8",
    "v_sales": "id int4, customer int4, total numeric, region text",
}
WEIGHTS = {"facts": 6, "sales": 10, "customers": 6, '"Order Lines"': 3, "empty_t": 1, "nulls_t": 1}
WEIGHTS["v_sales"] = 1


@dataclass(slots=True)
class Query:
    """The text, its columns, and by which of them (all, from 0 on) its rows are ordered, if so."""

    sql: str
    columns: list[Column]
    order: tuple[int, ...] = ()
    values: Values = field(default_factory=Values)

    def seen_as(self, alias: str, names: list[str]) -> list[Column]:
        """Its columns to a query around it, under new names."""
        return [
            Column(f"{alias}.{name}", column.type, column.loose)
            for name, column in zip(names, self.columns, strict=True)
        ]
