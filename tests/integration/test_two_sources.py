"""Two databases in one store, each its own at the port; one statement may read both."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from htapkit.testing.postgres import Database, PostgresServer
from htapkit.testing.stack import Stack

pytestmark = pytest.mark.integration

BOTH = """
SELECT avg(t.id * 1.5), to_char(count(*), 'FM000') AS n, c.name FROM customers c
JOIN {}tickets t ON t.customer = c.id WHERE c.id BETWEEN {} AND 50 GROUP BY c.name ORDER BY 1, 3
"""


@pytest.fixture(scope="module")
def stack(
    pg18: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stack, Database, Database]]:
    """Customers in one database, their tickets in another."""
    shop, desk = Database(pg18, "two_shop"), Database(pg18, "two_desk")
    shop.execute("CREATE TABLE customers (id int PRIMARY KEY, name text)")
    shop.execute("INSERT INTO customers SELECT g, 'c' || g FROM generate_series(1, 100) g")
    desk.execute("CREATE TABLE tickets (id int PRIMARY KEY, customer int, open boolean)")
    desk.execute(
        "INSERT INTO tickets SELECT g, g % 50 + 1, g % 3 = 0 FROM generate_series(1, 900) g"
    )
    sources = {
        name: {"dsn": database.dsn, "tables": ["public.*"]}
        for name, database in (("shop", shop), ("desk", desk))
    }
    try:
        with Stack(tmp_path_factory.mktemp("two"), sources) as made:
            made.wait_ready()
            yield made, shop, desk
    finally:
        shop.drop()
        desk.drop()


def test_each_source_is_a_database(stack: tuple[Stack, Database, Database]) -> None:
    """Its own tables, answered by the copy; another test adds rows."""
    made, _, _ = stack
    for name, sql, count in (
        ("shop", "SELECT count(*) FROM customers WHERE id <= 100", 100),
        ("desk", "SELECT count(*) FROM tickets WHERE open AND id <= 900", 300),
    ):
        with made.connect(name) as port:
            assert port.execute(sql).fetchone() == (count,)
            assert port.execute("SHOW htapkit.last_route").fetchone() == ("hot",)


def test_one_statement_reads_both(stack: tuple[Stack, Database, Database]) -> None:
    """A join across sources runs here; PostgreSQL never sees it. Changes of both are in it."""
    made, shop, desk = stack
    shop.execute("INSERT INTO customers VALUES (1000, 'late')")
    desk.execute("INSERT INTO tickets VALUES (1000, 1000, true), (1001, 1000, false)")
    with made.connect("shop") as port:
        port.execute("SET htapkit.freshness = 'strong'")
        found = port.execute(
            "SELECT c.name, count(*) FROM customers c"
            " JOIN desk.public.tickets t ON t.customer = c.id"
            " WHERE c.id IN (7, 1000) GROUP BY c.name ORDER BY count(*)"
        ).fetchall()
        assert found == [("late", 2), ("c7", 18)]
        assert port.execute("SHOW htapkit.last_route").fetchone() == ("hot",)


def test_the_sessions_source_finishes(stack: tuple[Stack, Database, Database]) -> None:
    """Names, types and rows are what PostgreSQL makes of the joined rows, also of parameters."""
    made, shop, desk = stack
    rows = [tuple(row) for row in desk.execute("SELECT id, customer FROM tickets")]
    with shop.connect() as direct:
        direct.execute("CREATE TEMP TABLE tickets (id int, customer int)")
        with direct.cursor().copy("COPY tickets FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        wanted = direct.execute(BOTH.format("", "40")).fetchall()
    assert len(wanted) == 11
    with made.connect("shop") as port:
        port.execute("SET htapkit.freshness = 'strong'")
        for given, values in (("40", None), ("%s", (40,))):
            answer = port.execute(BOTH.format("desk.public.", given), values)
            assert [column.name for column in answer.description or ()] == ["avg", "n", "name"]
            assert [column.type_code for column in answer.description or ()] == [1700, 25, 25]
            assert answer.fetchall() == wanted
            assert port.execute("SHOW htapkit.last_route").fetchone() == ("hot",)


def test_what_cannot_run_here_is_refused_by_name(stack: tuple[Stack, Database, Database]) -> None:
    """It cannot go to the source either: one clear error."""
    made, _, _ = stack
    with made.connect("shop") as port, pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        port.execute(
            "SELECT to_tsvector(c.name) FROM customers c"
            " JOIN desk.public.tickets t ON t.customer = c.id"
        )
    assert "to_tsvector" in str(refused.value)
