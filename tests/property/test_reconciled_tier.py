"""Tables without transactions in hot and lake: whatever comes late or twice, one result.

Each row is in one of the two, and what is read is what a dict gives that merges all writes: through
runs, late writes, deletions, ends, repetition, compaction, retention, new copies and deaths.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as with_seed
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from htapkit import failpoints
from htapkit.errors import CatalogChanged, StoreFailed
from htapkit.model import Horizon, TableState
from htapkit.tier import Upkeep
from tests.property.reconciled_model import Event
from tests.property.tiered_cells import DAYS, Copy, insert
from tests.property.timed_cells import AT, TABLE, line, timed

PLACES = (*failpoints.TIER, *failpoints.RETENTION)
ran: Counter[str] = Counter()
wanted: list[str] = []
"""The places at which it has seldom died."""


class _Died(BaseException):
    """The process is gone."""


class CellsMachine(RuleBasedStateMachine):
    """What the source, time and fate do. Hypothesis draws the rules, and one seed for all else."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.chance = random.Random(0)
        self.copy = Copy(Path(self.folder.name))

    @initialize(seed=st.integers(0, 2**64 - 1))
    def seed(self, seed: int) -> None:
        """All that chance decides in this history, but for its rules."""
        self.chance.seed(seed)
        if self.chance.random() < 0.5:
            self.copy.watch()
        self.write()

    def teardown(self) -> None:
        """Whatever it ended with."""
        failpoints.arm(None)
        self.copy.close()
        self.folder.cleanup()

    def some(self, most: int) -> list[Event]:
        """New ones, and some that were there before."""
        now = int(self.copy.now.timestamp() * 1_000_000)
        found = timed(self.chance, self.chance.randint(1, most), now)
        if self.copy.sent and self.chance.random() < 0.3:
            found += self.chance.choices(self.copy.sent, k=self.chance.randint(1, 9))
        self.chance.shuffle(found)
        return found

    @rule()
    def write(self) -> None:
        """A batch or a few."""
        ran["write"] += 1
        for _ in range(self.chance.randint(1, 3)):
            self.copy.apply(self.some(12))

    @rule()
    def insert_many(self) -> None:
        """Whole rows, or the lake would have few; each with one end, or none."""
        ran["insert_many"] += 1
        chance, now = self.chance, int(self.copy.now.timestamp() * 1_000_000)
        found = [
            insert(
                chance.randint(0, 5),
                chance.randint(0, 4),
                chance.randint(1, 11),
                end=chance.choice([None, now - 1, now + 1, now + 5, now + 20]),
            )
            for _ in range(8)
        ]
        self.copy.apply([event for row in found for event in row])

    @rule()
    def repair(self) -> None:
        """Much of what was ever written comes again."""
        ran["repair"] += 1
        sent = self.copy.sent
        self.copy.apply(self.chance.sample(sent, k=self.chance.randint(0, len(sent))))

    @rule()
    def late_while_the_lake_is_away(self) -> None:
        """The batch comes again."""
        found = self.some(12)
        self.copy.looked.away = True
        try:
            self.copy.apply(found)
        except StoreFailed:
            ran["late_while_the_lake_is_away"] += 1
            self.copy.position -= 1
            self.copy.looked.away = False
            self.copy.apply(found)
        finally:
            self.copy.looked.away = False

    @rule()
    def time_passes(self) -> None:
        """Some cells end, and rows that lie in the lake."""
        ran["time_passes"] += 1
        self.copy.now += timedelta(microseconds=self.chance.choice([1, 5]))
        self.copy.store.maintain()

    @rule()
    def paused(self) -> None:
        """Changes are kept aside, and come later."""
        ran["paused"] += 1
        self.copy.store.set_state(TABLE, TableState.PAUSED, "by a test")
        self.copy.apply(self.some(12))
        self.copy.store.set_state(TABLE, TableState.FOLLOWING, "")

    @rule()
    def compact(self) -> None:
        """In hot and lake; old versions go."""
        ran["compact"] += 1
        self.copy.store.rewrite(TABLE)
        upkeep = Upkeep(self.copy.store, self.copy.lake, 0.0)
        upkeep.compact(upkeep.tables(), lambda *_: None)
        upkeep.expire(upkeep.tables(), lambda *_: None)

    @rule()
    def copied_again(self) -> None:
        """Of all that the source has."""
        ran["copied_again"] += 1
        self.copy.store.copy_again(TABLE, "asked")
        self.copy.copied(self.copy.sent)

    @rule()
    def tier(self) -> None:
        """Move the line, or fold; something may happen meanwhile."""
        place = self.chance.choice(failpoints.TIER)
        if self._run(_once(place, self._meanwhile)):
            ran["tier"] += 1

    @rule()
    def die_while_tiering(self) -> None:
        """Die at a named place, start again, go on."""
        ran["die_while_tiering"] += 1
        name = self._place(failpoints.TIER)
        with self._death(name):
            self._run(_once(name, _die))
        assert not self.copy.store.runs(), "a run was left behind"

    @rule()
    def retain(self) -> None:
        """Keep the table from a day later on, now and then."""
        if self.chance.random() < 0.2:
            ran["retain"] += 1
            self._retain(_once(self.chance.choice(failpoints.RETENTION), self._meanwhile))

    @rule()
    def die_while_retaining(self) -> None:
        """Die at a named place, start again, go on."""
        name = self._place(failpoints.RETENTION)
        # Something that can leave the lake, so that each place is reached.
        self.copy.apply([e for c in range(DAYS) for e in insert(1, c, 200)])
        with suppress(CatalogChanged):
            self.copy.tier(DAYS)
        with self._death(name):
            self._retain(_once(name, _die))

    @invariant()
    def compare(self) -> None:
        """Each row once, as the dict has it; so has it who was told of each change."""
        assert self.copy.rows() == self.copy.expected()
        watcher = self.copy.watcher
        if watcher is not None:
            before = watcher.entries
            assert self.copy.watched(watcher) == self.copy.expected()
            ran["changes told"] += watcher.entries - before
            if self.chance.random() < 0.3:
                watcher.forget(self.copy.store)
        ran["rows compared"] += len(self.copy.expected())

    def _place(self, names: Sequence[str]) -> str:
        return self.chance.choice([name for name in names if name in wanted] or list(names))

    def _meanwhile(self) -> None:
        what = self.chance.choice(["nothing", "write", "write", "write", "time", "compact", "copy"])
        if what == "write":
            self.copy.apply(self.some(20))
        elif what == "time":
            self.time_passes()
        elif what == "compact":
            self.copy.store.rewrite(TABLE)
        elif what == "copy":
            self.copied_again()

    def _run(self, callback: Callable[[str], None]) -> bool:
        failpoints.arm(callback)
        try:
            self.copy.tier(self.chance.randint(0, DAYS))
        except CatalogChanged:
            ran["a run was void"] += 1
            return False
        finally:
            failpoints.arm(None)
        return True

    def _retain(self, callback: Callable[[str], None]) -> None:
        copy = self.copy
        copy.since = min((copy.since or line(-1)) + line(1) - line(0), line(3))
        failpoints.arm(callback)
        try:
            with suppress(CatalogChanged):
                copy.retention.retain({TABLE: Horizon(AT, copy.since)}, lambda *_: None)
        finally:
            failpoints.arm(None)

    def _death(self, name: str) -> _Death:
        return _Death(self.copy, name)


