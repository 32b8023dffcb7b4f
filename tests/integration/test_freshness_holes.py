"""Strong reads where the ends of PostgreSQL's log say too much or too little.

On servers of their own, which flush their log only for who asks for that, and whose background
writer stands still: what it logs every 15 s closes each hole, by and by.
"""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from htapkit.testing.postgres import Connection, PostgresServer
from tests.fix_mirror import SETTLE_SECONDS, Mirrored, fresh_database, last_route, mirrored, stopped

pytestmark = pytest.mark.integration

PAGE_BYTES = 8192
HEADERS = {24, 40}  # of a page, and of the first one of a file
FILLING_BYTES_MIN = 400  # a shorter record has a shorter header
QUIET = {
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "wal_writer_delay": "10s",
    "wal_writer_flush_after": "1GB",
}


@pytest.fixture(scope="module", params=["on", "off"], ids=["synchronous", "asynchronous"])
def quiet(
    pg: PostgresServer, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Mirrored]:
    """A mirror of a server whose log moves only when somebody writes."""
    settings = {**QUIET, "synchronous_commit": request.param}
    folder = tmp_path_factory.mktemp("quiet")
    with (
        PostgresServer(pg.version, settings=settings) as server,
        fresh_database(server) as database,
    ):
        database.execute("create table t (id int primary key, v text)")
        with mirrored(database, folder) as one:
            one.stack.wait_ready()
            one.settles("t")
            sql = "select pid from pg_stat_activity where backend_type = 'background writer'"
            with stopped(int(database.execute(sql)[0][0])):
                yield one


@contextmanager
def strong(one: Mirrored) -> Iterator[Connection]:
    """Reads the copy, or fails: a wait of seconds is one that would last till the log moves."""
    with one.port() as port:
        port.execute("SET htapkit.on_stale = 'error'")
        port.execute("SET htapkit.wait_timeout = '9 s'")
        yield port


def marked(one: Mirrored) -> float:
    """How many waits ended with a mark so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{one.stack.http_port}/metrics") as answer:
        text = answer.read().decode()
    sample = r'^htapkit_freshness_waits_total{how="marked",source="shop"} (\S+)$'
    found = re.search(sample, text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def lsn(connection: Connection, function: str) -> int:
    """What one of the functions says of the log, as a number."""
    row = connection.execute(f"select {function}() - '0/0'::pg_lsn").fetchone()
    assert row is not None
    return int(row[0])


def fill_the_page(connection: Connection) -> int:
    """Write until the log ends where a page does: the next record would begin behind a header."""
    overhead, end = 55, time.monotonic() + SETTLE_SECONDS
    while (at := lsn(connection, "pg_current_wal_insert_lsn")) % PAGE_BYTES not in HEADERS:
        left = -at % PAGE_BYTES
        size = left - overhead if left > FILLING_BYTES_MIN else FILLING_BYTES_MIN
        connection.execute("select pg_logical_emit_message(false, 'x', repeat('x', %s))", [size])
        assert time.monotonic() < end, f"the log's end is at {at:x}"
    return at


def count(port: Connection) -> int:
    row = port.execute("select count(*) from t").fetchone()
    assert row is not None
    assert last_route(port) == "hot"
    return int(row[0])


def test_the_log_ends_behind_the_header_of_a_page(quiet: Mirrored) -> None:
    """No record will cover that position: without a mark, a read waits for the next one."""
    with quiet.database.connect() as source, strong(quiet) as port:
        source.execute("set synchronous_commit = on")
        source.execute("delete from t")
        for number in range(3):
            source.execute("insert into t values (%s, 'v')", [number])
            before = marked(quiet)
            at = fill_the_page(source)
            assert count(port) == number + 1
            assert marked(quiet) == before + 1, f"the log's end at {at:x} was no hole"


def test_commits_that_nobody_flushed(quiet: Mirrored) -> None:
    """They are acknowledged, so they count, whatever lies before and behind them in the log."""
    with (
        quiet.database.connect() as holder,
        quiet.database.connect() as source,
        strong(quiet) as port,
    ):
        source.execute("delete from t")
        source.execute("set synchronous_commit = off")
        for number in range(3):
            with holder.transaction(force_rollback=True):
                holder.execute("insert into t select g, 'open' from generate_series(1000, 1050) g")
                source.execute("insert into t values (%s, 'v')", [number])
                at = lsn(source, "pg_current_wal_insert_lsn")
                holder.execute("insert into t select g, 'open' from generate_series(2000, 2050) g")
                assert lsn(source, "pg_current_wal_flush_lsn") < at, "somebody flushed it"
                assert count(port) == number + 1
