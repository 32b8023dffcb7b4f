"""Rows made of cells that end by themselves, while they lie in the lake and while they are hot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from htapkit import failpoints
from htapkit.cli.history import History
from htapkit.config import Config, SourceConfig, TableConfig
from htapkit.hot import HotPart, Parted
from htapkit.jobs import JobState
from htapkit.lake import reading
from htapkit.metrics import Metrics
from htapkit.model import lakecells
from htapkit.query.arms import present_arm
from htapkit.testing.stack import wait_until
from htapkit.tier import Target, Tierer, Upkeep, microseconds
from tests.property.reconciled_model import A, Cell, M, N
from tests.property.tiered_cells import BEGUN, DAYS, RULE, Copy, insert
from tests.property.timed_cells import TABLE, line


def _later(microseconds: int) -> int:
    """So long after the beginning."""
    return int(BEGUN.timestamp() * 1_000_000) + microseconds


def test_what_ends_stays_until_it_has_ended(copy: Copy) -> None:
    """Where a row has several ends: in time; and it leaves once it has one, or none."""
    end = _later(5)
    copy.apply([*insert(1, 1, 5), Cell((1, 1), A, None, 6, "y", end), *insert(1, 2, 5)])
    copy.tier(DAYS)
    assert copy.store.patches(TABLE) == (0, 1)
    copy.apply([Cell((1, 2), N, None, 6, "-1", end)])
    assert copy.store.patches(TABLE) == (1, 2)
    assert copy.rows() == copy.expected()
    before = copy.rows()
    copy.now += timedelta(microseconds=5)
    copy.store.maintain()
    assert copy.rows() == copy.expected() != before
    copy.tier(DAYS)
    assert copy.store.patches(TABLE) == (0, 0)
    assert copy.rows() == copy.expected()
    copy.apply(insert(1, 1, 5, "z") + insert(1, 2, 5))
    assert copy.rows() == copy.expected()


def test_ends_of_what_has_lost_do_not_matter(copy: Copy) -> None:
    """Nor those of tombstones: what is not there cannot end."""
    end = _later(5)
    lost = [Cell((1, 1), A, None, 4, "y", end), Cell((1, 1), M, "e0", 4, None, end + 1)]
    copy.apply([*insert(1, 1, 5), *insert(2, 1, 5, end=end), *lost])
    copy.apply([Cell((2, 1), A, None, 6, None), Cell((2, 1), A, None, 5, "y", end + 9)])
    copy.tier(DAYS)
    assert copy.store.patches(TABLE) == (0, 0)
    assert (copy.count("records"), copy.count("cells")) == (0, 0)
    assert copy.rows() == copy.expected()
    copy.apply(copy.sent)
    assert copy.store.patches(TABLE) == (0, 0)
    copy.now += timedelta(microseconds=5)
    assert copy.rows() == copy.expected()
    assert [row[0] for row in copy.rows()] == [1]


@pytest.mark.parametrize("whole", [False, True])
def test_rows_with_one_end_end_in_the_lake(
    copy: Copy, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """At their moment, to the microsecond, with no run in between, and of files that come whole."""
    if whole:
        monkeypatch.setattr(reading, "is_local", lambda _: False)
    copy.apply([e for c in range(DAYS) for e in insert(1, c, 5, end=_later(c + 1))])
    copy.apply([*insert(2, 1, 5), *insert(3, 1, 5, end=_later(-1))])
    copy.tier(DAYS)
    assert copy.store.patches(TABLE) == (0, 0)
    for left in range(DAYS, -1, -1):
        assert copy.rows() == copy.expected()
        assert len(copy.rows()) == 1 + left
        copy.now += timedelta(microseconds=1)
    assert copy.store.catalog.tables[TABLE].boundary is not None


def test_all_parts_of_a_lease_have_one_moment(copy: Copy) -> None:
    """However late they are begun; the next lease has another one."""
    copy.apply([e for c in range(DAYS) for e in insert(1, c, 5, end=_later(5))])
    copy.apply(insert(2, 0, 5))
    copy.tier(DAYS)

    def leased() -> list[int]:
        catalog = copy.store.catalog
        arm = present_arm("lake", catalog.tables[TABLE], copy.lake.files, None, None)
        sql = "SELECT k1 FROM hot UNION ALL SELECT k1 FROM lake"
        hot = HotPart("hot", catalog.tables[TABLE].schema)
        lease = copy.store.lease(Parted(sql, (), (), catalog.version, hot, (arm,)), 3)
        assert lease is not None
        found = []
        for number in range(lease.parts):
            part = lease.read(number)
            found += [row for b in part.batches() for row in b.column(0).to_pylist()]
            part.close()
        lease.end("read")
        return sorted(found)

    copy.tick = timedelta(microseconds=3)
    assert leased() == [1] * DAYS + [2]
    assert copy.now > BEGUN + timedelta(microseconds=5)
    assert leased() == [2]


def test_what_ended_in_the_lake_still_covers_older_writes(copy: Copy) -> None:
    """Cell by cell, as it would in the hot store; and what comes again leaves nothing."""
    first = [e for p in range(4) for e in insert(p, 1, 5, end=_later(5))]
    copy.apply(first)
    copy.tier(DAYS)
    copy.now += timedelta(microseconds=5)
    for again in (first, insert(1, 1, 4), [Cell((2, 1), N, None, 5, "8", _later(-3))]):
        copy.apply(list(again))
        assert copy.rows() == copy.expected() == []
    assert copy.store.patches(TABLE) == (0, 0)
    assert (copy.count("records"), copy.count("cells")) == (0, 0)
    # A cell that it did not have, older ones of it, a younger one, and a younger one with an end.
    copy.apply([Cell((0, 1), M, "e0", 3, '"e0": 1'), Cell((0, 1), A, None, 4, "older")])
    copy.apply([Cell((1, 1), N, None, 6, "8"), Cell((2, 1), N, None, 6, "9", _later(9))])
    assert copy.rows() == copy.expected()
    assert [row[0] for row in copy.rows()] == [0, 1, 2]
    copy.tier(DAYS)
    assert copy.rows() == copy.expected()
    copy.now += timedelta(microseconds=9)
    copy.store.maintain()
    copy.apply(copy.sent)
    assert copy.rows() == copy.expected()
    assert [row[0] for row in copy.rows()] == [0, 1]


def test_a_row_that_comes_back_has_its_end(copy: Copy) -> None:
    """Before it is over, and so has the one that goes again with another one."""
    copy.apply([e for p in range(3) for e in insert(p, 1, 5, end=_later(5))])
    copy.tier(DAYS)
    copy.apply([Cell((1, 1), N, None, 6, "8", _later(5)), Cell((2, 1), N, None, 6, "8", _later(9))])
    assert copy.store.patches(TABLE) == (2, 2)
    copy.tier(DAYS)
    assert copy.store.patches(TABLE) == (0, 1), "the one with two ends stays"
    assert copy.rows() == copy.expected()
    assert len(copy.rows()) == 3
    copy.now += timedelta(microseconds=5)
    copy.store.maintain()
    assert copy.rows() == copy.expected()
    assert len(copy.rows()) == 1
    copy.tier(DAYS)
    assert copy.store.patches(TABLE) == (0, 0), "one end is left"
    copy.now += timedelta(microseconds=4)
    assert copy.rows() == copy.expected() == []


def test_what_ends_between_two_steps_of_a_run_ends(copy: Copy) -> None:
    """In the hot store meanwhile, in the lake afterwards, and it comes back from neither."""
    copy.apply([e for p in range(3) for e in insert(p, 1, 5, end=_later(1 + p))])

    def pass_time(name: str) -> None:
        if name in {"tier.begun", "tier.committed", "tier.flipped"}:
            copy.now += timedelta(microseconds=1)
            copy.store.maintain()
            assert copy.rows() == copy.expected()

    failpoints.arm(pass_time)
    try:
        copy.tier(DAYS)
    finally:
        failpoints.arm(None)
    assert copy.rows() == copy.expected() == []
    copy.apply([e for p in range(3) for e in insert(p, 1, 4)])
    assert copy.rows() == copy.expected() == []


def test_a_job_ends_where_more_rows_stay_than_a_run_takes(copy: Copy) -> None:
    """They are no reason for the line to stay where it is."""
    for ordinal, end in ((A, _later(4)), (N, _later(5))):
        copy.apply([Cell((p, c), ordinal, None, 5, "1", end) for p in range(6) for c in range(3)])
    copy.apply([e for p in range(6) for c in range(4) for e in insert(9 - p, c, 5)])
    runs: list[str] = []

    def count(what: str, done: int, total: int) -> None:
        runs.append(what)
        assert len(runs) < 100, "runs without end"

    tierer = Tierer(copy.store, copy.lake, Metrics(), rows_max=10)
    moved = tierer.tier([Target(TABLE, RULE, line(DAYS))], count)
    assert [m.below for m in moved] == [line(1), line(2), line(3), line(DAYS)]
    assert copy.rows() == copy.expected()
    assert sum(m.rows for m in moved) == len(copy.rows()) - 6 * 3


def _rows_in_files(copy: Copy) -> int:
    """How many there are in the version that is read, ended or not."""
    boundary = copy.store.catalog.tables[TABLE].boundary
    assert boundary is not None
    return boundary.pin.rows


def _forget(copy: Copy, ended: int) -> int:
    """Drop what had ended so long after the beginning; how many rows the files lose."""
    before = _rows_in_files(copy)
    dropped = copy.retention.forget_ended(TABLE, _later(ended))
    assert dropped == before - _rows_in_files(copy)
    return dropped


def test_files_of_which_all_has_ended_go(copy: Copy) -> None:
    """By what is known of them; what is left stays readable, also for late writes."""
    copy.apply([e for c in range(3) for p in range(4) for e in insert(p, c, 5, end=_later(c + 1))])
    copy.apply(insert(1, 3, 5))
    copy.tier(DAYS)
    copy.now += timedelta(microseconds=3)
    assert [_forget(copy, ended) for ended in (0, 1, 1, 2, 3)] == [0, 4, 0, 4, 4]
    assert copy.rows() == copy.expected()
    assert len(copy.rows()) == 1
    upkeep = Upkeep(copy.store, copy.lake, 0.0)
    upkeep.compact(upkeep.tables(), lambda *_: None)
    upkeep.expire(upkeep.tables(), lambda *_: None)
    assert len(list(copy.folder.rglob("data/**/*.parquet"))) == 1
    copy.apply([Cell((1, 3), N, None, 6, "8"), *insert(2, 0, 6)])
    copy.tier(DAYS)
    assert copy.rows() == copy.expected()
    assert len(copy.rows()) == 2


def test_a_file_is_written_again_once_half_of_it_has_ended(copy: Copy) -> None:
    """Not before, and never for rows of which most do not end."""
    copy.apply([e for p in range(5) for e in insert(p, 1, 5, end=_later(p + 1))])
    copy.apply([e for p in range(5) for e in insert(p, 2, 5, end=_later(1) if p < 2 else None)])
    copy.tier(DAYS)
    copy.now += timedelta(microseconds=9)
    assert [_forget(copy, ended) for ended in (1, 2, 3, 4, 5)] == [0, 0, 3, 1, 1]
    assert _rows_in_files(copy) == 5
    assert copy.rows() == copy.expected()
    copy.apply([Cell((4, 2), N, None, 6, "8"), Cell((0, 2), N, None, 4, "9")])
    assert copy.rows() == copy.expected()
    assert len(copy.rows()) == 3


def test_what_dies_while_ended_rows_are_dropped_loses_nothing(copy: Copy) -> None:
    """The version from before is read on, and the next turn drops them."""
    copy.apply([e for p in range(4) for e in insert(p, p, 5, end=_later(1) if p else None)])
    copy.tier(DAYS)
    copy.now += timedelta(microseconds=1)

    def die(name: str) -> None:
        if name == "retain.retired":
            raise KeyboardInterrupt

    failpoints.arm(die)
    try:
        with pytest.raises(KeyboardInterrupt):
            copy.retention.forget_ended(TABLE, _later(1))
    finally:
        failpoints.arm(None)
    copy.close()
    copy.open()
    assert _rows_in_files(copy) == 4
    assert copy.rows() == copy.expected()
    copy.apply([Cell((0, 0), N, None, 6, "8")])
    copy.tier(DAYS)
    assert _forget(copy, 1) == 3
    assert copy.rows() == copy.expected()


def test_a_lake_from_before_ends_gains_their_column(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its next run; older files, which have no such column, have no row that ends."""
    with monkeypatch.context() as former:
        former.setattr(lakecells, "_OWN", tuple(c for c in lakecells._OWN if c != lakecells.ENDS))
        copy.apply([e for p in range(3) for e in insert(p, 1, 5)])
        copy.tier(DAYS - 1)
    copy.apply([Cell((0, 1), N, None, 6, "8"), *insert(1, 1, 6, end=_later(1)), *insert(2, 1, 4)])
    copy.apply(insert(3, DAYS - 1, 5, end=_later(2)))
    assert copy.rows() == copy.expected()
    copy.tier(DAYS)
    assert copy.store.patches(TABLE) == (0, 0)
    for left in (4, 3, 2):
        assert copy.rows() == copy.expected()
        assert len(copy.rows()) == left
        copy.now += timedelta(microseconds=1)
    copy.apply(copy.sent)
    assert copy.rows() == copy.expected()
    assert _forget(copy, 2) == 2, "one alone in its file, one of two"


