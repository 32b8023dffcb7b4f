"""What relayed statements may change, and statements of our own."""

from __future__ import annotations

import pytest

from htapkit.plan import (
    Effect,
    ExplainRoute,
    LocalQuery,
    Refuse,
    Relay,
    SessionView,
    SetOption,
    ShowOption,
    plan,
)
from tests.unit.htapkit.plan.catalogs import SHOP

SESSION = SessionView("shop")
EFFECTS = {
    Effect.READ: [
        "SHOW search_path",
        "SELECT version()",
        "VALUES (1)",
        "EXPLAIN SELECT 1",
        "EXPLAIN DELETE FROM orders",
        "SELECT * FROM pg_catalog.pg_class c WHERE pg_catalog.pg_table_is_visible(c.oid)",
        "SELECT count(*) FROM orders WHERE note ~ 'a'",
        "WITH v(a) AS (SELECT 1) SELECT a FROM v",
    ],
    Effect.VIEW: [
        "SELECT * FROM unknown_table",
        "SELECT count(*) FROM public.unknown_table",
        "WITH w AS (SELECT a FROM unknown_table) SELECT * FROM w",
        "SELECT * FROM orders WHERE id IN (SELECT a FROM unknown_table)",
    ],
    Effect.BEGIN: [
        "BEGIN",
        "begin work",
        "START TRANSACTION",
        "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY",
    ],
    Effect.END: ["COMMIT", "END", "ROLLBACK", "ABORT", "commit work"],
    Effect.SETTINGS: [
        "SET search_path = a",
        "SET TIME ZONE 'UTC'",
        "SELECT set_config('a.b', 'c', false)",
    ],
    Effect.RESET: ["RESET ALL", "discard all;"],
    Effect.OTHER: [
        "",
        "SELECT 1; SELECT 2",
        "BEGIN ISOLATION LEVEL SERIALIZABLE",
        "START TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "COMMIT AND CHAIN",
        "ROLLBACK TO SAVEPOINT a",
        "ROLLBACK PREPARED 'a'",
        "SAVEPOINT a",
        "RELEASE a",
        "INSERT INTO orders VALUES (1)",
        "UPDATE orders SET note = ''",
        "DELETE FROM orders",
        "WITH d AS (DELETE FROM orders RETURNING *) SELECT * FROM d",
        "SELECT 1 INTO t",
        "SELECT * FROM orders FOR UPDATE",
        "SELECT * FROM orders FOR SHARE",
        "SELECT nextval('s')",
        "SELECT pg_advisory_lock(1)",
        "SELECT my_function(1)",
        "SELECT other.lower('a')",
        'SELECT "Lower"(note) FROM orders',
        "WITH f(a) AS (SELECT 1) SELECT f(2) FROM f",
        "EXPLAIN ANALYZE DELETE FROM orders",
        "EXPLAIN (ANALYZE) SELECT nextval('s')",
        "LOCK TABLE orders",
        "COPY orders TO STDOUT",
        "CALL p()",
        "DO $$ BEGIN END $$",
        "not SQL at all (",
        "SELECT 'unterminated",
        "PREPARE p AS SELECT 1",
        "DECLARE c CURSOR FOR SELECT 1",
        "LISTEN a",
        "CREATE TABLE t (a int)",
    ],
}


@pytest.mark.parametrize(
    ("sql", "effect"), [(sql, effect) for effect, texts in EFFECTS.items() for sql in texts]
)
def test_effect(sql: str, effect: Effect) -> None:
    """Never less than what the statement may do."""
    made = plan(sql, SHOP, SESSION)
    assert isinstance(made, Relay)
    assert made.effect is effect


def test_set_show_reset() -> None:
    """Options of ours are never relayed."""
    assert plan("SET htapkit.route = 'Hot'", SHOP, SESSION) == SetOption("route", "Hot")
    assert plan("set local htapkit.freshness to '5 s';", SHOP, SESSION) == SetOption(
        "freshness", "5 s", transaction=True
    )
    assert plan("SET SESSION htapkit.route TO DEFAULT", SHOP, SESSION) == SetOption("route", None)
    assert plan("RESET htapkit.route", SHOP, SESSION) == SetOption("route", None)
    assert plan("SHOW htapkit.last_route", SHOP, SESSION) == ShowOption("last_route")


def test_explain_route() -> None:
    """EXPLAIN (ROUTE) holds the plan of what it explains."""
    made = plan("EXPLAIN (ROUTE) SELECT count(*) FROM orders", SHOP, SESSION)
    assert isinstance(made, ExplainRoute)
    assert isinstance(made.plan, LocalQuery)
    refused = plan("EXPLAIN (ROUTE) SET htapkit.route = 'hot'", SHOP, SESSION)
    assert isinstance(refused, Refuse)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; SET htapkit.route = 'hot'",
        "EXPLAIN (ROUTE) SELECT 1; SELECT 2",
        "SELECT 1; SELECT * FROM other.public.events",
        "SELECT to_tsvector(name) FROM other.public.events",
        "SELECT * FROM other.public.nothing",
        "DELETE FROM other.public.events",
    ],
)
def test_local_only_is_never_relayed(sql: str) -> None:
    """PostgreSQL must not see them."""
    made = plan(sql, SHOP, SESSION)
    assert isinstance(made, Refuse)
    assert made.sqlstate == "0A000"
