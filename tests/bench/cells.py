"""What cells cost beside the rows that they make: disk, and time for a batch of writes.

Without a node: the connector's own code makes the cells, the hot store merges them. The baseline of
a batch is the same table with rows from a source that has transactions.
"""

from __future__ import annotations

import os
import random
import struct
import tempfile
import time
import uuid
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa

from htapkit.hot import HotStore
from htapkit.model import Change, ChangeBatch, Position, RowChanges, TableId, TableSchema
from htapkit_cassandra import cql
from htapkit_cassandra.catalog import ColumnRow, table_schema
from htapkit_cassandra.cells import Collector
from htapkit_cassandra.layout import Layout
from htapkit_cassandra.mutations import Cell, RowWrite
from htapkit_cassandra.places import Places
from tests.bench.figures import Figure, at_least, at_most, told

ROWS = int(os.environ.get("BENCH_CELLS_ROWS", "200_000"))
BATCH_ROWS = 1_000
SERIES_ROWS = 10_000
BATCHES = 8
COLUMNS = (
    ColumnRow("entity", "partition_key", 0, "none", "uuid"),
    ColumnRow("at", "clustering", 0, "desc", "timestamp"),
    ColumnRow("amount", "regular", -1, "none", "double"),
    ColumnRow("kind", "regular", -1, "none", "text"),
    ColumnRow("n", "regular", -1, "none", "int"),
    ColumnRow("note", "regular", -1, "none", "text"),
)
MS = 1_700_000_000_000


class Copy:
    """A store with one table, whose batches have numbers."""

    def __init__(self, folder: Path, schema: TableSchema) -> None:
        self.path = folder / f"{schema.table.name}.duckdb"
        self.store = HotStore(self.path, warehouse=str(folder))
        self.schema = schema
        self._number = 0
        self.store.add_table(schema, "f")
        self.apply()

    def apply(self, *changes: Change) -> float:
        """One batch; its seconds."""
        self._number += 1
        end = Position(str(self._number))
        begun = time.perf_counter()
        batch = ChangeBatch("events", changes, (end,), end, None)
        self.store.apply(batch, covers)
        return time.perf_counter() - begun

    def copied(self, batches: list[pa.RecordBatch]) -> None:
        """All of it."""
        self.store.start_copy(self.schema, "f", Position("0"))
        self.store.load(self.schema.table, batches)
        self.store.finish_copy(self.schema.table, covers, 5)


def covers(have: Position, want: Position) -> bool:
    return int(have) >= int(want)


def made(rolled: random.Random) -> tuple[Layout, list[uuid.UUID]]:
    """The table, and the entities that its rows are of."""
    schema = table_schema(TableId("events", "demo", "cells"), COLUMNS, {})
    types = {c.name: cql.parse(c.type, {}) for c in COLUMNS}
    layout = Layout(schema, types, Places((("timestamp", True),)))
    return layout, [uuid.UUID(int=rolled.getrandbits(128)) for _ in range(5000)]


def run() -> list[Figure]:
    """Disk after everything was written in order; batches of which half are new rows."""
    rolled = random.Random(1)
    layout, entities = made(rolled)
    schema = layout.schema
    numbers = list(range(ROWS))
    more = [
        [rolled.randrange(ROWS) + (ROWS if n % 2 else 0) for n in range(BATCH_ROWS)]
        for _ in range(BATCHES)
    ]
    with tempfile.TemporaryDirectory(prefix="htapkit-bench-") as folder:
        cells = Copy(Path(folder), schema)
        collector = Collector(layout)
        for number in numbers:
            collector.take(written(entities, number, number))
        cells.copied([collector.changes().cells])
        seconds = []
        for round_, batch in enumerate(more):
            for number in batch:
                collector.take(written(entities, number, ROWS + round_))
            seconds.append(cells.apply(collector.changes()))
        watched, alone = _watched(cells, collector, entities, rolled)
        series = [_series(cells, collector, entities, 2 * ROWS + n) for n in range(BATCHES)]
        cells.store.rewrite(schema.table)
        cells.store.close()
        rows = Copy(
            Path(folder), replace(schema, table=TableId("events", "demo", "rows"), reconciled=False)
        )
        rows.copied([changes(rows.schema, entities, numbers).rows])
        fast = [
            rows.apply(changes(rows.schema, entities, sorted(set(b)), ops=1)) for b in _known(more)
        ]
        rows.store.close()
        beside, plain = _blocks(cells.path)
    return [
        at_most("reconciled: blocks of cells, against the rows'", beside, plain, 3, 10, "blocks"),
        at_least(
            "reconciled: rows/s in batches of 1,000, against plain updates",
            BATCH_ROWS / min(seconds),
            BATCH_ROWS / 2 / min(fast),
            0.5,
            0.1,
            "rows/s",
        ),
        told(
            "reconciled: the same batches where a sink watches, against nobody",
            f"{watched / alone:.2f} x the CPU",
        ),
        told(
            f"reconciled: batches of {SERIES_ROWS:,} new rows, beside {ROWS:,} that are there",
            f"{SERIES_ROWS / min(series):,.0f} rows/CPU s",
        ),
    ]


