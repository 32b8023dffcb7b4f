"""What is erased of an archive leaves hot and lake; all else stays, whoever tidies or restores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from htapkit import failpoints
from htapkit.backup import back_up, restore
from htapkit.errors import LakeMissing
from htapkit.lake import Lake, LakeSettings
from htapkit.model import NUMBER
from htapkit.tier import Upkeep
from tests.unit.htapkit.hot.building import Rows, batch_of, covers
from tests.unit.htapkit.hot.test_store import follow
from tests.unit.htapkit.tier.archives import ARCHIVE, DAY, PLAIN, Side, plainly

KILLED_AT = ("erase.archived", *failpoints.TIER, "erase.folded", "erase.forgotten")


class _Died(BaseException):
    """The process is gone."""


def fill(side: Side) -> None:
    """Eight rows are deleted, one a day."""
    follow(side.store, PLAIN, [(n, n, f"v{n % 2}") for n in range(1, 9)])
    for day in range(1, 9):
        side.delete(day, PLAIN, day)


@pytest.fixture
def filled(side: Side) -> Iterator[Side]:
    """Five of the rows are in the lake."""
    fill(side)
    side.tier(6)
    yield side
    failpoints.arm(None)


def ids(side: Side) -> list[int]:
    return [row["id"] for row in side.rows()]


def holding(side: Side, value: str) -> list[Path]:
    """The lake's files that have rows with this value."""
    return [
        path
        for path in (side.folder / "warehouse").rglob("*.parquet")
        if value in pq.read_table(path, partitioning=None)["s"].to_pylist()
    ]


def test_erased_rows_leave_hot_and_lake(filled: Side) -> None:
    assert filled.erase("s = 'v0'") == 4
    assert ids(filled) == [1, 3, 5, 7]
    assert sorted(filled.iceberg().scan().to_arrow()["id"].to_pylist()) == [1, 3, 5]
    assert filled.erase("s = 'v0'") == 0
    assert holding(filled, "v0"), "older versions have them until they expire"
    Upkeep(filled.store, filled.lake, 0.0).expire([ARCHIVE], lambda *_: None)
    assert not holding(filled, "v0")
    assert ids(filled) == [1, 3, 5, 7]


def test_a_source_that_comes_again_begins_a_new_archive(filled: Side) -> None:
    """What the lake has of the former one is not read, whatever its columns were."""
    filled.store.drop_source("shop")
    assert ARCHIVE not in filled.store.catalog.tables
    assert not filled.store.runs()
    key, number, text = PLAIN.columns
    other = replace(PLAIN, columns=(key, replace(text, ordinal=2), replace(number, ordinal=3)))
    filled.close()
    filled.open()
    follow(filled.store, other, [(1, "other", 7), (2, "other", 8)], at=20 * DAY)
    filled.delete(21, other, 1)
    filled.tier(22)
    filled.delete(22, other, 2)
    expected = [{"id": n, "s": "other", "a": n + 6, NUMBER: n + 8, "day": n + 20} for n in (1, 2)]
    assert filled.rows() == expected
    assert plainly(filled.iceberg().scan().to_arrow().to_pylist()) == expected[:1]
    assert filled.erase("a = 7") == 1
    assert filled.rows() == expected[1:]


@pytest.mark.parametrize("place", KILLED_AT)
def test_killed_while_rows_are_erased(filled: Side, place: str) -> None:
    """Erased again, they are gone from every file that is left, whatever it died of."""

    def die(name: str) -> None:
        if name == place:
            raise _Died

    failpoints.arm(die)
    with pytest.raises(_Died):
        filled.erase("s = 'v0'")
    failpoints.arm(None)
    filled.close()
    filled.open()
    assert ids(filled) == [1, 3, 5, 7], "committed before anything else"
    filled.erase("s = 'v0'")
    assert ids(filled) == [1, 3, 5, 7]
    Upkeep(filled.store, filled.lake, 0.0).expire([ARCHIVE], lambda *_: None)
    assert not holding(filled, "v0")
    assert ids(filled) == [1, 3, 5, 7]


@pytest.mark.parametrize("moved", [True, False])
def test_a_run_that_died_before_does_not_bring_erased_rows_back(side: Side, *, moved: bool) -> None:
    """Whether or not it was the first one."""

    def die(name: str) -> None:
        if name == "tier.verified":
            raise _Died

    fill(side)
    if moved:
        side.tier(6)
    failpoints.arm(die)
    with pytest.raises(_Died):
        side.tier(9)
    failpoints.arm(None)
    side.close()
    side.open()
    assert side.erase("s = 'v0'") == 4
    side.tierer.recover()
    assert ids(side) == [1, 3, 5, 7]
    assert not side.store.runs()
    Upkeep(side.store, side.lake, 0.0).expire([ARCHIVE], lambda *_: None)
    assert not holding(side, "v0")


def test_tidied_it_has_the_same_rows(filled: Side) -> None:
    before = filled.rows()
    for number in range(20, 24):
        rows = Rows(PLAIN).insert(number, 0, "more").delete(number)
        filled.store.apply(batch_of(20 * DAY + number, rows.changes()), covers)
        filled.tier(21)
    upkeep = Upkeep(filled.store, filled.lake, 0.0)
    (kept,) = upkeep.compact(upkeep.tables(), lambda *_: None)
    assert kept.table == ARCHIVE
    assert kept.compacted
    (kept,) = upkeep.expire(upkeep.tables(), lambda *_: None)
    assert kept.files_removed
    assert filled.rows()[:8] == before
    assert ids(filled) == [*range(1, 9), *range(20, 24)]
    assert filled.rows(hot=True) == []


def test_a_backup_has_both_sides(filled: Side, tmp_path: Path) -> None:
    before = filled.rows()
    back_up(filled.store, filled.lake, tmp_path / "backup", lambda *_: None)
    filled.lake.drop(ARCHIVE)
    with pytest.raises(LakeMissing, match="whose rows belong into a backup"):
        back_up(filled.store, filled.lake, tmp_path / "second", lambda *_: None)
    with Lake(LakeSettings.local(tmp_path / "new")) as lake:
        restore(tmp_path / "backup", tmp_path / "new", lake, lambda *_: None)
    again = Side(tmp_path / "new")
    again.open()
    assert again.rows() == before
    follow(again.store, PLAIN, [(9, 9, "v1")], at=8 * DAY)
    again.delete(9, PLAIN, 9)
    again.tier(9)
    assert [(row["id"], row[NUMBER]) for row in again.rows()] == [(n, n) for n in range(1, 10)]
    again.close()
