"""Random histories with crashes at every named place.

The copy always equals the source at its position.

The real Mirror with its threads over the real store; the source is the one in memory; the model is
that source's own dict. A crash ends the thread at a failpoint; the store is closed and opened
again.
"""

from __future__ import annotations

import itertools
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as with_seed
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from htapkit import failpoints
from htapkit.hot import HotLimits, HotStore
from htapkit.ingest import Mirror, MirrorOptions
from htapkit.metrics import Metrics
from htapkit.model import Column, Op, SqlType, TableId, TableSchema
from htapkit.testing.memory import MemorySource, RowEvent, Server, TruncateEvent
from htapkit.testing.stack import wait_until

ITEMS = TableId("mem", "public", "items")
PARTS = TableId("mem", "public", "parts")
_INT = SqlType("int4", 23)
_TEXT = SqlType("text", 25)
SCHEMAS = {
    ITEMS: TableSchema(ITEMS, (Column("id", _INT, 1), Column("v", _TEXT, 2)), ("id",)),
    PARTS: TableSchema(
        PARTS, (Column("a", _INT, 1), Column("b", _TEXT, 2), Column("n", _INT, 3)), ("a", "b")
    ),
}
CRASHES = tuple(name for name in failpoints.NAMES if name != "chunk.written")
DYING = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
reached: Counter[str] = Counter()
ran: Counter[str] = Counter()


