"""Whole transactions: nested, given up, huge, at once. No read sees a part.

PostgreSQL is the oracle; tables are compared at once after the commit.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from htapkit.testing.postgres import PostgresServer
from htapkit.testing.stack import wait_until
from tests.fix_mirror import Mirrored, fresh_database, mirrored, printed

pytestmark = pytest.mark.integration


def test_subtransactions_and_work_that_is_rolled_back(mirror: Mirrored) -> None:
    mirror.make("sub", "create table sub (id int primary key, v text)")
    with mirror.database.connect() as connection, connection.transaction():
        for number in range(100):
            # A savepoint; every third one is rolled back with what is in it.
            with connection.transaction(force_rollback=number % 3 == 0):
                connection.execute("insert into sub values (%s, 'v')", [number])
                with connection.transaction():
                    connection.execute("update sub set v = 'w' where id = %s", [number - 1])
    mirror.equal("sub")
    with mirror.database.connect() as connection:
        connection.execute("begin")
        connection.execute("delete from sub")
        mirror.equal("sub")
        connection.execute("rollback")
    mirror.equal("sub")
    with mirror.database.connect() as connection:
        connection.execute("begin")
        connection.execute("delete from sub where id % 2 = 0")
        connection.execute("prepare transaction 'half'")
        mirror.equal("sub")
        connection.execute("commit prepared 'half'")
    mirror.equal("sub")


def test_writes_at_the_port_are_read_there(mirror: Mirrored) -> None:
    mirror.make("own", "create table own (id int primary key, v text)")
    with mirror.stack.connect() as port:
        for number in range(20):
            port.execute("insert into own values (%s, 'x')", [number])
            assert port.execute("select count(*) from own").fetchone() == (number + 1,)
        assert port.execute("show htapkit.last_route").fetchone() == ("hot",)
    mirror.equal("own")


class Counting(threading.Thread):
    """Counts the rows of a table at the port, again and again, as fresh as they come."""

    def __init__(self, mirror: Mirrored, table: str) -> None:
        super().__init__(daemon=True)
        self._mirror = mirror
        self._sql = f"SELECT count(*) FROM {table}"
        self.seen: set[int] = set()
        self.stopped = threading.Event()

    def run(self) -> None:
        with self._mirror.port(freshness="any") as port:
            while not self.stopped.wait(0.005):
                ((count,),) = port.execute(self._sql).fetchall()
                self.seen.add(count)


def test_a_transaction_larger_than_the_limits(mirror: Mirrored) -> None:
    """The quick form of the last test: what is seen is all of it or nothing."""
    large_transaction(mirror, 120_000)


def large_transaction(mirror: Mirrored, rows: int, value: str = "'v' || g") -> None:
    mirror.make(
        "large",
        "create table large (id int primary key, v text, n numeric(12,2))",
        "insert into large select g, 'old', 0 from generate_series(1, 1000) g",
    )
    counting = Counting(mirror, "large")
    counting.start()
    wait_until(lambda: counting.seen == {1000}, 60)
    mirror.transaction(
        f"insert into large select g, {value}, g / 8.0 from generate_series(1001, {rows}) g",
        f"update large set v = v || '!' where id > {rows} - 5000",
        "delete from large where id <= 1000",
        "update large set id = -id where id % 1000 = 0",
    )
    mirror.equal("large")
    wait_until(lambda: rows - 1000 in counting.seen or not counting.is_alive(), 60)
    counting.stopped.set()
    counting.join(60)
    assert counting.seen == {1000, rows - 1000}
    assert mirror.copies("large") == 1


def test_a_transaction_that_is_given_up(mirror: Mirrored) -> None:
    mirror.make("given_up", "create table given_up (id int primary key, v text)")
    with mirror.database.connect() as connection:
        connection.execute("begin")
        connection.execute("insert into given_up select g, 'v' from generate_series(1, 60000) g")
        connection.execute("rollback")
    mirror.run("insert into given_up values (1, 'one')")
    mirror.equal("given_up")


def memory_peak_bytes(pid: int) -> int:
    """The largest resident size that a process ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_transaction_larger_than_memory(pg: PostgresServer, tmp_path: Path) -> None:
    """Far more than `limits.memory`: the process grows by little more, and nobody sees a part."""
    limits = {"memory": "256MB", "batch_rows": 5000, "batch_bytes": "1MB"}
    with (
        fresh_database(pg) as database,
        mirrored(database, tmp_path, configuration={"limits": limits}) as one,
    ):
        one.make("first", "create table first (id int primary key)")
        before = memory_peak_bytes(one.stack.pid)
        large_transaction(one, 600_000, "repeat(md5(g::text), 25)")
        grown = memory_peak_bytes(one.stack.pid) - before
        print(f"grew by {grown >> 20} MB from {before >> 20} MB")
        # What DuckDB may have, and what is on its way to it and to the reader.
        assert grown < (256 + 150) << 20, "rows of the transaction were kept in memory"


@pytest.mark.skipif(os.cpu_count() == 1, reason="needs two processors")
def test_many_writers_at_once(mirror: Mirrored) -> None:
    """Rows of transactions that overlap, in the order of their commits."""
    mirror.make(
        "busy",
        "create table busy (id int primary key, v int not null)",
        "insert into busy select g, 0 from generate_series(1, 20) g",
    )

    def write(seed: int) -> None:
        with mirror.database.connect() as connection:
            for step in range(60):
                low, high = sorted(((step * seed) % 20 + 1, (step + seed) % 20 + 1))
                with connection.transaction():
                    update = "update busy set v = v + 1 where id = %s"
                    connection.execute(update, [low])
                    connection.execute(update, [high])

    writers = [threading.Thread(target=write, args=[seed]) for seed in (3, 7, 11)]
    for writer in writers:
        writer.start()
    with mirror.port() as port:
        while any(writer.is_alive() for writer in writers):
            _, rows = printed(port, "SELECT sum(v) % 2 FROM busy")
            assert rows == [(b"0",)]
    for writer in writers:
        writer.join()
    mirror.equal("busy")


def test_changes_while_the_mirror_is_down(mirror: Mirrored) -> None:
    mirror.make("down", "create table down (id int primary key, v text)")
    mirror.run("insert into down values (1, 'up')")
    mirror.stack.stop()
    mirror.run(
        "insert into down values (2, 'down')",
        "update down set v = 'changed' where id = 1",
        "create table born_meanwhile (id int primary key)",
        "insert into born_meanwhile values (1)",
    )
    mirror.stack.start()
    wait_until(lambda: mirror.state("down") == "following", 60, mirror.stack.log_end)
    mirror.follows("down", "born_meanwhile")
    mirror.equal("down", "born_meanwhile")
    assert mirror.copies("down") == 1
