"""Maintenance: what goes, what stays, and that no reader of a pinned version ever notices."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from htapkit.errors import LakeFailed, LakeRefused
from htapkit.lake import Lake, LakeStatistics, WriteLimits
from htapkit.model import Layout, Pin
from tests.unit.htapkit.lake.building import (
    DAY,
    LAYOUT,
    ORDERS,
    TABLE,
    Rows,
    batch,
    keys,
    lake_in,
    model,
    other_engine,
    parquet_files,
    rows_of,
    run,
)

FIRST = [(n, n % 3 * DAY + n, "x") for n in range(30)]
FUTURE = datetime.now(UTC) + timedelta(days=1)
PAST = datetime.now(UTC) - timedelta(days=1)


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with lake_in(tmp_path) as opened:
        yield opened


def several_commits(lake: Lake, count: int = 5) -> tuple[list[Pin], Rows]:
    """A version per run, each with three days; the rows of the last."""
    pins: list[Pin] = []
    expected: Rows = {}
    for number in range(count):
        rows = [(number + 10 * n, n % 3 * DAY + n, f"run {number}") for n in range(10)]
        base = pins[-1] if pins else None
        pins.append(lake.commit(run(number), ORDERS, LAYOUT, base, None, [batch(ORDERS, rows)]))
        expected |= model(rows)
    return pins, expected


def test_a_head_that_only_compacted_is_adopted(lake: Lake, tmp_path: Path) -> None:
    """As another engine's `replace` is; what may have changed rows is refused."""
    pins, expected = several_commits(lake)
    assert lake.adopt(TABLE, pins[-1]) == pins[-1], "nothing came since"
    compacted = lake.compact(TABLE, pins[-1])
    tags = other_engine(tmp_path).manage_snapshots()
    tags.remove_tag(f"htapkit-{compacted.snapshot}").commit()
    adopted = lake.adopt(TABLE, pins[-1])
    assert (adopted.snapshot, adopted.rows) == (compacted.snapshot, compacted.rows)
    assert f"htapkit-{compacted.snapshot}" in other_engine(tmp_path).metadata.refs
    assert rows_of(lake, adopted, ORDERS) == expected
    other_engine(tmp_path).delete()
    with pytest.raises(LakeRefused, match="rows were changed after the version that is read"):
        lake.adopt(TABLE, adopted)


def test_compaction_joins_and_sorts(lake: Lake) -> None:
    """One sorted file per partition, the same rows, and the old version as it was."""
    pins, expected = several_commits(lake)
    assert len(lake.files(TABLE, pins[-1], None, None).paths) == 15
    pin = lake.compact(TABLE, pins[-1])
    files = lake.files(TABLE, pin, None, None)
    assert len(files.paths) == 3
    for path in files.paths:
        found = pq.read_table(path).column("id").to_pylist()
        assert found == sorted(found)
    assert rows_of(lake, pin, ORDERS) == rows_of(lake, pins[-1], ORDERS) == expected
    assert pin.rows == len(expected)
    assert lake.compact(TABLE, pin) == pin, "there is nothing more to join"


def test_compaction_is_a_replace_to_others(lake: Lake, tmp_path: Path) -> None:
    """Other engines see that no row changed; deleted files are listed as such."""
    pins, _ = several_commits(lake)
    lake.compact(TABLE, pins[-1])
    snapshot = other_engine(tmp_path).current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    said = snapshot.summary.additional_properties
    assert snapshot.summary.operation.value == "replace"
    assert (said["added-data-files"], said["deleted-data-files"]) == ("3", "15")
    assert (said["total-data-files"], said["total-records"]) == ("3", "50")


def test_compaction_in_little_memory(tmp_path: Path) -> None:
    """As many files at once as the limit allows; large ones stay."""
    with lake_in(tmp_path, WriteLimits(buffer_bytes=300)) as lake:
        pins, expected = several_commits(lake)
        pin = lake.compact(TABLE, pins[-1])
        files = lake.files(TABLE, pin, None, None)
        assert 3 < len(files.paths) < 15
        assert rows_of(lake, pin, ORDERS) == expected
        size = max(Path(path).stat().st_size for path in files.paths)
        small = min(Path(path).stat().st_size for path in files.paths)
        assert lake.compact(TABLE, pin, small_bytes=small) == pin
        assert lake.compact(TABLE, pin, small_bytes=size + 1) != pin


def test_compaction_of_an_older_version_leaves_the_newer_behind(lake: Lake) -> None:
    """What is pinned counts, not the head."""
    pins, _ = several_commits(lake)
    before = rows_of(lake, pins[2], ORDERS)
    pin = lake.compact(TABLE, pins[2])
    assert rows_of(lake, pin, ORDERS) == before


