"""Moves the line between hot and lake, one run at a time; mends what a crash left of one.

A run has three steps. In the hot store, one transaction notes the run and opens an export at one
position. In the lake, each table gets one commit, which is read back and compared. In the hot
store, one transaction evicts what left, flips the boundaries and pins the versions. Whoever finds
a run that was begun looks into the lake: with all its commits there, only the last step is missing;
otherwise the run is dropped, and what it wrote is superseded by the next.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import structlog

from htapkit import failpoints
from htapkit.errors import CatalogChanged, HtapkitError, LakeFailed, StoreError
from htapkit.hot import DIGEST_MODULUS, Export, HotStore, histogram_query
from htapkit.metrics import Metrics
from htapkit.model import (
    ARCHIVE,
    Boundary,
    LakeFiles,
    Layout,
    Pin,
    RunState,
    TableId,
    TableSchema,
    TieringRun,
    writer_of,
)
from htapkit.tier.rules import Rule, after, next_line

_log = structlog.get_logger("htapkit.tier")
COMPARED_ROWS_MAX = 5_000_000
"""Of a lake version: with more, a run compares only the range that it adds."""

Progress = Callable[[str, int, int], None]
"""Called with the step, the rows done and the rows in all."""


class Lake(Protocol):
    """What tiering needs of `htapkit.lake.Lake`; the promises stand there."""

    def commit(
        self,
        run: TieringRun,
        schema: TableSchema,
        layout: Layout,
        base: Pin | None,
        gone: pa.Table | None,
        rows: Iterator[pa.RecordBatch],
    ) -> Pin:
        """Write a run's rows of one table."""
        ...

    def find(self, run: TieringRun, table: TableId) -> Pin | None:
        """What `commit` made for this run, if it did."""
        ...

    def files(self, table: TableId, pin: Pin, lower: int | None, upper: int | None) -> LakeFiles:
        """The files of a version."""
        ...


@dataclass(frozen=True, slots=True)
class Moved:
    """What one run did to one table."""

    table: TableId
    below: int  # the boundary now, microseconds since 1970
    rows: int  # that left the hot store
    folded: int  # tombstones that were worked into the lake


@dataclass(frozen=True, slots=True)
class Target:
    """A table, how it lies, and where its line should be."""

    table: TableId
    rule: Rule
    below: int


