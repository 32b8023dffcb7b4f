"""EXPLAIN (ROUTE) in a session that is held at the source: it says what a statement would get."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from htapkit.testing.postgres import Database, PostgresServer
from htapkit.testing.stack import wait_until
from tests.fix_mirror import Mirrored, fresh_database, last_route, mirrored

pytestmark = pytest.mark.integration

SQL = "SELECT sum(id) FROM t"
UNREACHED = "00FFFFFF00000000"


@pytest.fixture(scope="module")
def one(pg: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    """A table that is followed."""
    with fresh_database(pg) as database:
        _table(database)
        with mirrored(database, tmp_path_factory.mktemp("held")) as mirror:
            mirror.settles("t")
            yield mirror


def _table(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    database.execute("INSERT INTO t SELECT generate_series(1, 100)")


def told(port: psycopg.Connection, *, extended: bool) -> tuple[list[str], list[str]]:
    """The routes that are chosen, and all reasons."""
    sql = f"EXPLAIN (ROUTE) {SQL}"
    rows = port.execute(sql, prepare=True).fetchall() if extended else _simple(port, sql)
    return [str(row[0]) for row in rows if row[1] == "true"], [str(row[4]) for row in rows]


def _simple(port: psycopg.Connection, sql: str) -> list[tuple[object, ...]]:
    with psycopg.ClientCursor(port) as cursor:
        return cursor.execute(sql).fetchall()


HELD = {
    "wrote": ("BEGIN", "INSERT INTO t VALUES (1000)", "has written or locked"),
    "locked": ("BEGIN", "SELECT 1 FROM t WHERE id = 1 FOR UPDATE", "has written or locked"),
    "snapshot": ("BEGIN ISOLATION LEVEL REPEATABLE READ", "SHOW htapkit.route", "the transaction"),
}


@pytest.mark.parametrize(("begin", "does", "words"), HELD.values(), ids=HELD)
@pytest.mark.parametrize("extended", [False, True])
def test_a_transaction_that_is_held(
    one: Mirrored, begin: str, does: str, words: str, *, extended: bool
) -> None:
    with one.stack.connect() as port:
        assert told(port, extended=extended)[0] == ["hot"], told(port, extended=extended)
        port.execute(begin)
        port.execute(does)
        chosen, reasons = told(port, extended=extended)
        assert chosen == ["source"]
        assert any(words in reason for reason in reasons), reasons
        port.execute(SQL)
        assert last_route(port) == "source", "what was told is what happens"
        port.execute("ROLLBACK")
        # What may have changed tables holds it until the copy has looked at them.
        wait_until(lambda: told(port, extended=extended)[0] == ["hot"], 60)
        port.execute(SQL)
        assert last_route(port) == "hot"


def test_a_forced_route_that_is_held(one: Mirrored) -> None:
    """What it says is the error that the statement gives."""
    with one.stack.connect() as port:
        port.execute("SET htapkit.route = 'hot'")
        port.execute("BEGIN")
        port.execute("DELETE FROM t WHERE id = 1")
        chosen, reasons = told(port, extended=False)
        assert chosen == []
        with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
            port.execute(SQL)
        assert caught.value.diag.message_primary in reasons


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("on_stale", ["source", "error"])
def test_a_copy_that_is_not_fresh_enough(one: Mirrored, on_stale: str, *, extended: bool) -> None:
    """What is asked for lies ahead of the source's whole log: it is told what its read gets."""
    with one.stack.connect() as port:
        port.execute("SET htapkit.wait_timeout = '0s'")
        port.execute(f"SET htapkit.on_stale = '{on_stale}'")
        port.execute(f"SET htapkit.position = '{UNREACHED}'")
        chosen, reasons = told(port, extended=extended)
        assert chosen == (["source"] if on_stale == "source" else [])
        assert any("not fresh enough" in reason for reason in reasons), reasons
        if on_stale == "source":
            port.execute(SQL)
            assert last_route(port) == "source", "what was told is what happens"
        else:
            with pytest.raises(psycopg.errors.QueryCanceled) as caught:
                port.execute(SQL)
            assert caught.value.diag.message_primary in reasons
        port.execute("SET htapkit.freshness = 'any'")
        assert told(port, extended=extended)[0] == ["hot"]


def test_a_role_that_may_not_read(one: Mirrored) -> None:
    """The source refuses it in its own words, so it is not the copy that is promised."""
    with one.stack.connect() as port:
        port.execute("CREATE ROLE reads_nothing")
        try:
            port.execute("SET ROLE reads_nothing")
            wait_until(lambda: "may have changed" not in str(told(port, extended=False)[1]), 60)
            chosen, reasons = told(port, extended=False)
            assert chosen == ["source"]
            assert any("permission denied" in reason for reason in reasons), reasons
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                port.execute(SQL)
        finally:
            port.execute("RESET ROLE")
            port.execute("DROP ROLE reads_nothing")


def test_a_spark_that_nobody_has_configured(one: Mirrored) -> None:
    with one.stack.connect() as port:
        port.execute("SET htapkit.route = 'spark'")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="no Spark is configured"):
            port.execute(SQL)
        assert port.execute("SELECT 1").fetchone() == (1,), "what reads no table runs as ever"
