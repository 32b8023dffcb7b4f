"""Commit acknowledged at the source -> visible at our port, under load and queries.

A marker row is inserted in its own transaction; then the port is asked, at freshness 'any', until
it shows the marker. Load: pgbench's TPC-B-like script at a fixed rate.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psycopg

from htapkit.testing.postgres import PostgresServer
from htapkit.testing.stack import Stack
from tests.bench import pgbench
from tests.bench.figures import Figure
from tests.bench.readers import QUERIES, reading

SECONDS = 30
GOALS = {200: (40, 120, 250), 1000: (40, 120, 250)}


def run() -> list[Figure]:
    """At 200 and at 1000 transactions a second."""
    figures = []
    with PostgresServer(18, settings={"shared_buffers": "256MB", "max_wal_size": "4GB"}) as server:
        pgbench.make_tables(server, 5)
        with server.connect() as admin:
            admin.execute("CREATE TABLE marker (id bigint PRIMARY KEY)")
        with (
            tempfile.TemporaryDirectory() as folder,
            Stack(Path(folder), {"shop": {"dsn": server.dsn(), "tables": ["public.*"]}}) as stack,
        ):
            stack.wait_ready(120)
            for rate, (p50_goal, p99_goal, floor) in GOALS.items():
                p50, p99, count, queries = _measure(server, stack, rate)
                figures.append(
                    Figure(
                        f"commit -> visible, {rate} tps, 2 analytic queries",
                        f"p50 {p50:.0f} / p99 {p99:.0f} ms",
                        f"{count} markers, {queries} queries",
                        None,
                        f"p50 <= {p50_goal}, p99 <= {p99_goal} ms",
                        f"p99 <= {floor} ms",
                        p50 <= p50_goal and p99 <= p99_goal,
                        p99 <= floor,
                    )
                )
    return figures


def _measure(server: PostgresServer, stack: Stack, rate: int) -> tuple[float, float, int, int]:
    with (
        reading(stack.dsn(), QUERIES) as readers,
        pgbench.load(server, rate, SECONDS + 4),
    ):
        time.sleep(3)  # until readers and load run: a rate is not a condition that can be polled
        seen = _markers(server, stack)
    seen.sort()
    return seen[len(seen) // 2], seen[int(len(seen) * 0.99)], len(seen), readers.answers


def _markers(server: PostgresServer, stack: Stack) -> list[float]:
    seen: list[float] = []
    with server.connect() as writer, psycopg.connect(stack.dsn(), autocommit=True) as reader:
        reader.execute("SET htapkit.freshness = 'any'")
        reader.execute("SET htapkit.route = 'hot'")
        number = int(writer.execute("SELECT coalesce(max(id), 0) FROM marker").fetchall()[0][0])
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            number += 1
            writer.execute("INSERT INTO marker VALUES (%s)", (number,))
            begun = time.perf_counter()
            while True:
                found = reader.execute("SELECT max(id) FROM marker").fetchone()
                if found and found[0] is not None and found[0] >= number:
                    break
                time.sleep(0.002)
            seen.append((time.perf_counter() - begun) * 1000)
            time.sleep(0.01)
    return seen
