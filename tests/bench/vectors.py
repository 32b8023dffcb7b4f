"""The nearest vectors: exactly, in the copy, against what a node's own index gives of them.

The index (SAI) answers nearly; how many of the ten nearest it has is a figure, too. Each asks with
its own client in this process: the copy without the wire, the node over CQL.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

from htapkit.hot import HotStore
from htapkit.model import Catalog, ChangeBatch, Position, TableId, TableSchema
from htapkit.plan import LocalQuery, SessionView, plan
from htapkit.testing.guard import Guard
from htapkit.testing.postgres import free_port
from htapkit_cassandra.catalog import ColumnRow, table_schema
from htapkit_cassandra.node import CassandraNode
from htapkit_cassandra.types import sql_type
from tests.bench.figures import Figure, at_least, at_most
from tests.fix_ring import tool

ROWS = 20_000
DIMENSIONS = 128
KINDS = int(os.environ.get("VECTORS_KINDS", "200"))  # of vectors: those of one lie near each other
QUESTIONS = 100
NEAREST = 10
WRITERS = 2  # more than the node has cores, and its index (5.0.9) refuses some writes
_TYPE = f"vector<float, {DIMENSIONS}>"
_TABLE = TableId("events", "demo", "items")
_COLUMNS = (
    ColumnRow("id", "partition_key", 0, "none", "int"),
    ColumnRow("e", "regular", -1, "none", _TYPE),
)
_CQL = (
    "CREATE KEYSPACE demo WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    f"CREATE TABLE demo.items (id int PRIMARY KEY, e {_TYPE})",
    "CREATE CUSTOM INDEX ON demo.items (e) USING 'StorageAttachedIndex' "
    "WITH OPTIONS = {'similarity_function': 'cosine'}",
)
Vector = list[float]


def run() -> list[Figure]:
    """The time of a question, each side's median; and the node's recall."""
    rolled = random.Random(3)
    middles = [_around(rolled, [0.0] * DIMENSIONS, 1.0) for _ in range(KINDS)]
    rows = [_around(rolled, rolled.choice(middles), 0.4) for _ in range(ROWS)]
    asked = [_around(rolled, rolled.choice(middles), 0.4) for _ in range(QUESTIONS)]
    with tempfile.TemporaryDirectory(prefix="htapkit-bench-") as folder:
        exact, ours = _copy(Path(folder), rows, asked)
        guard = Guard(Path(folder))
        (Path(folder) / "node").mkdir()
        node = CassandraNode(Path(folder) / "node", free_port)
        try:
            node.start()
            with node.session() as session:
                _fill(session, rows)
                tool(node, "flush", "demo")  # the index that stays is the one on disk
                near, theirs = _node(session, asked)
        finally:
            node.stop()
            guard.release()
    both = sum(len(set(a) & set(b)) for a, b in zip(near, exact, strict=True))
    what = f"nearest {NEAREST} of {ROWS:,} vectors of {DIMENSIONS}"
    return [
        at_most(f"{what}: exact in the copy, against the node's index", ours, theirs, 2, 10, "ms"),
        at_least(f"{what}: found by the node's index", both, NEAREST * QUESTIONS, 0.9, 0.5, "rows"),
    ]


def _around(rolled: random.Random, middle: Vector, width: float) -> Vector:
    return [rolled.gauss(each, width) for each in middle]


def _copy(folder: Path, rows: list[Vector], asked: list[Vector]) -> tuple[list[list[int]], float]:
    schema = table_schema(_TABLE, _COLUMNS, {})
    store = HotStore(folder / "hot.duckdb")
    try:
        _load(store, TableSchema(_TABLE, schema.columns, schema.key), rows)
        catalog = Catalog(1, dict(store.catalog.tables))
        session = SessionView("events", alone=True)

        def ask(vector: Vector) -> list[int]:
            sql = f"SELECT id FROM demo.items ORDER BY e <=> '{vector}' LIMIT {NEAREST}"
            made = plan(sql, catalog, session)
            assert isinstance(made, LocalQuery), made
            read = store.read(made.sql)
            try:
                return [row for batch in read.batches() for row in batch.column(0).to_pylist()]
            finally:
                read.close()

        return _timed(ask, asked)
    finally:
        store.close()


def _load(store: HotStore, schema: TableSchema, rows: list[Vector]) -> None:
    store.add_table(schema, "f")
    end = Position("1")
    store.apply(ChangeBatch("events", (), (end,), end, None), _covers)
    store.start_copy(schema, "f", Position("0"))
    flat = pa.array([x for row in rows for x in row], pa.float32())
    vectors = pa.FixedSizeListArray.from_arrays(flat, DIMENSIONS)
    assert vectors.type == schema.arrow.field("e").type, sql_type(_TYPE)
    ids = pa.array(range(len(rows)), pa.int32())
    store.load(schema.table, [pa.record_batch([ids, vectors], schema=schema.arrow)])
    store.finish_copy(schema.table, _covers, 5)


def _covers(have: Position, want: Position) -> bool:
    return int(have) >= int(want)


def _fill(session: Session, rows: list[Vector]) -> None:
    for cql in _CQL:
        session.execute(cql)
    insert = session.prepare("INSERT INTO demo.items (id, e) VALUES (?, ?)")
    results = execute_concurrent_with_args(session, insert, enumerate(rows), concurrency=WRITERS)
    assert all(result.success for result in results)


def _node(session: Session, asked: list[Vector]) -> tuple[list[list[int]], float]:
    select = session.prepare(f"SELECT id FROM demo.items ORDER BY e ANN OF ? LIMIT {NEAREST}")
    return _timed(lambda vector: [row.id for row in session.execute(select, (vector,))], asked)


def _timed(
    ask: Callable[[Vector], list[int]], asked: list[Vector]
) -> tuple[list[list[int]], float]:
    """The answers, and the median of their milliseconds; those of the first are not counted."""
    for vector in asked[:5]:
        ask(vector)
    found, times = [], []
    for vector in asked:
        begun = time.perf_counter()
        found.append(ask(vector))
        times.append(1000 * (time.perf_counter() - begun))
        assert len(found[-1]) == NEAREST
    return found, statistics.median(times)
