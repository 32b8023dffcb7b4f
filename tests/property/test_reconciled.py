"""Tables without transactions: any order, any repetition, one result."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from htapkit.errors import StoreError
from htapkit.hot import Asked, HotStore, table_query
from htapkit.hot.folded import Folded
from htapkit.model import (
    Change,
    ChangeBatch,
    Column,
    Horizon,
    Position,
    SchemaChange,
    SqlType,
    TableState,
    hot_relation,
)
from tests.property.reconciled_model import (
    SCHEMA,
    TABLE,
    A,
    Cell,
    Event,
    Model,
    N,
    Row,
    changes,
    events,
    series,
)
from tests.property.watcher import Watcher

_BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
_NOW = int(_BEGUN.timestamp() * 1_000_000)


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now = _BEGUN

    def __call__(self) -> datetime:
        return self.now


def _covers(have: Position, want: Position) -> bool:
    return int(have) >= int(want)


class Copy:
    """A store with the one table, and the position of its last batch."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.path = folder / "hot.duckdb"
        self.store = HotStore(self.path, clock=self.clock)
        self.position = 0

    def apply(self, found: list[Event]) -> None:
        """One batch."""
        self.apply_changes(*((changes(found),) if found else ()))

    def apply_changes(self, *found: Change) -> None:
        """One batch of any changes."""
        self.position += 1
        end = Position(str(self.position))
        self.store.apply(ChangeBatch("events", found, (end,), end, None), _covers)

    def copied(self, found: Sequence[Event], position: int | None = None) -> None:
        """A copy from these cells, while the stream goes on; of now, or of a position before."""
        at = self.position if position is None else position
        self.store.start_copy(SCHEMA, "f", Position(str(at)))
        parts = [changes([e]).cells for e in found]
        assert self.store.load(TABLE, parts) == sum(part.num_rows for part in parts)
        self.store.finish_copy(TABLE, _covers, 5)

    def rows(self) -> list[Row]:
        """What queries see."""
        return self.values("SELECT p, c, s, a, n, m FROM {}")

    def values(self, text: str) -> list[Any]:
        """What a query sees of the relation that it has braces for."""
        schema, name = hot_relation(TABLE)
        read = self.store.read(text.format(f'"{schema}"."{name}"'))
        found = [tuple(r.values()) for batch in read.batches() for r in batch.to_pylist()]
        read.close()
        return sorted(found, key=repr)

    def records(self) -> int:
        """How many there are beside the rows."""
        generation = self.store._core.state.records[TABLE].generation
        text = f"SELECT count(*) FROM {Folded(SCHEMA, generation).records}"
        return int(self.values(text)[0][0])

    def reopen(self) -> None:
        """As after a restart."""
        self.store.close()
        self.store = HotStore(self.path, clock=self.clock)


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    """A store that knows the table; it waits for a copy."""
    made = Copy(tmp_path)
    made.store.add_table(SCHEMA, "f")
    made.apply([])
    yield made
    made.store.close()


def _seed() -> int:
    seed = int(os.environ.get("RECONCILED_SEED", "0")) or random.randrange(2**32)
    print(f"RECONCILED_SEED={seed}")
    return seed


@pytest.mark.parametrize("round_", range(4))
def test_order_and_repetition_do_not_matter(copy: Copy, round_: int) -> None:
    """Shuffled, doubled, split into batches, partly copied, compacted: equal to a dict."""
    rolled = random.Random(_seed() + round_)
    history = events(rolled, 400, _NOW)
    model = Model()
    staged, loaded = history[:50], [e for e in history[50:130] if not hasattr(e, "low")]
    copy.apply(staged[:20])  # of what a copy's position covers it has all itself
    covered = copy.position
    copy.apply(staged[20:])
    copy.copied(loaded, covered)
    for event in staged[20:] + loaded:
        model.take(event)
    assert copy.rows() == model.rows(_NOW), "after the copy"
    watcher = Watcher(copy.store, TABLE, Asked(table_query(SCHEMA)))
    later = history + rolled.sample(history, 150)
    rolled.shuffle(later)
    seen = 0
    while later:
        size = rolled.randrange(1, 40)
        batch, later = later[:size], later[size:]
        for event in batch:
            model.take(event)
        copy.apply(batch)
        expected = model.rows(_NOW)
        seen += len(expected)
        assert copy.rows() == expected
        assert watcher.taken(copy.store) == expected
        roll = rolled.random()
        if roll < 0.1:
            copy.store.rewrite(TABLE)
        elif roll < 0.2:
            copy.reopen()
    assert seen > 100
    whole = Model()
    for event in history:
        whole.take(event)
    assert copy.rows() == whole.rows(_NOW)
    copy.clock.now += timedelta(microseconds=5)
    copy.store.maintain()
    assert whole.rows(_NOW + 5) != whole.rows(_NOW), "something expires"
    assert copy.rows() == whole.rows(_NOW + 5)
    assert watcher.taken(copy.store) == whole.rows(_NOW + 5)
    assert watcher.entries > 10


