"""A mirror of a source in memory under random histories: what the machines have in common.

The real Mirror with its threads over the real store; the source is the one in memory; the model is
that source's own dict. A crash ends the thread at a failpoint; the store is closed and opened
again.
"""

from __future__ import annotations

import gc
import itertools
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as with_seed
from hypothesis.errors import FlakyStrategyDefinition, HypothesisException
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
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
        self.crashed = False
        self.open()

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
        _note(sys.exception())
        try:
            if self.crashed:
                self.close()
                self.open()
            self.compare()
            self.close()
        except Exception as error:
            _note(error)
            raise
        finally:
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
            width = len(self.schemas[event.table].key)
            rows[event.table].pop(event.before or event.row[:width], None)
            if event.op is not Op.DELETE:
                rows[event.table][event.row[:width]] = event.row
            events.append(event)
        self.server.commit(*events)

    def _change(self, data: st.DataObject, now: dict[TableId, dict[Row, Row]]) -> RowEvent:
        value = next(self.values)
        if data.draw(st.booleans()):
            key: Row = (data.draw(st.integers(0, 6)),)
            table = ITEMS
            moved: Row = (data.draw(st.integers(0, 6)),)
        else:
            key = (data.draw(st.integers(0, 2)), data.draw(st.sampled_from("xyz")))
            table = PARTS
            moved = (data.draw(st.integers(0, 2)), data.draw(st.sampled_from("xyz")))
        rows, row = now[table], self.row(data, table, key, value)
        if key not in rows:
            return RowEvent(table, Op.INSERT, row)
        kind = data.draw(st.sampled_from(["update", "delete", "move"]))
        if kind == "delete":
            return RowEvent(table, Op.DELETE, rows[key])
        if kind == "move" and moved not in rows and moved != key:
            return RowEvent(table, Op.UPDATE, (*moved, *row[len(key) :]), before=key)
        return RowEvent(table, Op.UPDATE, row)

    def row(self, _: st.DataObject, table: TableId, key: Row, value: int) -> Row:
        """A row of a table: its key comes first, what changes last."""
        return (*key, f"v{value}" if table == ITEMS else value)

    @rule(data=st.data(), table=st.sampled_from([ITEMS, PARTS]), key=st.integers(7, 9))
    def truncate(self, data: st.DataObject, table: TableId, key: int) -> None:
        """A table emptied, and a row after it in the same transaction."""
        ran["truncate"] += 1
        row = self.row(data, table, (key,) if table == ITEMS else (key, "t"), next(self.values))
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
        wait_until(self.settled, 20, lambda: str(self.mirror.report()))

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

    @rule(data=st.data())
    def position_lost(self, data: st.DataObject) -> None:
        """The source forgot what we had not confirmed."""
        ran["position_lost"] += 1
        row = self.row(data, ITEMS, (next(self.values) + 100,), 0)
        self.server.commit(RowEvent(ITEMS, Op.INSERT, row))
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
            lambda: self.crashed or self.settled(), 20, lambda: f"{name}: {self.mirror.report()}"
        )
        failpoints.arm(None)
        self.close()
        self.open()

    def spread(self, names: Sequence[str], drawn: str) -> str:
        """One of the places to die at, moved on from `drawn` by what this history had so far.

        What Hypothesis draws is far from even within one run.
        """
        return names[(names.index(drawn) + next(self.values)) % len(names)]

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
        if self.crashed:
            return
        wait_until(
            self._same,
            20,
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


def _note(error: BaseException | None) -> None:
    if isinstance(error, Exception) and not isinstance(error, HypothesisException):
        _failed.append(error)


def run_machine(machine: type[MirrorMachine], examples: int, steps: int, seed: int) -> None:
    """Run random histories; the seed is printed, and what happened how often.

    What is drawn next depends on threads, too, so two histories that begin alike may part. Where
    Hypothesis minds that, the run ends there: whoever wants so many steps asks for another one.
    """
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
    except FlakyStrategyDefinition as parted:
        if _failed:
            raise _failed[0] from parted
        print("two histories that began alike parted; the run ends")
    gc.collect()  # what the dead left open is collected here, not in another test
    print(f"rules: {dict(ran)}; crashes: {dict(reached)}")
