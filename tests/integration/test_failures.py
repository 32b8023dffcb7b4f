"""What goes wrong at a source, or on the way to it: each failure is named, and nothing is lost."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import psycopg
import pytest

from htapkit.errors import PositionLost, SourceError, SourceRefused, SourceUnavailable
from htapkit.model import Broken, TableId
from htapkit.testing.postgres import Database, PostgresServer
from htapkit_postgres import PostgresSource
from htapkit_postgres.pgoutput import lsn_position
from tests.fault_proxy import FaultProxy
from tests.followed import Followed, open_stream, options

pytestmark = pytest.mark.integration

TABLE = "create table a (id int primary key, v text)"


@pytest.fixture
def followed(database: Database) -> Iterator[list[Followed]]:
    """A list to put Followed into, so that each is closed."""
    opened: list[Followed] = []
    yield opened
    for one in opened:
        one.close()


def drain(one: Followed, seconds: float = 60.0) -> None:
    """Read until the stream fails."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        one.replica.take(one.stream.next(0.1))


def follow_again(one: Followed, seconds: float = 60.0) -> None:
    """Open a new stream from where the replica is, as often as it takes."""
    end = time.monotonic() + seconds
    while True:
        with suppress(SourceUnavailable):
            one.stream = one.source.follow(one.replica.position, one.schemas)
            return
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_of_the_server(database: Database, followed: list[Followed], mode: str) -> None:
    one = open_stream(followed, database, TABLE)
    database.execute("insert into a values (1, 'before')")
    one.catch_up()
    database.execute("insert into a values (2, 'in flight')")
    begun = time.monotonic()
    database.server.stop(mode)
    # A fast shutdown waits for its senders: we must not hold it.
    assert time.monotonic() - begun < 30
    with pytest.raises(SourceUnavailable):
        drain(one)
    with pytest.raises(SourceUnavailable):
        one.source.head.head()
    with pytest.raises(SourceUnavailable):
        one.source.follow(one.replica.position, one.schemas)
    database.server.start()
    database.execute("insert into a values (3, 'after')")
    follow_again(one)
    one.check("a")


class Proxy:
    """A TCP proxy that can fall silent or cut its connections."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._pairs: list[socket.socket] = []
        self.silent = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Close all connections."""
        for one in self._pairs:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._pairs += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError), closing(source), closing(sink):
            while data := source.recv(65536):
                while self.silent.is_set():
                    time.sleep(0.01)
                sink.sendall(data)


def test_a_cut_network(database: Database, followed: list[Followed]) -> None:
    database.execute(TABLE)
    proxy = Proxy(database.server.port)
    dsn = f"postgresql://postgres@127.0.0.1:{proxy.port}/{database.name}"
    try:
        one = open_stream(followed, database, dsn=dsn)
        database.execute("insert into a values (1, 'before')")
        one.catch_up()
        proxy.cut()
        with pytest.raises(SourceUnavailable):
            drain(one)
        database.execute("insert into a values (2, 'meanwhile')")
        follow_again(one)
        one.check("a")
    finally:
        proxy.close()


def test_a_slot_in_use(database: Database, followed: list[Followed]) -> None:
    one = open_stream(followed, database, TABLE)
    one.catch_up()
    other = PostgresSource(options(database))
    with pytest.raises(SourceUnavailable, match="in use by process"):
        other.follow(one.replica.position, one.schemas)


def test_a_killed_sender(database: Database, followed: list[Followed]) -> None:
    one = open_stream(followed, database, TABLE)
    one.catch_up()
    kill = "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = %s"
    database.execute(kill, [f"slot_{database.name}"])
    with pytest.raises(SourceUnavailable):
        drain(one)
    database.execute("insert into a values (1, 'after')")
    follow_again(one)
    one.check("a")


def test_a_dropped_slot(database: Database, followed: list[Followed]) -> None:
    one = open_stream(followed, database, TABLE)
    one.catch_up()
    one.release()
    drop_slot(database)
    with pytest.raises(PositionLost, match="is gone"):
        one.source.follow(one.replica.position, one.schemas)
    one.stream = one.source.follow(None, one.schemas)
    database.execute("insert into a values (1, 'after')")
    one.check("a")


