"""Random histories of a table that lies in hot and lake: hot UNION lake equals the source.

Ranges move, patches are folded, rows cross the line, tables are emptied, rewritten and copied again
in the middle of a run, and the process dies at every named place.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis.stateful import rule

from htapkit import failpoints
from htapkit.errors import CatalogChanged, StillThere
from htapkit.hot import Read
from htapkit.lake import Lake, LakeSettings
from htapkit.metrics import Metrics
from htapkit.model import Column, Horizon, Layout, Op, SqlType, TableId, TableSchema
from htapkit.query import whole_rows
from htapkit.testing.memory import RowEvent
from htapkit.tier import Erasure, Retention, Rule, Target, Tierer, Upkeep
from tests.property.mirror_machine import (
    DYING,
    ITEMS,
    PARTS,
    MirrorMachine,
    Row,
    ran,
    reached,
    run_machine,
)

_INT, _TEXT = SqlType("int4", 23), SqlType("text", 25)
SCHEMAS = {
    ITEMS: TableSchema(
        ITEMS,
        (Column("id", _INT, 1), Column("at", SqlType("timestamp", 1114), 2), Column("v", _TEXT, 3)),
        ("id",),
    ),
    PARTS: TableSchema(
        PARTS,
        (
            Column("a", _INT, 1),
            Column("b", _TEXT, 2),
            Column("day", SqlType("date", 1082), 3),
            Column("n", _INT, 4),
        ),
        ("a", "b"),
    ),
}
TIMES = {ITEMS: SCHEMAS[ITEMS].columns[1], PARTS: SCHEMAS[PARTS].columns[2]}
PLACES = (*failpoints.TIER, *failpoints.RETENTION, *failpoints.ERASURE)
FIRST = date(2026, 1, 1)
DAYS = 10
DAY_US = 86_400_000_000
FIRST_US = (FIRST - date(1970, 1, 1)).days * DAY_US


class _Died(BaseException):
    """The process is gone."""


class TierMachine(MirrorMachine):
    """A mirror whose tables also lie in a lake."""

    schemas = SCHEMAS

    def __init__(self) -> None:
        """Nothing is too old yet."""
        self.since: dict[TableId, int] = {}
        super().__init__()

    def open(self) -> None:
        """Start, or start again after a crash: what was left of a run is mended first."""
        super().open()
        self.open_history()

    def open_history(self) -> None:
        """The lake, and what works on it."""
        self.lake = Lake(LakeSettings.local(Path(self.folder.name)))
        self.store.use_lake(self.lake)
        self.tierer = Tierer(self.store, self.lake, Metrics(), rows_max=1000)
        self.retention = Retention(self.store, self.lake, Metrics())
        self.erasure = Erasure(self.store, self.lake, self.tierer, self.retention, 0.0)
        self.tierer.recover()

    def read(self, table: TableId) -> Read:
        """Hot and lake."""
        catalog = self.store.catalog
        asked = whole_rows(self.lake.files, catalog, table)
        return self.store.read(asked.sql, catalog_version=catalog.version, lake=asked.lake)

    def row(self, table: TableId, key: Row, value: int) -> Row:
        """With a time now and then that no range holds."""
        day = self.chance.randint(-1, DAYS)
        last = f"v{value}" if table == ITEMS else value
        if day < 0:
            return (*key, None, last)
        at = FIRST + timedelta(days=day)
        if table == PARTS:
            return (*key, at, last)
        hour = time(self.chance.randint(0, 23))
        return (*key, datetime.combine(at, hour), last)

    @rule()
    def tier(self) -> None:
        """Move the line, or fold; something may happen meanwhile."""
        ran["tier"] += 1
        meanwhile = self.chance.choice(["nothing", "write", "truncate", "copy_again"])
        place = self.chance.choice(failpoints.TIER)

        def happen() -> None:
            if meanwhile == "write":
                self.write(self.chance.randint(1, 4))
            elif meanwhile == "truncate":
                self.truncate()
            elif meanwhile == "copy_again":
                self.mirror.copy_again(self.one_table(), "asked")
            self.settle()

        if self._run(self._once(place, happen)):
            ran[f"tier, meanwhile {meanwhile}"] += 1

    @rule()
    def die_while_tiering(self) -> None:
        """Die at a named place, write while nobody looks, start again."""
        ran["die_while_tiering"] += 1
        name = self.chance.choice(failpoints.TIER)

        def die() -> None:
            reached[name] += 1
            raise _Died

        try:
            self._run(self._once(name, die))
        except _Died:
            self.close()
            self.write(self.chance.randint(1, 3))
            self.open()
        assert not self.store.runs(), "a run was left behind"

    @rule()
    def retain(self) -> None:
        """Keep a table from a day later on; something may happen meanwhile."""
        ran["retain"] += 1
        place = self.chance.choice(failpoints.RETENTION)

        def happen() -> None:
            if self.chance.random() < 0.5:
                self.write(self.chance.randint(1, 4))
            else:
                self.mirror.copy_again(self.one_table(), "asked")
            self.settle()

        table = self.one_table()
        days = self._days(table) + self.chance.randint(0, 1)
        self._retain(table, days, self._once(place, happen))

    @rule()
    def die_while_retaining(self) -> None:
        """Die at a named place, write while nobody looks, start again."""
        ran["die_while_retaining"] += 1
        name = self.chance.choice(failpoints.RETENTION)

        def die() -> None:
            reached[name] += 1
            raise _Died

        # Something that can leave the lake, so that each place is reached.
        table = self.one_table()
        days = self._days(table)
        self._put_at(table, FIRST + timedelta(days=days))
        self.settle()
        with suppress(CatalogChanged):  # a rewrite is noticed only now
            self.tierer.run([self._target(table, days + 2)], lambda *_: None)
        try:
            self._retain(table, days + 1, self._once(name, die))
        except _Died:
            self.close()
            self.write(self.chance.randint(1, 3))
            self.open()

    def _days(self, table: TableId) -> int:
        """The horizon, in days after the first."""
        return (self.since.get(table, FIRST_US) - FIRST_US) // DAY_US

    def _put_at(self, table: TableId, day: date) -> None:
        """A row at the beginning of a day."""
        key: Row = (8,) if table == ITEMS else (8, "t")
        at = datetime.combine(day, time()) if table == ITEMS else day
        value = next(self.values)
        op = Op.UPDATE if key in self.server.rows[table] else Op.INSERT
        last = f"v{value}" if table == ITEMS else value
        self.server.commit(RowEvent(table, op, (*key, at, last)))

    def _retain(self, table: TableId, days: int, callback: Callable[[str], None]) -> None:
        """The model's horizon moves before the store's: nothing that it hides may come back."""
        self.settle()
        since = self.since[table] = FIRST_US + days * DAY_US
        failpoints.arm(callback)
        try:
            horizon = Horizon(TIMES[table].ordinal, since)
            self.retention.retain({table: horizon}, lambda *_: None)
        except CatalogChanged:
            ran["a table changed under retention"] += 1
        finally:
            failpoints.arm(None)

    @rule()
    def erase(self) -> None:
        """What is left of rows with a key that is gone at the source, or that is refused."""
        ran["erase"] += 1
        self._erase(self.one_table(), self.chance.randint(0, 6), None)

    @rule()
    def die_while_erasing(self) -> None:
        """Delete rows, die at a named place while they are erased, start again, do it again."""
        ran["die_while_erasing"] += 1
        name, key = self.chance.choice(failpoints.ERASURE), self.chance.randint(0, 6)
        table = self.one_table()
        rows = [row for row in self.server.rows[table].values() if row[0] == key]
        if rows:
            self.server.commit(*(RowEvent(table, Op.DELETE, row) for row in rows))

        def die() -> None:
            reached[name] += 1
            raise _Died

        try:
            self._erase(table, key, self._once(name, die))
        except _Died:
            self.close()
            self.open()
        self._erase(table, key, None)

    def _erase(self, table: TableId, key: int, callback: Callable[[str], None] | None) -> None:
        """Afterwards no file of the lake has such a row, once what is not read has expired."""
        self.settle()
        there = sum(row[0] == key for row in self.expected(table))
        condition, words = f"{SCHEMAS[table].key[0]} = {key}", ""
        failpoints.arm(callback)
        try:
            self.erasure.erase(table, self._rule, condition, lambda *_: None)
        except StillThere as refused:
            words = str(refused)
        except CatalogChanged:
            ran["a table changed under erasure"] += 1  # a rewrite is noticed only now
            return
        finally:
            failpoints.arm(None)
        assert words.startswith(f"{there} rows") if there else not words, (there, words)
        if there:
            return
        self.expire()
        folder = Path(self.folder.name) / "warehouse" / f"{table.source}.{table.schema}"
        for path in (folder / table.name).rglob("*.parquet"):
            column = pq.read_table(path, partitioning=None).column(SCHEMAS[table].key[0])
            assert key not in column.to_pylist(), path
        ran["nothing is left"] += 1

    def _rule(self, table: TableId) -> Rule:
        column = TIMES[table]
        return Rule(column, Layout(column.name, "day", (*SCHEMAS[table].key, column.name)), None)

    def expected(self, table: TableId) -> list[Row]:
        """The source's rows less those below the horizon."""
        at = SCHEMAS[table].columns.index(TIMES[table])
        since = self.since.get(table)
        rows = super().expected(table)
        return [row for row in rows if since is None or not _before(row[at], since)]

    @rule()
    def expire(self) -> None:
        """Nothing that is read goes."""
        ran["expire"] += 1
        Upkeep(self.store, self.lake, 0.0).expire(sorted(self.lake.tables()), lambda *_: None)

    def _once(self, place: str, act: Callable[[], None]) -> Callable[[str], None]:
        done = False

        def at(name: str) -> None:
            nonlocal done
            if name == place and not done:
                done = True
                act()

        return at

    def _run(self, callback: Callable[[str], None]) -> bool:
        """One run; whether it came to its end."""
        self.settle()
        chosen = self.chance.choice([(ITEMS,), (PARTS,), (ITEMS, PARTS)])
        targets = [self._target(table, self.chance.randint(0, DAYS)) for table in chosen]
        failpoints.arm(callback)
        try:
            self.tierer.run(targets, lambda *_: None)
        except CatalogChanged:
            ran["a run was void"] += 1
            return False
        finally:
            failpoints.arm(None)
        return True

    def _target(self, table: TableId, days: int) -> Target:
        boundary = self.store.catalog.tables[table].boundary
        below = max(FIRST_US + days * DAY_US, boundary.below if boundary else 0)
        return Target(table, self._rule(table), below)


