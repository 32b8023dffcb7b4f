"""Ten thousand steps of random histories over hot and lake, in one thread: each row once.

The rules and the model are those of the machine with threads; the mirror does its work when it is
asked. Every rule runs, and every named place is where the process dies, at least fifty times.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis.stateful import precondition, rule

from htapkit import failpoints
from htapkit.hot import HotLimits, HotStore
from htapkit.metrics import Metrics
from htapkit.model import Op, TableId
from htapkit.testing.memory import RowEvent
from htapkit.tier import Upkeep
from tests.property.inline_mirror import InlineMirror
from tests.property.mirror_machine import (
    CRASHES,
    DYING,
    ITEMS,
    Row,
    ran,
    reached,
    run_machine,
)
from tests.property.test_tier_machine import PLACES, RULES, TierMachine

STEPS = int(os.environ.get("TIER_STEPS", "10000"))
EACH_MIN = int(os.environ.get("TIER_EACH", "50"))
EVERY_PLACE = (*CRASHES, *PLACES)
STEP_RULES = (*RULES, "compact")


class StepMachine(TierMachine):
    """A mirror that stands still between two steps.

    What has nothing to draw waits for a commit since the last of its kind, or it would be most of a
    history.
    """

    rested = -1

    def open(self) -> None:
        """Start, or start again after a crash: what was left of a run is mended first."""
        self.crashed = False
        folder = Path(self.folder.name)
        limits = HotLimits(memory_bytes=2**28, disk_free_bytes=0)
        self.store = HotStore(folder / "hot.duckdb", limits, warehouse=str(folder))
        self.inline = InlineMirror(self.source, self.store, Metrics())
        self.mirror = self.inline  # type: ignore[assignment]
        self.open_history()

    def close(self) -> None:
        """Leave everything as a dead process would."""
        self.inline.stop()
        self.store.close()
        self.lake.close()

    def settled(self) -> bool:
        """All work that there is, done now. A death on the way is noted by who arranged it."""
        try:
            self.inline.settle()
        except SystemExit:
            return self.crashed
        return True

    @rule()
    @precondition(lambda self: self.rested < len(self.server.log))
    def source_down(self) -> None:
        """The source goes away, which is noticed, and comes back."""
        ran["source_down"] += 1
        self.rested = len(self.server.log)
        self.server.up = False
        self.inline.settle()
        self.server.up = True

    def crash_at(self, name: str, after: int) -> None:
        """Die there, some commits later, then start again."""
        self.settled()
        left = 1 if name.startswith(("copy.", "follow.")) else after
        table = self.one_table()

        def die(place: str) -> None:
            nonlocal left
            if place == "copy.snapshot" and place != name:
                self._commit_meanwhile(table)  # or there would be nothing to replay
            left -= place == name
            if left == 0:
                reached[name] += 1
                self.crashed = True
                raise SystemExit

        failpoints.arm(die)
        if name.startswith("copy."):
            self.mirror.copy_again(table, "asked")
        elif name == "follow.opened":
            self.inline.stop()
        for _ in range(after):
            self.write(1)
            if not self.crashed:
                self.settled()
        failpoints.arm(None)
        assert self.crashed, f"{name} was not reached"
        self.close()
        self.open()

    def _commit_meanwhile(self, table: TableId) -> None:
        """A row that the snapshot does not have, which comes while its table is copied."""
        number = next(self.values) + 100
        key: Row = (number,) if table == ITEMS else (number, "z")
        self.server.commit(RowEvent(table, Op.INSERT, self.row(table, key, number)))
        self.inline.apply()

    @rule()
    @precondition(lambda self: self.rested < len(self.server.log))
    def expire(self) -> None:
        """Remove versions that nobody is held to, however young."""
        ran["expire"] += 1
        self.rested = len(self.server.log)
        self.settled()
        Upkeep(self.store, self.lake, 0.0).expire(sorted(self.lake.tables()), lambda *_: None)

    @rule()
    @precondition(lambda self: self.rested < len(self.server.log))
    def compact(self) -> None:
        """Join small files."""
        ran["compact"] += 1
        self.rested = len(self.server.log)
        self.settled()
        kept = Upkeep(self.store, self.lake, 0.0)
        kept.compact(kept.tables(), lambda *_: None)


@pytest.fixture(autouse=True)
def _counts() -> Iterator[None]:
    reached.clear()
    ran.clear()
    yield
    failpoints.arm(None)


def _walk(steps: int, wanted: int, examples: int) -> tuple[Counter[str], Counter[str]]:
    """Histories of so many steps in all, and more until each rule and place had so many.

    The first example of a run is Hypothesis's simplest, one rule over and over: it takes several.
    """
    rules: Counter[str] = Counter()
    places: Counter[str] = Counter()
    begun = time.monotonic()
    while (
        sum(rules[name] for name in STEP_RULES) < steps
        or min(rules[name] for name in STEP_RULES) < wanted
        or min(places[name] for name in EVERY_PLACE) < wanted
    ):
        run_machine(StepMachine, examples=examples, steps=50, seed=random.randrange(2**32))
        rules += ran
        places += reached
        ran.clear()
        reached.clear()
    seconds = time.monotonic() - begun
    done = sum(rules[name] for name in STEP_RULES)
    print(f"{done} steps, {done / seconds:.0f} a second: {dict(rules)}; deaths: {dict(places)}")
    return rules, places


@DYING
def test_some_steps() -> None:
    """A quick walk."""
    _, places = _walk(100, 0, 4)
    assert places, "nothing ever died"


@pytest.mark.long
@pytest.mark.timeout(1800)
@DYING
def test_long_ten_thousand_steps() -> None:
    """With the counts demanded."""
    rules, places = _walk(STEPS, EACH_MIN, 20)
    assert sum(rules[name] for name in STEP_RULES) >= STEPS
    assert min(rules[name] for name in STEP_RULES) >= EACH_MIN, rules
    assert min(places[name] for name in EVERY_PLACE) >= EACH_MIN, places