def test_expiry_keeps_what_is_pinned(lake: Lake, tmp_path: Path) -> None:
    """Files that only expired versions had are gone; every kept version reads as before."""
    pins, expected = several_commits(lake)
    last = lake.commit(run(9), ORDERS, LAYOUT, pins[-1], keys(ORDERS, [0, 1, 2]), [])
    kept = [pins[1], last]
    before = {pin: rows_of(lake, pin, ORDERS) for pin in kept}
    files = parquet_files(tmp_path)
    assert lake.expire(TABLE, kept, PAST) == 0
    deleted = lake.expire(TABLE, kept, FUTURE)
    left = parquet_files(tmp_path)
    assert deleted > len(files - left) > 0
    with lake_in(tmp_path) as fresh:
        assert {pin: rows_of(fresh, pin, ORDERS) for pin in kept} == before
        assert fresh.find(run(3), TABLE) is None
        assert rows_of(fresh, last, ORDERS) == {
            k: row for k, row in expected.items() if k not in {0, 1, 2}
        }
        with pytest.raises((LakeFailed, FileNotFoundError)):
            rows_of(fresh, pins[3], ORDERS)
    needed = {Path(p) for pin in kept for p in lake.files(TABLE, pin, None, None).paths}
    assert left == needed
    tags = [name for name in other_engine(tmp_path).metadata.refs if name.startswith("htapkit-")]
    assert sorted(tags) == sorted(f"htapkit-{pin.snapshot}" for pin in kept)


def test_what_another_engine_may_expire_loses_its_tag(lake: Lake, tmp_path: Path) -> None:
    """Ours only, of old versions that nobody reads; a version that is read must have one."""
    pins, _ = several_commits(lake)
    kept, head = [pins[1]], pins[-1]
    other_engine(tmp_path).manage_snapshots().create_tag(pins[0].snapshot, "theirs").commit()
    before = set(other_engine(tmp_path).metadata.refs)
    lake.release(TABLE, kept, PAST)
    assert set(other_engine(tmp_path).metadata.refs) == before
    lake.release(TABLE, kept, FUTURE)
    assert set(other_engine(tmp_path).metadata.refs) == {
        "main",
        "theirs",
        f"htapkit-{pins[1].snapshot}",
        f"htapkit-{head.snapshot}",
    }
    with pytest.raises(LakeRefused, match=f"{pins[2].snapshot} are still read here"):
        lake.release(TABLE, [pins[2]], FUTURE)


def test_expiry_keeps_what_others_hold(lake: Lake, tmp_path: Path) -> None:
    """Another engine's tag and branch."""
    pins, _ = several_commits(lake)
    before = [rows_of(lake, pin, ORDERS) for pin in pins]
    table = other_engine(tmp_path)
    table.manage_snapshots().create_tag(pins[0].snapshot, "theirs").commit()
    table.manage_snapshots().create_branch(pins[2].snapshot, "branch").commit()
    assert lake.expire(TABLE, [pins[-1]], FUTURE) > 0
    with lake_in(tmp_path) as fresh:
        for number in (0, 2, 4):
            assert rows_of(fresh, pins[number], ORDERS) == before[number]


