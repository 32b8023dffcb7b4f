"""Schema htapkit: planned like tables of a source that PostgreSQL knows nothing of."""

from __future__ import annotations

import pytest

from htapkit.plan import LocalQuery, Plan, Refuse, SessionView, plan
from htapkit.serve.pgwire import own
from tests.unit.htapkit.plan.catalogs import SHOP

SESSION = SessionView("shop")


def _plan(sql: str, types: tuple[int, ...] = (), session: SessionView = SESSION) -> Plan:
    return plan(sql, SHOP, session, types)


def _local(sql: str, types: tuple[int, ...] = (), session: SessionView = SESSION) -> LocalQuery:
    made = _plan(sql, types, session)
    assert isinstance(made, LocalQuery), made
    return made


@pytest.mark.parametrize(
    "session",
    [
        SESSION,
        SessionView("shop", route="source"),
        SessionView("shop", route="lake"),
        SessionView("shop", as_of="2024-01-01"),
    ],
)
def test_they_are_read_here_whatever_the_session_wants(session: SessionView) -> None:
    """No route and no past has a say in them, and no right of a table is asked for."""
    made = _local("SELECT count(*) FROM htapkit.tables WHERE rows > 5", (), session)
    assert made.only_views
    assert (made.sources, made.access, made.views) == (("htapkit",), (), ("tables",))
    assert 'FROM "htapkit tables" AS' in made.sql
    assert own.unseen(made, "shop")


def test_with_a_table_of_a_source() -> None:
    """They can be joined; the table's rights count."""
    made = _local("SELECT o.id FROM orders o, shop.htapkit.tables t WHERE t.rows = o.id")
    assert not made.only_views
    assert made.sources == ("htapkit", "shop")
    assert [access.table.name for access in made.access] == ["orders"]


@pytest.mark.parametrize(
    ("sql", "sqlstate"),
    [
        ("SELECT * FROM htapkit.nothing", "42P01"),
        ("SELECT random() FROM htapkit.tables", "0A000"),
        ("DELETE FROM htapkit.tables", "0A000"),
        ("SELECT * FROM htapkit.tables; SELECT 1", "0A000"),
    ],
)
def test_what_cannot_be_read_here_is_refused(sql: str, sqlstate: str) -> None:
    """PostgreSQL never sees it."""
    made = _plan(sql)
    assert isinstance(made, Refuse)
    assert made.sqlstate == sqlstate


def test_the_rest_is_finished_by_the_sessions_source() -> None:
    """It gets the small result, and is told the columns' names and types before that."""
    made = _local(
        'SELECT pg_size_pretty(value), name AS "a b" FROM htapkit.limits ORDER BY value / 3.0'
    )
    assert made.finish is not None
    assert "htapkit" not in made.finish.sql
    shape = own.shape(made)
    assert 'AS f("pg_size_pretty", "a b") ON true WHERE 1 /' in shape
    assert "unnest(NULL::pg_catalog.int8[]" in shape.replace("::int8[]", "::pg_catalog.int8[]")


def test_text_of_a_view_sorts_by_its_bytes_at_the_source_too() -> None:
    """No PostgreSQL has the column that the collation could be taken from."""
    made = _local("SELECT name FROM htapkit.limits ORDER BY name || to_char(value, '9')")
    assert made.finish is not None
    assert 'COLLATE "C"' in made.finish.sql


def test_a_parameter_without_a_type_is_text() -> None:
    """The source that would say better never sees the statement."""
    made = _local("SELECT rows FROM htapkit.tables WHERE table_name = $1", (0,))
    assert own.shape(made).endswith('AND $1::pg_catalog."text" IS NOT NULL')
    assert isinstance(_plan("SELECT rows FROM htapkit.tables WHERE rows = $1", (0,)), Refuse)
