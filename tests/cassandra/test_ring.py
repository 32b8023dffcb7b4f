"""Three nodes: what any of them acknowledged is in the copy, whichever fails and comes back."""

from __future__ import annotations

import os
import random
import re
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import cast

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cassandra import DriverException
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.query import SimpleStatement

from htapkit.errors import SourceUnavailable
from htapkit.model import Severity, TableId
from htapkit.spi import SourceOptions
from htapkit.testing.guard import Guard
from htapkit.testing.stack import Stack
from htapkit_cassandra import CassandraSource, marks
from htapkit_cassandra.cluster import ANSWER_SECONDS_MAX
from htapkit_cassandra.inputs import ParquetInput
from htapkit_cassandra.loading import Load, Wanted
from htapkit_cassandra.ring import members
from htapkit_cassandra.settings import parse_settings
from tests.cassandra.agents import AgentProcess
from tests.cassandra.quorums import Leveled, lie_as_the_node_says
from tests.cassandra.ringed import ALL, ONE, QUORUM, Ringed, ringed
from tests.fix_agent import TOKEN
from tests.fix_cassandra import SECONDS, connected, wait_for
from tests.fix_ring import CassandraRing, tool

pytestmark = [pytest.mark.cassandra, pytest.mark.long]
_ROWS = 400  # that are loaded


def _seed() -> int:
    seed = int(os.environ.get("CASSANDRA_SEED", "0")) or random.randrange(2**32)
    print(f"CASSANDRA_SEED={seed}")
    return seed


def _clock() -> Callable[[str], None]:
    """Says what was reached, and when."""
    begun = time.monotonic()
    return lambda what: print(f"{time.monotonic() - begun:.0f} s: {what}")


def test_a_ring(cassandra_ring: CassandraRing, tmp_path: Path) -> None:
    """Copied and followed from all nodes, through the death of a reader, of htapkit, of a node."""
    seed, ring, passed = _seed(), cassandra_ring, _clock()
    with ringed(ring, tmp_path / "stack", ring.settings()) as copied:
        stack, workload = copied.stack, copied.workload(seed)
        workload.write(300)
        copied.write_once(0)
        stack.start()
        workload.write(200, QUORUM)
        stack.wait_ready(SECONDS)
        copied.write_once(100)
        workload.write(200)
        copied.equals()
        passed("copied and followed")

        (reader, *_) = copied.readers()
        reader.kill()
        workload.write(100)
        stack.kill()
        workload.write(100)
        copied.write_once(200)
        stack.start()
        copied.equals()
        passed("a reader and htapkit were killed")

        away = ring.nodes[2]
        tool(ring.nodes[1], "disablehandoff")
        away.kill()
        workload.write(200, QUORUM)
        workload.write(100, ONE)
        with ring.nodes[1].session() as other:  # what it coordinates is not kept for the third
            copied.workload_by(other, seed + 1).write(100, QUORUM)
            copied.count(other, seed + 3, QUORUM)
        copied.count(copied.session, seed + 4, ONE)
        with pytest.raises(psycopg.Error, match=r"127\.0\.0\.3 is \d+ s behind"):
            copied.asked(f"SELECT count(*) FROM {copied.thrice}.t", wait_seconds=7)
        copied.equals(strong=False, consistency=QUORUM)
        _says_who_is_away(copied)
        passed("a node was away")

        away.start()
        ring.wait_whole()
        copied.equals()
        tool(away, "repair", "-full", copied.thrice)
        workload.write(100)
        copied.write_once(300)
        copied.equals()
        passed("it is back, and was repaired")