def drop_slot(database: Database) -> None:
    """Drop the test's slot as soon as it is free."""
    end = time.monotonic() + 60
    while True:
        with suppress(psycopg.errors.ObjectInUse):
            database.execute("select pg_drop_replication_slot(%s)", [f"slot_{database.name}"])
            return
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_lost_slot(database: Database, followed: list[Followed]) -> None:
    one = open_stream(followed, database, TABLE)
    one.catch_up()
    one.release()
    database.server.reload(max_slot_wal_keep_size="'1MB'")
    try:
        lost = "select wal_status = 'lost' from pg_replication_slots where slot_name = %s"
        end = time.monotonic() + 60
        while not database.execute(lost, [f"slot_{database.name}"])[0][0]:
            assert time.monotonic() < end
            database.execute("select pg_logical_emit_message(false, 'x', repeat('x', 100000))")
            database.execute("select pg_switch_wal()")
            database.execute("checkpoint")
        with pytest.raises(PositionLost, match="is lost"):
            one.source.follow(one.replica.position, one.schemas)
        assert any("lost" in finding.message for finding in one.source.check())
        one.stream = one.source.follow(None, one.schemas)
        database.execute("insert into a values (1, 'after')")
        one.check("a")
    finally:
        database.server.reload(max_slot_wal_keep_size="'-1'")


def test_a_slot_that_somebody_else_read(database: Database, followed: list[Followed]) -> None:
    one = open_stream(followed, database, TABLE)
    one.catch_up()
    position = one.replica.position
    one.release()
    database.execute("insert into a values (1, 'stolen')")
    advance = "select pg_replication_slot_advance(%s, pg_current_wal_lsn())"
    database.execute(advance, [f"slot_{database.name}"])
    with pytest.raises(PositionLost, match="somebody else"):
        one.source.follow(position, one.schemas)


def test_another_server_behind_the_address(database: Database, followed: list[Followed]) -> None:
    one = open_stream(followed, database, TABLE)
    one.release()
    beyond = lsn_position(int(one.source.head.head(), 16) + (1 << 30))
    with pytest.raises(SourceRefused, match="another server"):
        one.source.follow(beyond, one.schemas)
    # And nobody may take the copy for fresh because that server has nothing newer.
    with pytest.raises(SourceRefused, match="restored from a backup"):
        one.source.head.head()
    one.source.follow(None, one.schemas).close()
    one.source.head.head()


def test_all_is_held_to_the_server_that_is_followed(database: Database) -> None:
    """Also once another one was named: until somebody agrees to it, its rows are nobody's."""
    version = database.server.version
    with PostgresServer(version) as other, FaultProxy(database.server.port) as proxy:
        for each in (database, Database(other, database.name)):
            each.execute(TABLE)
        source = PostgresSource(options(database, dsn=proxy.dsn(database.name)))
        ours = source.identity()
        source.follow(None, []).close()
        table = source.discover()[0].schema.table
        proxy.target = other.port
        proxy.cut()
        assert source.identity() != ours
        for ask in (source.discover, lambda: source.snapshot([table], {}), source.head.head):
            with pytest.raises(SourceRefused, match="another server or database answers"):
                ask()
        proxy.target = database.server.port
        assert source.identity() == ours
        snapshot = source.snapshot([table], {})
        assert table in snapshot.tables
        snapshot.close()
        source.close()


def test_another_database_with_our_slot(database: Database, followed: list[Followed]) -> None:
    one = open_stream(followed, database, TABLE)
    one.release()
    settings = {"dsn": database.server.dsn("postgres"), "tables": ["public.a"]}
    other = PostgresSource(options(database, **settings))
    with pytest.raises(SourceRefused, match="belongs to database"):
        other.follow(one.replica.position, [])


def test_a_dropped_publication(database: Database, followed: list[Followed]) -> None:
    one = open_stream(followed, database, TABLE)
    one.catch_up()
    (before,) = one.source.discover()
    database.execute("drop publication htapkit_shop")
    database.execute("insert into a values (1, 'unpublished')")
    (gone,) = one.source.discover()
    assert copied_again(one.source.compare(before.schema, before.fingerprint, gone))
    with suppress(SourceError):
        drain(one, 1.0)  # 16 refuses to go on, 18 leaves the row out
    one.release()
    with pytest.raises(PositionLost, match="was dropped"):
        one.source.follow(one.replica.position, one.schemas)
    one.stream = one.source.follow(None, one.schemas)
    (made_again,) = one.source.discover()
    assert copied_again(one.source.compare(before.schema, before.fingerprint, made_again))
    database.execute("truncate a")
    database.execute("insert into a values (2, 'after')")
    one.check("a")


