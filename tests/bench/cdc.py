"""CDC into the hot store, durable, against `pg_recvlogical` draining an equal slot to /dev/null.

pg_recvlogical is a weak reference (it wakes for every message), but everybody has it. Both drain
the same log, with the same server settings, alternating. The walsender's CPU is told beside ours:
it is the limit where it has a core all the time.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
import psycopg

from htapkit.hot import HotLimits, HotStore
from htapkit.ingest import Mirror
from htapkit.metrics import Metrics
from htapkit.model import Position
from htapkit.spi import Source, SourceOptions, load_source
from htapkit.testing.postgres import PostgresServer
from htapkit.testing.stack import wait_until
from tests.bench.figures import Figure, at_least

REPEATS = 3
SETUP = """
CREATE TABLE ev (id bigint PRIMARY KEY, ts timestamptz NOT NULL, host text, value double precision,
                 status int, amount numeric(12,2));
"""
ROW = "clock_timestamp(), 'host-' || g % 500, g * 0.37, g % 7, (g % 100000) * 0.01"
WORKLOADS = {
    "CDC, single-row transactions": (
        200_000,
        f"""DO $$ BEGIN FOR g IN 1..200000 LOOP
            INSERT INTO ev SELECT %(base)s + g, {ROW}; COMMIT; END LOOP; END $$""",
    ),
    "CDC, inserts, 1000 rows a transaction": (
        1_000_000,
        f"""DO $$ BEGIN FOR t IN 0..999 LOOP
            INSERT INTO ev SELECT %(base)s + t * 1000 + g, {ROW} FROM generate_series(1, 1000) g;
            COMMIT; END LOOP; END $$""",
    ),
    "CDC, mixed, 100 rows a transaction": (
        300_000,
        f"""DO $$ BEGIN FOR t IN 0..2999 LOOP
            INSERT INTO ev SELECT %(base)s + t * 50 + g, {ROW} FROM generate_series(1, 50) g;
            UPDATE ev SET value = value + 1 WHERE id IN (
                SELECT (random() * 400000)::bigint FROM generate_series(1, 40));
            DELETE FROM ev WHERE id IN (
                SELECT (random() * 400000)::bigint FROM generate_series(1, 10));
            COMMIT; END LOOP; END $$""",
    ),
}


def run() -> list[Figure]:
    """All workloads."""
    with PostgresServer(18, settings={"max_wal_size": "8GB", "shared_buffers": "256MB"}) as server:
        return [_workload(server, name, *what) for name, what in WORKLOADS.items()]


def _workload(server: PostgresServer, name: str, rows: int, load: str) -> Figure:
    with tempfile.TemporaryDirectory() as folder, server.connect() as admin:
        admin.execute("DROP TABLE IF EXISTS ev")
        admin.execute(SETUP)
        admin.execute(f"INSERT INTO ev SELECT g, {ROW} FROM generate_series(1, 400000) g")
        options = SourceOptions(
            "bench",
            {"dsn": server.dsn(), "tables": ["public.ev"]},
            20,
            10**12,
            50_000,
            32 << 20,
            2,
            None,
        )
        source = load_source("postgres", options)
        store = HotStore(Path(folder) / "hot.duckdb", HotLimits(memory_bytes=2 * 10**9))
        mirror = Mirror("bench", source, store, Metrics())
        mirror.start()
        wait_until(lambda: mirror.report().ready, 60, lambda: str(mirror.report()))
        mirror.stop()
        slot = admin.execute(
            "SELECT slot_name FROM pg_replication_slots WHERE NOT temporary"
        ).fetchall()[0][0]
        changed = 0
        ours: list[float] = []
        theirs: list[float] = []
        for repeat in range(REPEATS):
            before = _count(admin)
            admin.execute("SELECT pg_copy_logical_replication_slot(%s, 'base')", (slot,))
            admin.execute(load.replace("%(base)s", str(1_000_000 * (repeat + 1))))
            end = admin.execute("SELECT pg_current_wal_insert_lsn()").fetchall()[0][0]
            changed = rows if "mixed" not in name else _count(admin) - before
            theirs.append(rows / _pg_recvlogical(server, end))
            admin.execute("SELECT pg_drop_replication_slot('base')")
            seconds, busy = _drain(mirror_for(source, store), end, admin)
            ours.append(rows / seconds)
            print(
                f"   {name}: ours {ours[-1]:,.0f}, pg_recvlogical {theirs[-1]:,.0f} rows/s; "
                f"the walsender was busy for {busy:.0%} of our time",
                flush=True,
            )
        count = _count(admin)
        with store.read('SELECT count(*) FROM "bench.public"."ev"') as read:
            copied = next(iter(read.batches())).column(0)[0].as_py()
        assert copied == count, f"{copied} rows here, {count} at the source (changed {changed})"
        store.close()
        source.detach()
        return at_least(
            name, statistics.median(ours), statistics.median(theirs), 1.5, 1.0, "rows/s"
        )


def mirror_for(source: Source, store: HotStore) -> Mirror:
    """A fresh mirror over the same store."""
    return Mirror("bench", source, store, Metrics())


def _count(admin: psycopg.Connection) -> int:
    return int(admin.execute("SELECT count(*) FROM ev").fetchall()[0][0])


def _pg_recvlogical(server: PostgresServer, end: str) -> float:
    begun = time.perf_counter()
    subprocess.run(
        [
            str(server.tool("pg_recvlogical")),
            "-d",
            server.dsn(),
            "-S",
            "base",
            "--start",
            "--no-loop",
            "-f",
            "/dev/null",
            "-E",
            end,
            "-o",
            "proto_version=1",
            "-o",
            "publication_names=htapkit_bench",
        ],
        check=True,
        env={**os.environ, "PGOPTIONS": "-c logical_decoding_work_mem=256MB"},
    )
    return time.perf_counter() - begun


def _cpu(process: psutil.Process) -> float:
    """Seconds."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _drain(mirror: Mirror, end: str, admin: psycopg.Connection) -> tuple[float, float]:
    """(seconds, the part of them that the walsender had a core)."""
    high, low = end.split("/")
    want = Position(f"{(int(high, 16) << 32) | int(low, 16):016X}")
    mirror.start()
    # The preflight before the stream is not what is measured.
    wait_until(lambda: mirror.report().state == "streaming", 30, lambda: str(mirror.report()))
    ((pid,),) = admin.execute("SELECT pid FROM pg_stat_replication").fetchall()
    walsender = psutil.Process(pid)
    begun, before = time.perf_counter(), _cpu(walsender)
    try:
        mirror.freshness.wait_for(want, 300)
        seconds = time.perf_counter() - begun
        return seconds, (_cpu(walsender) - before) / seconds
    finally:
        mirror.stop()
