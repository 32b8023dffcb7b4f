"""Arrow to DataRow: rows per CPU second of a large batch, and the cost of a tiny one."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC
from functools import partial

import numpy as np
import pyarrow as pa

from htapkit.serve.pgwire.rows import WireColumn, array_literal, data_rows
from tests.bench.figures import Figure, at_least, at_most, show

ROWS, TINY_ROWS, LITERAL_ROWS = 16_384, 10, 20_000
REPEATS = 9
OIDS = (20, 1184, 25, 701, 23, 16)


def batch(rows: int) -> pa.RecordBatch:
    """bigint, timestamptz, text, double, int and bool, a tenth of them NULL."""
    rng = np.random.default_rng(1)
    instants = 1_700_000_000_000_000 + rng.integers(0, 10**14, rows)
    instants[::7] -= instants[::7] % 1_000_000
    names = [f"name-{n}-{'é' * int(n % 7)}" for n in rng.integers(0, 10**6, rows)]
    values = [
        (np.arange(rows) * 977 - 5, pa.int64()),
        (instants, pa.timestamp("us", "UTC")),
        (np.array(names, object), pa.string()),
        (rng.normal(0, 1000, rows), pa.float64()),
        (rng.integers(-(2**31), 2**31, rows), pa.int32()),
        (rng.random(rows) < 0.5, pa.bool_()),
    ]
    arrays = [pa.array(data, type_, mask=rng.random(rows) < 0.1) for data, type_ in values]
    return pa.record_batch(arrays, names=list("abcdef"))


def cpu_seconds(work: Callable[[], object], times: int) -> float:
    """The least of several blocks: other processes only ever add."""
    found = []
    for _ in range(REPEATS):
        before = time.process_time()
        for _ in range(times):
            work()
        found.append((time.process_time() - before) / times)
    return min(found)


def run() -> list[Figure]:
    """The baselines are the goals that were set: figures of a prototype on a like machine."""
    figures = []
    large, tiny, long = batch(ROWS), batch(TINY_ROWS), batch(LITERAL_ROWS)
    for binary, goal in ((False, 1_000_000), (True, 2_400_000)):
        columns = [WireColumn(oid, -1, binary) for oid in OIDS]
        form = "binary" if binary else "text"
        seconds = cpu_seconds(partial(data_rows, large, columns, UTC), 5)
        name = f"DataRow, {ROWS:,} rows of 6 columns, {form}"
        figures.append(at_least(name, ROWS / seconds, goal, 1, 0.8, "rows/CPU s"))
        seconds = cpu_seconds(partial(data_rows, tiny, columns, UTC), 200)
        name = f"DataRow, {TINY_ROWS} rows of 6 columns, {form}"
        figures.append(at_most(name, seconds * 1e6, 200, 1, 1.5, "us"))
    seconds = cpu_seconds(
        lambda: [array_literal(long.column(i), oid) for i, oid in enumerate(OIDS)], 1
    )
    name = f"array literals, {LITERAL_ROWS:,} rows of 6 columns"
    figures.append(at_most(name, seconds * 1e3, 100, 1, 1.5, "ms"))
    return figures


if __name__ == "__main__":
    show(run())