@pytest.mark.parametrize("round_", range(4))
def test_a_series_of_rows_that_are_written_once(copy: Copy, round_: int) -> None:
    """Rows that are new, and such that were there or are deleted by what was there: one batch."""
    rolled = random.Random(_seed() + round_)
    model, copied = Model(), [e for e in series(rolled, 200, _NOW) if isinstance(e, Cell)]
    copy.copied(copied)
    for cell in copied:
        model.take(cell)
    assert copy.rows() == model.rows(_NOW) != []
    for _ in range(12):
        batch = series(rolled, rolled.randrange(1, 60), _NOW)
        rolled.shuffle(batch)
        copy.apply(batch)
        for event in batch:
            model.take(event)
        assert copy.rows() == model.rows(_NOW)
        if rolled.random() < 0.1:
            copy.store.rewrite(TABLE)
    copy.clock.now += timedelta(microseconds=5)
    copy.store.maintain()
    assert copy.rows() == model.rows(_NOW + 5) != model.rows(_NOW)


def test_a_row_with_an_empty_key_is_there_once(copy: Copy) -> None:
    """The source has an empty value where a number would be, and it is shown as NULL."""
    own = [replace(c, nullable=c.name not in {"p", "c"}) for c in SCHEMA.columns if not c.shared]
    schema = replace(SCHEMA, columns=tuple(own))
    copy.store.copy_again(TABLE, "by a test")
    copy.store.start_copy(schema, "f", Position("1"))
    copy.store.finish_copy(TABLE, _covers, 5)
    for time, value in ((3, "x"), (4, "y"), (2, "")):
        there = [Cell((1, None), A, None, time, value), Cell((1, 2), A, None, time, value)]
        copy.apply_changes(changes(list(there), schema))
    assert copy.values("SELECT p, c, a FROM {}") == [(1, 2, "y"), (1, None, "y")]


def test_changes_while_it_is_paused_come_later(copy: Copy) -> None:
    """As for any other table."""
    rolled, model = random.Random(7), Model()
    copy.copied([])
    copy.store.set_state(TABLE, TableState.PAUSED, "by a test")
    for event in (found := events(rolled, 60, _NOW)):
        model.take(event)
    copy.apply(found)
    assert copy.rows() == []
    copy.store.set_state(TABLE, TableState.FOLLOWING, "")
    assert copy.rows() == model.rows(_NOW) != []


def test_a_new_copy_begins_with_nothing(copy: Copy) -> None:
    """Cells of an earlier copy do not come again."""
    copy.copied(events(random.Random(3), 60, _NOW))
    assert copy.rows()
    copy.store.copy_again(TABLE, "it was truncated")
    copy.copied([])
    assert copy.rows() == []


def test_rows_do_not_leave_the_hot_store(copy: Copy) -> None:
    """It is refused by name, and the table goes on."""
    copy.copied([])
    with pytest.raises(StoreError, match="kept cell by cell"):
        copy.store.retain(TABLE, Horizon(4, 0))
    with pytest.raises(StoreError, match="kept cell by cell"):
        copy.store.begin_run("run", {TABLE: 0}, {TABLE: 4})
    assert copy.store.catalog.readable(TABLE) == SCHEMA


def test_a_new_column_comes_with_its_cells(copy: Copy) -> None:
    """What was written before stays, and the next compaction keeps both."""
    rolled, model = random.Random(11), Model()
    copy.copied([])
    found = events(rolled, 80, _NOW)
    copy.apply(found)
    for event in found:
        model.take(event)
    wider = replace(SCHEMA, columns=(*SCHEMA.columns, Column("z", SqlType("text", 25), 7)))
    copy.apply_changes(SchemaChange(wider, faithful=True))
    assert copy.rows() == model.rows(_NOW) != []
    at = next((p, c) for p, c, *_ in model.rows(_NOW) if c is not None)
    watcher = Watcher(copy.store, TABLE, Asked(table_query(wider)))
    copy.apply_changes(changes([Cell(at, 7, None, 200, "new")], wider))
    assert next(row for row in watcher.taken(copy.store) if row[6] is not None)[:2] == at
    for _ in range(2):
        assert copy.rows() == model.rows(_NOW)
        assert copy.values("SELECT p, c, z FROM {} WHERE z IS NOT NULL") == [(*at, "new")]
        copy.store.rewrite(TABLE)


def test_a_new_column_comes_with_its_cells_while_it_is_paused(copy: Copy) -> None:
    """As soon as it goes on."""
    copy.copied([])
    wider = replace(SCHEMA, columns=(*SCHEMA.columns, Column("z", SqlType("text", 25), 7)))
    copy.store.set_state(TABLE, TableState.PAUSED, "by a test")
    copy.apply_changes(SchemaChange(wider, faithful=True))
    copy.apply_changes(
        changes([Cell((1, 1), N, None, 3, "7"), Cell((1, 1), 7, None, 3, "z")], wider)
    )
    copy.store.set_state(TABLE, TableState.FOLLOWING, "")
    assert copy.values("SELECT p, c, n, z FROM {}") == [(1, 1, 7, "z")]
    assert copy.records() == 1


def test_what_one_write_says_is_one_record(copy: Copy) -> None:
    """Cells of an INSERT take one record; so do they after each of them came alone."""
    insert: list[Event] = [Cell((1, 1), A, None, 3, "x"), Cell((1, 1), N, None, 3, "7")]
    insert.append(Cell((1, 1), None, None, 3, ""))
    copy.copied([])
    copy.apply(insert)
    assert copy.records() == 1
    copy.apply(insert[:1])
    copy.apply(insert[1:])
    assert copy.records() == 3
    copy.store.rewrite(TABLE)
    assert copy.records() == 1
    assert copy.rows() == [(1, 1, None, "x", 7, None)]
