"""An archive for ever: each day as many rows are deleted, and what is older than two days moves.

Without a source: the changes are handed to the hot store as a stream would bring them.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from htapkit.model import ChangeBatch, Op, RowChanges
from tests.bench.figures import Figure, at_least, at_most, told
from tests.unit.htapkit.hot.building import batch_of, covers
from tests.unit.htapkit.hot.test_store import follow
from tests.unit.htapkit.tier.archives import ARCHIVE, DAY, PLAIN, Side

DAYS = int(os.environ.get("BENCH_ARCHIVE_DAYS", "20"))
ROWS = int(os.environ.get("BENCH_ARCHIVE_ROWS", "100_000"))  # a day
HOT_DAYS = 2
WARM_UP = 6  # until as many days are hot as ever will be, and the file has room for them
ERASED = 100


def run() -> list[Figure]:
    """The size of the hot file, the rows that move in a second, and a few that are erased."""
    with tempfile.TemporaryDirectory() as scratch:
        side = Side(Path(scratch))
        side.open()
        follow(side.store, PLAIN, [])
        sizes, seconds = [], 0.0
        for day in range(1, DAYS + 1):
            side.store.apply(_come_and_gone(day), covers)
            begun = time.perf_counter()
            side.tier(day - HOT_DAYS)
            seconds += time.perf_counter() - begun
            side.close()  # which writes what is in the log into the file
            sizes.append((side.folder / "hot.duckdb").stat().st_size / 2**20)
            side.open()
            print(f"   day {day}: hot file {sizes[-1]:.1f} MiB")
        boundary = side.store.catalog.tables[ARCHIVE].boundary
        assert boundary is not None
        moved = boundary.pin.rows
        begun = time.perf_counter()
        gone = side.erase(f"id % {DAYS * ROWS // ERASED} = 0")
        erasing = time.perf_counter() - begun
        side.close()
    assert moved == ROWS * (DAYS - HOT_DAYS - 1), moved
    what = f"archive, {moved:,} rows of {DAYS - HOT_DAYS - 1} days in the lake"
    hot = f"{what}: hot file, last day / day {WARM_UP}"
    return [
        at_most(hot, sizes[-1], sizes[WARM_UP - 1], 1.2, 2, "MiB"),
        at_least(f"{what}: rows moved a second", moved / seconds, 100_000, 2, 1, "rows/s"),
        told(f"{what}: {gone} rows of all days erased", f"{erasing:.1f} s"),
    ]


def _come_and_gone(day: int) -> ChangeBatch:
    """A batch of one transaction, in which a day's rows come and go."""
    first = (day - 1) * ROWS
    ids = pa.array(np.tile(np.arange(first, first + ROWS), 2), pa.int64())
    ops = pa.array(np.repeat([int(Op.INSERT), int(Op.DELETE)], ROWS), pa.int8())
    texts = pa.array([f"row {n} of {day}" for n in range(ROWS)] * 2, pa.string())
    numbers = pa.array(np.random.default_rng(day).integers(0, 2**31 - 1, 2 * ROWS), pa.int32())
    rows = pa.RecordBatch.from_arrays([ids, numbers, texts], schema=PLAIN.arrow)
    changes = RowChanges(PLAIN.table, ops, rows, pa.array(np.zeros(2 * ROWS), pa.int32()))
    return batch_of(day * DAY, changes)