def copied_again(verdict: object) -> bool:
    return isinstance(verdict, Broken) and verdict.copy_again


def test_a_table_taken_out_of_the_publication(database: Database, followed: list[Followed]) -> None:
    one = open_stream(followed, database, TABLE)
    (before,) = one.source.discover()
    database.execute("alter publication htapkit_shop drop table a")
    (now,) = one.source.discover()
    assert copied_again(one.source.compare(before.schema, before.fingerprint, now))


def test_a_table_that_loses_its_key_stays_writable(
    database: Database, followed: list[Followed]
) -> None:
    one = open_stream(followed, database, TABLE, "create table b (id int primary key)")
    database.execute("insert into a values (1, 'one')")
    one.catch_up()
    before = next(d for d in one.source.discover() if d.schema.table.name == "a")
    database.execute("alter table a drop constraint a_pkey")
    now = next(d for d in one.source.discover() if d.schema.table.name == "a")
    verdict = one.source.compare(before.schema, before.fingerprint, now)
    assert isinstance(verdict, Broken)
    assert not verdict.copy_again
    assert "REPLICA IDENTITY FULL" in verdict.why
    database.execute("update a set v = 'two'")
    database.execute("insert into b values (1)")
    one.check("b")


@pytest.mark.parametrize(
    ("statement", "copy_again"),
    [
        ("drop table a", False),
        ("alter table a rename to c", True),
        ("drop table a; create table a (id int primary key, v text)", True),
    ],
)
def test_a_table_that_goes_away(
    database: Database, followed: list[Followed], statement: str, copy_again: bool
) -> None:
    one = open_stream(followed, database, TABLE, "create table b (id int primary key)")
    database.execute("insert into a values (1, 'one')")
    one.catch_up()
    database.execute("insert into a values (2, 'two')")
    database.execute(statement)
    if "create" in statement:
        database.execute("alter publication htapkit_shop add table a")
    for name in ("a", "c"):
        with suppress(psycopg.errors.UndefinedTable):
            database.execute(f"insert into {name} values (3, 'three')")
    database.execute("insert into b values (1)")
    one.catch_up()
    one.check("b")
    if statement != "drop table a":
        assert one.replica.broken[TableId("shop", "public", "a")].copy_again == copy_again


def test_detaching_leaves_nothing(database: Database, followed: list[Followed]) -> None:
    one = open_stream(followed, database, TABLE, "create table log (v text)", append_only=["*.log"])
    one.catch_up()
    one.release()
    one.source.detach()
    one.source.detach()
    left = "select count(*) from pg_replication_slots where slot_name = %s"
    assert database.execute(left, [f"slot_{database.name}"]) == [(0,)]
    assert database.execute("select count(*) from pg_publication") == [(0,)]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"dsn": "postgresql://postgres@127.0.0.1:1/x"}, SourceUnavailable, "connect"),
        ({"dsn": "{base}/nowhere"}, SourceRefused, "nowhere"),
    ],
)
def test_a_wrong_address(
    database: Database, change: dict[str, str], error: type[SourceError], words: str
) -> None:
    base = f"postgresql://postgres:geheim@127.0.0.1:{database.server.port}"
    source = PostgresSource(options(database, dsn=change["dsn"].format(base=base)))
    calls: list[Callable[[], object]] = [source.discover, source.head.head, source.detach]
    for call in calls:
        with pytest.raises(error, match=words) as raised:
            call()
        assert "geheim" not in str(raised.value)
    assert [finding.severity for finding in source.check()] == ["error"]


def test_a_slot_that_waits_for_a_transaction(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute(TABLE)
    source = PostgresSource(options(database))
    schemas = [d.schema for d in source.discover()]
    with database.connect() as holder:
        holder.execute("begin; insert into a values (1, 'open')")
        with monkeypatch.context() as soon:
            soon.setattr("htapkit_postgres.slot.SLOT_SECONDS_MAX", 1)
            with pytest.raises(SourceUnavailable, match="waits for transactions"):
                source.follow(None, schemas)
        holder.execute("commit")
    source.follow(None, schemas).close()
