"""A hot store and a lake with one reconciled table, and the dict that both together must equal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from htapkit.errors import LakeFailed
from htapkit.hot import Asked, HotLimits, HotStore
from htapkit.hot.folded import Folded
from htapkit.lake import Lake, LakeSettings
from htapkit.metrics import Metrics
from htapkit.model import ChangeBatch, LakeFiles, Layout, Pin, Position, TableId
from htapkit.query import whole_rows
from htapkit.tier import Retention, Rule, Target, Tierer
from tests.property.reconciled_model import A, Cell, Event, Model, N
from tests.property.timed_cells import SCHEMA, TABLE, Row, as_sent, line, rows_of
from tests.property.watcher import Watcher

BEGUN = datetime(2026, 6, 1, tzinfo=UTC)
DAYS = 5
RULE = Rule(SCHEMA.columns[1], Layout("c0", "day", ("k1", "c0")), None)


def covers(have: Position, want: Position) -> bool:
    return int(have) >= int(want)


class Away:
    """A lake that cannot be read now and then."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.away = False
        self.looks = 0

    def files(self, table: TableId, pin: Pin, lower: int | None, upper: int | None) -> LakeFiles:
        """As the lake's."""
        if self.away:
            raise LakeFailed(f"{table}: the catalog does not answer")
        self.looks += 1
        return self.lake.files(table, pin, lower, upper)


class Copy:
    """A store and a lake with the one table, and the dict that they must equal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = BEGUN
        self.tick = timedelta()  # by which time passes whenever the store looks at the clock
        self.position = 0
        self.model = Model()
        self.sent: list[Event] = []
        self.since: int | None = None
        self.open()
        self.store.add_table(SCHEMA, "f")
        self.apply([])
        self.copied([])
        self.watcher: Watcher | None = None

    def open(self) -> None:
        """Start, or start again after a death: what was left of a run is mended first."""
        limits = HotLimits(memory_bytes=2**28, disk_free_bytes=0)
        path, folder = self.folder / "hot.duckdb", str(self.folder)
        self.store = HotStore(path, limits, clock=self._clock, warehouse=folder)
        self.lake = Lake(LakeSettings.local(self.folder))
        self.looked = Away(self.lake)
        self.store.use_lake(self.looked)
        self.tierer = Tierer(self.store, self.lake, Metrics(), rows_max=1000)
        self.retention = Retention(self.store, self.lake, Metrics())
        self.tierer.recover()

    def _clock(self) -> datetime:
        self.now += self.tick
        return self.now

    def close(self) -> None:
        """Leave everything as a dead process would."""
        self.store.close()
        self.lake.close()

    def apply(self, found: Sequence[Event]) -> None:
        """One batch, which the model takes, too."""
        self.position += 1
        end = Position(str(self.position))
        sent = (as_sent(found),) if found else ()
        self.store.apply(ChangeBatch("events", sent, (end,), end, None), covers)
        for event in found:
            self.model.take(event)
        self.sent += found

    def copied(self, found: Sequence[Event]) -> None:
        """A new copy, of these."""
        self.store.start_copy(SCHEMA, "f", Position(str(self.position)))
        parts = as_sent(found)
        self.store.load(TABLE, [parts.cells, parts.deletions])
        self.store.finish_copy(TABLE, covers, 5)

    def tier(self, days: int) -> None:
        """One run."""
        boundary = self.store.catalog.tables[TABLE].boundary
        below = max(line(days), boundary.below if boundary else 0)
        self.tierer.run([Target(TABLE, RULE, below)], lambda *_: None)

    def asked(self) -> Asked:
        """The statement of all rows, hot and lake."""
        return whole_rows(self.lake.files, self.store.catalog, TABLE)

    def watch(self) -> None:
        """From now on; before anything is in the lake."""
        self.watcher = Watcher(self.store, TABLE, self.asked())

    def watched(self, watcher: Watcher) -> list[Row]:
        """What somebody has who was sent what became of the rows."""
        if watcher.take(self.store):
            watcher.copy(self.store, self.asked())
            assert not watcher.take(self.store)
        kept = [row for row in watcher.rows.values() if not self._dropped(row)]
        return sorted(kept, key=repr)

    def _dropped(self, row: tuple[Any, ...]) -> bool:
        """Whether it went for its age, of which nobody is told."""
        return self.since is not None and row[1].timestamp() * 1_000_000 < self.since

    def rows(self) -> list[Row]:
        """Hot and lake."""
        catalog, asked = self.store.catalog, self.asked()
        with self.store.read(asked.sql, catalog_version=catalog.version, lake=asked.lake) as read:
            found: list[Any] = [tuple(r.values()) for b in read.batches() for r in b.to_pylist()]
        return sorted(found, key=repr)

    def expected(self) -> list[Row]:
        """What must be read."""
        return rows_of(self.model, int(self.now.timestamp() * 1_000_000), self.since)

    def count(self, name: str) -> int:
        """How many records or single cells are in the hot store."""
        generation = self.store._core.state.records[TABLE].generation
        with self.store.read(
            f"SELECT count(*) FROM {getattr(Folded(SCHEMA, generation), name)}"
        ) as r:
            return int(next(iter(r.batches())).column(0)[0].as_py())


def insert(
    p: int, c: int, time: int, a: str = "x", n: str = "7", end: int | None = None
) -> list[Event]:
    """A whole row, which ends at one moment, if it does."""
    values = ((None, ""), (A, a), (N, n))
    return [Cell((p, c), ordinal, None, time, value, end) for ordinal, value in values]
