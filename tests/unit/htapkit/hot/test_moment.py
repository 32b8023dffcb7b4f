"""A moment: one snapshot for statement after statement, outside the limits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from htapkit.errors import MomentGone, QueryFailed, StoreFailed
from htapkit.hot import Asked, HotLimits, HotStore, Moment
from tests.unit.htapkit.hot.building import Rows, batch_of, covers
from tests.unit.htapkit.hot.test_reads import ENDLESS
from tests.unit.htapkit.hot.test_store import T, follow

VALUES = Asked('SELECT a FROM "shop.public".t')
FAILS = Asked("SELECT error('on purpose')")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HotStore]:
    limits = HotLimits(memory_bytes=2**29, reads=1, read_seconds=0.001, disk_free_bytes=0)
    with HotStore(tmp_path / "hot.duckdb", limits) as opened:
        follow(opened, T, [(1, 0, "")])
        yield opened


def values(moment: Moment) -> list[int]:
    return [v for batch in moment.batches(VALUES) for v in batch.column(0).to_pylist()]


def test_statements_see_one_snapshot_also_after_one_that_failed(store: HotStore) -> None:
    """Three may fail, and the fourth takes the moment with it."""
    with store.moment() as moment:
        store.apply(batch_of(2, Rows(T).update(1, 7, "").changes()), covers)
        for _ in range(4):
            assert values(moment) == [0]
            assert values(moment) == [0]
            with pytest.raises(QueryFailed, match="on purpose"):
                list(moment.batches(FAILS))
        with pytest.raises(MomentGone):
            values(moment)
    with store.moment() as moment:
        assert values(moment) == [7]


def test_it_takes_no_statement_s_place(store: HotStore) -> None:
    with store.read("SELECT 1"), store.moment() as moment:
        assert values(moment) == [0]
        assert store.sizes()["reads"] == 1
    with store.moment(), store.read("SELECT 1"):
        pass


def test_the_end_of_the_store_ends_it(store: HotStore) -> None:
    """Whether the statement runs then, or only begins."""
    closer = threading.Timer(0.5, store.close)
    with store.moment() as moment:
        closer.start()
        with pytest.raises(StoreFailed):
            list(moment.batches(Asked(ENDLESS)))
    closer.join()
