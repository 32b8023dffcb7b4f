"""The port itself.

A result of a million rows, and point lookups against going straight to PostgreSQL.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from htapkit.testing.postgres import PostgresServer
from htapkit.testing.stack import Stack
from tests.bench.figures import Figure, at_least, at_most
from tests.bench.raw_reader import RawReader

REPEATS = 5
ROWS = 1_000_000
LOOKUP_SECONDS = 4


def run() -> list[Figure]:
    """Bulk and lookups."""
    figures: list[Figure] = []
    with PostgresServer(18, settings={"shared_buffers": "512MB"}) as server:
        pgbench = str(server.tool("pgbench"))
        subprocess.run(
            [pgbench, "-i", "-q", "-s", "5", server.dsn()], check=True, capture_output=True
        )
        with server.connect() as admin:
            admin.execute(
                f"""CREATE TABLE bulk AS SELECT g::bigint AS id,
                    now() + g * interval '1 second' AS ts, 'name-' || g AS name,
                    g * 0.37::float8 AS value, (g % 7)::int AS status, g % 2 = 0 AS ok
                    FROM generate_series(1, {ROWS}) g"""
            )
            admin.execute("ALTER TABLE bulk ADD PRIMARY KEY (id)")
            admin.execute("DROP TABLE pgbench_history")
            admin.execute("VACUUM ANALYZE")
        with (
            tempfile.TemporaryDirectory() as folder,
            Stack(Path(folder), {"shop": {"dsn": server.dsn(), "tables": ["public.*"]}}) as stack,
        ):
            stack.wait_ready(120)
            figures += [_bulk(server, stack, binary=binary) for binary in (False, True)]
            for mode in ("simple", "prepared"):
                figures += [_lookups(server, stack, pgbench, mode, clients) for clients in (1, 8)]
    return figures


def _bulk(server: PostgresServer, stack: Stack, *, binary: bool) -> Figure:
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(REPEATS):
        theirs.append(_read_all(server.port, "postgres", binary=binary))
        ours.append(_read_all(stack.port, "shop", binary=binary))
    name = f"{ROWS:,} rows to the client, {'binary' if binary else 'text'}"
    return at_most(name, statistics.median(ours), statistics.median(theirs), 1.5, 3.0, "s")


def _read_all(port: int, database: str, *, binary: bool) -> float:
    """Seconds to receive all rows."""
    with RawReader(port, database) as reader:
        begun = time.perf_counter()
        reader.execute("SELECT id, ts, name, value, status, ok FROM bulk", binary=binary)
        size = reader.until_ready()
        assert size > ROWS * 40, f"only {size} bytes"
        return time.perf_counter() - begun


def _lookups(server: PostgresServer, stack: Stack, pgbench: str, mode: str, clients: int) -> Figure:
    ours: list[float] = []
    theirs: list[float] = []
    for repeat in range(3):
        pair = [(theirs, server.dsn()), (ours, stack.dsn())]
        for rates, dsn in pair if repeat % 2 else reversed(pair):
            rates.append(_tps(pgbench, dsn, mode, clients))
    name = f"point lookups, {mode}, {clients} clients"
    return at_least(name, statistics.median(ours), statistics.median(theirs), 0.5, 0.3, "tps")


def _tps(pgbench: str, dsn: str, mode: str, clients: int) -> float:
    done = subprocess.run(
        [
            pgbench,
            "-n",
            "-S",
            "-M",
            mode,
            "-c",
            str(clients),
            "-j",
            "1",
            "-T",
            str(LOOKUP_SECONDS),
            dsn,
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1])
