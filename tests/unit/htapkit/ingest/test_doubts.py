"""`verify` of reconciled tables: what differs is found, and what changed meanwhile is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from htapkit.hot import HotStore
from htapkit.ingest import Mirror, MirrorOptions, Verified, verify
from htapkit.metrics import Metrics
from htapkit.model import LakeFiles, TableState
from htapkit.query import whole_rows
from htapkit.testing.stack import wait_until
from tests.unit.htapkit.ingest.cells import NOTES, ROWS, Source


def _no_files(*_: object) -> LakeFiles:
    """There is no lake."""
    raise NotImplementedError


@contextmanager
def _followed(source: Source, folder: Path) -> Iterator[tuple[Mirror, HotStore]]:
    """What follows the source's table."""
    with HotStore(folder / "hot.duckdb") as store:
        options = MirrorOptions(watch_interval_seconds=0.02)
        mirror = Mirror("mem", source, store, Metrics(), options)
        mirror.start()

        def follows() -> bool:
            status = store.catalog.tables.get(NOTES)
            return status is not None and status.state is TableState.FOLLOWING

        try:
            wait_until(follows, 60)
            yield mirror, store
        finally:
            mirror.stop()


def _verified(source: Source, folder: Path) -> Verified:
    with _followed(source, folder) as (mirror, store):
        found = verify(mirror, store, partial(whole_rows, _no_files), [NOTES])
    (table,) = found.tables
    assert found.equal == table.equal
    return table


def test_equal_rows(tmp_path: Path) -> None:
    found = _verified(Source(), tmp_path)
    assert (found.equal, found.rows_source, found.rows_copy) == (True, ROWS, ROWS)
    assert not found.why


def test_rows_that_differ(tmp_path: Path) -> None:
    """One is another there, one is missing there, one is missing here."""
    source = Source()
    source.otherwise = {3: "another", 5: None, 100: "not here"}
    found = _verified(source, tmp_path)
    assert (found.equal, found.rows_source, found.rows_copy) == (False, ROWS, ROWS)
    assert found.examples == ("100", "3", "5")


def test_what_changes_meanwhile_is_no_difference(tmp_path: Path) -> None:
    """A row is written behind the scan of the source, and one behind it is read again."""
    source = Source()
    reads: list[set[int] | None] = []

    def behind(wanted: set[int] | None) -> None:
        reads.append(wanted)
        if len(reads) < 3:
            source.log.writes += [(len(reads), "later"), (200 + len(reads), "new")]

    source.read_rows = behind
    found = _verified(source, tmp_path)
    assert reads[0] is None
    assert reads[1] == {1, 201}
    assert found.equal
    assert not found.why


@pytest.mark.parametrize("different", [{}, {7: "another"}])
def test_what_changes_each_time_is_told(tmp_path: Path, different: dict[int, str | None]) -> None:
    """It is no difference; one beside it is found all the same."""
    source = Source()
    source.otherwise = dict(different)
    count = 0

    def write(_: set[int] | None = None) -> None:
        nonlocal count
        count += 1
        source.log.writes.append((2, f"changed {count}"))

    source.before_rows = source.read_rows = write
    found = _verified(source, tmp_path)
    assert found.equal == (not different)
    assert found.examples == tuple(map(str, different))
    assert found.why == "1 rows changed each time that they were read"


def test_too_many_to_be_read_again(tmp_path: Path) -> None:
    """Nobody knows which of them changed meanwhile; they differ."""
    source = Source()
    source.otherwise = dict.fromkeys(range(1000, 2001), "not here")
    found = _verified(source, tmp_path)
    assert not found.equal
    assert found.why.startswith("more than 1000 rows differ")
    assert len(found.examples) == 10
