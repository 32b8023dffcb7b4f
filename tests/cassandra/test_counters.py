"""Counters of a real node, over a whole htapkit: the numbers are what CQL gives."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from cassandra import ConsistencyLevel
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent
from cassandra.query import SimpleStatement

from htapkit.testing.stack import Stack
from htapkit_cassandra import rowreads
from htapkit_cassandra.mutations import RowWrite
from htapkit_cassandra.ticks import Ticks
from tests.fix_cassandra import REPLICATION, SECONDS, Keyspace, connected, running_node

pytestmark = pytest.mark.cassandra
_COLUMNS = "pk, ck, s, a, b"
_TABLE = (
    "CREATE TABLE {ks}.t (pk int, ck text, s counter static, a counter, b counter,"
    " PRIMARY KEY (pk, ck)) WITH cdc = true AND CLUSTERING ORDER BY (ck DESC)"
)
# Bound in the order pk, ck, n; how often each is chosen.
_STATEMENTS = {
    "UPDATE {ks}.t SET a = a + :n WHERE pk = :pk AND ck = :ck": 60,
    "UPDATE {ks}.t SET a = a + :n, b = b - :n WHERE pk = :pk AND ck = :ck": 30,
    "UPDATE {ks}.t SET s = s + :n WHERE pk = :pk": 10,
    "DELETE FROM {ks}.t WHERE pk = :pk AND ck = :ck": 4,
    "DELETE b FROM {ks}.t WHERE pk = :pk AND ck = :ck": 1,
    "DELETE FROM {ks}.t WHERE pk = :pk AND ck > :ck": 2,
    "DELETE FROM {ks}.t WHERE pk = :pk": 1,
}

# What is compressed is in the node's own memory until it is synced, and so is gone with it.
_FORGETS = "sync_period: 4s\ncommitlog_compression: [{class_name: LZ4Compressor}]"


class Counted:
    """A table of counters, its random changes, and an htapkit over it."""

    def __init__(self, keyspace: Keyspace, folder: Path, seed: int) -> None:
        """The table is there and empty; nothing runs."""
        self.keyspace = keyspace
        self._random = random.Random(seed)
        session = keyspace.session
        session.execute(_TABLE.format(ks=keyspace.name))
        self._statements = [session.prepare(text.format(ks=keyspace.name)) for text in _STATEMENTS]
        settings = keyspace.node.settings(tables=[f"{keyspace.name}.*"])
        self.stack = Stack(folder, {"events": {"connector": "cassandra", **settings}})

    def write(self, count: int) -> None:
        """So many changes, sixteen at a time; all of them acknowledged."""
        chosen = self._random.choices(self._statements, list(_STATEMENTS.values()), k=count)
        calls = []
        for statement in chosen:
            values = {
                "pk": self._random.randrange(12),
                "ck": f"c{self._random.randrange(9)}",
                "n": self._random.randrange(-5, 50),
            }
            names = [column.name for column in statement.column_metadata]
            calls.append((statement, {name: values[name] for name in names}))
        results = execute_concurrent(self.keyspace.session, calls, concurrency=16)
        assert all(result.success for result in results)

    def shown(self) -> list[tuple[object, ...]]:
        """The copy's rows, as fresh as the node is now."""
        with closing(connected(self.stack, "events")) as connection:
            sql = f"SELECT {_COLUMNS} FROM {self.keyspace.name}.t".encode()
            return sorted(connection.execute(sql).fetchall(), key=repr)

    def selected(self, session: Session | None = None) -> list[tuple[Any, ...]]:
        """The node's."""
        session = session or self.keyspace.session
        text = f"SELECT {_COLUMNS} FROM {self.keyspace.name}.t"
        asked = SimpleStatement(text, consistency_level=ConsistencyLevel.ALL)
        return sorted((tuple(row) for row in session.execute(asked)), key=repr)


@pytest.fixture
def running() -> Iterator[ExitStack]:
    """What is stopped at the test's end."""
    with ExitStack() as stack:
        yield stack


def _seed() -> int:
    seed = int(os.environ.get("CASSANDRA_SEED", "0")) or random.randrange(2**32)
    print(f"CASSANDRA_SEED={seed}")
    return seed


def test_counters_are_what_cql_gives(
    keyspace: Keyspace, tmp_path: Path, running: ExitStack
) -> None:
    """Written before, while and after they are copied; a strong read sees all of them at once."""
    counted = Counted(keyspace, tmp_path / "stack", _seed())
    counted.write(400)
    running.callback(counted.stack.stop)
    counted.stack.start()
    counted.write(300)
    counted.stack.wait_ready(SECONDS)
    for _ in range(5):
        counted.write(200)
        expected = counted.selected()
        assert counted.shown() == expected
        assert len(expected) > 20


