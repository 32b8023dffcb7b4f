"""Limits on statements of the copy, at the port: what clients are told, and where they run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psycopg
import pytest

from htapkit.testing.postgres import Database, PostgresServer
from htapkit.testing.stack import Stack

pytestmark = pytest.mark.integration

ENDLESS = "select count(*) from items a, items b where a.amount + b.amount > 3"
"""Takes minutes."""
WIDE = f"select {', '.join(['note'] * 10)} from items"
"""More than the sockets hold, so it lasts as long as nobody reads it."""


@pytest.fixture(scope="module")
def shop(pg18: PostgresServer) -> Iterator[Database]:
    database = Database(pg18, "read_limits")
    database.execute("create table items (id int primary key, amount int not null, note text)")
    database.execute(
        "insert into items select g, g % 7, repeat('x', 100) from generate_series(1, 200000) g"
    )
    # Should the statement reach the source after all, it ends there with another message.
    name = database.execute("select current_database()")[0][0]
    database.execute(f"alter database \"{name}\" set statement_timeout = '30s'")
    yield database
    database.drop()


@contextmanager
def limited(shop: Database, folder: Path, **limits: object) -> Iterator[Stack]:
    sources = {"shop": {"dsn": shop.dsn, "tables": ["public.*"]}}
    with Stack(folder, sources, configuration={"limits": limits}) as stack:
        stack.wait_ready(120)
        yield stack


@pytest.mark.parametrize("route", ["auto", "hot"])
def test_a_statement_that_takes_too_long_is_not_begun_again_at_the_source(
    shop: Database, tmp_path: Path, route: str
) -> None:
    with (
        limited(shop, tmp_path, statement_time="1 s") as stack,
        psycopg.connect(stack.dsn(), autocommit=True) as client,
    ):
        client.execute("select count(*) from items")
        client.execute(f"set htapkit.route = '{route}'".encode())
        with pytest.raises(psycopg.errors.QueryCanceled, match=r"limits\.statement_time"):
            client.execute(ENDLESS.encode())
        assert client.execute("select count(*) from items").fetchone() == (200_000,)


@contextmanager
def unread(stack: Stack) -> Iterator[None]:
    """A statement whose rows nobody takes."""
    with psycopg.connect(stack.dsn(), autocommit=True) as client:
        rows = client.cursor().stream(WIDE.encode())
        next(rows)
        try:
            yield
        finally:
            client.cancel_safe()
            with suppress(psycopg.errors.QueryCanceled):
                list(rows)


def test_where_too_many_run_a_forced_route_may_try_again(shop: Database, tmp_path: Path) -> None:
    with (
        limited(shop, tmp_path, reads=1) as stack,
        psycopg.connect(stack.dsn(), autocommit=True) as client,
    ):
        with unread(stack):
            client.execute("set htapkit.route = 'hot'")
            with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match=r"limits\.reads"):
                client.execute("select count(*) from items")
            client.execute("set htapkit.route = 'auto'")
            assert client.execute("select count(*) from items").fetchone() == (200_000,)
        told = client.execute("select route, reason from htapkit.routes limit 1").fetchone()
        metrics = httpx.get(f"http://127.0.0.1:{stack.http_port}/metrics", timeout=60).text
    assert told is not None
    assert told[0] == "source"
    assert "limits.reads" in told[1]
    # One was told, and one sent a statement to the source.
    assert 'htapkit_errors_total{error="LimitReached"} 2.0' in metrics


def test_a_cancel_ends_a_result_that_is_being_sent(shop: Database, tmp_path: Path) -> None:
    """Whoever presses Ctrl-C has not read what is on its way yet."""
    with limited(shop, tmp_path) as stack, psycopg.connect(stack.dsn(), autocommit=True) as client:
        rows = client.cursor().stream(WIDE.encode())
        next(rows)
        client.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled, match="user request"):
            for _ in rows:
                pass
        assert client.execute("show htapkit.last_route").fetchone() == ("hot",)
        assert client.execute("select count(*) from items").fetchone() == (200_000,)
