"""A reconciled table's copy, cut short anywhere: what was read stays, and the rows end exact."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from htapkit import failpoints
from htapkit.errors import CatalogChanged
from htapkit.hot import HotStore
from htapkit.hot.ranges import KeyRange
from htapkit.model import ChangeBatch, Position, Split, TableState, hot_relation
from tests.property.reconciled_model import (
    PARTITIONS,
    SCHEMA,
    TABLE,
    Deletion,
    Event,
    Model,
    Row,
    changes,
    events,
)

_NOW = (
    1_800_000_000_000_000  # what ends does so about then, which the store's clock has not reached
)
_ROUNDS = 12


class DyingError(Exception):
    """The process is gone."""


def _covers(have: Position, want: Position) -> bool:
    return int(have) >= int(want)


def _partition(event: Event) -> int:
    return event.p if isinstance(event, Deletion) else event.place[0]


class Cut:
    """A source, which is a history of events, and a store that copies its table in parts."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Some of it happened before anything was followed."""
        self.rolled = random.Random(seed)
        self.history = events(self.rolled, 300, _NOW)
        self.happened = self.applied = 60
        self.path = folder / "hot.duckdb"
        self.store = HotStore(self.path)
        self.store.add_table(SCHEMA, "f")
        self._apply()
        self.read: list[int] = []  # partitions, as they were
        self.kept: set[int] = set()  # those that a durable part has
        self.kept_next = 0  # what the next durable part has
        self.died = 0

    def _apply(self) -> None:
        found, self.applied = self.history[self.applied : self.happened], self.happened
        end = Position(str(self.happened))
        parts = (changes(found),) if found else ()
        self.store.apply(ChangeBatch(TABLE.source, parts, (end,), end, None), _covers)

    def go_on(self) -> None:
        """Something is written, and perhaps followed at once."""
        self.happened = min(self.happened + self.rolled.randrange(20), len(self.history))
        if self.rolled.random() < 0.5:
            self._apply()

    def begin(self) -> None:
        """Two splits, of half of the partitions each."""
        half = PARTITIONS // 2
        splits = [Split(TABLE, f"0:{half}", 0), Split(TABLE, f"{half}:{PARTITIONS}", 0)]
        self.store.copying.start(SCHEMA, "begun", Position(str(self.applied)), splits)

    def _parts(self, each: KeyRange) -> Iterator[pa.RecordBatch | Split]:
        first, end = map(int, each.split.token.split(":"))
        for number in range(first, end):
            assert number not in self.kept, "it was read already"
            self.read.append(number)
            found = [e for e in self.history[: self.happened] if _partition(e) == number]
            some = changes(found)
            yield some.cells
            if self.rolled.random() < 0.15:
                raise DyingError
            yield some.deletions
            self.go_on()
            self.kept_next = number
            if number + 1 < end:
                yield Split(TABLE, f"{number + 1}:{end}", 0)

    def reached(self, name: str) -> None:
        """A part is durable."""
        if name == "copy.part":
            self.kept.add(self.kept_next)
            if self.rolled.random() < 0.4:
                raise DyingError

    def copy(self) -> None:
        """Read what is left, until that is nothing, however often it is cut short."""
        while True:
            copy = self.store.copying.ranged(TABLE)
            assert copy is not None
            assert copy.fingerprint == self.store.fingerprint(TABLE) == "begun"
            if not copy.left:
                return
            each = self.rolled.choice(copy.left)
            try:
                self.store.copying.loading.load_parts(TABLE, each.number, self._parts(each))
            except DyingError:
                self.died += 1
                self.store.close()
                self.store = HotStore(self.path)
                self.go_on()

    def rows(self) -> list[Row]:
        """What queries see."""
        schema, name = hot_relation(TABLE)
        read = self.store.read(f'SELECT p, c, s, a, n, m FROM "{schema}"."{name}"')
        found = [tuple(r.values()) for batch in read.batches() for r in batch.to_pylist()]
        read.close()
        return sorted(found, key=repr)


@pytest.fixture
def cut(tmp_path: Path) -> Iterator[Cut]:
    """One, by a seed that is printed."""
    seed = int(os.environ.get("RECONCILED_SEED", "0")) or random.randrange(2**32)
    print(f"RECONCILED_SEED={seed}")
    made = Cut(tmp_path, seed)
    failpoints.arm(made.reached)
    yield made
    failpoints.arm(None)
    made.store.close()


@pytest.mark.parametrize("round_", range(_ROUNDS))
def test_cut_short_anywhere(cut: Cut, round_: int) -> None:
    """No part is read twice once it was noted, and the rows are those of the whole history."""
    cut.begin()
    cut.copy()
    assert cut.kept == set(range(PARTITIONS))
    assert len(cut.read) <= PARTITIONS + cut.died
    cut.happened = len(cut.history)
    cut._apply()
    cut.store.finish_copy(TABLE, _covers, 5)
    model = Model()
    for event in cut.history:
        model.take(event)
    now = int(cut.store._core.clock().timestamp() * 1_000_000)
    assert cut.rows() == model.rows(now), round_


def test_another_copy_forgets_the_parts(cut: Cut) -> None:
    """A copy that is given up is not gone on with, and its reader is told so."""
    failpoints.arm(None)
    cut.begin()
    first = cut.store.copying.ranged(TABLE)
    assert first is not None

    def given_up() -> Iterator[pa.RecordBatch | Split]:
        some = changes(cut.history[:60])
        yield some.cells
        yield Split(TABLE, "2:3", 0)
        cut.store.copy_again(TABLE, "the table is another one now")
        yield some.cells

    with pytest.raises(CatalogChanged, match="given up"):
        cut.store.copying.loading.load_parts(TABLE, 0, given_up())
    assert cut.store.copying.ranged(TABLE) is None
    cut.begin()
    again = cut.store.copying.ranged(TABLE)
    assert again is not None
    assert (again.rows, len(again.left)) == (0, 2)


def test_a_pause_keeps_the_parts(cut: Cut) -> None:
    """The table goes on being copied with those that are left, not followed before."""
    failpoints.arm(None)
    cut.begin()
    cut.store.copying.loading.load_parts(TABLE, 0, iter([changes(cut.history[:60]).cells]))
    cut.store.set_state(TABLE, TableState.PAUSED, "by hand")
    cut.store.finish_copy(TABLE, _covers, 5)
    assert cut.store.catalog.tables[TABLE].state is TableState.COPYING
    copy = cut.store.copying.ranged(TABLE)
    assert copy is not None
    assert [each.number for each in copy.left] == [1]
    assert copy.rows > 0
