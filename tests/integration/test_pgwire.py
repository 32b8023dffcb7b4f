"""The port as a client meets it: what is answered where, settings, cancel, limits, bad input."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil
import psycopg
import pytest

from htapkit.serve.pgwire import PgwireServer
from htapkit.testing.postgres import Database
from tests.integration.pgwire_fakes import FakeSource, cancelling, serving, table
from tests.integration.pgwire_raw import INT, RawClient, message

pytestmark = pytest.mark.integration
Port = tuple[PgwireServer, FakeSource]


@pytest.fixture
def port(database: Database) -> Iterator[Port]:
    with serving(database.dsn) as made:
        yield made


def connect(port: Port, *, autocommit: bool = True, **more: str) -> psycopg.Connection:
    pairs = " ".join(f"{name}='{value}'" for name, value in more.items())
    return psycopg.connect(
        f"host=127.0.0.1 port={port[0].port} user=postgres dbname=shop {pairs}",
        autocommit=autocommit,
    )


def last_route(connection: psycopg.Connection) -> str:
    row = connection.execute("show htapkit.last_route").fetchone()
    assert row is not None
    return str(row[0])


def test_marked_statements_are_answered_here(port: Port) -> None:
    with connect(port) as c:
        assert c.execute("select 1").fetchone() == (1,)
        assert last_route(c) == "source"
        assert c.execute("/*hot*/ select 41 + 1 as x").fetchone() == (42,)
        assert last_route(c) == "hot"
        assert c.execute("/*hot*/ select 41 + %s::int as x", (2,)).fetchone() == (43,)
        assert c.execute("/*finish*/ select 7 as y").fetchone() == (7,)
        assert port[1].reads == 3


def test_binary_results(port: Port) -> None:
    with connect(port) as c:
        text = "/*hot*/ select 1::int8, 'ä'::text, 1.5::float8, date '2024-02-29', true"
        there = c.execute(text.replace("/*hot*/", ""), binary=True).fetchone()
        assert c.execute(text, binary=True).fetchone() == there
        assert last_route(c) == "hot"


def test_what_cannot_be_answered_here_goes_to_the_source(port: Port) -> None:
    with connect(port) as c:
        assert c.execute("/*hot*/ /*broken*/ select 5").fetchone() == (5,)
        assert last_route(c) == "source"
        rows = c.execute("/*finish*/ select g from generate_series(1, 300) g").fetchall()
        assert len(rows) == 300
        assert last_route(c) == "source"
        with pytest.raises(psycopg.errors.DivisionByZero):
            c.execute("/*hot*/ select 1 / (g - 1) from generate_series(1, 2) g")


def test_an_error_after_the_first_rows_aborts_the_transaction(port: Port) -> None:
    with connect(port, autocommit=False) as c:
        with pytest.raises(psycopg.Error, match="broken in the middle"):
            c.execute("/*hot*/ /*half*/ select g from generate_series(1, 9) g")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            c.execute("select 1")
        c.rollback()
        with pytest.raises(psycopg.Error, match="broken in the middle"):
            c.execute("/*hot*/ /*half*/ select g from generate_series(1, %s) g", (9,))
        assert c.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        c.rollback()
        assert c.execute("select 1").fetchone() == (1,)


def test_a_transaction_that_wrote_stays_at_the_source(port: Port) -> None:
    with connect(port, autocommit=False) as c:
        c.execute("create table t (a int)")
        c.commit()
        assert c.execute("/*hot*/ select count(*) from t").fetchone() == (0,)
        assert last_route(c) == "hot"
        c.execute("insert into t values (1)")
        assert c.execute("/*hot*/ select count(*) from t").fetchone() == (1,)
        assert last_route(c) == "source"
        c.rollback()
        assert c.execute("/*hot*/ select count(*) from t").fetchone() == (0,)
        assert last_route(c) == "hot"
        c.rollback()
        c.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        c.execute("/*hot*/ select count(*) from t")
        assert last_route(c) == "source"


@pytest.mark.parametrize(
    "setting",
    [
        "datestyle = 'German'",
        "intervalstyle = 'iso_8601'",
        "bytea_output = 'escape'",
        "extra_float_digits = 0",
        "standard_conforming_strings = off",
        "timezone = '<+03>-03'",
    ],
)
def test_settings_that_we_do_not_know_send_all_to_the_source(port: Port, setting: str) -> None:
    with connect(port) as c:
        c.execute("/*hot*/ select 1")
        assert last_route(c) == "hot"
        c.execute(f"set {setting}")
        c.execute("/*hot*/ select 1")
        assert last_route(c) == "source"
        c.execute("reset all")
        c.execute("/*hot*/ select 1")
        assert last_route(c) == "hot"


def test_time_zone_of_the_session(port: Port) -> None:
    text = "/*hot*/ select timestamptz '2024-07-01 12:00:00+00' as t"
    with connect(port) as c:
        for zone in ("UTC", "Asia/Tokyo", "America/New_York"):
            c.execute(f"set timezone = '{zone}'")
            here = c.execute(text).pgresult
            there = c.execute(text.replace("/*hot*/", "")).pgresult
            assert here is not None
            assert there is not None
            assert here.get_value(0, 0) == there.get_value(0, 0)


def test_a_temporary_table_may_shadow_a_mirrored_one(port: Port) -> None:
    with connect(port) as c:
        c.execute("create table t as select 1 as a")
        assert c.execute("/*hot*/ select a from t").fetchone() == (1,)
        c.execute("create temp table t as select 2 as a")
        assert c.execute("/*hot*/ select a from t").fetchone() == (2,)
        assert last_route(c) == "source"


def test_own_settings(port: Port) -> None:
    with connect(port, options="-c htapkit.freshness=strong") as c:
        assert c.execute("show htapkit.freshness").fetchone() == ("strong",)
        c.execute("/*hot*/ select 1")
        assert port[1].freshness.wanted[-1].head
        c.execute("set htapkit.freshness = 'any'")
        assert c.execute("show htapkit.freshness").fetchone() == ("any",)
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="strong, session, any"):
            c.execute("set htapkit.freshness = 'soon'")
        with pytest.raises(psycopg.errors.UndefinedObject, match=r"htapkit\.nope"):
            c.execute("show htapkit.nope")
        with c.transaction(force_rollback=True):
            c.execute("set htapkit.on_stale = 'error'")
            assert c.execute("show htapkit.on_stale").fetchone() == ("error",)
        assert c.execute("show htapkit.on_stale").fetchone() == ("source",)
        with c.transaction():
            c.execute("set local htapkit.on_stale = 'error'")
        assert c.execute("show htapkit.on_stale").fetchone() == ("source",)


def test_own_statements_in_the_extended_protocol(port: Port) -> None:
    with connect(port) as c, c.cursor(binary=True) as cursor:
        cursor.execute("set htapkit.route = 'hot'", prepare=True)
        cursor.execute("show htapkit.route", prepare=True)
        assert cursor.fetchone() == ("hot",)
        cursor.execute("explain (route) /*hot*/ select 1", prepare=True)
        assert [each.name for each in cursor.description or []][:2] == ["route", "chosen"]
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="the planner refuses"):
            cursor.execute("/*refused*/ select 1", prepare=True)
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="broken before"):
            cursor.execute("/*hot*/ /*broken*/ select 1")


def test_freshness_follows_what_the_session_did(port: Port) -> None:
    wanted = port[1].freshness.wanted
    with connect(port) as c:
        c.execute("/*hot*/ select 1")
        assert not wanted, "nothing of this session has to be seen yet"
        c.execute("create table t (a int)")
        c.execute("/*hot*/ select 1")
        assert wanted[-1].head
        c.execute("/*hot*/ select 1")
        assert not wanted[-1].head
        assert wanted[-1].floors


def test_stale_copies(port: Port) -> None:
    port[1].freshness.hold.clear()
    with connect(port) as c:
        c.execute("set htapkit.freshness = 'strong'")
        c.execute("set htapkit.wait_timeout = '50ms'")
        c.execute("/*hot*/ select 1")
        assert last_route(c) == "source"
        c.execute("set htapkit.on_stale = 'error'")
        with pytest.raises(psycopg.errors.QueryCanceled, match="behind"):
            c.execute("/*hot*/ select 1")
        c.execute("set htapkit.on_stale = 'wait'")
        threading.Timer(0.3, port[1].freshness.hold.set).start()
        c.execute("/*hot*/ select 1")
        assert last_route(c) == "hot"


@pytest.mark.parametrize("mark", ["", "/*hot*/"])
def test_cancel(port: Port, mark: str) -> None:
    with connect(port) as c:
        with cancelling(c), pytest.raises(psycopg.errors.QueryCanceled):
            c.execute(f"{mark} select count(*) from generate_series(1, 5000000000) g")
        assert c.execute("/*hot*/ select 1").fetchone() == (1,)


def test_statement_timeout_holds_here_too(port: Port) -> None:
    with connect(port) as c:
        c.execute("set statement_timeout = '300ms'")
        with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
            c.execute("/*hot*/ select count(*) from generate_series(1, 500000000) g")


def test_a_read_ends_with_its_client(port: Port) -> None:
    client = RawClient(port[0].port, "shop")
    client.socket.sendall(
        message(b"Q", b"/*hot*/ select count(*) from generate_series(1, 500000000) g\0")
    )
    deadline = time.monotonic() + 60
    while not port[1].reads and time.monotonic() < deadline:
        time.sleep(0.01)
    client.socket.shutdown(socket.SHUT_RDWR)
    client.close()
    while port[0].clients and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not port[0].clients


def test_privileges_are_the_sources(port: Port, database: Database) -> None:
    database.execute("create table open (a int, b int); create table secret (a int)")
    database.execute("drop role if exists reader")
    database.execute("create role reader")
    database.execute("grant select (a) on open to reader")
    denied = port[1].origin.denied
    assert denied("reader", [table("open", "a")]) == ""
    assert "column b" in denied("reader", [table("open", "a", "b")])
    assert denied("reader", [table("open")]) == ""
    assert denied("reader", [table("secret")])
    assert denied("reader", [table("gone", "a")])
    database.execute("alter table open enable row level security")
    assert "row-level" in denied("reader", [table("open", "a"), table("open", "a", "c")])
    with connect(port) as c:
        c.execute("set role reader")
        port[1].access = (table("secret", "a"),)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            c.execute("/*hot*/ select a from secret")
        assert last_route(c) == "source"
    database.execute("drop owned by reader")
    database.execute("drop role reader")


def test_portals_with_row_limits_in_a_transaction(port: Port) -> None:
    """As pgjdbc's fetch size: the portal is named and lives on behind Sync."""
    client = RawClient(port[0].port, "shop")
    client.query("begin")
    text = b"/*hot*/ select g from generate_series(1, 5) g"
    client.socket.sendall(
        message(b"P", b"s\0" + text + b"\0\0\0")
        + message(b"B", b"p\0s\0\0\0\0\0\0\0")
        + message(b"E", b"p\0" + INT.pack(2))
        + message(b"S")
    )
    kinds = b"".join(each[:1] for each in client.until(1))
    assert kinds == b"12DDsZ"
    fetch = message(b"E", b"p\0" + INT.pack(2)) + message(b"S")
    client.socket.sendall(fetch * 3)
    assert b"".join(each[:1] for each in client.until(3)) == b"DDsZDCZCZ"
    assert client.query("commit")[0] == b"CCOMMIT\0"
    client.socket.sendall(fetch)
    assert client.until(1)[0][:1] == b"E"
    assert port[1].reads == 1
    assert port[1].closed == 1
    client.close()


