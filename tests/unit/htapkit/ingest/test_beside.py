"""`verify` and what it cannot compare: a history is held against itself, the rest is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from htapkit.hot import HotLimits, HotStore
from htapkit.ingest import Beside, Mirror, MirrorOptions, Verification, imported, verify
from htapkit.lake import Lake, LakeSettings
from htapkit.metrics import Metrics
from htapkit.model import Op, TableId, archive_of, history_of
from htapkit.query import whole_rows
from htapkit.testing.memory import MemorySource, RowEvent, Server
from htapkit.testing.stack import wait_until
from tests.unit.htapkit.lake.building import DAY, LAYOUT, ORDERS, TABLE, batch, run

HISTORY = history_of(TABLE)
NOBODY_ELSE = "the source never had its rows"
OLDER = [(1, DAY, "a"), (2, 2 * DAY, "b"), (3, 3 * DAY, "c")]


@dataclass
class Shop:
    """Orders 101 and 102 at the source, 1 to 3 in their history."""

    server: Server
    mirror: Mirror
    store: HotStore
    lake: Lake
    warehouse: Path

    def bring(self, number: int, rows: Sequence[tuple[Any, ...]]) -> None:
        """More history, in a commit of its own, whatever there is."""
        base = next((each.pin for each in self.store.imports.all()), None)
        own = replace(ORDERS, table=HISTORY)
        self.lake.commit(run(number, table=HISTORY), own, LAYOUT, base, None, [batch(ORDERS, rows)])
        self.store.imports.put(self.lake.look(self.lake.identifier(HISTORY), HISTORY, ORDERS))

    def verified(self, *tables: TableId) -> Verification:
        """What a verification finds."""
        rows = partial(whole_rows, self.lake.files)
        return verify(self.mirror, self.store, rows, tables)

    def files(self) -> list[Path]:
        """Of the history."""
        return sorted(self.warehouse.rglob("history.*/**/*.parquet"))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    server = Server("shop", {TABLE: ORDERS})
    made = datetime(2026, 1, 1, tzinfo=UTC)
    server.commit(*(RowEvent(TABLE, Op.INSERT, (key, made, "own")) for key in (101, 102)))
    settings = LakeSettings.local(tmp_path)
    limits = HotLimits(disk_free_bytes=0)
    with (
        Lake(settings) as lake,
        HotStore(tmp_path / "hot.duckdb", limits, warehouse=settings.warehouse, lake=lake) as store,
    ):
        options = MirrorOptions(watch_interval_seconds=0.02)
        mirror = Mirror("shop", MemorySource(server), store, Metrics(), options)
        mirror.start()
        try:
            wait_until(lambda: store.catalog.readable(TABLE) is not None, 60, lambda: "")
            shop = Shop(server, mirror, store, lake, tmp_path / "warehouse")
            shop.bring(1, OLDER)
            yield shop
        finally:
            mirror.stop()


def test_a_history_is_read_and_named(shop: Shop) -> None:
    """Every row of it, once each, with none of the source's keys."""
    for found in (shop.verified(), shop.verified(TABLE)):
        assert found.not_compared == (Beside(str(HISTORY), 3, True, 0, NOBODY_ELSE),)
        assert [table.rows_source for table in found.tables] == [2]
        assert found.equal


def test_a_key_that_the_source_has_since_given_out(shop: Shop) -> None:
    """That is no damage: it is counted, and said."""
    row = (2, datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=1), "again")
    shop.server.commit(RowEvent(TABLE, Op.INSERT, row))
    found = shop.verified()
    (history,) = found.not_compared
    assert (history.rows, history.sound, history.at_source) == (3, True, 1)
    assert history.why.startswith(f"{NOBODY_ELSE}; 1 of its keys")
    assert found.equal


def _lost(shop: Shop) -> None:
    shop.files()[0].unlink()


def _shorter(shop: Shop) -> None:
    path = shop.files()[0]
    pq.write_table(pq.read_table(path).slice(1), path)


def _twice(shop: Shop) -> None:
    shop.bring(2, [(2, 2 * DAY, "b")])


def _gone(shop: Shop) -> None:
    there = shop.store.imports.all()[0]
    shop.store.imports.put(replace(there, why="the catalog has no such table"))


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (_lost, "its rows cannot be read"),
        (_shorter, "its Iceberg table says 3 rows, its files have 2"),
        (_twice, "keys that are in it more than once: 1"),
        (_gone, "the catalog has no such table"),
    ],
)
def test_damage_is_found(shop: Shop, harm: Callable[[Shop], None], why: str) -> None:
    """And is no success; the mirrored table is compared all the same."""
    harm(shop)
    found = shop.verified()
    (history,) = found.not_compared
    assert history.sound is False
    assert why in history.why
    assert [table.equal for table in found.tables] == [True]
    assert not found.equal


def test_an_archive_is_named(shop: Shop) -> None:
    """Asked for one table, nothing else is named but its history."""
    shop.store.archives.keep(frozenset({TABLE}))
    found = shop.verified()
    assert found.equal
    archive = Beside(str(archive_of(TABLE)), None, None, None, "the source no longer has its rows")
    assert found.not_compared[0] == archive
    assert [beside.table for beside in shop.verified(TABLE).not_compared] == [str(HISTORY)]


def test_what_is_left_out_is_said(shop: Shop) -> None:
    """A paused table and what others write; its history is read, though its keys tell nothing."""
    shop.mirror.pause(TABLE)
    found = shop.verified()
    history, table = found.not_compared
    assert (history.rows, history.sound, history.at_source) == (3, True, None)
    assert "were not compared" in history.why
    assert table == Beside(
        str(TABLE), None, None, None, "it is not followed now: paused paused by the user"
    )
    assert not found.equal, "nothing was compared"
    there = shop.store.imports.all()[0]
    other = TableId("lake", "web", "visits")
    shop.store.imports.put(replace(there, schema=replace(there.schema, table=other)))
    (beside,) = imported(shop.store.catalog)
    assert (beside.table, beside.sound) == ("lake.web.visits", None)
    assert "others write it" in beside.why
