"""The first copy.

Rows per CPU second of ours (the whole `htapkit serve` process), and its wall time.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psutil

from htapkit.testing.postgres import PostgresServer
from htapkit.testing.stack import Stack
from tests.bench.figures import Figure

ROWS = 4_000_000
GOAL, FLOOR = 1_000_000, 500_000


def run() -> list[Figure]:
    """One table of the research's six columns."""
    with PostgresServer(18, settings={"shared_buffers": "256MB"}) as server:
        with server.connect() as admin:
            admin.execute(
                f"""CREATE TABLE ev AS SELECT g::bigint AS id, clock_timestamp() AS ts,
                    'host-' || g % 500 AS host, g * 0.37::float8 AS value, (g % 7)::int AS status,
                    ((g % 100000) * 0.01)::numeric(12,2) AS amount
                    FROM generate_series(1, {ROWS}) g"""
            )
            admin.execute("ALTER TABLE ev ADD PRIMARY KEY (id)")
            admin.execute("VACUUM ANALYZE ev")
        with tempfile.TemporaryDirectory() as folder:
            stack = Stack(Path(folder), {"shop": {"dsn": server.dsn(), "tables": ["public.*"]}})
            with stack:
                process = psutil.Process(stack.pid)
                before = process.cpu_times()
                begun = time.perf_counter()
                stack.wait_ready(300)
                wall = time.perf_counter() - begun
                used = process.cpu_times()
                cpu = used.user + used.system - before.user - before.system
    rate = ROWS / cpu
    return [
        Figure(
            f"snapshot, {ROWS:,} rows",
            f"{rate:,.0f} rows/CPU s",
            f"wall {ROWS / wall:,.0f} rows/s",
            None,
            f">= {GOAL:,}",
            f">= {FLOOR:,}",
            rate >= GOAL,
            rate >= FLOOR,
        )
    ]
