"""Three nodes: what any of them acknowledged is in the copy, whichever fails and comes back."""

from __future__ import annotations

import os
import random
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import psutil
import psycopg
import pytest
from cassandra import ConsistencyLevel, DriverException
from cassandra.cluster import Session
from cassandra.query import SimpleStatement

from htapkit.errors import SourceUnavailable
from htapkit.model import Severity, TableId
from htapkit.spi import SourceOptions
from htapkit.testing.stack import Stack
from htapkit_cassandra import CassandraSource, marks
from htapkit_cassandra.cluster import ANSWER_SECONDS_MAX
from htapkit_cassandra.ring import members
from tests.cassandra.workload import Workload
from tests.fix_cassandra import SECONDS, Keyspace, connected, wait_for
from tests.fix_ring import CassandraRing, tool

pytestmark = [pytest.mark.cassandra, pytest.mark.long]
Row = tuple[object, ...]
_WHEN_ALL_ARE_UP = ("SELECT id, v FROM once.t", "SELECT id, n, m FROM thrice.counted")
_COLUMNS = "pk, ck, s, a, b, m"
ONE, QUORUM, ALL = ConsistencyLevel.ONE, ConsistencyLevel.QUORUM, ConsistencyLevel.ALL


class Copied:
    """A whole htapkit over the ring's two keyspaces: with three replicas, and with one."""

    def __init__(self, ring: CassandraRing, folder: Path, session: Session) -> None:
        """Nothing runs yet."""
        self.ring = ring
        self.session = session
        settings = ring.settings(tables=["thrice.*", "once.*"])
        self.stack = Stack(folder, {"events": {"connector": "cassandra", **settings}})

    def asked(
        self, sql: str, *, wait_seconds: int = int(SECONDS), strong: bool = True
    ) -> list[Row]:
        """What htapkit answers."""
        freshness = "strong" if strong else "any"
        opened = connected(self.stack, "events", freshness=freshness, wait_seconds=wait_seconds)
        with closing(opened) as connection:
            return sorted(connection.execute(sql.encode()).fetchall(), key=repr)

    def equals(self, *, strong: bool = True, consistency: int = ALL) -> None:
        """Once what is short-lived is over both tables are what CQL gives."""
        found: list[list[Row]] = []
        expected: list[list[Row]] = []

        def equal() -> bool | None:
            nonlocal found, expected
            try:
                expected = [
                    _selected(self.session, f"SELECT {_COLUMNS} FROM thrice.t", consistency),
                    *(_selected(self.session, sql, ALL) for sql in _WHEN_ALL_ARE_UP if strong),
                ]
            except DriverException:
                return None  # a node has just come or gone
            found = [
                self.asked(f"SELECT {_COLUMNS} FROM thrice.t", strong=strong),
                *(self.asked(sql) for sql in _WHEN_ALL_ARE_UP if strong),
            ]
            return found == expected or None

        try:
            wait_for(equal)
        except AssertionError:
            assert found == expected
        assert len(expected[0]) > 50


def _selected(session: Session, cql: str, consistency: int) -> list[Row]:
    rows = session.execute(SimpleStatement(cql, consistency_level=consistency))
    plain = [tuple(dict(v) if hasattr(v, "items") else v for v in row) for row in rows]
    return sorted([tuple(None if v == {} else v for v in row) for row in plain], key=repr)


@pytest.fixture
def copied(cassandra_ring: CassandraRing, tmp_path: Path) -> Iterator[Copied]:
    """Two keyspaces; htapkit is stopped at the end."""
    with cassandra_ring.nodes[0].session() as session, ExitStack() as running:
        for name, factor in (("thrice", 3), ("once", 1)):
            session.execute(
                f"CREATE KEYSPACE {name} WITH replication = "
                f"{{'class': 'SimpleStrategy', 'replication_factor': {factor}}}"
            )
        session.execute("CREATE TABLE once.t (id int PRIMARY KEY, v int) WITH cdc = true")
        session.execute(
            "CREATE TABLE thrice.counted (id int PRIMARY KEY, n counter, m counter) WITH cdc = true"
        )
        made = Copied(cassandra_ring, tmp_path / "stack", session)
        running.callback(made.stack.stop)
        yield made


def _once(copied: Copied, first: int) -> None:
    """Each row is at one node only: no other one's log or files have it; and counters."""
    for number in range(first, first + 60):
        copied.session.execute(f"INSERT INTO once.t (id, v) VALUES ({number}, {first})")
    _count(copied.session, first, ONE)


def _count(session: Session, seed: int, consistency: int) -> None:
    """Each replica leads some of these increments; some counters are deleted."""
    rolled = random.Random(seed)
    for _ in range(80):
        cql = f"UPDATE thrice.counted SET n = n + {rolled.randrange(9)}, m = m - 1 WHERE id = %s"
        if rolled.random() < 0.05:
            cql = "DELETE FROM thrice.counted WHERE id = %s"
        statement = SimpleStatement(cql, consistency_level=consistency)
        wait_for(partial(_written, session, statement, rolled.randrange(20)))


