"""Cassandra beside us: how fast its tables are copied and followed, and what its own clients feel.

One node alone in its ring, from the connector's own jars. Its clients read and write at a fixed
rate and are measured for as many operations in each cell: alone, while a table is scanned over CQL
(what everybody else does), while we copy it, while we follow.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import re
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path

import psutil
import psycopg
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

from htapkit.client import Client
from htapkit.testing.guard import Guard
from htapkit.testing.postgres import free_port
from htapkit.testing.stack import Stack, wait_until
from htapkit_cassandra.cluster import session
from htapkit_cassandra.demo import EventsDemo
from htapkit_cassandra.demo_clients import INSERT, event
from htapkit_cassandra.node import CassandraNode
from htapkit_cassandra.settings import Settings
from tests.bench.figures import Figure, at_least, at_most, told

ROWS = int(os.environ.get("BENCH_CASSANDRA_ROWS", "500_000"))
OPERATIONS = int(os.environ.get("BENCH_CASSANDRA_OPERATIONS", "10_000"))  # of each kind and cell
RATE = 400  # operations a second, half of them reads
CLIENTS = 8
ENTITIES = 5_000
MARKERS = 60
PERIODS = ("20ms", "100ms", "1000ms")
PAGE = 5_000
WAIT_SECONDS = 600
TABLE = EventsDemo.table
Latencies = dict[str, list[float]]


def run() -> list[Figure]:
    """Copy, clients, following and freshness of one table of events."""
    with tempfile.TemporaryDirectory(prefix="htapkit-bench-") as scratch:
        folder = Path(scratch)
        guard = Guard(folder)
        demo = EventsDemo(folder / "node", free_port)
        try:
            demo.start()
            demo.fill(ROWS, ENTITIES)
            return [
                *_copied(demo, folder / "copied"),
                *_felt(demo, folder / "felt"),
                *_fresh(folder),
            ]
        finally:
            demo.stop()
            guard.release()


# -- copying and following -------------------------------------------------------------------------


def _copied(demo: EventsDemo, folder: Path) -> list[Figure]:
    """The table's first copy against a scan over CQL; then a backlog of the log."""
    begun, before = time.perf_counter(), time.process_time()
    scanned = _scan(demo)
    scan, scan_cpu = time.perf_counter() - begun, time.process_time() - before
    with _stack(demo, folder) as stack:
        begun = time.perf_counter()
        stack.wait_ready(WAIT_SECONDS)
        wall, cpu = time.perf_counter() - begun, _cpu_seconds(stack.pid)
        assert _count(stack) == scanned
    print(f"   scan over CQL: {scanned / scan:,.0f} rows/s, {scanned / scan_cpu:,.0f} rows/CPU s")
    print(f"   copy with the start of all processes: {scanned / wall:,.0f} rows/s")
    with _stack(demo, folder.with_name("over-cql"), snapshot="cql") as stack:
        begun = time.perf_counter()
        stack.wait_ready(WAIT_SECONDS)
        over_cql = scanned / (time.perf_counter() - begun)
        assert _count(stack) == scanned
    added = _add(demo, ROWS // 2)
    with _stack(demo, folder) as stack:
        wait_until(lambda: _count(stack) > scanned, WAIT_SECONDS, stack.log_end)
        begun, first = time.perf_counter(), _count(stack)
        wait_until(lambda: _count(stack) == scanned + added, WAIT_SECONDS, stack.log_end)
        behind = time.perf_counter() - begun
    rate = (scanned + added - first) / behind
    return [
        at_least(
            f"Cassandra: copy of {scanned:,} rows, processes' start included, against a scan",
            scanned / wall,
            scanned / scan,
            1,
            0.2,
            "rows/s",
        ),
        at_least(
            "Cassandra: copy, rows a CPU second of all our processes, against the scan's client",
            scanned / cpu,
            scanned / scan_cpu,
            1,
            0.2,
            "rows/CPU s",
        ),
        told("Cassandra: the copy over CQL, processes' start included", f"{over_cql:,.0f} rows/s"),
        told("Cassandra: following a backlog of the log into the copy", f"{rate:,.0f} rows/s"),
    ]


def _scan(demo: EventsDemo) -> int:
    with _cql(demo.address(ENTITIES)) as cql:
        return sum(1 for _ in cql.execute("SELECT * FROM demo.events"))


def _add(demo: EventsDemo, rows: int) -> int:
    """Events of later than any that is there, each with a key of its own; how many."""
    drawn, first = random.Random(11), datetime.now(UTC) + timedelta(days=1)
    events = (event(drawn, ENTITIES, first + timedelta(milliseconds=n)) for n in range(rows))
    with _cql(demo.address(ENTITIES)) as cql:
        results = execute_concurrent_with_args(cql, cql.prepare(INSERT), events, concurrency=32)
    assert all(result.success for result in results)
    return rows


# -- what its clients feel -------------------------------------------------------------------------


def _felt(demo: EventsDemo, folder: Path) -> list[Figure]:
    """P99 of reads and writes in each cell, against the same clients alone."""
    address = demo.address(ENTITIES)
    alone = _cell("alone", address)
    with _beside(_scanning, address):
        scanned = _cell("while a client scans the table over CQL", address)
    with _stack(demo, folder) as stack:
        stack.wait_ready(WAIT_SECONDS)
        followed = _cell("while we follow", address)
        with _beside(_copying, str(stack.http_port)):
            copied = _cell("while we copy and follow", address)
    figures = []
    for kind in ("read", "write"):
        what = f"Cassandra: p99 of a {kind} at {RATE} operations/s"
        base = _p99(alone[kind])
        figures += [
            at_most(f"{what} while we copy and follow", _p99(copied[kind]), base, 1.2, 10, "ms"),
            at_most(f"{what} while we follow", _p99(followed[kind]), base, 1.2, 10, "ms"),
            told(
                f"{what} while a client scans over CQL, for comparison",
                f"{_p99(scanned[kind]):.2f} ms",
                f"{base:.2f} ms",
                _p99(scanned[kind]) / base,
            ),
        ]
    return figures


def _cell(what: str, address: str) -> Latencies:
    """The latencies of OPERATIONS of each kind, from when each was due."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_clients, args=(address, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        found: Latencies = mine.recv()
    finally:
        process.join(WAIT_SECONDS)
    for kind, each in found.items():
        assert len(each) >= OPERATIONS, (what, kind, len(each))
        p50 = sorted(each)[len(each) // 2]
        print(f"   {what}: {len(each):,} {kind}s, p50 {p50:.2f} ms, p99 {_p99(each):.2f} ms")
    return found


def _clients(address: str, answer: Connection) -> None:
    """Paced operations of several clients, measured in their own process."""
    found: Latencies = {"read": [], "write": []}
    lock, ended = threading.Lock(), threading.Event()

    def client(number: int) -> None:
        with EventsDemo.client(address, number) as act:
            for _ in range(20):
                act()  # prepared, connected, warm
            due, step = time.perf_counter(), CLIENTS / RATE
            while not ended.is_set():
                due += step
                time.sleep(max(0.0, due - time.perf_counter()))
                kind = act()
                took = 1000 * (time.perf_counter() - due)
                with lock:
                    found[kind].append(took)
                    if min(map(len, found.values())) >= OPERATIONS:
                        ended.set()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answer.send(found)


@contextmanager
def _beside(work: Callable[[str, Event], None], address: str) -> Iterator[None]:
    """`work` all the time, in its own process; it must have done its work at least twice."""
    context = multiprocessing.get_context("spawn")
    stop, rounds = context.Event(), context.Value("i", 0)
    process = context.Process(target=_again, args=(work, address, stop, rounds), daemon=True)
    process.start()
    try:
        wait_until(lambda: rounds.value > 0 or not process.is_alive(), WAIT_SECONDS)
        before = rounds.value
        yield
        assert rounds.value > before, "what was to go on beside did not"
    finally:
        stop.set()
        process.join(WAIT_SECONDS)


def _again(
    work: Callable[[str, Event], None],
    address: str,
    stop: Event,
    rounds: Synchronized[int],
) -> None:
    while not stop.is_set():
        work(address, stop)
        rounds.value += 1


def _scanning(address: str, stop: Event) -> None:
    """One scan of the table, page by page."""
    with _cql(address) as cql:
        for number, _ in enumerate(cql.execute("SELECT * FROM demo.events")):
            if number % PAGE == 0 and stop.is_set():
                return


def _copying(port: str, stop: Event) -> None:
    """The table is copied again."""

    def copies() -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            found = re.findall(
                r"^htapkit_copies_total\{.*\} (\S+)$", page.read().decode(), re.MULTILINE
            )
        return sum(map(float, found))

    before = copies()
    with Client(f"http://127.0.0.1:{port}") as client:
        client.table_action("resync", TABLE)
    wait_until(lambda: copies() > before or stop.is_set(), WAIT_SECONDS)


# -- freshness -------------------------------------------------------------------------------------


def _fresh(folder: Path) -> list[Figure]:
    """A write acknowledged by the node -> visible at our port, by the node's sync period."""
    figures = []
    for period in PERIODS:
        at = folder / f"sync-{period}"
        at.mkdir()
        node = CassandraNode(at, free_port)
        conf = at / "conf" / "cassandra.yaml"
        key = "commitlog_sync_period: "
        conf.write_text(conf.read_text().replace(f"{key}50ms", f"{key}{period}"))
        assert f"{key}{period}" in conf.read_text()
        try:
            node.start()
            seen = sorted(_markers(node, at))
        finally:
            node.stop()
        p50, p99 = seen[len(seen) // 2], _p99(seen)
        figures.append(
            told(
                f"Cassandra: write -> visible, commitlog_sync_period {period}",
                f"p50 {p50:.0f} / p99 {p99:.0f} ms",
                f"{len(seen)} writes",
            )
        )
    return figures


def _markers(node: CassandraNode, folder: Path) -> list[float]:
    seen: list[float] = []
    with node.session() as cql:
        cql.execute(
            "CREATE KEYSPACE demo WITH replication = "
            "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        )
        cql.execute("CREATE TABLE demo.events (id int PRIMARY KEY) WITH cdc = true")
        insert = cql.prepare("INSERT INTO demo.events (id) VALUES (?)")
        source = {"connector": "cassandra", **node.settings(tables=["demo.*"])}
        with Stack(folder / "stack", {EventsDemo.database: source}) as stack:
            stack.wait_ready(WAIT_SECONDS)
            with _reader(stack) as reader:
                for number in range(1, MARKERS + 2):
                    cql.execute(insert, (number,))
                    begun = time.perf_counter()
                    while _one(reader, "SELECT max(id) FROM demo.events") < number:
                        time.sleep(0.002)
                    if number > 1:  # the first waits for what starts
                        seen.append(1000 * (time.perf_counter() - begun))
    return seen


# -- what all of them need -------------------------------------------------------------------------


@contextmanager
def _cql(address: str) -> Iterator[Session]:
    with session(Settings(EventsDemo.database, port=int(address.split(maxsplit=1)[0]))) as cql:
        cql.default_fetch_size = PAGE
        yield cql


def _stack(demo: EventsDemo, folder: Path, **more: object) -> Stack:
    return Stack(folder, {EventsDemo.database: {**demo.settings, **more}})


@contextmanager
def _reader(stack: Stack) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(stack.dsn(EventsDemo.database), autocommit=True) as reader:
        reader.execute("SET htapkit.freshness = 'any'")
        yield reader


def _one(reader: psycopg.Connection[tuple[object, ...]], sql: str) -> int:
    row = reader.execute(sql.encode()).fetchone()
    return int(str(row[0])) if row and row[0] is not None else -1


def _count(stack: Stack) -> int:
    with _reader(stack) as reader:
        return _one(reader, "SELECT count(*) FROM demo.events")


def _cpu_seconds(pid: int) -> float:
    """Of the process and all that it has started, since they began."""
    process = psutil.Process(pid)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    ended = sum(each.children_user + each.children_system for each in times)
    return float(ended + sum(each.user + each.system for each in times))


def _p99(milliseconds: list[float]) -> float:
    return sorted(milliseconds)[math.ceil(len(milliseconds) * 0.99) - 1]
