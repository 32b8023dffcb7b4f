"""Schema htapkit over the port: psql and drivers read it like any tables; the source never does."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator

import asyncpg
import psycopg
import pytest

from htapkit.testing.installation import installations
from htapkit.testing.postgres import Database
from htapkit.testing.stack import Stack, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def stack(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A source with two tables, one of which cannot be mirrored."""
    database.execute("CREATE TABLE good (id int PRIMARY KEY, note text)")
    database.execute("INSERT INTO good SELECT g, 'n' || g FROM generate_series(1, 50) g")
    database.execute("CREATE TABLE keyless (id int)")
    sources = {"shop": {"dsn": database.dsn, "tables": ["public.*"]}}
    limits = {"reads": 7, "disk_free": 0}
    with Stack(tmp_path_factory.mktemp("v"), sources, configuration={"limits": limits}) as made:
        with made.connect("shop") as port:
            state = "SELECT state FROM htapkit.tables WHERE table_name = 'good'"
            wait_until(lambda: port.execute(state).fetchone() == ("following",), 60)
        yield made


def test_tables_and_sources(stack: Stack) -> None:
    """What `htapkit status` says, as rows that can be filtered, counted and sorted."""
    with stack.connect("shop") as port:
        found = port.execute("SELECT table_name, state, rows FROM htapkit.tables ORDER BY 1 DESC")
        assert found.fetchall() == [("keyless", "problem", 0), ("good", "following", 50)]
        assert [c.type_code for c in found.description or ()] == [25, 25, 20]
        counts = port.execute("SELECT tables, tables_following, state FROM htapkit.sources")
        assert counts.fetchall() == [(2, 1, "streaming")]
        why = port.execute("SELECT why FROM htapkit.tables WHERE rows = %s", (0,)).fetchone()
        assert why is not None
        assert "REPLICA IDENTITY" in why[0]


def test_limits(stack: Stack) -> None:
    """Every limit of the configuration, and the use of those whose use is known."""
    with stack.connect("shop") as port:

        def limits() -> dict[str, tuple[object, object]]:
            found = port.execute("SELECT name, value, used FROM htapkit.limits").fetchall()
            return {name: (value, used) for name, value, used in found}

        def used(what: str) -> tuple[object, object]:
            return limits()[f"limits.{what}_connections"]

        # The session before this one may not have ended yet.
        wait_until(lambda: used("client") == (200, 1), 60, lambda: str(limits()))
        wait_until(lambda: used("source") == (20, 1), 60, lambda: str(limits()))
        assert limits()["limits.reads"][0] == 7
        assert limits()["limits.disk"][0] is None
        # Finished at the source, and of the type that it says.
        shown = port.execute(
            "SELECT pg_size_pretty(value) AS size FROM htapkit.limits"
            " WHERE name = 'limits.slot_lag'"
        )
        assert [(c.name, c.type_code) for c in shown.description or ()] == [("size", 25)]
        assert shown.fetchall() == [("3815 MB",)]


def test_routes_have_no_values(stack: Stack) -> None:
    """The statement without its literals, where it went, and why."""
    with stack.connect("shop") as port:
        port.execute("SELECT count(*) FROM good WHERE note = 'sesame'")
        port.execute("SELECT id FROM good WHERE note ~ 'sesame'")
        port.execute("SELECT count(*) FROM good WHERE note = %s", ("sesame",))
        found = port.execute("SELECT route, reason, statement FROM htapkit.routes LIMIT 3")
        prepared, relayed, local = found.fetchall()
        text = "SELECT count(*) FROM good WHERE note = "
        assert local == ("hot", "proven equal", text + "?")
        assert prepared == ("hot", "proven equal", text + "$1")
        assert relayed[0] == "source"
        assert "regexplike" in relayed[1]
        assert port.execute("SELECT count(*) FROM htapkit.jobs").fetchone() == (0,)


def test_in_any_transaction(stack: Stack) -> None:
    """They say nothing of the source's rows, so its isolation and writes have no say."""
    with stack.connect("shop") as port:
        port.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        port.execute("INSERT INTO good VALUES (100, 'mine')")
        assert port.execute("SELECT count(*) FROM htapkit.tables").fetchone() == (2,)
        assert port.execute("SELECT note FROM good WHERE id = 100").fetchone() == ("mine",)
        with pytest.raises(psycopg.errors.UndefinedTable, match=r"htapkit\.tabels does not exist"):
            port.execute("SELECT * FROM htapkit.tabels")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            port.execute("SELECT count(*) FROM htapkit.tables")
        port.execute("ROLLBACK")


def test_a_driver_that_asks_for_all_types(stack: Stack) -> None:
    """Describe is answered before the rows, in binary form, too."""

    async def ask() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=stack.port, user="postgres", database="shop"
        )
        try:
            sql = "SELECT * FROM htapkit.tables WHERE table_name = $1"
            rows: list[asyncpg.Record] = await connection.fetch(sql, "good")
            return rows
        finally:
            await connection.close()

    (row,) = asyncio.run(ask())
    assert (row["table_schema"], row["state"], row["rows"]) == ("public", "following", 50)


def test_psql(stack: Stack) -> None:
    """Aligned, with a row count, as of any table."""
    psql = installations()[18] / "psql"
    where = f"host=127.0.0.1 port={stack.port} dbname=shop user=postgres"
    sql = "SELECT table_name, state, rows, lake_rows FROM htapkit.tables WHERE rows > 0"
    made = subprocess.run(
        [psql, "-X", where, "-c", sql], capture_output=True, text=True, check=True, timeout=240
    )
    assert made.stdout.splitlines() == [
        " table_name |   state   | rows | lake_rows ",
        "------------+-----------+------+-----------",
        " good       | following |   50 |         0",
        "(1 row)",
        "",
    ]
