"""Copies of reconciled tables that are cut short: what the copier asks, keeps and begins anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from htapkit.hot import HotStore, table_query
from htapkit.ingest import Mirror, MirrorOptions
from htapkit.metrics import Metrics
from htapkit.model import TableState
from htapkit.testing.stack import wait_until
from tests.unit.htapkit.ingest.cells import NOTES, PARTS, ROWS, SCHEMA, Source


@contextmanager
def _mirrored(source: Source, store: HotStore) -> Iterator[Mirror]:
    mirror = Mirror("mem", source, store, Metrics(), MirrorOptions(watch_interval_seconds=0.02))
    mirror.start()
    try:
        yield mirror
    finally:
        source.goes_on.set()
        mirror.stop()


def _wait(what: Callable[[], bool], source: Source) -> None:
    wait_until(what, 60, lambda: f"read {source.asked}, begun {source.begun}")


def _keeps(source: Source, store: HotStore, parts: int) -> None:
    """So many of them are durable; of each row there are two cells."""

    def kept() -> bool:
        copy = store.copying.ranged(NOTES)
        return copy is not None and copy.rows == 2 * ROWS * parts // PARTS

    _wait(kept, source)


def _rows(source: Source, store: HotStore) -> dict[int, str]:
    """Once it follows, and all is applied."""
    follows, covers = TableState.FOLLOWING, source.positions.covers

    def reached() -> bool:
        stored = store.applied("mem").position
        status = store.catalog.tables.get(NOTES)
        there = status is not None and status.state is follows
        return there and stored is not None and covers(stored, source.head.head())

    _wait(reached, source)
    with store.read(table_query(SCHEMA)) as read:
        return {row["id"]: row["v"] for batch in read.batches() for row in batch.to_pylist()}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HotStore]:
    """Empty."""
    with HotStore(tmp_path / "hot.duckdb") as made:
        yield made


def test_it_goes_on_behind_what_it_had(store: HotStore) -> None:
    """Twice, and what was written meanwhile is in it: behind its parts by the stream."""
    source = Source()
    source.fails_before = {2}
    source.goes_on.clear()
    with _mirrored(source, store) as mirror:
        _keeps(source, store, 2)
        source.log.writes += [(number, "again") for number in range(8)]
        (report,) = mirror.report().tables
        assert (report.state, report.rows, report.rows_estimate) == ("copying", ROWS, 2 * ROWS)
        source.goes_on.set()
        assert _rows(source, store) == {n: "again" if n < 8 else f"v{n}" for n in range(ROWS)}
    assert source.asked == [0, 1, 2, 3]
    assert source.begun == ["first"]


def test_a_restart_tells_how_far_it_is(store: HotStore) -> None:
    """Before its turn has come again."""
    source = Source()
    source.fails_before = {3}
    source.goes_on.clear()
    with _mirrored(source, store):
        _keeps(source, store, 3)
    mirror = Mirror("mem", source, store, Metrics())
    (report,) = mirror.report().tables
    assert (report.state, report.rows, report.rows_estimate) == ("copying", 60, 80)
    with _mirrored(source, store):
        assert len(_rows(source, store)) == ROWS
    assert source.asked == [0, 1, 2, 3]


def test_a_table_that_was_truncated_is_copied_anew(store: HotStore) -> None:
    """Neither its first parts nor what was kept aside of before come back."""
    source = Source()
    source.fails_before = {2}
    source.goes_on.clear()
    with _mirrored(source, store):
        _keeps(source, store, 2)
        source.log.writes += [(number, "staged") for number in range(100, 110)]
        want = source.head.head()
        _wait(lambda: (store.applied("mem").position or "0") == want, source)
        source.since, source.fingerprint = len(source.log.writes), "second"
        source.log.writes += [(7, "new")]
        source.goes_on.set()
        assert _rows(source, store) == {7: "new"}
    assert source.begun == ["first", "second"]
    assert source.asked == [0, 1, 0, 1, 2, 3]


def test_who_says_that_it_cannot_go_on_is_heard(store: HotStore) -> None:
    """The copy begins anew, with all of its parts."""
    source = Source()
    source.fails_before, source.refusal = {2}, "rows lie elsewhere"
    with _mirrored(source, store):
        assert len(_rows(source, store)) == ROWS
    assert source.asked == [0, 1, 0, 1, 2, 3]
    assert source.begun == ["first"] * 2


def test_a_pause_does_not_begin_anew(store: HotStore) -> None:
    """Resumed, it reads what is left."""
    source = Source()
    source.fails_before = {1}
    source.goes_on.clear()
    with _mirrored(source, store) as mirror:
        _keeps(source, store, 1)
        mirror.pause(NOTES)
        source.goes_on.set()
        _wait(lambda: not source.fails_before, source)
        mirror.resume(NOTES)
        assert len(_rows(source, store)) == ROWS
    assert source.asked == [0, 1, 2, 3]
