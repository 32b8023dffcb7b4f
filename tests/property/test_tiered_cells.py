"""What is written late, again, or deleted of rows in the lake that are made of cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.io import FileIO
from pyiceberg.types import NestedField

from htapkit import failpoints
from htapkit.errors import ConfigError, StoreError, StoreFailed
from htapkit.hot import HotStore
from htapkit.lake import reading
from htapkit.lake.removing import read_fields
from htapkit.model import (
    DELETIONS,
    CellChanges,
    ChangeBatch,
    Column,
    Horizon,
    Position,
    SqlType,
    cells_arrow,
)
from htapkit.tier import Erasure, Upkeep
from tests.property.reconciled_model import A, Cell, Deletion, Event, M, N
from tests.property.tiered_cells import DAYS, Copy, covers, insert
from tests.property.timed_cells import AT, SCHEMA, TABLE, line


def test_of_what_comes_again_nothing_stays(copy: Copy) -> None:
    """A repair's old rows patch nothing, and a loser leaves nothing behind."""
    first = [e for p in range(4) for c in range(4) for e in insert(p, c, 5)]
    copy.apply(first)
    copy.apply([Cell((1, 1), N, None, 7, "8"), Deletion(2, 0, 2, None, 3)])
    copy.tier(DAYS)
    assert (copy.count("records"), copy.count("cells")) == (0, 0)
    assert copy.rows() == copy.expected()
    for again in (first, copy.sent[-2:], insert(3, 3, 4, "older"), copy.sent):
        copy.apply(list(again))
        assert copy.rows() == copy.expected()
        assert copy.store.patches(TABLE) == (0, 0)
        assert (copy.count("records"), copy.count("cells")) == (0, 0)
    copy.apply([Cell((3, 3), N, None, 6, "-1")])
    assert copy.store.patches(TABLE) == (1, 1)
    assert copy.rows() == copy.expected()
    copy.tier(DAYS)
    assert copy.store.patches(TABLE) == (0, 0)
    copy.apply([Cell((3, 3), N, None, 5, "9"), Cell((1, 1), A, None, 6, "w")])
    assert copy.rows() == copy.expected()
    assert copy.store.patches(TABLE) == (1, 1), "one lost, one won"


def test_a_deletion_of_a_partition_is_seen_at_once(copy: Copy) -> None:
    """What it leaves nothing of does not come back into the hot store; younger cells stay."""
    copy.apply([e for p in range(3) for c in range(DAYS) for e in insert(p, c, 5)])
    copy.apply([Cell((1, 4), N, None, 9, "8")])
    copy.tier(DAYS)
    copy.apply([Deletion(1, None, None, None, 8)])
    assert copy.rows() == copy.expected()
    assert len(copy.rows()) == 11
    assert copy.store.patches(TABLE) == (DAYS, 1)
    assert copy.count("records") + copy.count("cells") == 3, "those of the one that is left"
    copy.apply(insert(1, 2, 7))
    copy.apply(insert(1, 3, 9))
    assert copy.rows() == copy.expected()
    copy.tier(DAYS)
    assert copy.store.patches(TABLE) == (0, 0)
    copy.apply(copy.sent)
    assert copy.rows() == copy.expected()
    assert copy.store.patches(TABLE) == (0, 0)


def test_a_batch_waits_for_a_lake_that_is_away(copy: Copy) -> None:
    """And counts once, when it comes again; what is not the lake's never waits."""
    copy.apply(insert(1, 1, 5))
    copy.tier(2)
    copy.looked.away = True
    copy.apply(insert(1, 3, 5))
    late = [Cell((1, 1), N, None, 6, "8")]
    with pytest.raises(StoreFailed, match="written late"):
        copy.apply(late)
    copy.position -= 1
    assert copy.rows() == copy.expected()
    copy.looked.away = False
    copy.apply(late)
    assert copy.rows() == copy.expected()