@pytest.mark.parametrize(("grace", "left"), [({}, 3), ({"grace": "1 day"}, 1), ({"grace": 1e9}, 4)])
def test_the_server_drops_what_ended_long_enough_ago(
    copy: Copy, grace: dict[str, Any], left: int
) -> None:
    """With each compaction: ten days after it, or as is asked of the table."""
    today = datetime.now(UTC)
    copy.now = today - timedelta(days=20)
    copy.apply(insert(0, 0, 5))
    for day, ago in enumerate((15, 5), 1):
        end = microseconds(today - timedelta(days=ago))
        copy.apply([e for p in range(day) for e in insert(p, day, 5, end=end)])
    copy.tier(DAYS)
    assert _rows_in_files(copy) == 1 + 1 + 2
    copy.now = today
    config = Config(
        sources={"events": SourceConfig(connector="memory")},
        tables={str(TABLE): TableConfig.model_validate(grace)},
    )
    history = History(config, copy.store, copy.lake, Metrics())
    history.jobs.start()
    try:
        job = history.tiering.compact(())
        wait_until(lambda: history.jobs.get(job.id).ended, 60)
        assert history.jobs.get(job.id).state is JobState.DONE
    finally:
        history.jobs.stop()
    assert _rows_in_files(copy) == left
    assert copy.rows() == copy.expected()
    assert len(copy.rows()) == 1
