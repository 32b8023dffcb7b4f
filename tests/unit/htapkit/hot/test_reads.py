"""Reads: exact positions under a busy writer, cancelling, limits, and no way out of the file."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from htapkit.errors import CatalogChanged, LimitReached, QueryCancelled, QueryFailed, StoreFailed
from htapkit.hot import HotLimits, HotStore
from htapkit.model import TableState
from tests.unit.htapkit.hot.building import Rows, batch_of, covers, position, schema_of
from tests.unit.htapkit.hot.test_store import T, follow

ENDLESS = "SELECT count(*) FROM range(100000000000) r(i) WHERE hash(i) = 1"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HotStore]:
    limits = HotLimits(memory_bytes=2**29, reads=3, disk_free_bytes=0)
    with HotStore(tmp_path / "hot.duckdb", limits) as opened:
        yield opened


def test_the_store_knows_when_it_was_last_read(store: HotStore) -> None:
    follow(store, T, [(1, 0, "")])
    assert store.read_at == float("-inf")
    before = time.monotonic()
    store.read('SELECT a FROM "shop.public".t').close()
    assert before <= store.read_at <= time.monotonic()


def test_positions_are_those_of_the_rows_while_batches_are_applied(store: HotStore) -> None:
    """Two tables change in each transaction; the n-th leaves n in both."""
    other = schema_of("other")
    follow(store, T, [(1, 0, "")])
    follow(store, other, [(1, 0, "")])
    stop = threading.Event()
    problems: list[str] = []
    reads = [0, 0]

    def reader(index: int) -> None:
        sql = 'SELECT t.a AS a, o.a AS b FROM "shop.public".t AS t, "shop.public".other AS o'
        while not stop.is_set():
            with store.read(sql, sources=["shop"]) as read:
                found = [tuple(r.values()) for b in read.batches() for r in b.to_pylist()]
                at = int(read.positions["shop"], 16)
            # Odd positions bring no rows.
            if found != [(at // 2 * 2, at // 2 * 2)]:
                problems.append(f"{found} at {at}")
            reads[index] += 1

    threads = [threading.Thread(target=reader, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for number in itertools.count(2, 2):
        changes = [Rows(s).update(1, number, "").changes() for s in (T, other)]
        store.apply(batch_of(number, *changes), covers)
        store.apply(batch_of(number + 1), covers)
        alive = all(thread.is_alive() for thread in threads)
        if not alive or (number >= 400 and min(reads) > 10):
            break
    stop.set()
    for thread in threads:
        thread.join()
    assert alive
    assert not problems


def test_cancel_from_another_thread(store: HotStore) -> None:
    ended = threading.Event()

    def stop_all() -> None:
        while not ended.wait(0.2):  # what has not begun to run yet is told again
            for read in list(store._reads._active):
                read.cancel()

    stopper = threading.Thread(target=stop_all)
    stopper.start()
    try:
        with pytest.raises(QueryCancelled), store.read(ENDLESS) as read:
            list(read.batches())
    finally:
        ended.set()
        stopper.join()
    with store.read("SELECT 1") as read:
        assert [b.num_rows for b in read.batches()] == [1]


def test_the_time_limit_is_named(tmp_path: Path) -> None:
    limits = HotLimits(read_seconds=0.2, disk_free_bytes=0)
    with (
        HotStore(tmp_path / "hot.duckdb", limits) as store,
        pytest.raises(QueryCancelled, match=r"limits\.statement_time"),
        store.read(ENDLESS) as read,
    ):
        list(read.batches())


def test_the_number_of_reads_is_limited(store: HotStore) -> None:
    opened = [store.read("SELECT 1") for _ in range(3)]
    with pytest.raises(LimitReached, match=r"limits\.reads"):
        store.read("SELECT 1")
    opened.pop().close()
    with store.read("SELECT 1"):
        pass
    for read in opened:
        read.close()


def test_a_plan_for_another_catalog_is_refused_in_the_snapshot(store: HotStore) -> None:
    follow(store, T, [])
    version = store.catalog.version
    with store.read("SELECT 1", catalog_version=version):
        pass
    store.set_state(T.table, TableState.PAUSED, "")
    with pytest.raises(CatalogChanged):
        store.read("SELECT 1", catalog_version=version)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "COPY (SELECT 1) TO '/tmp/htapkit-must-not-be-there'",
        "ATTACH '/tmp/htapkit-must-not-be-there.duckdb'",
        "CREATE TABLE htapkit.x (a INTEGER)",
        "DELETE FROM htapkit.sources",
        "SET threads = 7",
        "SELECT * FROM store",
        "INSTALL httpfs",
    ],
)
def test_a_read_changes_nothing_and_reaches_nothing_outside(store: HotStore, sql: str) -> None:
    with pytest.raises(QueryFailed), store.read(sql) as read:
        list(read.batches())
    with store.read("SELECT 1") as read:
        assert list(read.batches())


def test_large_results_come_in_pieces(store: HotStore) -> None:
    with store.read("SELECT i FROM range(100000) r(i)") as read:
        pieces = [b.num_rows for b in read.batches(rows=1000)]
    assert sum(pieces) == 100000
    assert max(pieces) <= 1000


def test_parameters(store: HotStore) -> None:
    with store.read("SELECT $2 || $1 AS s", ["a", "b"]) as read:
        assert [b.to_pylist() for b in read.batches()] == [[{"s": "ba"}]]


def test_reads_end_when_the_store_is_closed(store: HotStore) -> None:
    read = store.read("SELECT i FROM range(10000000) r(i)")
    rows = read.batches()
    next(rows)
    store.close()
    with pytest.raises(StoreFailed):
        next(rows)
    with pytest.raises(StoreFailed):
        store.read("SELECT 1")


def test_waiting_for_a_position(store: HotStore) -> None:
    store.apply(batch_of(1), covers)
    timer = threading.Timer(0.1, lambda: store.apply(batch_of(2), covers))
    timer.start()
    assert store.wait_applied("shop", lambda a: a.position == position(2), 10)
    assert not store.wait_applied("shop", lambda a: a.position == position(3), 0.01)
    timer.join()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('{outside}')",
        "SELECT * FROM '{outside}'",
        "COPY (SELECT 1) TO '{inside}/x.parquet'",
        "SELECT 1; COPY (SELECT 1) TO '{inside}/x.parquet'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{inside}/x.parquet'",
    ],
)
def test_the_warehouse_is_the_only_folder_and_cannot_be_written(tmp_path: Path, sql: str) -> None:
    inside, outside = tmp_path / "warehouse", tmp_path / "warehouse.secret"
    inside.mkdir()
    (inside / "good").write_text("good")
    outside.write_text("secret")
    with HotStore(tmp_path / "hot.duckdb", warehouse=f"file://{inside}") as store:
        with store.read(f"SELECT content FROM read_text('{inside}/good')") as read:
            assert [b.to_pylist() for b in read.batches()] == [[{"content": "good"}]]
        text = sql.format(inside=inside, outside=outside)
        with pytest.raises(QueryFailed), store.read(text) as read:
            list(read.batches())
    assert [path.name for path in inside.iterdir()] == ["good"]


def test_a_read_that_needs_more_memory_than_there_may_be(tmp_path: Path) -> None:
    """It fails by name, and costs nobody else anything: what comes next is applied and read."""
    limits = HotLimits(memory_bytes=2**27, temp_bytes=2**20, disk_free_bytes=0)
    with HotStore(tmp_path / "hot.duckdb", limits) as small:
        follow(small, T, [(1, 0, "")])
        large = "SELECT length(list(i)) FROM range(50000000) r(i)"
        with pytest.raises(LimitReached, match=r"limits\.memory"), small.read(large) as read:
            list(read.batches())
        small.apply(batch_of(1, Rows(T).insert(2, 1, "next").changes()), covers)
        with small.read('SELECT s FROM "shop.public".t WHERE id = 2') as read:
            assert [row for batch in read.batches() for row in batch.to_pylist()] == [{"s": "next"}]