def test_changes_of_the_present_do_not_look_into_the_lake(copy: Copy) -> None:
    """Neither writes above the boundary, nor deletions of rows that are here, nor repetition."""
    copy.apply([*insert(1, 1, 5), *insert(1, 4, 5), Deletion(1, 2, 3, None, 5)])
    copy.tier(2)
    copy.looked.looks = 0
    copy.apply([*insert(1, 3, 5), Cell((1, 4), N, None, 6, "8"), *insert(2, 3, 5)])
    copy.apply([Deletion(1, 4, 5, None, 7), Deletion(1, 2, 3, None, 5)])
    assert copy.looked.looks == 0
    # As an INSERT with a collection, which empties it first: of new rows, above the line and below.
    copy.apply([*insert(4, 3, 5), Deletion(4, 3, 4, M, 4)])
    assert copy.looked.looks == 0
    copy.apply([*insert(4, 1, 5), Deletion(4, 1, 2, M, 4)])
    assert copy.looked.looks == 1, "for the row that is written late, at its place"
    copy.looked.looks = 0
    assert copy.rows() == copy.expected()
    copy.apply([Deletion(1, 1, 2, None, 7)])
    assert copy.looked.looks == 1
    assert copy.rows() == copy.expected()


def test_deletions_by_the_thousand_take_one_look(copy: Copy) -> None:
    """Of single places; how many they are costs a look no more than one."""
    copy.apply([e for p in range(200) for e in insert(p, p % DAYS, 5)])
    copy.tier(DAYS)
    copy.looked.looks = 0
    copy.apply([Deletion(p, c, c + 1, None, 8) for p in range(10, 190) for c in range(8)])
    assert copy.looked.looks == 1
    assert len(copy.rows()) == 20
    assert copy.rows() == copy.expected()