def test_back_pressure(port: Port) -> None:
    """A client that does not read holds the rows up, and nothing piles up here."""
    client = RawClient(port[0].port, "shop")
    text = "/*hot*/ select repeat('x', 10000) as x from generate_series(1, 100000) g"
    before = psutil.Process().memory_info().rss
    client.socket.sendall(message(b"Q", text.encode() + b"\0"))
    time.sleep(2)
    grown = psutil.Process().memory_info().rss - before
    assert grown < 300 << 20, f"{grown >> 20} MiB for a result of 1 GB that nobody reads"
    client.close()


def test_large_messages(port: Port) -> None:
    with connect(port) as c:
        word = "x" * (5 << 20)
        assert c.execute("select length(%s::text)", (word,)).fetchone() == (len(word),)
        assert c.execute(f"select length('{word}')").fetchone() == (len(word),)
        row = c.execute("select repeat('y', 20000000)").fetchone()
        assert row is not None
        assert len(row[0]) == 20_000_000
        with c.cursor().copy(
            "copy (select repeat('z', 1000) from generate_series(1, 20000)) to stdout"
        ) as copy:
            assert sum(len(bytes(each)) for each in copy) == 20_000 * 1001


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\0\0\0\x04",
        b"\xff" * 100,
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"",
    ],
    ids=["http", "short", "ones", "ssl-only", "tls-hello", "nothing"],
)
def test_garbage_on_the_port(port: Port, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port[0].port)) as client:
        client.settimeout(60)
        with suppress(ConnectionError):  # closing with our bytes unread resets the connection
            client.sendall(sent)
            with suppress(OSError):  # gone already
                client.shutdown(socket.SHUT_WR)
            while client.recv(1000):
                pass
    with connect(port) as c:
        assert c.execute("select 1").fetchone() == (1,)


