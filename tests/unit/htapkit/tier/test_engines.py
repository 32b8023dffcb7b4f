"""Another engine compacts: what it made is compared. It expires: what is read keeps its tag."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from htapkit.engines import load_engine
from htapkit.errors import ConfigError, LakeFailed
from htapkit.hot import HotStore
from htapkit.model import Pin, TableId
from htapkit.tier import Upkeep
from tests.unit.htapkit.hot.lakes import (
    DAY,
    ROWS,
    TS,
    PlainLake,
    T,
    boundary_of,
    opened,
    tier,
    whole_rows,
)
from tests.unit.htapkit.hot.test_store import follow


class Engine(PlainLake):
    """A lake, and the engine that compacts in it; `lose` leaves a row out, `keep` does nothing."""

    how = "same"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.told: list[tuple[object, ...]] = []

    def adopt(self, table: TableId, pin: Pin) -> Pin:
        """What `compact` made."""
        rows = self.rows(pin)
        if self.how == "lose":
            return self._write("", table, self.columns(pin), rows.slice(1))
        if self.how == "twice":
            ids = [0] * rows.num_rows
            return self._write("", table, self.columns(pin), rows.take(ids))
        return self.same(table, pin) if self.how == "same" else pin

    def identifier(self, table: TableId) -> Sequence[str]:
        return (table.source, table.schema, table.name)

    def compact(self, table: object, pin: Pin | None = None) -> Pin:
        self.compacted = table
        assert pin is None, "by the engine, not here"
        return Pin("", 0, 0)

    def release(self, table: TableId, keep: Collection[Pin], older_than: datetime) -> None:
        self.told.append(("release", table, set(keep), older_than))

    def expire(self, table: object, *given: object) -> int:
        """By the engine, which is told a name and a moment."""
        self.told.append(("expire", table, *given))
        return 3

    def sweep(self, table: TableId, older_than: datetime, keep: Collection[Pin]) -> int:
        self.told.append(("sweep", table, set(keep), older_than))
        return 2


@pytest.fixture
def lake(tmp_path: Path) -> Engine:
    return Engine(tmp_path / "lake")


@pytest.fixture
def store(tmp_path: Path, lake: Engine) -> Iterator[HotStore]:
    with opened(tmp_path / "hot.duckdb", lake) as store:
        follow(store, T, ROWS)
        tier(store, lake, T, 3 * DAY, TS)
        yield store


def compact(store: HotStore, lake: Engine) -> list[bool]:
    upkeep = Upkeep(store, lake, 0.0, lambda _: lake)  # type: ignore[arg-type, return-value]
    return [each.compacted for each in upkeep.compact_by("other", [T.table], lambda *_: None)]


def test_the_engines_version_is_read_from_now_on(store: HotStore, lake: Engine) -> None:
    before, rows = boundary_of(store), whole_rows(store, lake, T)
    assert compact(store, lake) == [True]
    assert lake.compacted == ("shop", "public", "t")
    after = boundary_of(store)
    assert after.pin.snapshot > before.pin.snapshot
    assert (after.below, after.position) == (before.below, before.position)
    assert whole_rows(store, lake, T) == rows
    lake.how = "keep"
    assert compact(store, lake) == [False]
    assert boundary_of(store) == after


@pytest.mark.parametrize("how", ["lose", "twice"])
def test_other_rows_are_never_read(store: HotStore, lake: Engine, how: str) -> None:
    before, rows = boundary_of(store), whole_rows(store, lake, T)
    lake.how = how
    with pytest.raises(LakeFailed, match="other made has other rows than before"):
        compact(store, lake)
    assert boundary_of(store) == before
    assert whole_rows(store, lake, T) == rows


def test_an_engine_expires_what_has_lost_its_tag(store: HotStore, lake: Engine) -> None:
    """First the tags of what nobody reads go, then the engine, then what no version names."""
    upkeep = Upkeep(store, lake, 60.0, lambda _: lake)  # type: ignore[arg-type, return-value]
    begun = datetime.now(UTC)
    (kept,) = upkeep.expire_by("other", [T.table], lambda *_: None)
    assert kept.files_removed == 5
    pins = {boundary_of(store).pin}
    before = lake.told[0][3]
    assert isinstance(before, datetime)
    assert begun <= before + timedelta(seconds=60) <= datetime.now(UTC)
    assert lake.told == [
        ("release", T.table, pins, before),
        ("expire", ("shop", "public", "t"), before),
        ("sweep", T.table, pins, before),
    ]


def test_an_engine_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'flint' is not installed; installed: .*spark"):
        load_engine("flint", {})
