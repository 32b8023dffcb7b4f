"""Rows written into a Cassandra node: as files, against prepared writes of the same rows.

Each is a whole load as the command does it, but for reading the rows in: the program that makes
files starts within it. What counts is the CPU time of all that takes part, the node with it: a busy
machine makes the program, which is nice, wait for others. The rates by the clock are printed.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from htapkit.model import TableId
from htapkit.spi import SourceOptions
from htapkit.testing.guard import Guard
from htapkit.testing.postgres import free_port
from htapkit_cassandra.inputs import ParquetInput
from htapkit_cassandra.loading import Load, Wanted
from htapkit_cassandra.node import CassandraNode
from htapkit_cassandra.settings import Settings, parse_settings
from tests.bench.figures import Figure, at_least

ROWS = int(os.environ.get("LOAD_ROWS", "300000"))
PARTITIONS = 1_000
_CQL = (
    "CREATE KEYSPACE demo WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    *(
        f"CREATE TABLE demo.{name} (entity text, day date, at timestamp, seq int, kind text,"
        " value double, qty int, payload text, PRIMARY KEY ((entity, day), at, seq))"
        f" WITH cdc = {cdc}"
        for name, cdc in (("cql", "false"), ("sstable", "false"), ("logged", "true"))
    ),
)


def run() -> list[Figure]:
    """Rows per CPU second of each way."""
    with tempfile.TemporaryDirectory(prefix="htapkit-bench-") as name:
        folder = Path(name)
        guard = Guard(folder)
        path = _rows(folder)
        (folder / "node").mkdir()
        node = CassandraNode(folder / "node", free_port)
        options = SourceOptions("events", node.settings(), 5, 1, 10_000, 2**25, 1, None)
        settings, rates = parse_settings(options), dict.fromkeys(("cql", "sstable", "logged"), 0.0)
        try:
            node.start()
            with node.session() as session:
                for cql in _CQL:
                    session.execute(cql)
                for table in rates:
                    rates[table] = _load(node, settings, folder, path, table)
        finally:
            node.stop()
            guard.release()
    what = f"{ROWS:,} rows of 8 columns into Cassandra"
    return [
        at_least(f"{what}: files", rates["sstable"], rates["cql"], 6, 2, "rows/CPU s"),
        at_least(
            f"{what}: files through the log", rates["logged"], rates["cql"], 3, 1, "rows/CPU s"
        ),
    ]


def _rows(folder: Path) -> Path:
    path, numbers = folder / "rows.parquet", range(ROWS)
    columns = {
        "entity": [f"entity-{n % PARTITIONS}" for n in numbers],
        "day": pa.array([20_000 + n % 7 for n in numbers], pa.int32()).cast(pa.date32()),
        "at": pa.array([1_700_000_000_000 + n * 37 for n in numbers], pa.timestamp("ms", "UTC")),
        "seq": pa.array(numbers, pa.int32()),
        "kind": [("view", "buy", "leave")[n % 3] for n in numbers],
        "value": [n / 7 for n in numbers],
        "qty": pa.array([n % 100 for n in numbers], pa.int32()),
        "payload": [f"some words about the event of number {n}" for n in numbers],
    }
    pq.write_table(pa.table(columns), path)
    return path


def _cpu_seconds(node: CassandraNode) -> float:
    """Of this process, of the programs that it has ended, and of the node."""
    own, theirs = os.times(), psutil.Process(node.process.pid).cpu_times()
    spent = own.user + own.system + own.children_user + own.children_system
    return float(spent + theirs.user + theirs.system)


def _load(node: CassandraNode, settings: Settings, folder: Path, path: Path, table: str) -> float:
    method = "cql" if table == "cql" else "sstable"
    wanted = Wanted(method, "ONE", compared_max=1_000)
    load = Load(settings, folder / "load", TableId("events", "demo", table), wanted)
    with load.locked():
        prepared = load.prepare(ParquetInput(path), lambda *_: None)
        begun = _cpu_seconds(node)
        loaded = load.write(prepared, lambda *_: None)
        spent = _cpu_seconds(node) - begun
    assert loaded.compared.equal == loaded.compared.compared > 0, loaded
    print(f"{table}: {ROWS / loaded.seconds:,.0f} rows/s, {spent:.1f} CPU s")
    return ROWS / spent