class MirrorMachine(RuleBasedStateMachine):
    """Rules are what a user of the source, and fate, may do."""

    def __init__(self) -> None:
        """A source with two tables, and a mirror of it."""
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.server = Server("mem", dict(SCHEMAS))
        self.source = MemorySource(self.server)
        self.values = itertools.count(1)
        self.crashed = False
        self.open()

    def open(self) -> None:
        """Start, or start again after a crash."""
        self.crashed = False
        self.store = HotStore(Path(self.folder.name) / "hot.duckdb", HotLimits())
        options = MirrorOptions(watch_interval_seconds=0.05, snapshot_readers=1)
        self.mirror = Mirror("mem", self.source, self.store, Metrics(), options)
        self.mirror.start()

    def close(self) -> None:
        """Stop without tidying up more than a dead process would."""
        self.mirror.stop()
        self.store.close()

    def teardown(self) -> None:
        """The last comparison, then remove everything."""
        failpoints.arm(None)
        if self.crashed:
            self.close()
            self.open()
        self.compare()
        self.close()
        self.folder.cleanup()

    @rule(data=st.data(), count=st.integers(1, 4))
    def commit(self, data: st.DataObject, count: int) -> None:
        """One transaction of a few changes over both tables."""
        ran["commit"] += 1
        self.write(data, count)

    def write(self, data: st.DataObject, count: int) -> None:
        """Commit some changes, each of which sees those before it."""
        rows = {table: dict(found) for table, found in self.server.rows.items()}
        events = []
        for _ in range(count):
            event = self._change(data, rows)
            width = len(SCHEMAS[event.table].key)
            rows[event.table].pop(event.before or event.row[:width], None)
            if event.op is not Op.DELETE:
                rows[event.table][event.row[:width]] = event.row
            events.append(event)
        self.server.commit(*events)

    def _change(
        self, data: st.DataObject, now: dict[TableId, dict[tuple[object, ...], tuple[object, ...]]]
    ) -> RowEvent:
        value = next(self.values)
        if data.draw(st.booleans()):
            key: tuple[object, ...] = (data.draw(st.integers(0, 6)),)
            table, row = ITEMS, (*key, f"v{value}")
            moved: tuple[object, ...] = (data.draw(st.integers(0, 6)),)
        else:
            key = (data.draw(st.integers(0, 2)), data.draw(st.sampled_from("xyz")))
            table, row = PARTS, (*key, value)
            moved = (data.draw(st.integers(0, 2)), data.draw(st.sampled_from("xyz")))
        rows = now[table]
        if key not in rows:
            return RowEvent(table, Op.INSERT, row)
        kind = data.draw(st.sampled_from(["update", "delete", "move"]))
        if kind == "delete":
            return RowEvent(table, Op.DELETE, rows[key])
        if kind == "move" and moved not in rows and moved != key:
            return RowEvent(table, Op.UPDATE, (*moved, *row[len(key) :]), before=key)
        return RowEvent(table, Op.UPDATE, row)

    @rule(table=st.sampled_from([ITEMS, PARTS]), key=st.integers(7, 9))
    def truncate(self, table: TableId, key: int) -> None:
        """A table emptied, and a row after it in the same transaction."""
        ran["truncate"] += 1
        row = (key, "t") if table == ITEMS else (key, "t", 1)
        self.server.commit(TruncateEvent(table), RowEvent(table, Op.INSERT, row))

    @rule(table=st.sampled_from([ITEMS, PARTS]))
    def rewrite(self, table: TableId) -> None:
        """Rows change without events: only the catalog tells."""
        ran["rewrite"] += 1
        with self.server.changed:
            rows = self.server.rows[table]
            for key in list(rows):
                rows[key] = (*rows[key][:-1], "r" if table == ITEMS else -1)
            self.server.generation[table] = self.server.generation.get(table, 0) + 1
        wait_until(self._settled, 20, lambda: str(self.mirror.report()))

    @rule(table=st.sampled_from([ITEMS, PARTS]))
    @precondition(lambda self: not self.crashed)
    def copy_again(self, table: TableId) -> None:
        """The user asks for a new copy."""
        ran["copy_again"] += 1
        self.mirror.copy_again(table, "asked")

    @rule()
    def source_down(self) -> None:
        """The source goes away and comes back."""
        ran["source_down"] += 1
        for up in (False, True):
            with self.server.changed:
                self.server.up = up
                self.server.changed.notify_all()

    @rule()
    def position_lost(self) -> None:
        """The source forgot what we had not confirmed."""
        ran["position_lost"] += 1
        self.server.commit(RowEvent(ITEMS, Op.INSERT, (next(self.values) + 100, "lost")))
        self.close()
        self.source.lost_before = len(self.server.log)
        self.open()

    @rule(name=st.sampled_from(CRASHES), after=st.integers(1, 2), data=st.data())
    def crash(self, name: str, after: int, data: st.DataObject) -> None:
        """Die at a named place, then start again."""
        ran["crash"] += 1
        left = after

        def die(place: str) -> None:
            nonlocal left
            if place == name:
                left -= 1
                if left == 0:
                    reached[name] += 1
                    self.crashed = True
                    raise SystemExit

        failpoints.arm(die)
        if name.startswith("copy."):
            self.mirror.copy_again(data.draw(st.sampled_from([ITEMS, PARTS])), "asked")
        elif name == "follow.opened":
            self.close()
            self.open()
        for _ in range(after):
            self.write(data, 1)
        wait_until(
            lambda: self.crashed or self._settled(), 20, lambda: f"{name}: {self.mirror.report()}"
        )
        failpoints.arm(None)
        self.close()
        self.open()

    def _settled(self) -> bool:
        report = self.mirror.report()
        if not report.ready:
            return False
        applied = self.store.applied("mem").position
        return applied is not None and int(applied) >= len(self.server.log)

    @invariant()
    def compare(self) -> None:
        """Every table, each row once."""
        if self.crashed:
            return
        wait_until(
            self._same,
            20,
            lambda: f"{self.mirror.report()} {self._rows()} at the source {self.server.rows}",
        )

    def _same(self) -> bool:
        return self._settled() and self._rows() == {
            table: sorted(self.server.rows[table].values()) for table in SCHEMAS
        }

    def _rows(self) -> dict[TableId, list[tuple[object, ...]]]:
        found = {}
        for table in SCHEMAS:
            with self.store.read(f'SELECT * FROM "mem.public"."{table.name}" ORDER BY ALL') as read:
                found[table] = [
                    tuple(row.values()) for batch in read.batches() for row in batch.to_pylist()
                ]
        return found


@pytest.fixture(autouse=True)
def _counts() -> Iterator[None]:
    reached.clear()
    ran.clear()
    yield
    failpoints.arm(None)


def _run(examples: int, steps: int, seed: int) -> None:
    print(f"seed {seed}")
    run_state_machine_as_test(
        with_seed(seed)(MirrorMachine),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            database=None,
            # Threads and time make a shorter history another one: what failed is shown as it was.
            phases=(Phase.generate,),
        ),
    )
    print(f"rules: {dict(ran)}; crashes: {dict(reached)}")


@DYING
def test_random_histories_with_crashes() -> None:
    """A quick walk; the long one is below."""
    _run(examples=12, steps=12, seed=random.randrange(2**32))
    assert sum(reached.values()) >= 3, f"too few crashes to say anything: {reached}"


@pytest.mark.long
@pytest.mark.timeout(1200)
@DYING
def test_long_random_histories_with_crashes() -> None:
    """Every failpoint at least ten times."""
    total: Counter[str] = Counter()
    for _ in range(20):
        _run(examples=15, steps=20, seed=random.randrange(2**32))
        total += reached
        if all(total[name] >= 10 for name in CRASHES):
            break
        reached.clear()
    print(f"crashes in all: {dict(total)}")
    assert all(total[name] >= 10 for name in CRASHES), total
