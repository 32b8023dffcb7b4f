"""Dropping what is older than a table is kept, or has ended: in hot and lake, never at the source.

One transaction of the hot store moves the horizon: from then on nobody sees those rows, wherever
they lie. What follows only saves space, and is made good by the next turn after a crash: the lake's
partitions below the horizon leave by metadata, and their files go with the versions that have them.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from htapkit import failpoints
from htapkit.errors import CatalogChanged
from htapkit.hot import HotStore
from htapkit.jobs import Progress
from htapkit.metrics import Metrics
from htapkit.model import Boundary, Horizon, Pin, RunState, TableId, TieringRun

_log = structlog.get_logger("htapkit.tier")


class RetiringLake(Protocol):
    """What retention needs of `htapkit.lake.Lake`; the promises stand there."""

    def retire(self, table: TableId, pin: Pin, before: int, run: TieringRun) -> Pin:
        """Drop the partitions that lie wholly below a time; the version without them."""
        ...

    def forget_ended(self, table: TableId, pin: Pin, before: int, run: TieringRun) -> Pin:
        """Drop rows that ended by a moment; the version without them."""
        ...


_Drop = Callable[[TableId, Pin, int, TieringRun], Pin]


@dataclass(frozen=True, slots=True)
class Dropped:
    """What retention did to one table."""

    table: TableId
    since: int  # the horizon now, microseconds since 1970
    hot_rows: int
    lake_rows: int


@dataclass(frozen=True, slots=True)
class Retention:
    """Retention of one store's tables. Not at the same time as a run."""

    store: HotStore
    lake: RetiringLake
    metrics: Metrics

    def retain(
        self, horizons: Mapping[TableId, Horizon], progress: Progress
    ) -> tuple[Dropped, ...]:
        """Keep these tables from their horizons on.

        Raises CatalogChanged, StoreError, LakeFailed; what is done by then stays done.
        """
        done = []
        for number, (table, horizon) in enumerate(horizons.items()):
            progress(f"dropping old rows of {table}", number, len(horizons))
            done.append(self._retain(table, horizon))
        return tuple(done)

    def _retain(self, table: TableId, wanted: Horizon) -> Dropped:
        hot = self.store.retain(table, wanted)
        self.metrics.dropped_rows.labels(table.source).inc(hot)
        failpoints.reach("retain.hidden")
        lake = self.retire(table)
        if hot or lake:
            _log.info("old rows dropped", table=str(table), hot_rows=hot, lake_rows=lake)
        status = self.store.catalog.tables.get(table)
        if status is None or status.horizon is None:
            raise CatalogChanged(f"{table} changed while its old rows were dropped; try again")
        return Dropped(table, status.horizon.since, hot, lake)

    def retire(self, table: TableId) -> int:
        """Let go of the lake's partitions below the horizon, where there are any; their rows."""
        status = self.store.catalog.tables.get(table)
        if status is None or status.horizon is None or status.boundary is None:
            return 0
        if status.horizon.column != status.boundary.column:
            return 0
        return self._drop(table, status.boundary, status.horizon.since, self.lake.retire)

    def forget_ended(self, table: TableId, before: int) -> int:
        """Let go of rows of the lake that ended by themselves by `before`; how many.

        Nobody sees them; but until they go they outdo older writes, as they do at their source.
        """
        status = self.store.catalog.tables.get(table)
        if status is None or status.boundary is None or not status.schema.reconciled:
            return 0
        dropped = self._drop(table, status.boundary, before, self.lake.forget_ended)
        if dropped:
            _log.info("ended rows dropped", table=str(table), lake_rows=dropped)
        return dropped

    def _drop(self, table: TableId, boundary: Boundary, before: int, drop: _Drop) -> int:
        """Read the version without what `drop` drops of it; how many rows that is."""
        run = TieringRun(
            uuid.uuid4().hex,
            table.source,
            boundary.position,
            {table: boundary.below},
            RunState.EXPORTING,
        )
        pin = drop(table, boundary.pin, before, run)
        failpoints.reach("retain.retired")
        if pin == boundary.pin:
            return 0
        self.store.set_pin(table, boundary.pin, pin)
        failpoints.reach("retain.flipped")
        return boundary.pin.rows - pin.rows