def _says_who_is_away(copied: Ringed) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{copied.stack.http_port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    lags = {n: _value(lines, f'htapkit_log_lag_ms{{log="127.0.0.{n}"') for n in (1, 3)}
    assert lags[3] > 5000 > lags[1], lags
    settings = copied.ring.settings(tables=[f"{copied.thrice}.*"])
    source = CassandraSource(SourceOptions("events", settings, 5, 1, 10_000, 2**25, 1, None))
    with pytest.raises(SourceUnavailable, match=r"127\.0\.0\.3"):
        source.snapshot([TableId("events", copied.thrice, "t")], {})
    subjects = [f.subject for f in source.check() if f.severity is Severity.ERROR]
    assert subjects == ["127.0.0.3 answer"]
    source.close()


def _value(lines: list[str], start: str) -> float:
    (line,) = [line for line in lines if line.startswith(start)]
    return float(line.rpartition(" ")[2])


def test_a_node_is_away_and_writers_use_quorum(
    cassandra_ring: CassandraRing, tmp_path: Path
) -> None:
    """Each acknowledged write is in a strong read, without that node; not without another one."""
    ring, passed = cassandra_ring, _clock()
    ring.wait_whole()
    with ring.nodes[0].session() as session, ExitStack() as running:
        lie_as_the_node_says(ring, session)
        copied = Leveled(ring, tmp_path / "stack", session)
        running.callback(copied.stack.stop)
        copied.stack.start()
        copied.stack.wait_ready(SECONDS)
        copied.sees_each(range(10), ALL)
        passed("all are up")

        away = ring.nodes[2]
        away.kill()
        copied.sees_each(range(10, 40))
        lines = copied.metrics()
        lag = _value(lines, 'htapkit_lag_ms{source="events"')
        lags = {n: _value(lines, f'htapkit_log_lag_ms{{log="127.0.0.{n}"') for n in (1, 2, 3)}
        behind = (r"127\.0\.0\.3 is \d+ s behind", "writes at QUORUM")
        wait_for(lambda: copied.warns(*behind) or None)
        passed(f"a node is away: lag {lag:.0f} ms, of the logs {lags}")
        assert lag < lags[3]

        copied.stack.kill()
        copied.stack.start()
        copied.sees_each(range(40, 60))
        passed("htapkit was killed, too")

        (reader,) = copied.readers(ring.nodes[1])
        reader.suspend()
        copied.write(60)
        with pytest.raises(psycopg.Error, match=r"127\.0\.0\.2 is \d+ s behind.*127\.0\.0\.3 is"):
            copied.asked("SELECT count(*) FROM level.t", wait_seconds=7)
        reader.resume()
        assert copied.asked("SELECT count(*) FROM level.t") == [(61,)]
        passed("the log of another node stood still")

        away.start()
        ring.wait_whole()
        assert copied.asked("SELECT id FROM level.t ORDER BY id") == copied.at_all()
        wait_for(lambda: None if copied.warns("behind") else True)
        passed("it is back")


def _stopped(pid: int) -> bool:
    """Each of its threads: one that is still to be stopped may answer."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all("State:\tT" in (thread / "status").read_text() for thread in threads)


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
            wait_for(lambda: _stopped(process.pid) or None)
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


@contextmanager
def _agents(ring: CassandraRing, folder: Path) -> Iterator[list[AgentProcess]]:
    """One beside each node."""
    guard = Guard(folder)
    with ExitStack() as running:
        running.callback(guard.release)
        made = []
        for node in ring.nodes:
            made.append(AgentProcess(node, folder / f"agent-{node.host}"))
            running.callback(made[-1].stop)
            made[-1].start()
        yield made


def test_each_node_through_its_own_agent(cassandra_ring: CassandraRing, tmp_path: Path) -> None:
    """Through the death of a node, and of the agents of two others; none of them is needed twice.

    No file of a node is seen but by its agent.
    """
    seed, ring, passed = _seed(), cassandra_ring, _clock()
    ring.wait_whole()
    with _agents(ring, tmp_path) as agents:
        nodes = [
            {"address": node.host, "agent": f"127.0.0.1:{agent.proxy.port}"}
            for node, agent in zip(ring.nodes, agents, strict=True)
        ]
        settings = {"port": ring.nodes[0].port, "agent_token": TOKEN, "nodes": nodes}
        with ringed(ring, tmp_path / "stack", settings, "_by_agents") as copied:
            stack, workload = copied.stack, copied.workload(seed)
            workload.write(300)
            copied.write_once(0)
            stack.start()
            workload.write(100, QUORUM)
            stack.wait_ready(SECONDS)
            copied.write_once(100)
            copied.equals()
            assert not copied.readers()
            assert all(agent.readers() for agent in agents)
            passed("copied and followed")

            ring.nodes[2].kill()
            agents[0].kill()
            agents[1].kill()
            workload.write(200, QUORUM)
            workload.write(100, ONE)
            with pytest.raises(psycopg.Error, match=r"127\.0\.0\.3"):
                copied.asked(f"SELECT count(*) FROM {copied.thrice}.t", wait_seconds=7)
            passed("a node and two agents were away")

            agents[0].start()
            agents[1].start()
            ring.nodes[2].start()
            ring.wait_whole()
            copied.write_once(200)
            workload.write(100)
            copied.equals()
            passed("they are back")


def _files_of_each(ring: CassandraRing, table: TableId) -> list[set[int]]:
    """The keys that each node has in its own files."""
    options = ring.settings(tables=[f"{table.schema}.*"])
    made = CassandraSource(SourceOptions("events", options, 5, 1, 10_000, 2**25, 1, None))
    with closing(made) as source, closing(source.snapshot([table], {})) as snapshot:
        splits = snapshot.splits(table)
        return [
            {key for batch in snapshot.read(split) for key in batch["k0"].to_pylist()}
            for split in splits
        ]


@pytest.mark.parametrize("cdc", ["false", "true"])
def test_every_replica_gets_its_rows(
    cassandra_ring: CassandraRing, tmp_path: Path, cdc: str
) -> None:
    """Rows loaded as files: two replicas of three nodes; also where they go through the logs."""
    table = TableId("events", f"twice_{cdc}", "t")
    with cassandra_ring.nodes[0].session() as session:
        session.execute(
            f"CREATE KEYSPACE {table.schema} WITH replication = "
            "{'class': 'SimpleStrategy', 'replication_factor': 2}"
        )
        session.execute(
            f"CREATE TABLE {table.schema}.t (id int PRIMARY KEY, v text) WITH cdc = {cdc}"
        )
    ids = list(range(_ROWS))
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"id": ids, "v": [f"v{n}" for n in ids]}), path)
    settings = parse_settings(
        SourceOptions("events", cassandra_ring.settings(), 5, 1, 10_000, 2**25, 1, None)
    )
    load = Load(settings, tmp_path / "load", table, Wanted("sstable", "ALL"))
    with load.locked():
        prepared = load.prepare(ParquetInput(path), lambda *_: None)
        loaded = load.write(prepared, lambda *_: None)
    assert (loaded.compared.compared, loaded.compared.equal) == (_ROWS, _ROWS)
    found = _files_of_each(cassandra_ring, table)
    assert len(found) == 3
    assert sorted(key for keys in found for key in keys) == sorted([*ids, *ids])


def test_a_copy_over_cql(cassandra_ring: CassandraRing, tmp_path: Path) -> None:
    """Nobody answers over JMX: each node reads its ranges, at ALL; late writes do not come back."""
    ring = cassandra_ring
    ring.wait_whole()
    settings = ring.settings()
    nodes = [{**node, "jmx_port": 1} for node in cast("list[dict[str, object]]", settings["nodes"])]
    with ringed(ring, tmp_path / "stack", {**settings, "nodes": nodes}, "scanned") as copied:
        session, table = copied.session, f"{copied.thrice}.w"
        session.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, v text) WITH cdc = true")
        insert = f"INSERT INTO {table} (id, v) VALUES (%s, %s) USING TIMESTAMP %s"
        for number in range(300):
            session.execute(insert, (number, f"v{number}", 1_000))
        for number in range(0, 300, 3):
            session.execute(f"DELETE FROM {table} USING TIMESTAMP 9000 WHERE id = {number}")
        copied.write_once(0)
        copied.stack.start()
        copied.stack.wait_ready(SECONDS)
        for number in range(0, 300, 2):
            session.execute(insert, (number, "late", 2_000))
        for sql in (f"SELECT id, v FROM {table}", f"SELECT id, v FROM {copied.once}.t"):
            rows = session.execute(SimpleStatement(sql, consistency_level=ALL))
            expected = sorted((tuple(row) for row in rows), key=repr)
            assert copied.asked(sql) == expected
            assert len(expected) in {200, 60}


def test_a_node_dies_in_the_middle_of_a_copy(cassandra_ring: CassandraRing, tmp_path: Path) -> None:
    """What the others gave of it stays, and the node gives what is left once it is back."""
    seed, ring, rows = _seed(), cassandra_ring, 9_000
    ring.wait_whole()
    settings = ring.settings(tables=["cut.*"])
    with ring.nodes[0].session() as session, ExitStack() as running:
        session.execute(
            "CREATE KEYSPACE cut WITH replication = "
            "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        )
        session.execute("CREATE TABLE cut.t (id int PRIMARY KEY, v blob) WITH cdc = true")
        insert = session.prepare("INSERT INTO cut.t (id, v) VALUES (?, ?)")
        rolled = random.Random(seed)
        values = [(number, rolled.randbytes(4_000)) for number in range(rows)]
        execute_concurrent_with_args(session, insert, values, concurrency=50)
        stack = Stack(
            tmp_path / "stack",
            {"events": {"connector": "cassandra", **settings}},
            configuration={"limits": {"snapshot_rows_per_second": 2_000}},
        )
        running.callback(stack.stop)
        stack.start()
        wait_for(lambda: _copied(stack) or None)
        ring.nodes[2].kill()
        session.execute("DELETE FROM cut.t WHERE id = %s", (_of_a_node_that_is_up(session),))
        wait_for(lambda: "127.0.0.3" in _keeper_waits(stack) or None)
        ring.nodes[2].start()
        ring.wait_whole()
        for number in range(0, rows, 100):
            session.execute("DELETE FROM cut.t WHERE id = %s", (number,))
        stack.wait_ready(SECONDS)
        with closing(connected(stack, "events")) as connection:
            found = connection.execute("SELECT id, v FROM cut.t ORDER BY id").fetchall()
        assert found == sorted(tuple(row) for row in session.execute("SELECT id, v FROM cut.t"))
    log = stack.log_path.read_text()
    kept = [int(n) for n in re.findall(r'event="copy goes on".*? rows=(\d+)', log)]
    print(f"{2 * rows} cells: it went on with {kept}")
    assert "copy begins anew" not in log
    assert kept[-1] > rows  # of two nodes there is most of their two thirds


def _copied(stack: Stack) -> int:
    """How many cells were read so far."""
    with stack.client() as client:
        return sum(int(table["rows"]) for table in client.status()["sources"][0]["tables"])


def _keeper_waits(stack: Stack) -> str:
    """Why nothing is copied, of late."""
    return "".join(re.findall(r'event="keeper waits".*', stack.log_path.read_text())[-1:])


def _of_a_node_that_is_up(session: Session) -> int:
    """A key that is there."""
    for number in range(1, 100):
        with suppress(DriverException):
            if list(session.execute("SELECT id FROM cut.t WHERE id = %s", (number,))):
                return number
    raise AssertionError("no node answers")