def test_counters_are_scanned_in_pages(
    keyspace: Keyspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows, each in one of them, and once what the rows of a partition share."""
    monkeypatch.setattr(rowreads, "PAGE_ROWS", 7)
    counted = Counted(keyspace, tmp_path, 5)
    counted.write(300)
    source = keyspace.source()
    (layout,) = source.layouts().values()
    with closing(rowreads.RowReads(source._settings, Ticks())) as reads:
        pages = list(reads.scan(layout))
    found = [change for page in pages for change in page]
    assert all(isinstance(change, RowWrite) for change in found)
    rows = [c for c in found if isinstance(c, RowWrite) and c.clustering is not None]
    expected = {(row[0], row[1]) for row in counted.selected() if row[1] is not None}
    keys = [(int.from_bytes(r.key[0], "big"), (r.clustering or (b"",))[0]) for r in rows]
    assert sorted(keys) == sorted((pk, str(ck).encode()) for pk, ck in expected)
    assert len(pages) > 5
    written = [change.cells[0].written for change in rows]
    assert written == sorted(written)
    assert len(set(written)) == len(pages)


@pytest.mark.long
def test_counters_survive_kills(keyspace: Keyspace, tmp_path: Path, running: ExitStack) -> None:
    """What was named and not read yet is named again: no position passes it by."""
    seed = _seed()
    rolled, counted = random.Random(seed), Counted(keyspace, tmp_path / "stack", seed)
    counted.write(200)
    running.callback(counted.stack.stop)
    for point in ("copy.loaded:1", "copy.swapped:1", "apply.written:2", "apply.committed:3"):
        counted.stack.start({"HTAPKIT_FAILPOINT": point})
        _write_until_it_dies(counted, rolled)
        counted.write(rolled.randrange(50, 150))
    for _ in range(3):
        counted.stack.start()
        counted.stack.wait_ready(SECONDS)
        counted.write(rolled.randrange(100, 300))
        os.kill(counted.stack.pid, signal.SIGKILL)
        assert counted.stack.wait_ended(SECONDS) == -signal.SIGKILL
        counted.write(rolled.randrange(50, 150))
    counted.stack.start()
    counted.stack.wait_ready(SECONDS)
    expected = counted.selected()
    assert counted.shown() == expected
    assert len(expected) > 20


@pytest.mark.long
def test_what_a_killed_node_forgot(tmp_path: Path, running: ExitStack) -> None:
    """It had shown increments that it had not synced, and nobody writes these rows again."""
    node, forgotten = running.enter_context(running_node(("sync_period: 50ms", _FORGETS))), 0
    session = running.enter_context(node.session())
    session.execute(f"CREATE KEYSPACE own WITH {REPLICATION}")
    counted = Counted(Keyspace(node, session, "own"), tmp_path / "stack", _seed())
    running.callback(counted.stack.stop)
    counted.stack.start()
    counted.stack.wait_ready(SECONDS)
    for turn in range(5):
        with node.session() as session:
            acknowledged = _count_until_shown(counted, session, f"turn {turn}")
        node.kill()
        node.start()
        with node.session() as session:
            expected = counted.selected(session)
        assert counted.shown() == expected
        there = sum(row[3] for row in expected if row[1] == f"turn {turn}")
        print(f"{acknowledged - there} of {acknowledged} were forgotten")
        forgotten += acknowledged - there
        if forgotten:
            return
    pytest.fail("it was never killed in time")


def _count_until_shown(counted: Counted, session: Session, name: str) -> int:
    """Add ones to a row until the copy has something of it; how many."""
    text = f"UPDATE own.t SET a = a + 1 WHERE pk = 1 AND ck = '{name}'"
    sql = f"SELECT a FROM own.t WHERE ck = '{name}'".encode()
    deadline, count = time.monotonic() + SECONDS, 0
    with closing(connected(counted.stack, "events", freshness="any")) as connection:
        while not connection.execute(sql).fetchall():
            assert time.monotonic() < deadline, counted.stack.log_end()
            for _ in range(10):
                session.execute(text)
                count += 1
    return count


def _write_until_it_dies(counted: Counted, rolled: random.Random) -> None:
    deadline = time.monotonic() + SECONDS
    while counted.stack.running:
        assert time.monotonic() < deadline, counted.stack.log_end()
        counted.write(rolled.randrange(5, 50))
        counted.keyspace.log_end()
    assert counted.stack.wait_ended(1) == -signal.SIGKILL, counted.stack.log_end()