def test_another_protocol_is_told(port: Port, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_connection(("127.0.0.1", port[0].port)) as client:
        client.settimeout(60)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(1000), b""))
    assert answer.startswith(b"E")
    assert b"C08P01\0Minvalid length of startup packet: only PostgreSQL's" in answer
    assert "client refused" in caplog.text


@pytest.mark.parametrize(
    "sent", [b"z\0\0\0\x04", b"Q\0\0\0\x01", b"Q\xff\xff\xff\xff", b"Q\0\0\0\x50select"]
)
def test_garbage_after_login(port: Port, sent: bytes) -> None:
    client = RawClient(port[0].port, "shop")
    with suppress(ConnectionError):
        client.socket.sendall(sent)
        with suppress(OSError):  # gone already
            client.socket.shutdown(socket.SHUT_WR)
        while client.socket.recv(1000):
            pass
    client.close()
    with connect(port) as c:
        assert c.execute("select 1").fetchone() == (1,)


def test_unknown_database_and_limits(database: Database) -> None:
    with serving(database.dsn, connections_max=1, clients_max=3) as made:
        with pytest.raises(psycopg.OperationalError, match='"nope" does not exist; connect to'):
            psycopg.connect(f"host=127.0.0.1 port={made[0].port} user=postgres dbname=nope")
        with connect(made), pytest.raises(psycopg.OperationalError, match="source_connections"):
            connect(made)
        deadline = time.monotonic() + 60
        while made[1].origin.connections and time.monotonic() < deadline:
            time.sleep(0.01)
        connect(made).close()


def test_pipelines_mix_both_ways(port: Port) -> None:
    with connect(port) as c:
        c.execute("create table t (a int)")
        with c.pipeline():
            one = c.execute("/*hot*/ select 1")
            two = c.execute("insert into t values (1) returning a")
            three = c.execute("/*hot*/ select count(*) from t")
            assert one.fetchone() == (1,)
            assert two.fetchone() == (1,)
            assert three.fetchone() == (1,)


def test_notifications_come_while_idle(port: Port, database: Database) -> None:
    with connect(port) as c:
        c.execute("listen news")
        database.execute("notify news, 'hello'")
        notify = next(c.notifies(timeout=60))
        assert notify.payload == "hello"
