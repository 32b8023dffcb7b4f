"""`= ANY` of a parameter, and enums beside parameters."""

from __future__ import annotations

import pytest

from htapkit.plan import LocalQuery, Relay, SessionView, plan
from tests.unit.htapkit.plan.catalogs import catalog, status

TABLES = catalog(status("t", "id int4, big int8, name varchar, day date, mood enum:mood, f float8"))
SESSION = SessionView("shop", clock=True)
INT4S, TEXTS, DATES, FLOATS, NUMERICS, MOOD = 1007, 1009, 1182, 1022, 1231, 20_001


@pytest.mark.parametrize(
    ("condition", "oid", "local"),
    [
        ("id = ANY ($1)", INT4S, '(t1."id" IN (SELECT unnest(CAST($1 AS INTEGER[]))))'),
        ("big = ANY ($1::int[])", INT4S, '(t1."big" IN (SELECT unnest(CAST($1 AS INTEGER[]))))'),
        ("name <> ALL ($1)", TEXTS, '(NOT (t1."name" IN (SELECT unnest(CAST($1 AS VARCHAR[])))))'),
        ("mood = $1", MOOD, '(t1."mood" = CAST($1 AS VARCHAR))'),
        ("mood IN ($1, 'ok')", MOOD,
         "((t1.\"mood\" = CAST($1 AS VARCHAR)) OR (t1.\"mood\" = 'ok'))"),
    ],
)  # fmt: skip
def test_answered_here(condition: str, oid: int, local: str) -> None:
    made = plan(f"SELECT id FROM t WHERE {condition}", TABLES, SESSION, (oid,))
    assert isinstance(made, LocalQuery), made
    assert made.sql.endswith(f" WHERE {local}")


@pytest.mark.parametrize(
    ("condition", "oid"),
    [
        ("id = ANY ($1)", TEXTS),
        ("id = ANY ($1)", NUMERICS),
        ("f = ANY ($1)", FLOATS),
        ("id = ANY ($1::int8[])", INT4S),
        ("id > ANY ($1)", INT4S),
        ("mood = ANY ($1)", TEXTS),
        ("mood = $1", 25),
        ("mood > $1", MOOD),
    ],
)
def test_left_to_the_source(condition: str, oid: int) -> None:
    sql = f"SELECT id FROM t WHERE {condition}"
    assert isinstance(plan(sql, TABLES, SESSION, (oid,)), Relay)


def test_an_array_is_not_bound_everywhere() -> None:
    sql = "SELECT id FROM t WHERE id = ANY ($1)"
    assert isinstance(plan(sql, TABLES, SessionView("shop"), (INT4S,)), Relay)
