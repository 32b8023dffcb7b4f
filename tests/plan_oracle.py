"""PostgreSQL as the oracle of the planner: each statement both ways, compared byte by byte.

`Mirror` copies a PostgreSQL database's tables into a DuckDB of the hot store's form, plans a
statement, runs what the plan says, and gives PostgreSQL's own answer beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

import duckdb
import psycopg
import pyarrow as pa
from psycopg import pq

from htapkit.model import (
    Catalog,
    Column,
    SqlType,
    Storage,
    TableId,
    TableSchema,
    TableState,
    TableStatus,
    hot_relation,
    native_arrow,
)
from htapkit.plan import LocalQuery, Plan, SessionView, plan
from htapkit.plan.names import quote
from htapkit.plan.types import DUCKDB, decimal_sql
from htapkit.serve.pgwire.rows import array_literal, text_values
from tests.in_order import in_order

SOURCE = "shop"
SETTINGS = """
SET timezone = 'UTC'; SET datestyle = 'ISO'; SET intervalstyle = 'postgres';
SET extra_float_digits = 1
"""
_COLUMNS = """
SELECT c.relname, a.attname, t.typname, t.oid, a.atttypmod, t.typtype, a.attnum, NOT a.attnotnull,
    coalesce(
        l.collname IN ('C', 'POSIX') OR (l.collname = 'default' AND d.datcollate IN ('C', 'POSIX')),
        true
    ),
    CASE WHEN l.collname <> 'default' THEN format('%I.%I', m.nspname, l.collname) ELSE '' END
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r'
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_database d ON d.datname = current_database()
LEFT JOIN pg_collation l ON l.oid = a.attcollation
LEFT JOIN pg_namespace m ON m.oid = l.collnamespace
WHERE a.attnum > 0 AND NOT a.attisdropped ORDER BY c.relname, a.attnum
"""
_KEYS = """
SELECT c.relname, a.attname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
WHERE i.indisprimary ORDER BY 1, array_position(i.indkey::int2[], a.attnum)
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows as text, and the types that were announced."""

    rows: list[tuple[bytes | None, ...]]
    types: list[tuple[int, int]]


class Mirror:
    """One database, twice."""

    def __init__(
        self, dsn: str, *, binary_order: bool | None = None, memory_limit: str = "1GB"
    ) -> None:
        """Copy every table of schema public; `binary_order` overrides what the collations say."""
        self.pg = psycopg.connect(dsn, autocommit=True)
        self.pg.execute(SETTINGS)
        self.duck = duckdb.connect(config={"threads": 2, "memory_limit": memory_limit})
        self.duck.execute("SET timezone = 'UTC'")
        tables: dict[str, list[Column]] = {}
        for (
            name,
            column,
            typname,
            oid,
            typmod,
            typtype,
            ordinal,
            nullable,
            binary,
            collation,
        ) in self.pg.execute(_COLUMNS):
            category = typtype if typtype in {"e", "c", "r"} else ""
            type_ = SqlType(typname, oid, typmod, category)
            storage = Storage.NATIVE if native_arrow(type_) is not None else Storage.TEXT
            order = binary if binary_order is None else binary_order
            tables.setdefault(name, []).append(
                Column(column, type_, ordinal, nullable, storage, order, collation=collation or "")
            )
        keys: dict[str, list[str]] = {}
        for name, column in self.pg.execute(_KEYS):
            keys.setdefault(name, []).append(column)
        statuses = {}
        for name, columns in tables.items():
            table = TableId(SOURCE, "public", name)
            schema = TableSchema(table, tuple(columns), tuple(keys.get(name, ())))
            statuses[table] = TableStatus(schema, TableState.FOLLOWING, self._copy(schema))
        self.catalog = Catalog(1, statuses)
        self.zone: tzinfo = UTC

    def at(self, zone: str) -> None:
        """Let sessions be in that time zone."""
        self.pg.execute("SELECT set_config('timezone', %s, false)", [zone])
        self.zone = UTC if zone == "UTC" else ZoneInfo(zone)

    def close(self) -> None:
        """Let both go."""
        self.pg.close()
        self.duck.close()

    def _copy(self, schema: TableSchema) -> int:
        listed = ", ".join(quote(c.name) for c in schema.columns)
        result = self._exec(f"SELECT {listed} FROM {quote(schema.table.name)}")
        columns = zip(*result.rows, strict=True) if result.rows else [[] for _ in schema.columns]
        arrays = [
            pa.array([_respelled(column, value) for value in values], pa.string())
            for column, values in zip(schema.columns, columns, strict=True)
        ]
        arrow = pa.table(arrays, [c.name for c in schema.columns])
        self.duck.register("incoming", arrow)
        place = ".".join(quote(part) for part in hot_relation(schema.table))
        self.duck.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(hot_relation(schema.table)[0])}")
        casts = ", ".join(f"{_read(c)} AS {quote(c.name)}" for c in schema.columns)
        self.duck.execute(f"CREATE TABLE {place} AS SELECT {casts} FROM incoming")
        self.duck.unregister("incoming")
        return len(result.rows)

    def _exec(
        self, sql: str, parameters: Sequence[bytes] = (), types: Sequence[int] = ()
    ) -> Answer:
        result = self.pg.pgconn.exec_params(sql.encode(), list(parameters), list(types) or None)
        if result.status != pq.ExecStatus.TUPLES_OK:
            raise psycopg.errors.DatabaseError(result.error_message.decode(errors="replace"))
        width = result.nfields
        return Answer(
            [tuple(result.get_value(r, c) for c in range(width)) for r in range(result.ntuples)],
            [(result.ftype(c), result.fmod(c)) for c in range(width)],
        )

    def expected(self, sql: str) -> Answer:
        """PostgreSQL's answer."""
        return self._exec(sql)

    def plan(self, sql: str, route: str = "hot") -> Plan:
        """The planner's."""
        view = SessionView(SOURCE, route=route, time_zone=str(self.zone), zones=True)
        return plan(sql, self.catalog, view)

    def local(self, made: LocalQuery, announced: Answer) -> Answer:
        """The plan's answer; raises what DuckDB raises (the statement is then relayed)."""
        found = self.duck.cursor().sql(made.sql).to_arrow_table()
        table = in_order(made, found, self.pg)
        hidden = table.select(range(len(made.columns)))
        if made.finish is not None:
            literals = [
                array_literal(_joined(hidden.column(at)), column.type.oid)
                for at, column in enumerate(made.columns)
            ]
            return self._exec(made.finish.sql, literals)
        texts = [
            text_values(_joined(hidden.column(at)), oid, self.zone).to_pylist()
            for at, (oid, _) in enumerate(announced.types)
        ]
        rows = [
            tuple(None if v is None else v.encode() for v in row)
            for row in zip(*texts, strict=True)
        ]
        return Answer(rows, [(column.type.oid, column.type.typmod) for column in made.columns])


def _joined(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _respelled(column: Column, value: bytes | None) -> str | None:
    """PostgreSQL writes BC last, DuckDB in parentheses after the day."""
    text = None if value is None else value.decode()
    if text is None or column.type.name not in {"date", "timestamp", "timestamptz"}:
        return text
    if not text.endswith(" BC"):
        return text
    day, _, rest = text.removesuffix(" BC").partition(" ")
    return f"{day} (BC) {rest}".rstrip()


def _read(column: Column) -> str:
    name = quote(column.name)
    if not column.computable:
        return name
    type_ = column.type
    if type_.decimal is not None:
        return f"CAST({name} AS {decimal_sql(*type_.decimal)})"
    if type_.name == "bytea":
        return f"from_hex(substring({name}, 3))"
    return f"CAST({name} AS {DUCKDB[type_.name]})"


def unordered(answer: Answer) -> list[tuple[bytes, ...]]:
    """The rows as a multiset."""
    return sorted(tuple(b"\x00" if v is None else v for v in row) for row in answer.rows)
