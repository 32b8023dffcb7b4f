"""The peak memory of the whole `htapkit serve` process against `limits.memory`.

DuckDB keeps to that limit by itself; what is measured is all that the process needs besides.
BENCH_MEMORY_ROWS and BENCH_RESULT_ROWS make both smaller, for a try.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from htapkit.testing.postgres import PostgresServer
from htapkit.testing.stack import Stack, wait_until
from tests.bench.figures import Figure, at_most
from tests.bench.raw_reader import RawReader

ROWS = int(os.environ.get("BENCH_MEMORY_ROWS", "10_000_000"))
RESULT_ROWS = int(os.environ.get("BENCH_RESULT_ROWS", "100_000_000"))
LIMIT_MIB = 1024
GOAL, FLOOR = 1.0, 1.0
FOLLOW_SECONDS_MAX = 600
ROW_BYTES_MIN = 17
SLOW_PAUSE_SECONDS, SLOW_EVERY_BYTES = 0.5, 16 << 20
_SETTINGS = {"shared_buffers": "256MB", "max_wal_size": "8GB"}


@dataclass(slots=True)
class Peak:
    """The highest resident set of a process while it was watched, in MiB."""

    mib: float = 0.0


@contextmanager
def peak_of(pid: int) -> Iterator[Peak]:
    """The kernel keeps the peak itself; it is set back at the beginning."""
    peak = Peak()
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    yield peak
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            peak.mib = int(line.split()[1]) / 1024


def run() -> list[Figure]:
    """One large transaction, then one large result, read slowly and at full speed."""
    side = math.isqrt(RESULT_ROWS)
    with PostgresServer(18, settings=_SETTINGS) as server, tempfile.TemporaryDirectory() as folder:
        with server.connect() as admin:
            admin.execute("CREATE TABLE ev (id bigint PRIMARY KEY, host int, value float8)")
            admin.execute("CREATE TABLE side (id int PRIMARY KEY)")
            admin.execute(f"INSERT INTO side SELECT generate_series(1, {side})")
        configuration = {"limits": {"memory": f"{LIMIT_MIB}MiB"}}
        sources = {"shop": {"dsn": server.dsn(), "tables": ["public.*"]}}
        with Stack(Path(folder), sources, configuration=configuration) as stack:
            stack.wait_ready(120)
            figures = [_transaction(server, stack)]
            for slowly in (True, False):
                figures.append(_result(stack, side * side, slowly=slowly))
    return figures


def _figure(what: str, peak: Peak) -> Figure:
    return at_most(f"peak memory / limit, {what}", peak.mib, LIMIT_MIB, GOAL, FLOOR, "MiB")


def _transaction(server: PostgresServer, stack: Stack) -> Figure:
    with peak_of(stack.pid) as peak, server.connect() as admin, stack.connect() as port:
        begun = time.perf_counter()
        admin.execute(
            f"INSERT INTO ev SELECT g, g % 500, g * 0.37 FROM generate_series(1, {ROWS}) g"
        )
        committed = time.perf_counter()
        port.execute("SET htapkit.route = 'hot'")
        port.execute("SET htapkit.freshness = 'any'")

        def seen() -> bool:
            return port.execute("SELECT count(*) FROM ev").fetchone() == (ROWS,)

        wait_until(seen, FOLLOW_SECONDS_MAX, stack.log_end)
        ended = time.perf_counter()
    told = f"   committed after {committed - begun:.0f} s, visible {ended - committed:.0f} s later"
    print(told, flush=True)
    return _figure(f"a transaction of {ROWS:,} rows", peak)


def _result(stack: Stack, rows: int, *, slowly: bool) -> Figure:
    pause = SLOW_PAUSE_SECONDS if slowly else 0.0
    with peak_of(stack.pid) as peak, RawReader(stack.port, "shop") as reader:
        reader.execute("SET htapkit.route = 'hot'")
        reader.until_ready()
        begun = time.perf_counter()
        reader.execute("SELECT a.id, b.id FROM side a CROSS JOIN side b")
        size = reader.until_ready(pause_seconds=pause, every_bytes=SLOW_EVERY_BYTES)
        seconds = time.perf_counter() - begun
    assert size >= rows * ROW_BYTES_MIN, f"only {size} bytes"
    print(f"   {size / 2**20:,.0f} MiB in {seconds:.0f} s", flush=True)
    return _figure(f"a result of {rows:,} rows, read {'slowly' if slowly else 'fast'}", peak)
