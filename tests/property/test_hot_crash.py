"""A killed process and a full disk: afterwards the file holds exactly what its position says."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from htapkit.errors import StoreFailed
from htapkit.hot import HotLimits, HotStore
from htapkit.model import ChangeBatch, Op, RowChanges
from tests.unit.htapkit.hot.building import FLOAT8, INT8, batch_of, covers, position, schema_of

ROOT = Path(__file__).parents[2]
KEYS, ROWS = 5000, 200
TABLES = tuple(schema_of(n, {"id": INT8, "v": INT8}) for n in ("one", "two"))

CHILD = """
import sys
from pathlib import Path
from tests.property.test_hot_crash import keep_applying
keep_applying(Path(sys.argv[1]))
"""


def changed(number: int) -> npt.NDArray[np.int64]:
    """The keys that the n-th transaction changes: each gets the value n."""
    return np.random.default_rng(number).choice(KEYS, ROWS, replace=False)


def batch(number: int) -> ChangeBatch:
    keys = changed(number)
    changes = [
        RowChanges(
            schema.table,
            pa.array(np.full(ROWS, int(Op.UPDATE), np.int8)),
            pa.RecordBatch.from_arrays(
                [pa.array(keys), pa.array(np.full(ROWS, number))], schema=schema.arrow
            ),
            pa.array(np.zeros(ROWS, np.int32)),
        )
        for schema in TABLES
    ]
    return batch_of(number, *changes)


def keep_applying(path: Path) -> None:
    """The child: applies until it is killed, and tells each position that is durable."""
    store = HotStore(path, HotLimits(checkpoint_bytes=200_000, disk_free_bytes=0))
    number = int(store.stored_position("shop") or "0", 16)
    while True:
        number += 1
        durable = store.apply(batch(number), covers)
        assert durable is not None
        os.write(1, f"{int(durable, 16)}\n".encode())


def test_after_each_kill_both_tables_are_at_the_stored_position(tmp_path: Path) -> None:
    path = tmp_path / "hot.duckdb"
    with HotStore(path, HotLimits(disk_free_bytes=0)) as store:
        store.apply(batch_of(0), covers)
        for schema in TABLES:
            store.add_table(schema, "f")
            store.start_copy(schema, "f", position(0))
            zeros = pa.array(np.zeros(KEYS, np.int64))
            rows = pa.RecordBatch.from_arrays(
                [pa.array(np.arange(KEYS)), zeros], schema.arrow.names
            )
            store.load(schema.table, [rows])
            store.finish_copy(schema.table, covers, timeout_seconds=0)
    model = np.zeros(KEYS, np.int64)
    at = 0
    rng = random.Random(5)
    for _ in range(5):
        acknowledged = _run_and_kill(path, rng.uniform(0.05, 0.4))
        with HotStore(path) as store:
            stored = int(store.stored_position("shop") or "0", 16)
            assert stored >= acknowledged > at, "the child made no progress, or lost it"
            for number in range(at + 1, stored + 1):
                model[changed(number)] = number
            at = stored
            for schema in TABLES:
                sql = f'SELECT id, v FROM "shop.public".{schema.table.name} ORDER BY id'
                with store.read(sql) as read:
                    found = pa.Table.from_batches(read.batches(), read.schema)
                assert found["id"].to_pylist() == list(range(KEYS))
                assert np.array_equal(found["v"].to_numpy(), model)


def start(code: str, path: Path, *more: str) -> subprocess.Popen[bytes]:
    """A child that runs `code` on a file."""
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'connectors'}"},
    )


def _run_and_kill(path: Path, seconds: float) -> int:
    child = start(CHILD, path)
    assert child.stdout is not None
    with child.stdout:
        first = child.stdout.readline()
        time.sleep(seconds)
        child.kill()
        rest = child.stdout.read().split(b"\n")[:-1]  # the last line may be cut
        child.wait()
    return int(rest[-1] if rest else first)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_loses_nothing(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 6_000_000)
    schema = schema_of("t", {"id": INT8, "v": FLOAT8})
    limits = HotLimits(memory_bytes=2**28, disk_free_bytes=0, checkpoint_bytes=4_000_000)
    size = 20_000
    rng = np.random.default_rng(1)

    def inserts(number: int) -> ChangeBatch:
        ids = pa.array(np.arange((number - 1) * size, number * size))
        rows = pa.RecordBatch.from_arrays([ids, pa.array(rng.random(size))], schema=schema.arrow)
        none = pa.array(np.zeros(size, np.int32))
        return batch_of(number, RowChanges(schema.table, none.cast(pa.int8()), rows, none))

    def count(store: HotStore) -> int:
        with store.read('SELECT count(*) AS n FROM "shop.public".t') as read:
            assert read.positions["shop"] == store.stored_position("shop")
            return next(iter(read.batches())).to_pylist()[0]["n"]

    with HotStore(small_disk / "hot.duckdb", limits) as store:
        store.apply(batch_of(0), covers)
        store.add_table(schema, "f")
        store.start_copy(schema, "f", position(0))
        store.finish_copy(schema.table, covers, timeout_seconds=0)
        acknowledged = 0
        why = ""
        while not why:
            try:
                store.apply(inserts(acknowledged + 1), covers)
                acknowledged += 1
            except StoreFailed as error:
                why = str(error)
        assert "No space left" in why
        assert acknowledged > 5
        stored = int(store.stored_position("shop") or "0", 16)
        assert stored >= acknowledged
        assert count(store) == stored * size
        ballast.unlink()
        for number in range(stored + 1, stored + 4):
            assert store.apply(inserts(number), covers) == position(number)
        assert count(store) == (stored + 3) * size
