"""Leases: several reads of one moment under a busy writer, kept, given back, ended."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from htapkit.errors import CatalogChanged, MomentGone, PartInUse, QueryCancelled, StoreFailed
from htapkit.hot import HotLimits, HotPart, HotStore, LakeArm, Lease, Parted, leases
from htapkit.hot.leases import PartRead
from htapkit.hot.parts import divided
from htapkit.model import LakeFiles, Pin, TableSchema, TableState
from htapkit.testing.stack import wait_until
from tests.unit.htapkit.hot.building import INT8, Rows, batch_of, covers, schema_of
from tests.unit.htapkit.hot.test_store import T, follow

ROWS = 10_000
SQL = 'SELECT id, a FROM "part"'


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HotStore]:
    limits = HotLimits(memory_bytes=2**29, reads=40, disk_free_bytes=0, lease_seconds=60)
    with HotStore(tmp_path / "hot.duckdb", limits) as opened:
        follow(opened, T, [(number, 0, "") for number in range(ROWS)])
        yield opened


def lease_of(
    store: HotStore, parts_max: int = 4, sql: str = SQL, schema: TableSchema = T
) -> Lease | None:
    part = HotPart("part", schema)
    return store.lease(Parted(sql, (), ("shop",), store.catalog.version, part), parts_max)


def leased(store: HotStore, parts_max: int = 4) -> Lease:
    lease = lease_of(store, parts_max)
    assert lease is not None
    return lease


def rows(read: PartRead) -> list[tuple[Any, ...]]:
    try:
        return [tuple(row.values()) for batch in read.batches() for row in batch.to_pylist()]
    finally:
        read.close()


def all_rows(lease: Lease, order: Sequence[int]) -> list[tuple[Any, ...]]:
    return sorted(row for number in order for row in rows(lease.read(number)))


def test_parts_are_of_one_moment_while_batches_are_applied(store: HotStore) -> None:
    """The n-th batch leaves n in every row, and moves rows about in the file."""
    stop = threading.Event()
    at = [0]

    def write() -> None:
        while not stop.is_set():
            at[0] += 1
            changes = Rows(T)
            for number in range(ROWS):
                changes.update(number, at[0], "")
            store.apply(batch_of(at[0], changes.changes()), covers)

    thread = threading.Thread(target=write)
    thread.start()
    seen = set()
    try:
        for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]):
            lease = leased(store)
            assert lease.parts == 4
            moment, since = int(lease.positions["shop"], 16), at[0]
            wait_until(lambda since=since: at[0] > since + 2, 60)  # type: ignore[misc]
            store.maintain()
            assert all_rows(lease, order) == [(number, moment) for number in range(ROWS)]
            seen.add(moment)
    finally:
        stop.set()
        thread.join()
    assert len(seen) == 3


def test_no_part_is_empty_and_none_holds_all(store: HotStore) -> None:
    lease = leased(store, 3)
    sizes = [len(rows(lease.read(number))) for number in range(3)]
    assert sum(sizes) == ROWS
    assert min(sizes) >= 2048


def test_a_part_can_be_read_again_and_again(store: HotStore) -> None:
    lease = leased(store, 2)
    broken = lease.read(0)
    next(broken.batches())
    broken.close()
    stopped = lease.read(0)
    stopped.cancel("enough")
    with pytest.raises(QueryCancelled, match="enough"):
        list(stopped.batches())
    stopped.close()
    store.apply(batch_of(9, Rows(T).delete(1).changes()), covers)
    assert rows(lease.read(0)) == rows(lease.read(0))
    assert len(all_rows(lease, [1, 0])) == len(all_rows(lease, [0, 1])) == ROWS


def test_a_second_reader_of_a_part_waits_for_the_first(
    store: HotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = leased(store, 2)
    first = lease.read(0)
    found: list[int] = []
    second = threading.Thread(target=lambda: found.append(len(rows(lease.read(0)))))
    second.start()
    assert rows(lease.read(1))  # another part is free
    assert found == []
    here = len(rows(first))
    second.join(20)
    assert found == [here]
    monkeypatch.setattr(leases, "_BUSY_SECONDS", 0.1)
    reading = lease.read(0)
    with pytest.raises(PartInUse):
        lease.read(0)
    reading.close()


def test_every_row_and_file_is_in_one_part() -> None:
    pin = Pin("m", 1, 0)
    for rows_there, files, wanted in itertools.product(
        (0, 1, 2048, 9000, 10**6), (0, 1, 7), (2, 5)
    ):
        paths = tuple(f"f{number}" for number in range(files))
        arm = LakeArm("lake", T, LakeFiles(pin, {}, paths, 0, rest=lambda: iter(())))
        parts = divided(HotPart("part", T), [arm], rows_there, wanted)
        assert 1 <= len(parts) <= wanted
        assert sorted(p for part in parts for p in part.lake[0].files.paths) == sorted(paths)
        assert sum(part.lake[0].files.rest is not None for part in parts) == 1
        whole = [part.hot for part in parts if part.hot.end is None]
        if rows_there == 0:
            assert len(whole) == 1
            assert all(part.hot.end in {None, 0} for part in parts)
            continue
        edges = [0, *(part.hot.end or 0 for part in parts)]
        assert [part.hot.first for part in parts] == edges[:-1]
        assert edges == sorted(edges)
        assert edges[-1] >= rows_there


def test_an_unused_lease_ends_and_is_freed(tmp_path: Path) -> None:
    limits = HotLimits(reads=4, disk_free_bytes=0, lease_seconds=60)
    with HotStore(tmp_path / "hot.duckdb", limits) as store:
        follow(store, T, [(number, 0, "") for number in range(ROWS)])
        lease = leased(store, 2)
        reading = lease.read(0)
        assert lease_of(store, 2) is None  # half of all reads are leased
        lease.seconds = 0.0
        batches = reading.batches()
        count = next(batches).num_rows
        assert store.sizes()["leases"] == 1  # it does not end while a part of it is read
        count += len(rows(lease.read(1)))
        lease.seconds = 0.5
        count += sum(batch.num_rows for batch in batches)
        assert count == ROWS
        reading.close()
        wait_until(lambda: store.sizes()["leases"] == store.sizes()["reads"] == 0, 20)
        with pytest.raises(MomentGone, match=r"limits\.lease_time") as gone:
            lease.read(1)
        assert gone.value.sqlstate == "72000"
        assert lease_of(store, 2) is not None


def test_a_table_that_is_too_small_or_not_the_planned_one(store: HotStore) -> None:
    small = schema_of("small")
    follow(store, small, [(1, 1, "")])
    assert lease_of(store, schema=small) is None
    empty = schema_of("empty")
    follow(store, empty, [])
    assert lease_of(store, schema=empty) is None
    assert lease_of(store, 1) is None
    odd = schema_of("odd", {"id": INT8, "RowID": INT8})
    follow(store, odd, [(number, -number) for number in range(ROWS)])
    assert lease_of(store, sql='SELECT id FROM "part"', schema=odd) is None
    assert store.sizes()["reads"] == 0
    version = store.catalog.version
    store.set_state(small.table, TableState.PAUSED, "")
    with pytest.raises(CatalogChanged):
        store.lease(Parted(SQL, (), ("shop",), version, HotPart("part", T)), 2)
    assert store.sizes()["reads"] == 0


def test_a_part_that_fails_ends_the_lease(store: HotStore) -> None:
    lease = leased(store, 2)
    reading = lease.read(0)
    for read in list(store._reads._active):
        read.cancel("stopped by the store")
    with pytest.raises(QueryCancelled, match="stopped by the store"):
        list(reading.batches())
    reading.close()
    with pytest.raises(MomentGone, match="stopped by the store"):
        lease.read(1)
    wait_until(lambda: store.sizes()["leases"] == store.sizes()["reads"] == 0, 20)


def test_closing_the_store_ends_leases(store: HotStore) -> None:
    lease = leased(store, 2)
    reading = lease.read(0)
    store.close()
    with pytest.raises(StoreFailed):
        list(reading.batches())
    reading.close()
    with pytest.raises(MomentGone):
        lease.read(1)
