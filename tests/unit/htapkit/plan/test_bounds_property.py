"""Leaving out the lake's rows outside of a scan's bounds never changes an answer.

A wider bound is always right, a narrower one is a wrong answer: so each lake here gives not one row
more than it must. `SEED=…` repeats a run.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import duckdb
import pyarrow as pa
import pytest

from htapkit.model import Catalog
from htapkit.plan import LakeScan, LocalQuery, SessionView, plan, settled
from tests.unit.htapkit.plan.catalogs import catalog, status, tiered

SESSION = SessionView("shop")
_DAY = date(2024, 5, 1)
_TYPES = {"a": "timestamp", "b": "date", "c": "timestamptz"}
_PLAIN = [status(name, f"id int8, x int4, t {type_}") for name, type_ in _TYPES.items()]
_WHOLE = catalog(*_PLAIN)


class Statements:
    """Random statements over three tables with times around a few days."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.values: list[tuple[int, object]] = []

    def moment(self) -> datetime:
        """Often a midnight, or beside one."""
        at = datetime(_DAY.year, _DAY.month, _DAY.day, tzinfo=UTC)
        at += timedelta(days=self.chance.randrange(5))
        beside = self.chance.choice([0, 0, 0, 1, -1, 43_200_000_000])
        return at + timedelta(microseconds=beside)

    def constant(self) -> str:
        """A literal or a parameter of one of the types."""
        at, kind = self.moment(), self.chance.randrange(9)
        plain = at.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
        if kind == 0:
            return f"date '{at.date()}' + interval '{self.chance.randrange(-30, 60)}' hour"
        if kind == 1:
            return f"'{plain}'::timestamp - interval '1' day"
        if kind == 2:
            return f"'{at.date()}'::date"
        if kind == 3:
            zone = self.chance.choice(["+00", "+02", "-05:30"])
            return f"timestamptz '{plain}{zone}'"
        if kind <= 6:
            return f"timestamp '{plain}'"
        value = self.chance.choice([(1082, at.date()), (1114, at.replace(tzinfo=None)), (1184, at)])
        self.values.append(value)
        cast = {1082: "date", 1114: "timestamp", 1184: "timestamptz"}[value[0]]
        number = f"${len(self.values)}"
        return number if self.chance.random() < 0.5 else f"{number}::{cast}"

    def comparison(self, names: Sequence[str]) -> str:  # noqa: PLR0911 - one for each form
        """One condition that has to do with a time."""
        name, kind = self.chance.choice(names), self.chance.randrange(11)
        column = f"{name}.t::date" if self.chance.random() < 0.2 else f"{name}.t"
        word = self.chance.choice(["<", "<=", ">", ">=", "=", "<>"])
        if kind == 0:
            return f"{column} BETWEEN {self.constant()} AND {self.constant()}"
        if kind == 1:
            at = [f"'{self.moment().date()}'" for _ in range(3)]
            return f"{column} IN ({', '.join(at)})"
        if kind in {2, 6}:
            return f"({self.constant()}) {word} {column}"
        if kind == 3:
            return f"{name}.t IS {self.chance.choice(['', 'NOT '])}NULL"
        if kind == 4:
            return f"{name}.x {word} {self.chance.randrange(4)}"
        if kind == 5:
            other = self.chance.choice(names)
            return f"{name}.t {word} {other}.t"
        return f"{column} {word} {self.constant()}"

    def condition(self, names: Sequence[str], depth: int = 3) -> str:
        """Conditions joined by AND, more often than by OR, or turned round."""
        kind = self.chance.randrange(10) if depth else 9
        if kind < 4:
            return f"({self.condition(names, depth - 1)}) AND {self.comparison(names)}"
        if kind == 4:
            return f"({self.condition(names, depth - 1)}) OR ({self.comparison(names)})"
        if kind == 5:
            return f"NOT ({self.condition(names, depth - 1)})"
        return self.comparison(names)

    def tables(self, names: Sequence[str]) -> str:
        """A FROM of these tables."""
        text, *_ = parts = [f"{names[0]} AS {names[0]}"]
        for at, name in enumerate(names[1:], 1):
            side = self.chance.choice(
                ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN"]
            )
            item = f"{name} AS {name}"
            if side == "CROSS JOIN":
                parts.append(f"CROSS JOIN {item}")
            elif at == 1 and self.chance.random() < 0.15:
                parts.append(f"{side} {item} USING (id)")
            else:
                # DuckDB wants an equality in the ON of a FULL JOIN.
                on = f"{name}.x = {names[at - 1]}.x AND {self.condition(names[: at + 1], 2)}"
                parts.append(f"{side} {item} ON {on}")
        text = " ".join(parts)
        return f"({text})" if len(names) > 1 and self.chance.random() < 0.2 else text

    def query(self) -> str:
        """A whole statement whose answer is one row, or a few."""
        names = self.chance.sample(list(_TYPES), self.chance.randrange(1, 4))
        shown = ", ".join(f"count({n}.id), sum({n}.x), min({n}.t), max({n}.t)" for n in names)
        text = f"SELECT count(*), {shown} FROM {self.tables(names)}"
        where = [self.condition(names)] if self.chance.random() < 0.8 else []
        if self.chance.random() < 0.3:
            inner = self.chance.choice(list(_TYPES))
            word = self.chance.choice(["", "NOT "])
            near = self.condition([f"i{inner}", names[0]], 1)
            table = (
                f"(SELECT 1 FROM {inner} AS i{inner} WHERE i{inner}.x = {names[0]}.x AND {near})"
            )
            where.append(f"{word}EXISTS {table}")
        return text + (" WHERE " + " AND ".join(f"({each})" for each in where) if where else "")


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB with the tables' whole rows and, beside them, hot rows and lake rows apart."""
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET timezone = 'UTC'")
    for schema in ("shop.public", "whole", "apart"):
        connection.execute(f'CREATE SCHEMA "{schema}"')
    yield connection
    connection.close()


