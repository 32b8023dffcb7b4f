"""Random runs between a hot store and a lake, for model tests: whatever else happens meanwhile."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from htapkit.errors import CatalogChanged
from htapkit.hot import Export
from htapkit.model import ARCHIVE, Pin, RunState, TableId, TableState, TieringRun
from tests.property.archive_model import Row
from tests.property.hot_model import DAY_ZERO, TABLES, TIME_COLUMNS, Follower, Origin
from tests.unit.htapkit.hot.lakes import write_run

_MICROSECOND = timedelta(microseconds=1)
DELETED = 2_000_000  # the number of an archive's time column
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def line(days: float) -> int:
    """So many days after day zero, in microseconds."""
    return (DAY_ZERO + timedelta(days=days) - _EPOCH) // _MICROSECOND


def below(value: Any, limit: int) -> bool:
    """Whether a value of a time column lies below a line."""
    if value is None:
        return False
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    return (value - _EPOCH) // _MICROSECOND < limit


@dataclass
class Tierer:
    """Begins, writes, finishes and drops runs at random moments."""

    follower: Follower
    origin: Origin
    rng: random.Random
    export: Export | None = None
    pins: dict[TableId, Pin] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def act(self, action: str) -> None:
        """The next step of the run that there is, or a new run; or a compaction."""
        store, rng = self.follower.store, self.rng
        runs = store.runs()
        if action == "compact":
            self._compact()
        elif action == "erase":
            self.follower.erase(rng.choice(TABLES).table, rng)
        elif not runs:
            self._begin()
        elif self.export is not None:
            self._write(self.export)
        elif rng.random() < 0.15 or not self._complete(runs[0]):
            store.drop_run(runs[0].id)
            self.counts["dropped"] += 1
        else:
            self._finish(runs[0])

    def reopened(self) -> None:
        """The process is another one: what the lake has is all that is left of a run."""
        if self.export is not None:
            self.export.close()
            self.export = None
        self.pins = {}
        for run in self.follower.store.runs():
            found = {table: self.follower.lake.find(run.id, table) for table in run.below}
            self.pins = {table: pin for table, pin in found.items() if pin is not None}
            self.counts["found"] += 1

    def _compact(self) -> None:
        """Another version with the same rows."""
        table = self.rng.choice([*TIME_COLUMNS, *self._archives()])
        status = self.follower.store.catalog.tables.get(table)
        if status is not None and status.boundary is not None:
            pin = status.boundary.pin
            self.follower.store.set_pin(table, pin, self.follower.lake.same(table, pin))
            self.counts["compacted"] += 1

    def close(self) -> None:
        if self.export is not None:
            self.export.close()

    def _begin(self) -> None:
        store, rng = self.follower.store, self.rng
        lines: dict[TableId, int] = {}
        archives = self._archives() if rng.random() < 0.5 else []
        columns = dict.fromkeys(archives, DELETED) if archives else TIME_COLUMNS
        for table in columns:
            status = store.catalog.tables.get(table)
            if status is None or status.state is not TableState.FOLLOWING or rng.random() < 0.3:
                continue
            former = status.boundary.below if status.boundary else line(-1)
            if table in archives:  # the n-th commit is made in microsecond n
                lines[table] = max(former if status.boundary else 0, self._commit())
            else:
                lines[table] = max(former, line(rng.choice((1, 2.25, 4, 8))))
        if lines:
            name = f"run {rng.randrange(10**9)}"
            self.export = store.begin_run(name, lines, {t: columns[t] for t in lines})
            self.counts["begun"] += 1

    def _archives(self) -> list[TableId]:
        tables = self.follower.store.catalog.tables
        return [table for table in tables if table.source == ARCHIVE]

    def _commit(self) -> int:
        """A line of an archive: now and then one that is still to come."""
        return max(0, self.origin.head + self.rng.choice((-8, -3, 0, 3)))

    def _write(self, export: Export) -> None:
        """The lake's part: its versions must be the model at the run's position, below the line."""
        lake = self.follower.lake
        with export:
            self.pins = write_run(lake, export, list(export.run.below))
        self.export = None
        commit = self.origin.commits[int(export.run.position, 16)]
        for table, pin in self.pins.items():
            if table.source == ARCHIVE:
                continue
            theirs = [c.ordinal for c in commit.schemas[table].columns]
            version = lake.rows(pin)
            ours = [int(name) for name in version.column_names]
            time = theirs.index(TIME_COLUMNS[table])
            left = [r for r in commit.rows[table] if below(r[time], export.run.below[table])]
            both = [o for o in ours if o in theirs]
            expected = Counter(_chosen(r, theirs, both) for r in left)
            found = Counter(_chosen(tuple(r.values()), ours, both) for r in version.to_pylist())
            assert found == expected, (table, export.run)
            self.counts["rows"] += len(left)

    def _finish(self, run: TieringRun) -> None:
        store = self.follower.store
        try:
            store.finish_run(run.id, self.pins)
        except CatalogChanged:
            (found,) = store.runs()
            assert found.state is RunState.VOID, found
            self.counts["void"] += 1
            store.drop_run(run.id)
            return
        self.counts["finished"] += 1
        for table, limit in run.below.items():
            status = store.catalog.tables[table]
            assert status.boundary is not None
            assert (status.boundary.below, status.boundary.pin) == (limit, self.pins[table])
            assert status.boundary.position == run.position
        if run.source == ARCHIVE:
            self.counts["archived"] += 1
        else:
            assert store.cuts("shop")[-1].position == run.position

    def _complete(self, run: TieringRun) -> bool:
        return run.below.keys() <= self.pins.keys()


def _chosen(row: Row, columns: list[int], wanted: list[int]) -> Row:
    return tuple(row[columns.index(o)] for o in wanted)