def _written(session: Session, statement: SimpleStatement, number: int) -> bool | None:
    """Perhaps not, or nobody knows, while a node that is gone may be the one that counts."""
    try:
        session.execute(statement, (number,))
    except DriverException:
        return None
    return True


def _helpers(copied: Copied) -> list[psutil.Process]:
    """The readers of logs that run, by the folder that they read."""
    found = psutil.Process(copied.stack.pid).children(recursive=True)
    return [p for p in found if any("CommitLogTail.java" in part for part in p.cmdline())]


def test_a_ring(copied: Copied) -> None:
    """Copied and followed from all nodes, through the death of a reader, of htapkit, of a node."""
    seed = int(os.environ.get("CASSANDRA_SEED", "0")) or random.randrange(2**32)
    print(f"CASSANDRA_SEED={seed}")
    ring, stack, begun = copied.ring, copied.stack, time.monotonic()

    def passed(what: str) -> None:
        print(f"{time.monotonic() - begun:.0f} s: {what}")

    workload = Workload(Keyspace(ring.nodes[0], copied.session, "thrice"), seed)
    workload.write(300)
    _once(copied, 0)
    stack.start()
    workload.write(200, QUORUM)
    stack.wait_ready(SECONDS)
    _once(copied, 100)
    workload.write(200)
    copied.equals()
    passed("copied and followed")

    (reader, *_) = _helpers(copied)
    reader.kill()
    workload.write(100)
    stack.kill()
    workload.write(100)
    _once(copied, 200)
    stack.start()
    copied.equals()
    passed("a reader and htapkit were killed")

    away = ring.nodes[2]
    tool(ring.nodes[1], "disablehandoff")
    away.kill()
    workload.write(200, QUORUM)
    workload.write(100, ONE)
    with ring.nodes[1].session() as other:  # what it coordinates is not kept for the third
        holes = Workload(Keyspace(ring.nodes[1], other, "thrice"), seed + 1, make=False)
        holes.write(100, QUORUM)
        _count(other, seed + 3, QUORUM)
    _count(copied.session, seed + 4, ONE)
    with pytest.raises(psycopg.Error, match=r"127\.0\.0\.3 is \d+ s behind"):
        copied.asked("SELECT count(*) FROM thrice.t", wait_seconds=7)
    copied.equals(strong=False, consistency=QUORUM)
    _says_who_is_away(copied)
    passed("a node was away")

    away.start()
    ring.wait_whole()
    copied.equals()
    tool(away, "repair", "-full", "thrice")
    workload.write(100)
    _once(copied, 300)
    copied.equals()
    passed("it is back, and was repaired")


def _says_who_is_away(copied: Copied) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{copied.stack.http_port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    lags = {n: _value(lines, f'htapkit_log_lag_ms{{log="127.0.0.{n}"') for n in (1, 3)}
    assert lags[3] > 5000 > lags[1], lags
    settings = copied.ring.settings(tables=["thrice.*"])
    source = CassandraSource(SourceOptions("events", settings, 5, 1, 10_000, 2**25, 1, None))
    with pytest.raises(SourceUnavailable, match=r"127\.0\.0\.3"):
        source.snapshot([TableId("events", "thrice", "t")], {})
    subjects = [f.subject for f in source.check() if f.severity is Severity.ERROR]
    assert subjects == ["127.0.0.3 answer"]
    source.close()


def _value(lines: list[str], start: str) -> float:
    (line,) = [line for line in lines if line.startswith(start)]
    return float(line.rpartition(" ")[2])


def test_a_node_that_hangs(cassandra_ring: CassandraRing) -> None:
    """It holds nothing up but for some seconds once: neither looks at the catalog nor marks."""
    ring = cassandra_ring
    ring.wait_whole()
    settings = ring.settings(tables=["system_auth.*"])
    source = CassandraSource(SourceOptions("events", settings, 5, 1, 10_000, 2**25, 1, None))
    process = ring.nodes[0].process
    with closing(source):
        with ring.nodes[1].session() as session:
            marks.create(session, members(session))
        source.discover()
        source.head.head()
        process.send_signal(signal.SIGSTOP)
        try:
            seconds = []
            for _ in range(3):
                begun = time.monotonic()
                source.discover()
                source.head.head()
                seconds.append(time.monotonic() - begun)
        finally:
            process.send_signal(signal.SIGCONT)
    print(seconds)
    assert seconds[0] < 6 * ANSWER_SECONDS_MAX
    assert min(seconds[1:]) < ANSWER_SECONDS_MAX
