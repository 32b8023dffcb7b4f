"""What cells cost in the lake: their ranks beside the rows, and rows that are written once more.

Without a node, as `cells`. The baselines are the same rows from a source that has transactions,
and rows that are new and lie above the line.
"""

from __future__ import annotations

import random
import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from htapkit.lake import Lake, LakeSettings
from htapkit.metrics import Metrics
from htapkit.model import Layout, TableId, TableSchema
from htapkit.tier import Rule, Target, Tierer
from htapkit_cassandra.cells import Collector
from tests.bench.cells import BATCH_ROWS, MS, ROWS, Copy, changes, made, written
from tests.bench.figures import Figure, at_most

_ROUNDS = 5
_DAY_US = 86_400_000_000


def run() -> list[Figure]:
    """Bytes of Parquet for a row; seconds of a batch, none of which may leave a patch."""
    rolled = random.Random(1)
    layout, entities = made(rolled)
    schema = layout.schema
    collector = Collector(layout)
    with tempfile.TemporaryDirectory(prefix="htapkit-bench-") as name:
        folder = Path(name)
        for number in range(ROWS):
            collector.take(written(entities, number, number))
        cells, packed = _tiered(folder / "cells", schema, collector.changes().cells)
        again, new = [], []
        for round_ in range(_ROUNDS):
            for number in rolled.sample(range(ROWS), BATCH_ROWS):
                collector.take(written(entities, number, number))
            again.append(cells.apply(collector.changes()))
            for number in range(BATCH_ROWS):
                above = 10**9 + round_ * BATCH_ROWS + number
                collector.take(written(entities, above, ROWS))
            new.append(cells.apply(collector.changes()))
        assert cells.store.patches(schema.table) == (0, 0), "repetition changes nothing"
        cells.store.close()
        plain = replace(schema, table=TableId("events", "demo", "rows"), reconciled=False)
        rows = changes(plain, entities, list(range(ROWS))).rows
        transactions, alone = _tiered(folder / "rows", plain, rows)
        transactions.store.close()
    return [
        at_most(
            "reconciled: bytes of a row in the lake, against the row alone",
            packed / ROWS,
            alone / ROWS,
            4,
            6,
            "bytes",
        ),
        at_most(
            "reconciled: 1,000 rows of the lake again, against 1,000 new ones",
            min(again),
            min(new),
            10,
            30,
            "s",
        ),
    ]


def _tiered(folder: Path, schema: TableSchema, rows: pa.RecordBatch) -> tuple[Copy, int]:
    """A copy of which all of this is in the lake, and the bytes that it has there."""
    folder.mkdir()
    copy = Copy(folder, schema)
    lake = Lake(LakeSettings.local(folder))
    copy.store.use_lake(lake)
    copy.copied([rows])
    column = schema.column("at")
    assert column is not None
    rule = Rule(column, Layout("at", "day", ("entity", "at")), None)
    below = (MS * 1000 // _DAY_US + 2) * _DAY_US
    tierer = Tierer(copy.store, lake, Metrics(), rows_max=2 * ROWS)
    tierer.run([Target(schema.table, rule, below)], lambda *_: None)
    files = (folder / "warehouse").rglob("*.parquet")
    return copy, sum(path.stat().st_size for path in files)