def _fill(engine: duckdb.DuckDBPyConnection, chance: random.Random) -> Catalog:
    """New rows; those below a random boundary are in the lake, but for a few that came late."""
    made = Statements(chance)
    found = []
    for table in _PLAIN:
        name = table.schema.table.name
        below = datetime(_DAY.year, _DAY.month, _DAY.day, tzinfo=UTC)
        below += timedelta(days=chance.randrange(6))
        if name != "b" and chance.random() < 0.3:
            below += timedelta(hours=12)
        type_ = _TYPES[name]
        columns = f"id BIGINT, x INTEGER, t {type_}, lake BOOLEAN"
        engine.execute(f"CREATE OR REPLACE TABLE whole.{name} ({columns})")
        for number in range(chance.randrange(1, 14)):
            at = made.moment() if chance.random() < 0.9 else None
            if at is not None and name == "b":
                at = at.replace(hour=0, minute=0, second=0, microsecond=0)
            old = at is not None and at < below and chance.random() < 0.8
            stored = at if at is None or name == "c" else at.replace(tzinfo=None)
            engine.execute(
                f"INSERT INTO whole.{name} VALUES (?, ?, ?, ?)",
                [number, chance.randrange(4), stored, old],
            )
        found.append(tiered(table, "t", below.isoformat().removesuffix("+00:00")))
    return catalog(*found)


def _place(engine: duckdb.DuckDBPyConnection, condition: str) -> None:
    """Fill the hot relations."""
    for name in _TYPES:
        engine.execute(
            f'CREATE OR REPLACE TABLE "shop.public".{name} AS '
            f"SELECT id, x, t FROM whole.{name} WHERE {condition}"
        )


def _answer(
    engine: duckdb.DuckDBPyConnection, made: LocalQuery, known: Sequence[tuple[int, object]]
) -> pa.Table:
    values = [known[parameter.number - 1][1] for parameter in made.parameters]
    for scan in made.scans:
        engine.execute(_view(scan, *settled(scan, made.parameters, values)))
    return engine.sql(made.sql, params=values).to_arrow_table()


def _view(scan: LakeScan, lower: int | None, upper: int | None) -> str:
    """The least that a lake may give for a scan: no row outside of its bounds."""
    at = "epoch_us(CAST(t AS TIMESTAMP))"
    low = "TRUE" if lower is None else f"{at} >= {lower}"
    high = "TRUE" if upper is None else f"{at} < {upper}"
    return (
        f'CREATE OR REPLACE TEMP VIEW "{scan.name}" AS '
        f"SELECT id, x, t FROM whole.{scan.table.name} WHERE lake AND {low} AND {high}"
    )


def test_leaving_out_rows_outside_of_the_bounds_changes_no_answer(
    engine: duckdb.DuckDBPyConnection,
) -> None:
    """Random tables, boundaries and statements, each against the same rows in one table."""
    seed = int(os.environ.get("SEED", random.randrange(2**32)))
    print(f"SEED={seed}")
    chance = random.Random(seed)
    local = narrowed = dropped = 0
    for number in range(250):
        if number % 5 == 0:
            parted = _fill(engine, chance)
        made = Statements(chance)
        sql = made.query()
        types = [oid for oid, _ in made.values]
        whole, apart = plan(sql, _WHOLE, SESSION, types), plan(sql, parted, SESSION, types)
        assert type(whole) is type(apart), sql
        if not isinstance(whole, LocalQuery):
            continue
        assert isinstance(apart, LocalQuery)
        _place(engine, "TRUE")
        expected = _answer(engine, whole, made.values)
        _place(engine, "NOT lake")
        assert _answer(engine, apart, made.values) == expected, (sql, made.values, apart)
        local += 1
        dropped += len(apart.scans) < apart.sql.count('"shop.public"')
        narrowed += any(s.lower is not None or s.upper is not None or s.limits for s in apart.scans)
    assert local > 200, "most statements are planned here"
    assert dropped > 20
    assert narrowed > 50
