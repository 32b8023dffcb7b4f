"""PostgreSQL's types as the planner reasons about them: names, OIDs, families, local types.

It holds what PostgreSQL's own catalog says and never a value.
"""

from __future__ import annotations

from collections.abc import Mapping

from htapkit.model import DECIMAL_DIGITS_MAX, SqlType

OIDS: Mapping[str, int] = {
    "bool": 16,
    "bytea": 17,
    "name": 19,
    "int8": 20,
    "int2": 21,
    "int4": 23,
    "text": 25,
    "json": 114,
    "float4": 700,
    "float8": 701,
    "unknown": 705,
    "bpchar": 1042,
    "varchar": 1043,
    "date": 1082,
    "time": 1083,
    "timestamp": 1114,
    "timestamptz": 1184,
    "interval": 1186,
    "numeric": 1700,
    "uuid": 2950,
    "jsonb": 3802,
}

ARRAYS: Mapping[int, str] = {
    1005: "int2",
    1007: "int4",
    1016: "int8",
    1009: "text",
    1015: "varchar",
    1115: "timestamp",
    1182: "date",
    1185: "timestamptz",
    2951: "uuid",
}
"""Array types by their OID: the types of their elements."""

NAMES: Mapping[int, str] = {oid: name for name, oid in OIDS.items()}

INTEGERS: Mapping[str, int] = {"int2": 5, "int4": 10, "int8": 19}
"""Integer types and the decimal digits that hold each of their values."""

FLOATS = frozenset({"float4", "float8"})
TEXTS = frozenset({"text", "varchar", "bpchar", "name"})
PLAIN_TEXTS = frozenset({"text", "varchar"})
MOMENTS = frozenset({"date", "timestamp", "timestamptz"})

NUMERIC_ORDER = ("int2", "int4", "int8", "numeric", "float4", "float8")
"""Each of them is implicitly cast to any later one, so the common type is the last one present."""

DUCKDB: Mapping[str, str] = {
    "bool": "BOOLEAN",
    "int2": "SMALLINT",
    "int4": "INTEGER",
    "int8": "BIGINT",
    "float4": "FLOAT",
    "float8": "DOUBLE",
    "date": "DATE",
    "time": "TIME",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
    "bytea": "BLOB",
    "text": "VARCHAR",
    "varchar": "VARCHAR",
    "bpchar": "VARCHAR",
    "name": "VARCHAR",
    "uuid": "VARCHAR",
}

UTC_NAMES = frozenset(
    {"utc", "etc/utc", "gmt", "etc/gmt", "z", "zulu", "uct", "universal", "greenwich"}
)


def is_utc(zone: str) -> bool:
    """Whether local time in `zone` is UTC at every moment."""
    return zone.lower() in UTC_NAMES


def numeric_typmod(precision: int, scale: int) -> int:
    """The modifier of numeric(precision, scale), as PostgreSQL packs it."""
    return ((precision << 16) | scale) + 4


def sql_type(name: str, typmod: int = -1) -> SqlType:
    """A built-in type by its name."""
    return SqlType(name=name, oid=OIDS.get(name, 0), typmod=typmod)


def decimal_sql(digits: int, scale: int) -> str:
    """DuckDB's DECIMAL of that size, at most its widest."""
    return f"DECIMAL({min(max(digits, scale, 1), DECIMAL_DIGITS_MAX)},{scale})"


def source_sql(name: str, typmod: int = -1) -> str:
    """The type as PostgreSQL's grammar spells it, with its modifier."""
    if name == "numeric" and typmod >= 4:
        packed = typmod - 4
        return f"numeric({(packed >> 16) & 0xFFFF},{packed & 0x7FF})"
    if name in {"varchar", "bpchar"} and typmod >= 4:
        return f"{'varchar' if name == 'varchar' else 'char'}({typmod - 4})"
    if name.startswith("_"):
        return f"{name[1:]}[]"
    return name
