"""What goes wrong between source and mirror: it is named, no row is lost or applied twice.

One mirror behind a proxy serves most tests; each leaves it streaming. Whether rows came by the
stream or by a new copy is counted, so that "nothing was lost" is not "all was copied again".
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psycopg
import pytest

from htapkit.testing.postgres import Database, PostgresServer
from htapkit.testing.stack import Stack, wait_until
from tests.fault_proxy import FaultProxy
from tests.fix_mirror import SETTLE_SECONDS, Mirrored, fresh_database, mirrored, slot_name

pytestmark = pytest.mark.integration


class Proxied(Mirrored):
    """A mirror that reaches its source through a proxy, with a table that tests write to."""

    def __init__(self, one: Mirrored, proxy: FaultProxy) -> None:
        super().__init__(one.database, one.stack)
        self.proxy = proxy
        self._number = 0

    def write(self) -> None:
        """Three transactions of different kinds."""
        n = self._number = self._number + 10
        self.run(
            f"insert into t select g, 'v' from generate_series({n}, {n} + 9) g",
            f"update t set v = 'w' where id = {n}",
            f"delete from t where id = {n} + 1",
        )

    def streams_again(self, copies: int) -> None:
        """It streams, a strong read sees everything at once, and nothing was copied anew."""
        self.source_becomes("streaming")
        self.equal("t", "u")
        assert self.copies("t") == copies, self.stack.log_end()


@pytest.fixture(scope="module")
def proxied(pg: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    """One mirror behind a proxy."""
    folder = tmp_path_factory.mktemp("proxied")
    with fresh_database(pg) as database, FaultProxy(pg.port) as proxy:
        database.execute("create table t (id int primary key, v text)")
        database.execute("create table u (id int primary key)")
        with mirrored(database, folder, dsn=proxy.dsn(database.name)) as one:
            one.stack.wait_ready()
            yield Proxied(one, proxy)


@pytest.fixture
def copies(proxied: Proxied) -> int:
    """How often `t` was copied so far; the mirror is whole, whatever the test before did."""
    proxied.proxy.flow()
    proxied.proxy.refuse(False)
    proxied.database.server.start()
    proxied.settles("t", "u")
    return proxied.copies("t")


def drop_slot(database: Database) -> None:
    """End whoever reads the slot, and drop it."""
    end = "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = %s"
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        database.execute(end, [slot_name(database)])
        with suppress(psycopg.errors.ObjectInUse):
            database.execute("select pg_drop_replication_slot(%s)", [slot_name(database)])
            return
        assert time.monotonic() < deadline
        time.sleep(0.01)


def answers(one: Mirrored, path: str) -> int:
    """The status code."""
    return httpx.get(f"http://127.0.0.1:{one.stack.http_port}{path}", timeout=60).status_code


# -- the network


def test_a_cut_network(proxied: Proxied, copies: int) -> None:
    proxied.write()
    proxied.proxy.refuse()
    proxied.proxy.cut()
    proxied.write()
    why = proxied.source_becomes("unavailable")
    assert "shop: cannot" in why
    proxied.proxy.refuse(False)
    proxied.streams_again(copies)


def test_cuts_under_load(proxied: Proxied, copies: int) -> None:
    """The connection is lost in the middle of a large transaction, again and again."""
    for _ in range(4):
        proxied.run("insert into u select g from generate_series(1, 30000) g", "delete from u")
        proxied.proxy.cut()
    proxied.write()
    proxied.streams_again(copies)


def test_a_network_that_stalls(proxied: Proxied, copies: int) -> None:
    """Nothing is closed, and nothing comes; the rest of the server goes on."""
    proxied.proxy.stall()
    proxied.write()
    assert proxied.source()["state"] == "streaming"
    assert proxied.state("t") == "following"
    proxied.proxy.flow()
    proxied.streams_again(copies)


def test_a_slow_network(proxied: Proxied, copies: int) -> None:
    proxied.proxy.delay(0.05)
    try:
        proxied.write()
        proxied.equal("t")
    finally:
        proxied.proxy.delay(0)
    proxied.streams_again(copies)


# -- the server


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_of_the_server(proxied: Proxied, copies: int, mode: str) -> None:
    proxied.write()
    proxied.database.server.stop(mode)
    proxied.source_becomes("unavailable")
    proxied.database.server.start()
    proxied.write()
    proxied.streams_again(copies)


def test_a_killed_sender(proxied: Proxied, copies: int) -> None:
    proxied.write()
    kill = "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = %s"
    proxied.database.execute(kill, [slot_name(proxied.database)])
    proxied.write()
    proxied.streams_again(copies)


def test_an_impatient_server(proxied: Proxied, copies: int) -> None:
    """wal_sender_timeout of a second: kept alive while idle and while a large transaction comes."""
    server = proxied.database.server
    server.reload(wal_sender_timeout="'1s'")
    try:
        proxied.proxy.cut()
        proxied.source_becomes("streaming")
        proxied.run("insert into u select g from generate_series(1, 200000) g")
        proxied.equal("u")
        old = (
            "select count(*) from pg_stat_replication where backend_start < now() - interval '3 s' "
            "and application_name = 'htapkit shop'"
        )
        wait_until(lambda: proxied.database.execute(old)[0][0] > 0, 60, proxied.stack.log_end)
        proxied.run("delete from u")
        proxied.streams_again(copies)
    finally:
        server.reload(wal_sender_timeout="'60s'")


# -- slot and publication


@pytest.mark.parametrize("running", [False, True], ids=["down", "up"])
def test_a_dropped_slot(proxied: Proxied, copies: int, running: bool) -> None:
    if not running:
        proxied.stack.stop()
    drop_slot(proxied.database)
    proxied.write()
    if not running:
        proxied.stack.start()
    proxied.is_copied("t", copies + 1)
    proxied.settles("t", "u")
    assert (
        f"the replication slot {slot_name(proxied.database)} is gone"
        in proxied.stack.log_path.read_text()
    )
    proxied.write()
    proxied.equal("t", "u")


def test_a_slot_that_the_server_gave_up(proxied: Proxied, copies: int) -> None:
    database = proxied.database
    proxied.stack.stop()
    database.server.reload(max_slot_wal_keep_size="'1MB'")
    try:
        lost = "select wal_status = 'lost' from pg_replication_slots where slot_name = %s"
        deadline = time.monotonic() + SETTLE_SECONDS
        while not database.execute(lost, [slot_name(database)])[0][0]:
            assert time.monotonic() < deadline
            database.execute("select pg_logical_emit_message(false, 'x', repeat('x', 100000))")
            database.execute("select pg_switch_wal()")
            database.execute("checkpoint")
        proxied.write()
        proxied.stack.start()
        proxied.is_copied("t", copies + 1)
    finally:
        database.server.reload(max_slot_wal_keep_size="'-1'")
    assert "is lost" in proxied.stack.log_path.read_text()
    proxied.settles("t", "u")
    proxied.write()
    proxied.equal("t", "u")


def test_a_dropped_publication(proxied: Proxied, copies: int) -> None:
    proxied.run("drop publication htapkit_shop")
    proxied.write()
    proxied.is_copied("t", copies + 1)
    proxied.settles("t", "u")
    proxied.write()
    proxied.equal("t", "u")


def test_a_slot_that_somebody_else_read(proxied: Proxied, copies: int) -> None:
    proxied.stack.stop()
    proxied.write()
    name = slot_name(proxied.database)
    used = "select 1 from pg_replication_slots where slot_name = %s and active"
    wait_until(lambda: not proxied.database.execute(used, [name]), 60, proxied.stack.log_end)
    advance = "select pg_replication_slot_advance(%s, pg_current_wal_lsn())"
    proxied.database.execute(advance, [name])
    proxied.stack.start()
    proxied.is_copied("t", copies + 1)
    assert "somebody else took changes" in proxied.stack.log_path.read_text()
    proxied.settles("t", "u")


def test_a_second_htapkit_on_the_slot(proxied: Proxied, copies: int, tmp_path: Path) -> None:
    """The first is not disturbed; the second says whom it waits for."""
    with mirrored(proxied.database, tmp_path) as second:
        why = second.source_becomes("unavailable")
        assert f"the replication slot {slot_name(proxied.database)} is in use by process" in why
        assert "stop the other htapkit" in why
        proxied.write()
        proxied.streams_again(copies)


def test_a_second_htapkit_on_the_folder(proxied: Proxied, copies: int) -> None:
    stack = proxied.stack
    twin = Stack(stack.folder.parent / "twin", {"shop": {"dsn": proxied.database.dsn}})
    text = twin.config_path.read_text().replace("./data", str(stack.folder / "data"))
    twin.config_path.write_text(text)
    with pytest.raises(Exception, match=f"{stack.pid}"):
        twin.start()
    proxied.write()
    proxied.streams_again(copies)


@pytest.mark.long
def test_another_server_behind_the_address(proxied: Proxied, copies: int) -> None:
    """A database of the same name with the same tables, on another cluster."""
    proxied.write()
    proxied.equal("t")
    with PostgresServer(proxied.version) as other:
        with other.connect() as connection:
            connection.execute(f"create database {proxied.database.name}")
        with other.connect(proxied.database.name) as connection:
            connection.execute("create table t (id int primary key, v text)")
            connection.execute("insert into t values (1, 'of the other server')")
        proxied.proxy.target = other.port
        proxied.proxy.cut()
        why = proxied.source_becomes("refused")
        assert "another server or database answers" in why
        assert "htapkit detach shop" in why
        with other.connect(proxied.database.name) as connection:
            slots = connection.execute("select count(*) from pg_replication_slots").fetchone()
            assert slots == (0,), "nothing is made at a server that is not ours"
        proxied.proxy.target = proxied.database.server.port
        proxied.proxy.cut()
    proxied.write()
    proxied.streams_again(copies)


# -- while copying


def test_tables_that_change_while_they_are_copied(pg: PostgresServer, tmp_path: Path) -> None:
    """Dropped, truncated, altered: the copy in progress is given up, the others are made."""
    limits = {"snapshot_rows_per_second": 20_000, "snapshot_readers": 1}
    with fresh_database(pg) as database:
        for name in ("a_dropped", "b_truncated", "c_altered", "d_written", "e_made_again"):
            database.execute(f"create table {name} (id int primary key, v text)")
            database.execute(f"insert into {name} select g, 'v' from generate_series(1, 20000) g")
        with mirrored(database, tmp_path, configuration={"limits": limits}) as one:
            wait_until(lambda: one.table("a_dropped").get("rows", 0) > 0, 60, one.stack.log_end)
            one.run(
                "insert into d_written select g, 'w' from generate_series(20001, 20100) g",
                "drop table a_dropped",
                "truncate b_truncated",
                "insert into b_truncated values (1, 'after')",
                "alter table c_altered add column n int default 7, drop column v",
                "update d_written set id = -id where id % 3 = 0",
                "delete from d_written where id % 5 = 0",
                "drop table e_made_again",
                "create table e_made_again (id int primary key, other text)",
                "insert into e_made_again values (1, 'new')",
            )
            one.becomes_unknown("a_dropped")
            one.settles("b_truncated", "c_altered", "d_written", "e_made_again")
            one.run("update d_written set v = 'x'", "insert into b_truncated values (2, 'b')")
            one.equal("b_truncated", "c_altered", "d_written", "e_made_again")
            one.verified("b_truncated", "c_altered", "d_written", "e_made_again")


def test_a_restart_of_the_server_while_tables_are_copied(
    pg: PostgresServer, tmp_path: Path
) -> None:
    """The table that is finished stays; the other one begins again. Both have what was written."""
    limits = {"snapshot_rows_per_second": 10_000, "snapshot_readers": 1}
    with fresh_database(pg) as database:
        for name, rows in (("a_small", 100), ("b_large", 40_000)):
            database.execute(f"create table {name} (id int primary key, v text)")
            database.execute(f"insert into {name} select g, 'v' from generate_series(1, {rows}) g")
        with mirrored(database, tmp_path, configuration={"limits": limits}) as one:
            wait_until(lambda: one.table("b_large").get("rows", 0) > 0, 60, one.stack.log_end)
            one.follows("a_small")
            assert one.state("b_large") == "copying"
            assert answers(one, "/livez") == 200
            assert answers(one, "/readyz") == 503
            pg.stop("immediate")
            one.source_becomes("unavailable")
            pg.start()
            for name in ("a_small", "b_large"):
                one.run(
                    f"update {name} set v = 'w' where id < 50", f"delete from {name} where id > 90"
                )
            one.settles("a_small", "b_large")
            assert answers(one, "/readyz") == 200
            assert one.all_copies("a_small", "b_large") == {"a_small": 1, "b_large": 1}
            assert one.stack.log_path.read_text().count("table follows") == 2
