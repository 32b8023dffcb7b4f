"""The planner against real PostgreSQL: what is answered locally is equal to the byte.

The lists are `tests/plan/hot_statements.sql` (each must be answered hot),
`tests/plan/nasty_statements.sql` (each is equal or refused), and random statements, whose seed is
printed by a failure.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import duckdb
import psycopg
import pytest

from htapkit.errors import QueryFailed
from htapkit.plan import LocalQuery
from htapkit.testing.postgres import PostgresServer
from tests import sql_fuzz_locale
from tests.plan_fuzz import statement
from tests.plan_oracle import Answer, Mirror, unordered

pytestmark = pytest.mark.integration

_PLAN = Path(__file__).parents[1] / "plan"
_TPCH = Path(__file__).parents[2] / "sql" / "bench" / "tpch"
_SEEDS = (20, 21, 22)
_STATEMENTS_PER_SEED = 250


def _named(file: str) -> list[tuple[str, str]]:
    parts = (_PLAN / file).read_text().split("-- name: ")[1:]
    return [(name, sql.strip()) for name, _, sql in (part.partition("\n") for part in parts)]


HOT = _named("hot_statements.sql")
NASTY = [line for line in (_PLAN / "nasty_statements.sql").read_text().splitlines() if line]


@contextmanager
def _database(
    pg: PostgresServer, name: str, *changes: str, binary_order: bool | None = None
) -> Iterator[Mirror]:
    """The tables of oracle_tables.sql in a database of the C collation, changed, and their copy."""
    with pg.connect() as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER libc LOCALE 'C'"
        )
    with psycopg.connect(pg.dsn(name), autocommit=True) as connection:
        connection.execute((_PLAN / "oracle_tables.sql").read_text())
        for change in changes:
            connection.execute(change)
    made = Mirror(pg.dsn(name), binary_order=binary_order)
    try:
        yield made
    finally:
        made.close()
        with pg.connect() as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def mirror(pg: PostgresServer) -> Iterator[Mirror]:
    """Text sorts by its bytes."""
    with _database(pg, "plan_oracle") as made:
        yield made


def _same(got: Answer, expected: Answer, sql: str) -> bool:
    if "order by" in sql.lower():
        return got.rows == expected.rows
    return unordered(got) == unordered(expected)


def test_there_are_enough_statements() -> None:
    """At least 150 of them, by different names."""
    assert len({name for name, _ in HOT}) == len(HOT) >= 150


@pytest.mark.parametrize("sql", [sql for _, sql in HOT], ids=[name for name, _ in HOT])
def test_hot_statement(mirror: Mirror, sql: str) -> None:
    """It is answered hot, and equal."""
    made = mirror.plan(sql)
    assert isinstance(made, LocalQuery), made
    expected = mirror.expected(sql)
    got = mirror.local(made, expected)
    assert got.rows == expected.rows
    assert [oid for oid, _ in got.types] == [oid for oid, _ in expected.types]
    if made.finish is not None:
        assert got.types == expected.types


@pytest.mark.parametrize("sql", NASTY)
def test_nasty_construct(mirror: Mirror, sql: str) -> None:
    """It is refused, fails and so is relayed, or is equal."""
    _check(mirror, sql)


@pytest.mark.parametrize("seed", _SEEDS)
def test_random_statements(mirror: Mirror, seed: int) -> None:
    """Whatever the planner accepts is equal; most of it is accepted."""
    source = random.Random(seed)
    hot = sum(_check(mirror, statement(source)) for _ in range(_STATEMENTS_PER_SEED))
    assert hot > _STATEMENTS_PER_SEED // 2, f"seed {seed}: only {hot} were answered hot"


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "Pacific/Kiritimati"]
)
def test_in_another_zone(mirror: Mirror, zone: str) -> None:
    """The same statements in a session whose local time is not UTC are equal, or refused."""
    mirror.at(zone)
    try:
        hot = sum(_check(mirror, sql) for sql in [*(sql for _, sql in HOT), *NASTY])
    finally:
        mirror.at("UTC")
    assert hot > len(HOT) * 0.9, hot


def _check(mirror: Mirror, sql: str) -> bool:
    """Whether it was answered locally; fails where that differs from PostgreSQL."""
    made = mirror.plan(sql)
    if not isinstance(made, LocalQuery):
        return False
    try:
        expected = mirror.expected(sql)
    except psycopg.errors.DatabaseError:
        return False
    try:
        got = mirror.local(made, expected)
    except (duckdb.Error, QueryFailed):
        return False
    assert _same(got, expected, sql), f"{sql}\n{made.sql}\n{got.rows[:3]}\n{expected.rows[:3]}"
    return True


_ERRORS = [
    "SELECT i4 / 0 FROM nasty WHERE id = 2",
    "SELECT i4 % (i4 - 1) FROM nasty WHERE id = 2",
    "SELECT n2 / 0.0 FROM nasty WHERE id = 2",
    "SELECT id FROM nasty WHERE n2 / (i4 - 1) > 0 AND id = 2",
    "SELECT f8 / 0 FROM nasty WHERE id = 2",
    "SELECT i4 + 1 FROM nasty WHERE id = 4",
    "SELECT - i4 FROM nasty WHERE id = 5",
    "SELECT abs(i8) FROM nasty WHERE id = 5",
    "SELECT i2 + 1::smallint FROM nasty WHERE id = 4",
    "SELECT i8 * 2 FROM nasty WHERE id = 4",
    "SELECT f8 * 10 FROM nasty WHERE id = 4",
    "SELECT f8 * f8 FROM plain, nasty WHERE nasty.id = 4 AND plain.id = 1",
    "SELECT sqrt(f8) FROM nasty WHERE id = 3",
    "SELECT i8::int FROM nasty WHERE id = 4",
    "SELECT f8::int FROM nasty WHERE id = 6",
    "SELECT n2::numeric(4,2) FROM nasty WHERE id = 11",
    "SELECT d - date '2000-01-01' FROM nasty WHERE id = 7",
    "SELECT nth_value(id, 0) OVER (ORDER BY id) FROM plain",
    "SELECT (SELECT k FROM plain WHERE id < 3)",
    "SELECT (SELECT p.k FROM plain p WHERE p.k = x.k) FROM dim x",
]


@pytest.mark.parametrize("sql", _ERRORS)
def test_an_error_is_an_error(mirror: Mirror, sql: str) -> None:
    """Where PostgreSQL reports an error, the local query does too: the source then tells it."""
    with pytest.raises(psycopg.errors.DatabaseError):
        mirror.expected(sql)
    made = mirror.plan(sql)
    if isinstance(made, LocalQuery) and made.finish is None:
        with pytest.raises(duckdb.Error):
            mirror.duck.sql(made.sql).fetchall()


@pytest.fixture(scope="module")
def collated(pg: PostgresServer) -> Iterator[Mirror]:
    """Text sorts by a locale: as people sort, where it can be compiled.

    Else it is C.utf8, which sorts as C does, but differs in what `upper` makes of é: that shows
    whether a column's collation has travelled with it.
    """
    columns = (("plain", "t"), ("plain", "s"), ("nasty", "t"), ("dim", "name"))
    with ExitStack() as running:
        folder, server = running.enter_context(sql_fuzz_locale.compiled()), pg
        if folder:
            environment = running.enter_context(pytest.MonkeyPatch.context())
            environment.setenv("LOCPATH", str(folder))
            server = running.enter_context(PostgresServer(pg.version))
        locale = sql_fuzz_locale.NAME if folder else "C.utf8"
        changes = [
            f"CREATE COLLATION sorted (PROVIDER = libc, LOCALE = '{locale}')",
            *(f"ALTER TABLE {t} ALTER {c} TYPE text COLLATE sorted" for t, c in columns),
        ]
        yield running.enter_context(
            _database(server, "plan_oracle_collated", *changes, binary_order=False)
        )


_COLLATED = [
    "SELECT t, k, count(*), grouping(t) FROM plain GROUP BY ROLLUP (t, k) ORDER BY t, k, 4",
    "SELECT s AS u, k, sum(n) FROM plain GROUP BY CUBE (s, k) ORDER BY u DESC, k, 3",
    "SELECT id, t FROM nasty ORDER BY t, id",
    "SELECT t, count(*) FROM plain GROUP BY t ORDER BY t",
    "SELECT DISTINCT s FROM plain ORDER BY s",
    "SELECT id, upper(t) FROM nasty ORDER BY id",
    "SELECT id, t FROM plain ORDER BY t DESC NULLS LAST, id LIMIT 7 OFFSET 2",
    "SELECT x.name, sum(n) FROM plain p JOIN dim x USING (k) GROUP BY x.name ORDER BY x.name DESC",
    "SELECT t AS a, id FROM nasty ORDER BY a, 2",
    "SELECT id FROM plain ORDER BY t, s DESC, n DESC NULLS LAST, id OFFSET 3",
    "SELECT id, k FROM plain ORDER BY k DESC NULLS LAST, s NULLS FIRST, n, id",
    "SELECT id, 'x', t FROM nasty WHERE id < 0 ORDER BY t",
    "SELECT id, upper(t) FROM plain ORDER BY t, id",
    "SELECT id, t < 'm' FROM nasty ORDER BY id",
]


@pytest.mark.parametrize("sql", _COLLATED)
def test_text_order_under_a_locale(collated: Mirror, sql: str) -> None:
    """The source sorts and compares, by its own collation."""
    made = collated.plan(sql)
    assert isinstance(made, LocalQuery), made
    assert made.completed
    expected = collated.expected(sql)
    got = collated.local(made, expected)
    assert got.rows == expected.rows
    assert got.types == expected.types


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id FROM nasty WHERE t < 'm'",
        "SELECT max(t) FROM plain",
        "SELECT id FROM (SELECT id, t FROM plain ORDER BY t LIMIT 3) x",
        "SELECT id, rank() OVER (ORDER BY t) FROM plain",
    ],
)
def test_text_order_under_a_locale_inside(collated: Mirror, sql: str) -> None:
    """Where it decides which rows there are, it is refused."""
    assert not isinstance(collated.plan(sql), LocalQuery)