class _Death:
    """The process dies within, and another one goes on."""

    def __init__(self, copy: Copy, name: str) -> None:
        self._copy = copy
        self._name = name

    def __enter__(self) -> None:
        """Nothing yet."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        if kind is not _Died:
            return False
        ran[self._name] += 1
        self._copy.close()
        self._copy.open()
        return True


def _die() -> None:
    raise _Died


def _once(place: str, act: Callable[[], None]) -> Callable[[str], None]:
    done = False

    def at(name: str) -> None:
        nonlocal done
        if name == place and not done:
            done = True
            act()

    return at


def _walk(examples: int, steps: int) -> None:
    seed = int(os.environ.get("RECONCILED_SEED", "0")) or random.randrange(2**32)
    seldom = ",".join(name for name in PLACES if ran[name] < 2)
    wanted[:] = os.environ.get("RECONCILED_PLACES", seldom).split(",")
    print(f"RECONCILED_SEED={seed} RECONCILED_PLACES={','.join(wanted)}")
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        database=None,
        phases=(Phase.generate,),
    )
    run_state_machine_as_test(with_seed(seed)(CellsMachine), settings=chosen)
    print(dict(ran))


@pytest.fixture(autouse=True)
def _counts() -> Iterator[None]:
    ran.clear()
    yield
    failpoints.arm(None)


_DYING = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@_DYING
def test_random_histories_of_cells_over_hot_and_lake() -> None:
    """A quick walk."""
    for _ in range(20):  # which rules a history has is left to chance
        _walk(examples=4, steps=15)
        if min(ran[name] for name in ("tier", "repair", "die_while_tiering", "changes told")) >= 2:
            return
    pytest.fail(f"too few runs to say anything: {dict(ran)}")


@pytest.mark.long
@pytest.mark.timeout(600)
@_DYING
def test_long_random_histories_of_cells_over_hot_and_lake() -> None:
    """Until the process died twice at each named place, and much else happened."""
    while min(ran[name] for name in (*PLACES, "late_while_the_lake_is_away")) < 2:
        _walk(examples=5, steps=40)
    assert min(ran[name] for name in ("tier", "repair", "copied_again", "paused")) > 5