def _before(time_: object, since: int) -> bool:
    """Whether a value of a time column lies before this microsecond."""
    if time_ is None:
        return False
    assert isinstance(time_, date)  # also a datetime
    moment = datetime(time_.year, time_.month, time_.day, getattr(time_, "hour", 0), tzinfo=UTC)
    return moment < datetime.fromtimestamp(since / 1e6, UTC)


@pytest.fixture(autouse=True)
def _counts() -> Iterator[None]:
    reached.clear()
    ran.clear()
    yield
    failpoints.arm(None)


@DYING
@pytest.mark.timeout(600)
def test_random_histories_over_hot_and_lake() -> None:
    """A quick walk; the long one is below."""
    for _ in range(40):  # which rules a history has is left to chance
        run_machine(TierMachine, examples=10, steps=15, seed=random.randrange(2**32))
        runs = ran["tier"] + ran["die_while_tiering"]
        if min(runs, ran["retain"]) >= 5:
            break
    assert min(runs, ran["retain"]) >= 5, f"too few runs to say anything: {dict(ran)}"


@pytest.mark.long
@pytest.mark.timeout(2400)
@DYING
def test_long_random_histories_over_hot_and_lake() -> None:
    """Thousands of steps with threads, each rule and named place of a run some twenty times.

    Fifty of each, in more than ten thousand steps, are the business of the machine without threads.
    """
    total: Counter[str] = Counter()
    rules: Counter[str] = Counter()
    while (
        sum(rules[name] for name in RULES) < STEPS_MIN
        or any(rules[name] < EACH_MIN for name in RULES)
        or any(total[name] < EACH_MIN for name in PLACES)
    ):
        run_machine(TierMachine, examples=20, steps=50, seed=random.randrange(2**32))
        total += reached
        rules += ran
        reached.clear()
        ran.clear()
    print(f"in all: {dict(rules)}; deaths: {dict(total)}")


STEPS_MIN = int(os.environ.get("TIER_STEPS", "2000"))
EACH_MIN = 20
RULES = (
    "commit",
    "truncate",
    "rewrite",
    "copy_again",
    "source_down",
    "position_lost",
    "crash",
    "tier",
    "die_while_tiering",
    "retain",
    "die_while_retaining",
    "expire",
    "erase",
    "die_while_erasing",
)
