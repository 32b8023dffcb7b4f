"""Tiering for ever: over many cycles under load hot memory and file stay, while the lake grows.

Each cycle a day's rows come, some rows of all ages change, some come late, and what is older than
two days moves. What is measured after each cycle must have no slope but noise. At the end: how
quick compaction is, and how soon a server that starts gives its first answer over hot and lake.
"""

from __future__ import annotations

import math
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from htapkit.testing.postgres import PostgresServer
from htapkit.testing.stack import Stack, wait_until
from tests.bench.figures import Figure, told

CYCLES = int(os.environ.get("BENCH_CYCLES", "24"))
ROWS = int(os.environ.get("BENCH_CYCLE_ROWS", "100_000"))  # a day
WARM_UP = 4  # until as many days are hot as ever will be
HOT_DAYS = 2
FIRST = datetime(2020, 1, 1, tzinfo=UTC)
WAIT_SECONDS = 600
LOG_BYTES_MAX = 4 * 2**20  # what lies in the log is not in the file yet: a quiet moment brings it
TABLE = "shop.public.readings"
_SCHEMA = (
    "CREATE TABLE readings (id bigserial PRIMARY KEY, at timestamptz NOT NULL, device int NOT NULL,"
    " value float8, state text)"
)
_COME = (
    "INSERT INTO readings (at, device, value, state) SELECT timestamptz '{0}' + random() * "
    "interval '1 day', g % 1000, random() * 100, 'new' FROM generate_series(1, {1}) g"
)
_CHANGE = (
    "UPDATE readings SET state = 'changed' WHERE id IN "
    "(SELECT (random() * {0})::bigint FROM generate_series(1, {1}))"
)


@dataclass(frozen=True, slots=True)
class Slope:
    """A line through what was measured: its rise a cycle, how sure that is, and the mean."""

    rise: float
    error: float  # standard error of the rise
    mean: float
    count: int

    @property
    def noise(self) -> bool:
        """Whether no rise at all explains what was seen as well."""
        return self.rise <= 2 * self.error

    @property
    def drift(self) -> float:
        """The rise over all cycles, as a part of the mean."""
        return self.rise * self.count / self.mean