def test_expiry_after_a_new_start(lake: Lake, tmp_path: Path) -> None:
    """The head of main is kept even if nobody pins it: it is what other engines read."""
    pins, _ = several_commits(lake)
    pin = lake.commit(run(9), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    lake.expire(TABLE, [], FUTURE)
    assert rows_of(lake, pin, ORDERS) == model(FIRST)
    assert len(parquet_files(tmp_path)) == 3
    again = lake.commit(run(10), ORDERS, LAYOUT, pin, keys(ORDERS, [0]), [])
    assert rows_of(lake, again, ORDERS) == model(FIRST[1:])
    assert pins


def test_sweep_takes_only_orphans(lake: Lake, tmp_path: Path) -> None:
    """Old files that nothing names: not young ones, and none of any version."""
    pins, _ = several_commits(lake)
    before = [rows_of(lake, pin, ORDERS) for pin in pins]
    folder = tmp_path / "warehouse" / "shop.public" / "orders"
    orphans = [folder / "data" / "1970-01-01" / "dead.parquet", folder / "metadata" / "dead.avro"]
    for orphan in orphans:
        orphan.write_bytes(b"dead")
    assert lake.sweep(TABLE, PAST) == 0
    for path in folder.rglob("*"):
        os.utime(path, (0, 0))
    young = folder / "data" / "young.parquet"
    young.write_bytes(b"in the making")
    assert lake.sweep(TABLE, PAST, keep=pins) == 2
    assert not any(orphan.exists() for orphan in orphans)
    assert young.exists()
    with lake_in(tmp_path) as fresh:
        assert [rows_of(fresh, pin, ORDERS) for pin in pins] == before


def test_drop(lake: Lake, tmp_path: Path) -> None:
    """Nothing of the table is left, and it can be made again."""
    several_commits(lake)
    lake.drop(TABLE)
    assert lake.tables() == ()
    folder = tmp_path / "warehouse" / "shop.public" / "orders"
    assert not [path for path in folder.rglob("*") if path.is_file()]
    lake.drop(TABLE)
    pin = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    assert rows_of(lake, pin, ORDERS) == model(FIRST)


@pytest.mark.parametrize(
    ("before", "left"),
    [(-DAY, {0, 1, 2}), (DAY - 1, {0, 1, 2}), (DAY, {1, 2}), (2 * DAY + 5, {2}), (9 * DAY, set())],
)
def test_retire_drops_whole_partitions(lake: Lake, before: int, left: set[int]) -> None:
    """Those that end at or below the line; the run is found, the old version stays.

    Where there are none, no version is made.
    """
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    pin = lake.retire(TABLE, base, before, run(2))
    assert rows_of(lake, pin, ORDERS) == model(r for r in FIRST if r[1] // DAY in left)
    assert rows_of(lake, base, ORDERS) == model(FIRST)
    found = lake.find(run(2), TABLE)
    assert (found is None) == (pin == base) == (len(left) == 3)
    if found is not None:
        assert (found.snapshot, found.rows) == (pin.snapshot, pin.rows)


def test_files_say_from_when_on_they_have_rows(lake: Lake) -> None:
    """No row of theirs is older."""
    base = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    assert lake.files(TABLE, base, None, None).first == min(row[1] for row in FIRST)
    late = lake.files(TABLE, base, max(row[1] for row in FIRST), None)
    assert late.first is not None
    assert late.first // DAY == max(row[1] for row in FIRST) // DAY
    assert lake.files(TABLE, base, 10**6 * DAY, None).first is None


def test_retire_leaves_other_layouts_correct(lake: Lake) -> None:
    """Files of former layouts go by their own partitions."""
    rows = [(n, n * DAY, "") for n in range(60)]
    base = lake.commit(run(1), ORDERS, Layout("at", "month"), None, None, [batch(ORDERS, rows)])
    more = [(100 + n, n * DAY, "") for n in range(40)]
    pin = lake.commit(run(2), ORDERS, LAYOUT, base, None, [batch(ORDERS, more)])
    pin = lake.retire(TABLE, pin, 35 * DAY, run(3))
    assert rows_of(lake, pin, ORDERS) == model(
        [row for row in rows if row[1] >= 31 * DAY] + [row for row in more if row[1] >= 35 * DAY]
    )


def test_statistics(lake: Lake) -> None:
    """Files, rows and bytes of a version, which later ones do not change."""
    pin = lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    paths = [Path(path) for path in lake.files(TABLE, pin, None, None).paths]
    lake.commit(run(2), ORDERS, LAYOUT, pin, keys(ORDERS, [1]), [])
    size = sum(path.stat().st_size for path in paths)
    assert lake.statistics(TABLE, pin) == LakeStatistics(3, 30, size)


def test_every_file_of_a_commit_is_synced(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut the catalog may only name what is on the disk, in folders that are, too."""
    synced: set[Path] = set()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    lake.commit(run(1), ORDERS, LAYOUT, None, None, [batch(ORDERS, FIRST)])
    folder = tmp_path / "warehouse"
    files = {path for path in folder.rglob("*") if path.is_file()}
    assert len(files) == 3 + 4  # data; two metadata files, a manifest and its list
    assert files <= synced
    assert {path for path in [tmp_path, folder, *folder.rglob("*")] if path.is_dir()} <= synced


def test_memory_is_bounded_and_order_kept(tmp_path: Path) -> None:
    """Tiny buffers and two open files: every row is there, and each row group is in order."""
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    rows = [(n, chance.randrange(6) * DAY, "y" * chance.randrange(9)) for n in range(3000)]
    batches = [batch(ORDERS, rows[n : n + 100]) for n in range(0, len(rows), 100)]
    gc.collect()  # what earlier tests left is not freed on the way
    held: list[int] = []

    def coming() -> Iterator[pa.RecordBatch]:
        for each in batches:
            held.append(pa.total_allocated_bytes())
            yield each

    limits = WriteLimits(buffer_bytes=20_000, open_files=2, row_group_rows=50, file_bytes=4000)
    with lake_in(tmp_path, limits) as lake:
        pin = lake.commit(run(1), ORDERS, LAYOUT, None, None, coming())
        assert rows_of(lake, pin, ORDERS) == model(rows)
        for path in lake.files(TABLE, pin, None, None).paths:
            found = pq.read_table(path)
            assert found.column("id").to_pylist() == sorted(found.column("id").to_pylist())
            assert len({time.day for time in found.column("at").to_pylist()}) == 1
            footer = pq.read_metadata(path)
            assert all(footer.row_group(n).num_rows <= 50 for n in range(footer.num_row_groups))
    assert max(held) < min(held) + 2_000_000
