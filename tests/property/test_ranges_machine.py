"""Random histories with crashes, of tables that are copied range by range while their keys change.

The copy always equals the source at its position.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis.stateful import rule

from htapkit import failpoints
from htapkit.hot import HotLimits, HotStore
from htapkit.ingest import Mirror, MirrorOptions
from htapkit.metrics import Metrics
from htapkit.model import Op
from htapkit.testing.memory import Event, RowEvent, TruncateEvent
from tests.property.mirror_machine import DYING, ITEMS, MirrorMachine, ran, reached, run_machine

CRASHES = (*failpoints.RANGES * 3, "copy.snapshot", "copy.loaded", "copy.replayed")


@pytest.fixture(autouse=True)
def _counts() -> Iterator[None]:
    reached.clear()
    ran.clear()
    yield
    failpoints.arm(None)


class RangesMachine(MirrorMachine):
    """Every table of more than two rows is cut, and changes whenever a range is read."""

    def open(self) -> None:
        """Start, or start again after a crash."""
        if not self.server.log:
            events = [RowEvent(ITEMS, Op.INSERT, (key, f"v{key}")) for key in range(7)]
            self.server.commit(*events)
        self.crashed = False
        self.disturbing = random.Random(len(self.server.log))
        self.source.during_copy = self.disturb
        folder = Path(self.folder.name)
        self.store = HotStore(folder / "hot.duckdb", HotLimits(), warehouse=str(folder))
        options = MirrorOptions(watch_interval_seconds=0.05, snapshot_readers=1, range_rows=2)
        self.mirror = Mirror("mem", self.source, self.store, Metrics(), options)
        self.mirror.start()

    def write(self, count: int) -> None:
        """Not while a range is read, whose disturbance would come in between."""
        with self.server.changed:
            super().write(count)

    def disturb(self) -> None:
        """A row goes to another key, or seldom all go."""
        with self.server.changed:
            rows = self.server.rows[ITEMS]
            free = [(key,) for key in range(7) if (key,) not in rows]
            if not rows or not free or self.disturbing.random() < 0.3:
                return
            event: Event = TruncateEvent(ITEMS)
            if self.disturbing.random() < 0.95:
                old, new = self.disturbing.choice(list(rows)), self.disturbing.choice(free)
                event = RowEvent(ITEMS, Op.UPDATE, (*new, *rows[old][1:]), before=old)
            self.server.commit(event)

    @rule()
    def crash_in_a_copy(self) -> None:
        """Die while ranges are copied, of which there are some."""
        with self.server.changed:
            rows = self.server.rows[ITEMS]
            events = [RowEvent(ITEMS, Op.INSERT, (k, "r")) for k in range(7) if (k,) not in rows]
            if events:
                self.server.commit(*events)
        self.crash_at(self.chance.choice(CRASHES), self.chance.randint(1, 3))


@DYING
def test_random_histories_of_ranges() -> None:
    """A quick walk; the long one is below."""
    for _ in range(40):  # which rules a history has is left to chance
        run_machine(RangesMachine, examples=10, steps=14, seed=random.randrange(2**32))
        if reached["copy.range"]:
            break
    assert reached["copy.range"] > 0, reached


@pytest.mark.long
@pytest.mark.timeout(1200)
@DYING
def test_long_random_histories_of_ranges() -> None:
    """Many crashes after a finished range."""
    for _ in range(100):
        run_machine(RangesMachine, examples=15, steps=20, seed=random.randrange(2**32))
        if reached["copy.range"] >= 50:
            break
    assert reached["copy.range"] >= 50, reached
