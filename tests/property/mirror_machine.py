"""A mirror of a source in memory under random histories: what the machines have in common.

The real Mirror with its threads over the real store; the source is the one in memory; the model is
that source's own dict. A crash ends the thread at a failpoint; the store is closed and opened
again.

Hypothesis draws which rules a history has, and one seed. All else comes from that seed, since what
threads do must not change what is drawn next.
"""

from __future__ import annotations

import gc
import itertools
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as with_seed
from hypothesis.errors import FlakyStrategyDefinition, HypothesisException
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from htapkit import failpoints
from htapkit.errors import CatalogChanged
from htapkit.hot import HotLimits, HotStore, Read, table_query
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
CRASHES = tuple(name for name in failpoints.MIRROR if name != "chunk.written")
# A thread, or all of it, dies by an exception, and nothing closes what it had open.
DYING = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
SECONDS = 60.0  # for all of it to be applied, on a busy machine
Row = tuple[object, ...]
reached: Counter[str] = Counter()
ran: Counter[str] = Counter()
_failed: list[Exception] = []  # in the histories of this run


class MirrorMachine(RuleBasedStateMachine):
    """Rules are what a user of the source, and fate, may do."""

    schemas: ClassVar[Mapping[TableId, TableSchema]] = SCHEMAS

    def __init__(self) -> None:
        """A source with two tables, and a mirror of it."""
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.server = Server("mem", dict(self.schemas))
        self.source = MemorySource(self.server)
        self.values = itertools.count(1)
        self.chance = random.Random(0)
        self.crashed = False
        self.open()

    @initialize(seed=st.integers(0, 2**64 - 1))
    def seed(self, seed: int) -> None:
        """All that chance decides in this history, but for its rules."""
        self.chance.seed(seed)

    def open(self) -> None:
        """Start, or start again after a crash."""
        self.crashed = False
        folder = Path(self.folder.name)
        self.store = HotStore(folder / "hot.duckdb", HotLimits(), warehouse=str(folder))
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
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, HypothesisException):
            _failed.append(error)
        try:
            if error is None:
                self.compare()
        except Exception as late:
            _failed.append(late)
            raise
        finally:
            self.close()
            self.folder.cleanup()

    @rule()
    def commit(self) -> None:
        """One transaction of a few changes over both tables."""
        ran["commit"] += 1
        self.write(self.chance.randint(1, 4))

    def write(self, count: int) -> None:
        """Commit some changes, each of which sees those before it."""
        rows = {table: dict(found) for table, found in self.server.rows.items()}
        events = []
        for _ in range(count):
            event = self._change(rows)
            width = len(self.schemas[event.table].key)
            rows[event.table].pop(event.before or event.row[:width], None)
            if event.op is not Op.DELETE:
                rows[event.table][event.row[:width]] = event.row
            events.append(event)
        self.server.commit(*events)

    def _change(self, now: dict[TableId, dict[Row, Row]]) -> RowEvent:
        table = self.one_table()
        key, moved = self._key(table), self._key(table)
        rows, row = now[table], self.row(table, key, next(self.values))
        if key not in rows:
            return RowEvent(table, Op.INSERT, row)
        kind = self.chance.choice(["update", "delete", "move"])
        if kind == "delete":
            return RowEvent(table, Op.DELETE, rows[key])
        if kind == "move" and moved not in rows and moved != key:
            return RowEvent(table, Op.UPDATE, (*moved, *row[len(key) :]), before=key)
        return RowEvent(table, Op.UPDATE, row)

    def one_table(self) -> TableId:
        """Either."""
        return self.chance.choice([ITEMS, PARTS])

    def _key(self, table: TableId) -> Row:
        if table == ITEMS:
            return (self.chance.randint(0, 6),)
        return (self.chance.randint(0, 2), self.chance.choice("xyz"))

    def row(self, table: TableId, key: Row, value: int) -> Row:
        """A row of a table: its key comes first, what changes last."""
        return (*key, f"v{value}" if table == ITEMS else value)

    @rule()
    def truncate(self) -> None:
        """A table emptied, and a row after it in the same transaction."""
        ran["truncate"] += 1
        table, key = self.one_table(), self.chance.randint(7, 9)
        row = self.row(table, (key,) if table == ITEMS else (key, "t"), next(self.values))
        self.server.commit(TruncateEvent(table), RowEvent(table, Op.INSERT, row))

    @rule()
    def rewrite(self) -> None:
        """Rows change without events: only the catalog tells."""
        ran["rewrite"] += 1
        table = self.one_table()
        with self.server.changed:
            rows = self.server.rows[table]
            for key in list(rows):
                rows[key] = (*rows[key][:-1], "r" if table == ITEMS else -1)
            self.server.generation[table] = self.server.generation.get(table, 0) + 1
        self.settle()

    @rule()
    def copy_again(self) -> None:
        """The user asks for a new copy."""
        ran["copy_again"] += 1
        self.mirror.copy_again(self.one_table(), "asked")

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
        row = self.row(ITEMS, (next(self.values) + 100,), 0)
        self.server.commit(RowEvent(ITEMS, Op.INSERT, row))
        self.close()
        self.source.lost_before = len(self.server.log)
        self.open()

    @rule()
    def crash(self) -> None:
        """Die at a named place, then start again."""
        ran["crash"] += 1
        self.crash_at(self.chance.choice(CRASHES), self.chance.randint(1, 2))

    def crash_at(self, name: str, after: int) -> None:
        """Die there, at this time that it is reached."""
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
        for _ in range(after):
            if name.startswith("copy."):
                self.mirror.copy_again(self.one_table(), "asked")
            elif name == "follow.opened":
                self.close()
                self.open()
            self.write(1)
            wait_until(
                lambda: self.crashed or self.settled(),
                SECONDS,
                lambda: f"{name}: {self.mirror.report()}",
            )
            if self.crashed:
                break
        failpoints.arm(None)
        self.close()
        self.open()

    def settle(self) -> None:
        """Wait until all that was committed is applied, and every table followed."""
        wait_until(self.settled, SECONDS, lambda: str(self.mirror.report()))

    def settled(self) -> bool:
        """Whether all that was committed is applied, and every table followed."""
        report = self.mirror.report()
        if not report.ready:
            return False
        applied = self.store.applied("mem").position
        return applied is not None and int(applied) >= len(self.server.log)

    @invariant()
    def compare(self) -> None:
        """Every table, each row once."""
        wait_until(
            self._same,
            SECONDS,
            lambda: f"{self.mirror.report()} {self._rows()} at the source {self.server.rows}",
        )

    def _same(self) -> bool:
        expected = {table: sorted(self.expected(table), key=repr) for table in self.schemas}
        try:
            return self.settled() and self._rows() == expected
        except CatalogChanged:
            return False  # it is copied again

    def expected(self, table: TableId) -> list[Row]:
        """The rows that the copy must have."""
        return list(self.server.rows[table].values())

    def _rows(self) -> dict[TableId, list[Row]]:
        found = {}
        for table in self.schemas:
            with self.read(table) as read:
                rows = [
                    tuple(row.values()) for batch in read.batches() for row in batch.to_pylist()
                ]
            found[table] = sorted(rows, key=repr)
        return found

    def read(self, table: TableId) -> Read:
        """All rows of the copy of a table."""
        return self.store.read(table_query(self.schemas[table]))


def run_machine(machine: type[MirrorMachine], examples: int, steps: int, seed: int) -> None:
    """Run random histories; the seed is printed, and what happened how often."""
    print(f"seed {seed}")
    _failed.clear()
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        database=None,
        # Threads and time make a shorter history another one: what failed is shown as it was.
        phases=(Phase.generate,),
    )
    try:
        run_state_machine_as_test(with_seed(seed)(machine), settings=chosen)
    except FlakyStrategyDefinition as other:
        # A history that failed and, run again, did not: the failure is what counts.
        raise _failed[0] if _failed else other from None
    gc.collect()  # what the dead left open is collected here, not in another test
    print(f"rules: {dict(ran)}; crashes: {dict(reached)}")
