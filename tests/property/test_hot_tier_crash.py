"""A process killed at any moment of tiering: hot and lake rows stay the table, and it goes on."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from htapkit.hot import HotLimits, HotStore
from htapkit.model import ChangeBatch, Op, RowChanges
from tests.property.test_hot_crash import start
from tests.unit.htapkit.hot.building import INT8, TIMESTAMPTZ, batch_of, covers, position, schema_of
from tests.unit.htapkit.hot.lakes import PlainLake, arm, write_run

KEYS, ROWS, HOUR = 3000, 50, 3_600_000_000
SCHEMA = schema_of("timed", {"id": INT8, "at": TIMESTAMPTZ, "v": INT8})
TABLE = SCHEMA.table

CHILD = """
import sys
from pathlib import Path
from tests.property.test_hot_tier_crash import keep_tiering
keep_tiering(Path(sys.argv[1]), int(sys.argv[2]))
"""


def changed(number: int) -> npt.NDArray[np.int64]:
    """The keys that the n-th transaction changes: each gets the value n."""
    return np.random.default_rng(number).choice(KEYS, ROWS, replace=False)


def rows_of(keys: Sequence[int] | npt.NDArray[np.int64], value: int) -> pa.RecordBatch:
    """Key k has the time k hours after 1970."""
    ids = pa.array(keys, pa.int64())
    at = pa.array(np.asarray(keys) * HOUR, pa.int64()).cast(pa.timestamp("us", "UTC"))
    values = pa.array(np.full(len(keys), value))
    return pa.RecordBatch.from_arrays([ids, at, values], schema=SCHEMA.arrow)


def batch(number: int) -> ChangeBatch:
    none = pa.array(np.zeros(ROWS, np.int32))
    ops = pa.array(np.full(ROWS, int(Op.UPDATE), np.int8))
    return batch_of(number, RowChanges(TABLE, ops, rows_of(changed(number), number), none))


def opened(path: Path) -> tuple[HotStore, PlainLake]:
    lake = PlainLake(path.parent / "warehouse")
    limits = HotLimits(checkpoint_bytes=200_000, disk_free_bytes=0)
    return HotStore(path, limits, warehouse=str(lake.folder), lake=lake), lake


def keep_tiering(path: Path, words: int) -> None:
    """The child: applies and tiers until it is killed; tells each position and each run.

    After so many words it waits for its end where the lake has a commit; 0: it never waits.
    """
    said = 0

    def say(word: str) -> None:
        nonlocal said
        said += 1
        os.write(1, f"{word}\n".encode())
        while words and said >= words and word == "written":
            signal.pause()

    store, lake = opened(path)
    for run in store.runs():
        pin = lake.find(run.id, TABLE)
        if pin is None:
            store.drop_run(run.id)
        else:
            store.finish_run(run.id, {TABLE: pin})
            say("mended")
    rng = random.Random(os.getpid())
    number = int(store.stored_position("shop") or "0", 16)
    while True:
        boundary = store.catalog.tables[TABLE].boundary
        line = (boundary.below if boundary else 0) + rng.choice((0, 7)) * HOUR
        with store.begin_run(f"{os.getpid()}-{number}", {TABLE: line}, {TABLE: 2}) as export:
            number = _apply(store, number, say)
            pins = write_run(lake, export, [TABLE])
        say("written")
        number = _apply(store, number, say)
        store.finish_run(export.run.id, pins)
        say("run")


def _apply(store: HotStore, number: int, say: Callable[[str], None]) -> int:
    for _ in range(3):
        number += 1
        store.apply(batch(number), covers)
        say(str(number))
    return number


def run_and_kill(path: Path, rng: random.Random) -> list[bytes]:
    """Kill a child after so many words, or right after one that the lake has its commit."""
    words, last = rng.randrange(8, 30), rng.choice((b"written", b""))
    child = start(CHILD, path, str(words if last else 0))
    assert child.stdout is not None
    said: list[bytes] = []
    with child.stdout:
        while len(said) < words or not said[-1].startswith(last):
            said.append(child.stdout.readline().strip())
            assert said[-1], "the child ended by itself"
        child.kill()
        said += child.stdout.read().split(b"\n")[:-1]  # the last line may be cut
        child.wait()
    return said


def test_after_each_kill_hot_and_lake_are_the_table(tmp_path: Path) -> None:
    path = tmp_path / "hot.duckdb"
    store, _ = opened(path)
    with store:
        store.apply(batch_of(0), covers)
        store.add_table(SCHEMA, "f")
        store.start_copy(SCHEMA, "f", position(0))
        store.load(TABLE, [rows_of(range(KEYS), 0)])
        store.finish_copy(TABLE, covers, timeout_seconds=0)
    model = np.zeros(KEYS, np.int64)
    at = runs = mended = 0
    rng = random.Random(7)
    for _ in range(10):
        said = run_and_kill(path, rng)
        runs += said.count(b"run")
        mended += said.count(b"mended")
        store, lake = opened(path)
        with store:
            stored = int(store.stored_position("shop") or "0", 16)
            assert stored >= max([at, *(int(line) for line in said if line.isdigit())])
            for number in range(at + 1, stored + 1):
                model[changed(number)] = number
            at = stored
            arms = []
            sql = 'SELECT id, v FROM "shop.public".timed'
            if store.catalog.tables[TABLE].boundary is not None:
                arms = [arm(store, lake, TABLE)]
                sql += ' UNION ALL SELECT id, v FROM "htapkit lake 1"'
            with store.read(f"FROM ({sql}) ORDER BY id", lake=arms) as read:
                found = pa.Table.from_batches(read.batches(), read.schema)
            assert found["id"].to_pylist() == list(range(KEYS))
            assert np.array_equal(found["v"].to_numpy(), model)
    assert at > 20, "the children made no progress"
    assert runs > 5
    assert mended, "no child was killed between the lake's commit and the flip"
