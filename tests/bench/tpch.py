"""TPC-H through our port, against the source and bare DuckDB on the same rows and types.

Once while nothing changes, once while pgbench's changes are followed, for both.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import psycopg

from htapkit.testing.postgres import PostgresServer
from htapkit.testing.stack import Stack
from tests.bench import pgbench, tpch_data
from tests.bench.figures import Figure, at_most

REPEATS = 3
RATE = 300
LOAD_SECONDS = 40
SCALE = float(os.environ.get("TPCH_SCALE", "1"))
Run = Callable[[str], object]


def run() -> list[Figure]:
    """All 22, three rounds; the sum of each query's median."""
    folder = tpch_data.make(SCALE).resolve()
    queries = tpch_data.queries()
    settings = {"shared_buffers": "1GB", "max_wal_size": "8GB", "work_mem": "64MB", "jit": "off"}
    with (
        tempfile.TemporaryDirectory() as scratch,
        PostgresServer(18, settings=settings) as server,
    ):
        load(server, folder)
        pgbench.make_tables(server, 5)
        sources = {"shop": {"dsn": server.dsn(), "tables": ["public.*"]}}
        with Stack(Path(scratch) / "stack", sources) as stack:
            stack.wait_ready(900)
            bare = _bare(Path(scratch) / "bare.duckdb", folder)
            source = server.connect()
            port = psycopg.connect(stack.dsn(), autocommit=True)
            ours, raw, theirs, routes = _measure(queries, port, bare, source)
            with pgbench.load(server, RATE, LOAD_SECONDS):
                changing, raw_beside, _, routes_then = _measure(queries, port, bare, None)
            port.close()
            source.close()
            bare.close()
    not_hot = {n for r in (routes, routes_then) for n, route in r.items() if route != "hot"}
    print(f"   not hot: {not_hot or 'none'}")
    total, total_raw, total_source = sum(ours.values()), sum(raw.values()), sum(theirs.values())
    for name in queries:
        print(
            f"   {name}: port {ours[name] * 1000:.0f}, bare {raw[name] * 1000:.0f}, "
            f"source {theirs[name] * 1000:.0f} ms; beside {RATE} transactions/s "
            f"port {changing[name] * 1000:.0f}, bare {raw_beside[name] * 1000:.0f}"
        )
    what = f"TPC-H SF {SCALE:g}, 22 queries, port"
    followed, beside = sum(changing.values()), sum(raw_beside.values())
    return [
        at_most(f"{what} / bare DuckDB", total, total_raw, 1.2, 2.0, "s"),
        at_most(f"{what} / bare DuckDB, {RATE} tps followed", followed, beside, 1.2, 2.0, "s"),
        at_most(f"{what} / source", total, total_source, 1 / 16, 1.0, "s"),
    ]


def _measure(
    queries: dict[str, str],
    port: psycopg.Connection,
    bare: duckdb.DuckDBPyConnection,
    source: psycopg.Connection | None,
) -> tuple[dict[str, float], dict[str, float], dict[str, float], dict[str, str]]:
    ways: dict[str, Run] = {
        "port": lambda sql: port.execute(sql).fetchall(),
        "bare": lambda sql: bare.execute(sql).fetchall(),
    }
    if source is not None:
        ways["source"] = lambda sql: source.execute(sql).fetchall()
    times: dict[str, dict[str, list[float]]] = {way: {n: [] for n in queries} for way in ways}
    routes: dict[str, str] = {}
    for repeat in range(REPEATS):
        for name, sql in queries.items():
            for way, execute in ways.items():
                if way == "source" and repeat > 0:
                    continue  # minutes; once is enough for a factor of ten
                begun = time.perf_counter()
                execute(sql)
                times[way][name].append(time.perf_counter() - begun)
                if way == "port":
                    routes[name] = str(port.execute("SHOW htapkit.last_route").fetchall()[0][0])
    median = {w: {n: statistics.median(v) for n, v in t.items()} for w, t in times.items()}
    return median["port"], median["bare"], median.get("source", {}), routes


def load(server: PostgresServer, folder: Path) -> None:
    """Schema, rows and indexes at the source."""
    with server.connect() as admin:
        for statement in tpch_data.schema().split(";"):
            if statement.strip():
                admin.execute(statement)
        for table in tpch_data.TABLES:
            with admin.cursor().copy(f"COPY {table} FROM STDIN (FORMAT csv)") as copy:
                copy_file(copy, folder / f"{table}.csv")
        admin.execute(tpch_data.indexes())
        admin.execute("VACUUM ANALYZE")


def copy_file(copy: psycopg.Copy, path: Path) -> None:
    """Send a file."""
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            copy.write(chunk)


def _bare(path: Path, folder: Path) -> duckdb.DuckDBPyConnection:
    """The same rows in a file of DuckDB's own, with the threads that our store uses."""
    db = duckdb.connect(str(path), config={"threads": os.cpu_count() or 1})
    for statement in tpch_data.schema().split(";"):
        if "CREATE TABLE" in statement.upper():
            db.execute(statement)
    for table in tpch_data.TABLES:
        db.execute(f"COPY {table} FROM '{folder / table}.csv' (HEADER false)")
    db.execute("CHECKPOINT")
    return db