class Tierer:
    """Runs tiering for all sources of one store: one run at a time."""

    def __init__(self, store: HotStore, lake: Lake, metrics: Metrics, rows_max: int) -> None:
        """`rows_max` rows of a table leave in one run, or one period if that has more."""
        self._store = store
        self._lake = lake
        self._metrics = metrics
        self._rows_max = rows_max
        self._one = threading.Lock()

    def recover(self) -> None:
        """Finish or drop the runs that a former process left. Raises LakeFailed, StoreError."""
        with self._one:
            for run in self._store.runs():
                self._mend(run)

    def tier(self, targets: Sequence[Target], progress: Progress) -> Sequence[Moved]:
        """Move lines to where they should be, in as many runs as it takes.

        The tables are of one source, or archives of its tables. Their late rows and patches go into
        the lake with the first run; an archive of which nothing would move is left alone. Raises
        LakeFailed, CatalogChanged (a table changed under a run; try again), StoreError.
        """
        moved: list[Moved] = []
        left = [target for target in targets if not self._idle(target)]
        while left:
            step = [self._next(target) for target in left]
            moved += self.run(step, progress)
            if all(one.below >= target.below for one, target in zip(step, left, strict=True)):
                break
        return moved

    def run(self, targets: Sequence[Target], progress: Progress) -> Sequence[Moved]:
        """One run: all these tables, cut at one position."""
        with self._one:
            for left in self._store.runs():
                self._mend(left)
            begun = time.monotonic()
            below = {target.table: target.below for target in targets}
            columns = {target.table: target.rule.column.ordinal for target in targets}
            export = self._store.begin_run(uuid.uuid4().hex, below, columns)
            try:
                done = self._export(export, targets, progress)
            except HtapkitError as error:
                # Otherwise the hot store would log changed keys for nothing.
                self._drop(export.run, str(error))
                raise
            for moved in done:
                self._metrics.tiered_rows.labels(writer_of(moved.table)).inc(moved.rows)
                _log.info(
                    "tiered",
                    table=str(moved.table),
                    rows=moved.rows,
                    folded=moved.folded,
                    seconds=round(time.monotonic() - begun, 2),
                )
            return done

    def _export(
        self, export: Export, targets: Sequence[Target], progress: Progress
    ) -> Sequence[Moved]:
        """Write what is exported, compare it, flip."""
        try:
            failpoints.reach("tier.begun")
            done = [self._write(export, target, progress) for target in targets]
            pins = {target.table: pin for target, (pin, _) in zip(targets, done, strict=True)}
            failpoints.reach("tier.verified")
        finally:
            export.close()
        self._store.finish_run(export.run.id, pins)
        failpoints.reach("tier.flipped")
        return [moved for _, moved in done]

    def _drop(self, run: TieringRun, why: str) -> None:
        """Give a run up; a store that fails now will have it dropped by the next run."""
        _log.info("tiering run dropped", run=run.id, why=why)
        with suppress(StoreError):
            self._store.drop_run(run.id)

    def _next(self, target: Target) -> Target:
        """As far as one run may go."""
        unit, periods = target.rule.layout.partition, self._periods(target)
        boundary = self._boundary(target.table)
        target_line = max(target.below, boundary.below) if boundary else target.below
        if boundary is not None:
            # What lies below the line is no reason to stop: it leaves by the way, or may not leave.
            periods = [each for each in periods if after(each[0], unit) > boundary.below]
        line = next_line(periods, unit, target_line, self._rows_max)
        return Target(target.table, target.rule, max(line, boundary.below) if boundary else line)

    def _idle(self, target: Target) -> bool:
        """Whether nothing of an archive would move, so that it needs no run: most days of most."""
        if target.table.source != ARCHIVE or self._store.patches(target.table)[0]:
            return False
        boundary = self._boundary(target.table)
        line = max(target.below, boundary.below) if boundary else target.below
        unit = target.rule.layout.partition
        return all(after(period, unit) > line for period, _ in self._periods(target))

    def _periods(self, target: Target) -> Sequence[tuple[int, int]]:
        """(start, rows) of each period of which hot has rows, in order."""
        unit = target.rule.layout.partition
        sql = histogram_query(target.table, target.rule.column, unit)
        with self._store.read(sql) as read:
            return [(row["period"], row["rows"]) for b in read.batches() for row in b.to_pylist()]

    def _write(self, export: Export, target: Target, progress: Progress) -> tuple[Pin, Moved]:
        table = target.table
        schema, boundary = export.schema(table), export.boundary(table)
        exported = export.digest(table)
        total = exported[0]
        gone = export.tombstones(table)
        progress(f"writing {table}", 0, total)
        rows = _counted(export.rows(table, target.rule.layout.sort), table, total, progress)
        base = boundary.pin if boundary else None
        failpoints.reach("tier.exported")
        pin = self._lake.commit(
            export.run, schema, target.rule.layout, base, gone if gone.num_rows else None, rows
        )
        failpoints.reach("tier.committed")
        progress(f"comparing {table}", total, total)
        self._compare(export, exported, target, schema, pin)
        return pin, Moved(table, target.below, total, gone.num_rows)

    def _compare(
        self,
        export: Export,
        exported: tuple[int, int],
        target: Target,
        schema: TableSchema,
        pin: Pin,
    ) -> None:
        """What the lake has now must be what it had, less what is buried, and what left hot.

        Of a large version only the range that the run adds is compared, not what it folds into
        older ones. Raises LakeFailed.
        """
        table, ordinal = target.table, target.rule.column.ordinal
        digest, boundary = self._store.lake_digest, export.boundary(table)
        since = None
        if boundary is None:
            expected = exported
        elif boundary.pin.rows > COMPARED_ROWS_MAX:
            since = boundary.below
            expected = export.digest(table, since)
        else:
            before = self._lake.files(table, boundary.pin, None, None)
            kept = digest(schema, before, ordinal, None, None, export.tombstones(table))
            expected = (kept[0] + exported[0], (kept[1] + exported[1]) % DIGEST_MODULUS)
        files = self._lake.files(table, pin, since, target.below)
        found = digest(schema, files, ordinal, since, target.below)
        if found != expected:
            raise LakeFailed(
                f"{table}: the lake has {found[0]} rows of the range that was moved, and "
                f"{expected[0]} were written (or their contents differ); nothing was removed from "
                "the hot store; look at the lake's storage, then run `htapkit tier` again"
            )

    def _boundary(self, table: TableId) -> Boundary | None:
        status = self._store.catalog.tables.get(table)
        if status is None:
            raise CatalogChanged(f"{table} is no longer mirrored")
        return status.boundary

    def _mend(self, run: TieringRun) -> None:
        found: Mapping[TableId, Pin | None] = {}
        if run.state is not RunState.VOID:
            found = {table: self._lake.find(run, table) for table in run.below}
        pins = {table: pin for table, pin in found.items() if pin is not None}
        if not pins or len(pins) < len(run.below):
            self._drop(run, run.why or "the lake has not all of it")
            return
        try:
            self._store.finish_run(run.id, pins)
        except CatalogChanged as error:
            self._drop(run, str(error))
        else:
            _log.info("tiering run finished after a restart", run=run.id)


def _counted(
    batches: Iterator[pa.RecordBatch], table: TableId, total: int, progress: Progress
) -> Iterator[pa.RecordBatch]:
    done = 0
    for batch in batches:
        yield batch
        done += batch.num_rows
        progress(f"writing {table}", done, total)
