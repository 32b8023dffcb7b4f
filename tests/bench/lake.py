"""Hot and lake in one statement against one arm; TPC-H with half of it tiered; tiering itself.

The same stack answers before and after its old half has moved, so both are of one run.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from htapkit.testing.postgres import PostgresServer
from htapkit.testing.stack import Stack
from tests.bench import tpch_data
from tests.bench.figures import Figure, at_least, at_most, told
from tests.bench.tpch import SCALE, load

REPEATS = 3
HALF = datetime(1995, 7, 1, tzinfo=UTC)
TIERED = {"lineitem": "l_shipdate", "orders": "o_orderdate"}
BY_PART = (
    "SELECT l_returnflag, l_linestatus, count(*), sum(l_quantity), "
    "sum(l_extendedprice * l_discount), max(l_shipdate) "
    "FROM lineitem {0} GROUP BY l_returnflag, l_linestatus",
    "SELECT count(*), sum(l_extendedprice) FROM lineitem {0}",
    "SELECT l_suppkey, sum(l_quantity) AS q FROM lineitem {0} GROUP BY l_suppkey",
)
PROBE_SECONDS = 0.05
ALONE_SECONDS = 30
PROBE = f"SELECT count(*), sum(l_quantity) FROM lineitem WHERE l_shipdate >= '{HALF:%Y-%m-%d}'"


def run() -> list[Figure]:
    """Everything on one pair of source and copy."""
    folder = tpch_data.make(SCALE).resolve()
    settings = {"shared_buffers": "1GB", "max_wal_size": "8GB", "jit": "off"}
    with (
        tempfile.TemporaryDirectory() as scratch,
        PostgresServer(18, settings=settings) as server,
    ):
        load(server, folder)
        with server.connect() as admin:
            admin.execute("CREATE TABLE marker (id bigint PRIMARY KEY)")
        tables = {
            f"shop.public.{table}": {"time_column": column, "partition": "month"}
            for table, column in TIERED.items()
        }
        sources = {"shop": {"dsn": server.dsn(), "tables": ["public.*"]}}
        configuration = {"tables": tables, "lake": {"interval": "1 day"}}
        with Stack(Path(scratch) / "stack", sources, configuration=configuration) as stack:
            stack.wait_ready(900)
            return _figures(server, stack)


def _figures(server: PostgresServer, stack: Stack) -> list[Figure]:
    queries = tpch_data.queries()
    with psycopg.connect(stack.dsn(), autocommit=True) as port:
        hot = _medians(port, queries, "hot")
        with _probing(server, stack) as before:
            time.sleep(ALONE_SECONDS)
        with _probing(server, stack) as seen:
            begun = time.perf_counter()
            moved = _tier(stack)
            seconds = time.perf_counter() - begun
        union = _medians(port, queries, None)
        ratio = _arms(port)
    visible, asked, alone = _p99(seen.visible), _p99(seen.queries), _p99(before.queries)
    lake_bytes = sum(
        path.stat().st_size for path in (stack.folder / "data" / "warehouse").rglob("*.parquet")
    )
    heap = _heap_bytes_per_row(server)
    for name in queries:
        print(
            f"   {name}: hot {hot[name] * 1000:.0f}, half in the lake {union[name] * 1000:.0f} ms"
        )
    return [
        at_most("hot and lake / the slower arm, 3 queries", ratio, 1.0, 1.3, 2.0, "x"),
        at_most(
            f"TPC-H SF {SCALE:g}, half of it in the lake / all hot",
            sum(union.values()),
            sum(hot.values()),
            2.0,
            3.0,
            "s",
        ),
        at_least("tiering, rows a second", moved / seconds, 100_000, 2.0, 1.0, "rows/s"),
        at_most(
            "bytes a row in the lake / in the source's heap", lake_bytes / moved, heap, 0.5, 1, "B"
        ),
        Figure(
            "commit -> visible while ranges move",
            f"p99 {visible * 1000:.0f} ms",
            f"p99 {_p99(before.visible) * 1000:.0f} ms",
            visible / _p99(before.visible),
            "p99 <= 250 ms",
            "p99 <= 500 ms",
            visible <= 0.25,
            visible <= 0.5,
        ),
        told(
            "a query on the hot rows while ranges move / just before",
            f"p99 {asked * 1000:.0f} ms of {len(seen.queries)}",
            f"p99 {alone * 1000:.0f} ms of {len(before.queries)}",
            asked / alone,
        ),
    ]


def _p99(seen: list[float]) -> float:
    return sorted(seen)[int(len(seen) * 0.99)]


def _medians(
    port: psycopg.Connection, queries: Mapping[str, str], route: str | None
) -> dict[str, float]:
    found = {}
    for name, sql in queries.items():
        taken = []
        for _ in range(REPEATS):
            begun = time.perf_counter()
            port.execute(sql).fetchall()
            taken.append(time.perf_counter() - begun)
        last = str(port.execute("SHOW htapkit.last_route").fetchall()[0][0])
        if last == "source" or (route and last != route):
            print(f"   {name} was answered by {last}")
        found[name] = statistics.median(taken)
    return found


def _tier(stack: Stack) -> int:
    """Move the older half; how many rows."""
    age = datetime.now(UTC) - HALF
    with stack.client() as client:
        names = [f"shop.public.{table}" for table in TIERED]
        job = client.tier(names, f"{age.total_seconds():.0f} s")
        result = client.wait(job["id"], timeout_seconds=900)
    return sum(row["rows"] for row in result["tables"])


def _arms(port: psycopg.Connection) -> float:
    """Both arms in one statement against the slower of them alone; the worst of some queries."""
    young, old = f"WHERE l_shipdate >= '{HALF:%Y-%m-%d}'", f"WHERE l_shipdate < '{HALF:%Y-%m-%d}'"
    ratios = []
    for sql in BY_PART:
        times = {}
        for name, where in (("young", young), ("old", old), ("both", "")):
            taken: list[float] = []
            for _ in range(5):
                begun = time.perf_counter()
                port.execute(sql.format(where)).fetchall()
                taken.append(time.perf_counter() - begun)
            times[name] = statistics.median(taken)
        ratios.append(times["both"] / max(times["young"], times["old"]))
        print("   " + ", ".join(f"{n} {t * 1000:.0f} ms" for n, t in times.items()))
    return max(ratios)


@dataclass(frozen=True, slots=True)
class Probes:
    """Seconds that each took."""

    visible: list[float] = field(default_factory=list)  # from a commit until it is seen
    queries: list[float] = field(default_factory=list)


@contextmanager
def _probing(server: PostgresServer, stack: Stack) -> Iterator[Probes]:
    """Markers and a query, one after the other each, all the time."""
    seen, stop = Probes(), threading.Event()

    def mark() -> None:
        with server.connect() as writer, _reader(stack) as reader:
            number = _newest(reader)
            while not stop.wait(PROBE_SECONDS):
                number += 1
                writer.execute("INSERT INTO marker VALUES (%s)", [number])
                begun = time.perf_counter()
                while _newest(reader) < number:
                    pass
                seen.visible.append(time.perf_counter() - begun)

    def ask() -> None:
        with _reader(stack) as reader:
            while not stop.wait(PROBE_SECONDS):
                begun = time.perf_counter()
                reader.execute(PROBE).fetchall()
                seen.queries.append(time.perf_counter() - begun)

    threads = [threading.Thread(target=each) for each in (mark, ask)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _reader(stack: Stack) -> psycopg.Connection:
    reader = psycopg.connect(stack.dsn(), autocommit=True)
    reader.execute("SET htapkit.freshness = 'any'")
    return reader


def _newest(reader: psycopg.Connection) -> int:
    rows: Sequence[tuple[int]] = reader.execute(
        "SELECT coalesce(max(id), 0) FROM marker"
    ).fetchall()
    return rows[0][0]


def _heap_bytes_per_row(server: PostgresServer) -> float:
    with server.connect() as admin:
        rows = admin.execute(
            "SELECT sum(pg_relation_size(oid)) / sum(reltuples) FROM pg_class "
            "WHERE relname IN ('lineitem', 'orders')"
        ).fetchall()
    return float(rows[0][0])