def test_of_files_that_come_whole_only_places_are_read_first(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as those of an object store; the others have nothing that is asked for."""
    copy.apply([e for c in range(DAYS) for p in range(3) for e in insert(p, c, 5)])
    copy.tier(DAYS)
    whole: list[str] = []

    def read(io: FileIO, path: str, fields: Sequence[NestedField]) -> Iterator[pa.RecordBatch]:
        if len(fields) > 1:
            whole.append(path)
        return read_fields(io, path, fields)

    monkeypatch.setattr(reading, "is_local", lambda _: False)
    monkeypatch.setattr(reading, "read_fields", read)
    found: list[Event] = [Deletion(1, 2, 3, None, 8), Deletion(9, None, None, None, 8)]
    copy.apply(found)
    assert len(whole) == 1
    copy.apply([Deletion(2, 3, 5, None, 8)])
    assert len(whole) == 1 + 2
    copy.apply([Cell((0, 1), N, None, 8, "1")])
    assert len(whole) == 1 + 2 + 1
    assert copy.rows() == copy.expected()
    assert len(copy.rows()) == 3 * DAYS - 3


@pytest.mark.parametrize(
    ("schema", "column", "why"),
    [
        (replace(SCHEMA, key=("k1",)), AT, "not in the key"),
        (
            replace(
                SCHEMA, columns=(*SCHEMA.columns, Column("s", SqlType("text", 25), 9, shared=True))
            ),
            AT,
            "several rows share",
        ),
    ],
)
def test_others_stay_and_say_why(tmp_path: Path, schema: Any, column: int, why: str) -> None:
    """By name, and the table goes on."""
    with HotStore(tmp_path / "hot.duckdb") as store:
        store.add_table(schema, "f")
        store.apply(ChangeBatch("events", (), (), Position("1"), None), covers)
        store.start_copy(schema, "f", Position("1"))
        store.finish_copy(TABLE, covers, 5)
        with pytest.raises(StoreError, match=why):
            store.begin_run("run", {TABLE: 0}, {TABLE: column})
        with pytest.raises(StoreError, match=why):
            store.retain(TABLE, Horizon(column, 0))
        assert store.catalog.readable(TABLE) == schema


def test_between_writes_of_one_time_the_tie_decides(copy: Copy) -> None:
    """In the lake as anywhere: of numbers the larger one loses here, whatever their texts say."""
    copy.apply(insert(1, 1, 5, n="7"))
    copy.tier(DAYS)
    copy.apply([Cell((1, 1), N, None, 5, "8"), Cell((1, 1), A, None, 5, "a")])
    assert copy.rows() == copy.expected()
    assert copy.store.patches(TABLE) == (0, 0), "both lose"
    copy.apply([Cell((1, 1), N, None, 5, "-1"), Cell((1, 1), A, None, 5, "z")])
    assert copy.rows() == copy.expected()
    assert copy.store.patches(TABLE) == (1, 1), "both win"


@pytest.mark.parametrize("place", ["tier.begun", "tier.committed", "tier.flipped"])
def test_a_run_hears_of_deletions_that_leave_nothing(copy: Copy, place: str) -> None:
    """Of rows that the lake has already, while the line moves on."""
    copy.apply([e for p in range(3) for c in range(DAYS) for e in insert(p, c, 5)])
    copy.tier(3)

    def delete(name: str) -> None:
        if name == place:
            copy.apply([Deletion(1, None, None, None, 8)])

    failpoints.arm(delete)
    try:
        copy.tier(DAYS)
    finally:
        failpoints.arm(None)
    assert copy.rows() == copy.expected()
    assert len(copy.rows()) == 2 * DAYS
    copy.tier(DAYS)
    assert copy.rows() == copy.expected()
    assert copy.store.patches(TABLE) == (0, 0)


def test_what_is_too_old_does_not_come_back(copy: Copy) -> None:
    """Neither by a deletion that the lake's hidden rows outlive, nor by a late write."""
    copy.apply([e for c in range(DAYS) for e in insert(1, c, 5)])
    copy.apply([Cell((1, c), N, None, 9, "8") for c in range(DAYS)])
    copy.tier(DAYS)
    copy.store.retain(TABLE, Horizon(AT, line(2)))
    copy.since = line(2)
    assert len(copy.rows()) == 3
    copy.apply([Deletion(1, None, None, None, 7)])
    assert copy.rows() == copy.expected()
    copy.apply([*(Cell((1, c), N, None, 10, "-1") for c in (0, 3)), *insert(2, 1, 9)])
    assert copy.rows() == copy.expected()
    assert copy.store.patches(TABLE) == (3, 3)


def test_the_horizon_goes_with_its_column_out_of_the_key(tmp_path: Path) -> None:
    """A table that was made anew with another key has no rows that are too old."""
    other = replace(SCHEMA, key=("k1",))
    with HotStore(tmp_path / "hot.duckdb") as store:
        store.add_table(SCHEMA, "f")
        store.apply(ChangeBatch("events", (), (), Position("1"), None), covers)
        store.start_copy(SCHEMA, "f", Position("1"))
        store.finish_copy(TABLE, covers, 5)
        store.retain(TABLE, Horizon(AT, line(2)))
        store.copy_again(TABLE, "asked")
        store.start_copy(other, "g", Position("1"))
        cells = pa.RecordBatch.from_pylist(
            [{"place": b"1", "k0": 1, "ordinal": AT, "rank": b"1", "value": str(line(1))}],
            schema=cells_arrow(other),
        )
        store.load(TABLE, [cells])
        store.finish_copy(TABLE, covers, 5)
        assert store.catalog.tables[TABLE].horizon is None
        assert store.catalog.tables[TABLE].rows == 1
        late = CellChanges(TABLE, cells, pa.RecordBatch.from_pylist([], schema=DELETIONS))
        store.apply(ChangeBatch("events", (late,), (), Position("2"), None), covers)


def test_nothing_of_it_is_erased(copy: Copy) -> None:
    """Cells of deleted rows stay in the hot store, so it is not promised."""
    erasure = Erasure(copy.store, copy.lake, copy.tierer, copy.retention, 0.0)
    with pytest.raises(ConfigError, match="kept cell by cell"):
        erasure.check(TABLE, "k1 = 1")


def test_a_new_copy_begins_the_lake_anew(copy: Copy) -> None:
    """With the next run; what was there before goes with its versions, as `erase` says."""
    copy.apply([e for c in range(DAYS) for e in insert(1, c, 5)])
    copy.tier(DAYS)
    former = set(copy.folder.rglob("data/**/*.parquet"))
    assert len(former) == DAYS
    copy.store.copy_again(TABLE, "asked")
    copy.copied(copy.sent)
    upkeep = Upkeep(copy.store, copy.lake, 0.0)
    assert upkeep.tables() == []
    copy.tier(DAYS)
    upkeep.expire(upkeep.tables(), lambda *_: None)
    assert not former & set(copy.folder.rglob("data/**/*.parquet"))
    assert copy.rows() == copy.expected()