def _watched(
    copy: Copy, collector: Collector, entities: list[uuid.UUID], rolled: random.Random
) -> tuple[float, float]:
    """CPU seconds of batches of which half are new rows: where somebody watches, and where not.

    In turn. What is noted is not read.
    """
    journal, table = copy.store.journal, copy.schema.table
    journal.follow(table.source, "bench", None)
    seconds = {True: 0.0, False: 0.0}
    for number in range(2 * BATCHES):
        watches = number % 2 == 1
        journal.watch(table.source, "bench", frozenset({table} if watches else ()))
        for row in range(BATCH_ROWS):
            found = rolled.randrange(ROWS) + (2 * ROWS if row % 2 else 0)
            collector.take(written(entities, found, 2 * ROWS + number))
        changes, begun = collector.changes(), time.process_time()
        copy.apply(changes)
        seconds[watches] += time.process_time() - begun
    assert journal.bytes_after(table.source, 0)
    journal.let_go(table.source, "bench")
    return seconds[True], seconds[False]


def _series(copy: Copy, collector: Collector, entities: list[uuid.UUID], first: int) -> float:
    """A batch of rows that are later than all others; its CPU seconds."""
    for number in range(SERIES_ROWS):
        collector.take(written(entities, first * SERIES_ROWS + number, 3 * ROWS))
    made, begun = collector.changes(), time.process_time()
    copy.apply(made)
    return time.process_time() - begun


def _known(batches: list[list[int]]) -> list[list[int]]:
    """Those that are in the copy: a plain update must find its row."""
    return [[n for n in batch if n < ROWS] for batch in batches]


def written(entities: list[uuid.UUID], number: int, at: int) -> RowWrite:
    """A row, written so many microseconds after the beginning."""

    def cell(name: str, value: bytes) -> Cell:
        return Cell(name, MS * 1000 + at, value)

    return RowWrite(
        "t",
        (entities[number % len(entities)].bytes,),
        (struct.pack(">q", MS + number),),
        (
            cell("amount", struct.pack(">d", number * 0.37)),
            cell("kind", b"view"),
            cell("n", struct.pack(">i", number % 1000)),
            cell("note", f"note {number}".encode()),
        ),
        (),
        MS * 1000 + at,
    )


def changes(
    schema: TableSchema, entities: list[uuid.UUID], numbers: list[int], ops: int = 0
) -> RowChanges:
    """The same rows from a source with transactions."""
    values = {
        "entity": [str(entities[n % len(entities)]) for n in numbers],
        "at": [(MS + n) * 1000 for n in numbers],
        "amount": [n * 0.37 for n in numbers],
        "kind": ["view"] * len(numbers),
        "n": [n % 1000 for n in numbers],
        "note": [f"note {n}" for n in numbers],
    }
    rows = pa.RecordBatch.from_pydict(values, schema=schema.arrow)
    count = len(numbers)
    ops_ = pa.array([ops] * count, pa.int8())
    return RowChanges(schema.table, ops_, rows, pa.array([0] * count, pa.int32()))


def _blocks(path: Path) -> tuple[int, int]:
    """(of cells and deletions, of rows)."""
    found = {True: 0, False: 0}
    with duckdb.connect(str(path), read_only=True) as file:
        names = file.sql("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'events.demo'")
        for (name,) in names.fetchall():
            storage = f"""pragma_storage_info('"events.demo"."{name}"')"""
            more = f"SELECT unnest(additional_block_ids) FROM {storage}"
            text = f"SELECT block_id FROM {storage} WHERE block_id >= 0 UNION {more}"
            found["$" in name] += len(file.sql(text).fetchall())
    return found[True], found[False]