def slope(values: Sequence[float]) -> Slope:
    """By least squares."""
    count = len(values)
    mean, middle = sum(values) / count, (count - 1) / 2
    spread = sum((i - middle) ** 2 for i in range(count))
    rise = sum((i - middle) * (v - mean) for i, v in enumerate(values)) / spread
    left = sum((v - mean - rise * (i - middle)) ** 2 for i, v in enumerate(values))
    return Slope(rise, math.sqrt(left / (count - 2) / spread), mean, count)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a cycle left."""

    hot_rows: int
    hot_mib: float  # memory of the hot store, as DuckDB counts it
    resident_mib: float  # of the whole process
    file_mib: float  # of the hot store
    log_mib: float  # beside it, until the next checkpoint
    lake_rows: int


def run() -> list[Figure]:
    """All of it on one pair of source and copy."""
    settings = {"shared_buffers": "256MB", "max_wal_size": "8GB"}
    with (
        tempfile.TemporaryDirectory() as scratch,
        PostgresServer(18, settings=settings) as server,
    ):
        with server.connect() as admin:
            admin.execute(_SCHEMA)
        sources = {"shop": {"dsn": server.dsn(), "tables": ["public.*"]}}
        configuration = {
            "tables": {TABLE: {"partition": "day"}},
            "lake": {"interval": "1 day"},
            "limits": {"memory": "512MiB"},
        }
        with Stack(Path(scratch) / "stack", sources, configuration=configuration) as stack:
            stack.wait_ready()
            seen = [_cycle(server, stack, day) for day in range(CYCLES + WARM_UP)]
            compacted = _compact(stack)
            stack.stop()
            first = _first_answer(stack)
    return [*_slopes(seen[WARM_UP:]), compacted, first]


def _cycle(server: PostgresServer, stack: Stack, day: int) -> Seen:
    """A day: rows come and change while what is old moves."""
    today = FIRST + timedelta(days=day)
    with _load(server, day):
        age = datetime.now(UTC) - (today - timedelta(days=HOT_DAYS))
        with stack.client() as client:
            job = client.tier([TABLE], f"{age.total_seconds():.0f} s")
            client.wait(job["id"], timeout_seconds=WAIT_SECONDS)
    with psycopg.connect(stack.dsn(), autocommit=True) as port:
        port.execute("SET htapkit.freshness = 'strong'")
        port.execute("SELECT count(*) FROM readings").fetchall()
    wait_until(lambda: _log_bytes(stack) < LOG_BYTES_MAX, WAIT_SECONDS, stack.log_end)
    with stack.client() as client:
        status = client.status()
    (table,) = status["sources"][0]["tables"]
    store = status["store"]
    seen = Seen(
        int(table["rows"]),
        store["memory_bytes"] / 2**20,
        _resident_mib(stack.pid),
        store["file_bytes"] / 2**20,
        store["wal_bytes"] / 2**20,
        int(table["lake_rows"]),
    )
    print(f"   day {day}: {seen}")
    return seen


def _log_bytes(stack: Stack) -> int:
    with stack.client() as client:
        return int(client.status()["store"]["wal_bytes"])


@contextmanager
def _load(server: PostgresServer, day: int) -> Iterator[None]:
    """A day's rows in a hundred transactions, with changes of any age; ends with its day."""

    def come() -> None:
        today = FIRST + timedelta(days=day)
        late = FIRST + timedelta(days=day // 2)
        with server.connect() as source:
            for _ in range(100):
                source.execute(_COME.format(today, ROWS // 100))
                source.execute(_CHANGE.format((day + 1) * ROWS, ROWS // 1000))
            source.execute(_COME.format(late, ROWS // 100))

    thread = threading.Thread(target=come)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _slopes(seen: Sequence[Seen]) -> list[Figure]:
    measured = (
        ("hot memory", [s.hot_mib for s in seen]),
        ("hot file", [s.file_mib for s in seen]),
        ("memory of the process", [s.resident_mib for s in seen]),
    )
    lake = slope([float(s.lake_rows) for s in seen])
    found = [
        Figure(
            f"{name}, slope over {len(seen)} tiering cycles under load",
            f"{each.rise:+.2f} MiB a cycle, twice its error {2 * each.error:.2f}",
            f"mean {each.mean:,.0f} MiB",
            each.drift,
            "no more than noise",
            "<= 0.25 of the mean in all",
            each.noise,
            each.noise or each.drift <= 0.25,
        )
        for name, each in ((name, slope(values)) for name, values in measured)
    ]
    grows = Figure(
        "rows in the lake meanwhile",
        f"{lake.rise:+,.0f} a cycle",
        f"{ROWS:,} come a cycle",
        lake.rise / ROWS,
        ">= 0.9",
        ">= 0.9",
        lake.rise >= 0.9 * ROWS,
        lake.rise >= 0.9 * ROWS,
    )
    return [*found, grows]


def _compact(stack: Stack) -> Figure:
    """Join the files that late rows left, of the whole table."""
    with stack.client() as client:
        (table,) = client.status()["sources"][0]["tables"]
        begun = time.perf_counter()
        done = client.wait(client.compact([TABLE])["id"], timeout_seconds=WAIT_SECONDS)
        seconds = time.perf_counter() - begun
    assert done["tables"][0]["compacted"], "there was nothing to join"
    rate = table["lake_rows"] / seconds
    return told(
        "compaction of a table, rows a second",
        f"{rate:,.0f} rows/s",
        f"{table['lake_rows']:,} rows, {seconds:.1f} s",
    )


def _first_answer(stack: Stack) -> Figure:
    """From the start of the process to an answer over hot and lake."""
    begun = time.perf_counter()
    stack.start()
    with psycopg.connect(stack.dsn(), autocommit=True) as port:

        def answered() -> bool:
            port.execute("SELECT count(*), max(value) FROM readings").fetchall()
            return port.execute("SHOW htapkit.last_route").fetchall()[0][0] == "union"

        wait_until(answered, 120, stack.log_end)
    seconds = time.perf_counter() - begun
    return told("cold start to the first answer over hot and lake", f"{seconds:.1f} s")


def _resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("Linux says it")
