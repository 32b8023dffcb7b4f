"""Erasing what is left of rows that were deleted: old values in the hot file, in the lake, in cuts.

The present does not have them: the copy is exact. What does are the table's archive (they leave
it, in hot and in the lake), rows in the lake under a tombstone (a run works those in), versions
that AS OF reads (they are forgotten, and expire by a deadline), and blocks of the hot store's file
(it is written anew). Nothing is ever deleted at a source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pyarrow as pa
import structlog

from htapkit import failpoints
from htapkit.errors import CatalogChanged, ConfigError, LakeFailed, StillThere
from htapkit.hot import HotStore
from htapkit.jobs import Progress
from htapkit.model import (
    Boundary,
    LakeFiles,
    Pin,
    TableId,
    TableState,
    TableStatus,
    archive_of,
    writer_of,
)
from htapkit.plan import Cut, LocalQuery, Refuse, Relay, SessionView, archived, counting, plan
from htapkit.query import run
from htapkit.tier.retention import Retention
from htapkit.tier.rules import Rule, text_of
from htapkit.tier.tierer import Target, Tierer

_log = structlog.get_logger("htapkit.tier")
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
"""A time for a cut of our own, by which the planner reads one version as it is."""


class ErasingLake(Protocol):
    """What erasure needs of `htapkit.lake.Lake`; the promises stand there."""

    def files(self, table: TableId, pin: Pin, lower: int | None, upper: int | None) -> LakeFiles:
        """The files of a version."""
        ...

    def drop(self, table: TableId) -> None:
        """Remove a table, its versions and its files."""
        ...


@dataclass(frozen=True, slots=True)
class Erased:
    """What was done, and when the last file that has such rows is gone."""

    table: TableId
    folded: int  # tombstones that were worked into the lake
    archived: int  # rows that left the archive
    gone_by: datetime


@dataclass(frozen=True, slots=True)
class Erasure:
    """Erasing from one store's tables. Not at the same time as a run."""

    store: HotStore
    lake: ErasingLake
    tierer: Tierer
    retention: Retention
    deadline_seconds: float  # after which expiry has removed what nobody is held to

    def check(self, table: TableId, condition: str) -> None:
        """Raise ConfigError where the condition cannot be judged here, or not all would go."""
        if self._status(table).schema.reconciled:
            raise ConfigError(
                f"{table} is kept cell by cell, and cells of deleted rows stay beside it; only a "
                "new copy is without them (`htapkit resync`), and the lake when its next run after "
                "that (`htapkit tier`) is over and the versions from before have expired"
            )
        self._counted(table, condition)
        self._archived(table, condition)

    def erase(
        self, table: TableId, rule: Callable[[TableId], Rule], condition: str, progress: Progress
    ) -> Erased:
        """Purge rows that meet the condition and are deleted at the source.

        `rule` is asked for the table, and for its archive. The copy must be as fresh as the caller
        wants. Safe to repeat, also after a crash. Raises StillThere (the source has such rows),
        ConfigError, CatalogChanged, LakeFailed, StoreError.
        """
        progress(f"looking into {table}", 0, 0)
        count = self._run(self._counted(table, condition))
        if count:
            raise StillThere(
                f"{count} rows of {table} that match are still at the source, and would come back; "
                "delete them there, then erase what is left of them here"
            )
        self.tierer.recover()  # what a crash left of a run moves lines when it is finished
        archived = self._erase_archived(table, condition)
        failpoints.reach("erase.archived")
        archive = archive_of(table)
        if archive in self.store.catalog.tables:
            self._fold(archive, rule, condition, progress)
            self._forget(archive)
        self.retention.retire(table)  # what a crash left hidden, no tombstone covers
        folded = self._fold(table, rule, condition, progress)
        failpoints.reach("erase.folded")
        self.store.forget_past(table)
        failpoints.reach("erase.forgotten")
        self._forget(table)
        _log.info("erased", table=str(table), folded=folded, archived=archived)
        gone_by = datetime.now(UTC) + timedelta(seconds=self.deadline_seconds)
        return Erased(table, folded, archived, gone_by)

    def _counted(self, table: TableId, condition: str) -> LocalQuery:
        """The statement that counts such rows of the present."""
        view = SessionView(table.source, route=self._route(table))
        return self._planned(counting(table, condition), table, view)

    def _archived(self, table: TableId, condition: str) -> LocalQuery | None:
        """The statement that finds such rows in the archive; None: it has none."""
        archive = archive_of(table)
        if archive not in self.store.catalog.tables:
            return None
        view = SessionView(table.source, route=self._route(archive))
        return self._planned(archived(table, condition), archive, view)

    def _route(self, table: TableId) -> str:
        return "hot" if self._status(table).boundary is None else "union"

    def _erase_archived(self, table: TableId, condition: str) -> int:
        """Have the archive without the rows that match, wherever they lie; how many those were."""
        query = self._archived(table, condition)
        if query is None:
            return 0
        with run(query, self.store, files=self.lake.files) as read:
            numbers = pa.concat_arrays([b.column(0) for b in read.batches()] or [pa.array([])])
        if len(numbers):
            self.store.archives.erase(table, numbers.cast(pa.int64()))
        return len(numbers)

    def _fold(
        self, table: TableId, rule: Callable[[TableId], Rule], condition: str, progress: Progress
    ) -> int:
        """Have the lake without the rows that do not count any more; how many those were."""
        boundary = self._status(table).boundary
        if boundary is None:
            return 0
        (moved,) = self.tierer.run([Target(table, rule(table), boundary.below)], progress)
        self._check_lake(table, condition)
        return moved.folded

    def _forget(self, table: TableId) -> None:
        """Nothing is left of a table but what is read."""
        if self._status(table).boundary is None:
            self.lake.drop(table)
        self.store.rewrite(table)

    def _check_lake(self, table: TableId, condition: str) -> None:
        """The version that is read now has no such row, whatever lies on top of it."""
        status = self._status(table)
        boundary = status.boundary
        if boundary is None:
            return
        query = self._planned(
            counting(table, condition, text_of(status.schema, boundary)),
            table,
            SessionView(writer_of(table), route="lake", as_of=f"{_LONG_AGO:%Y-%m-%d %H:%M:%S}+00"),
            boundary,
        )
        left = self._run(query)
        if left:
            raise LakeFailed(
                f"{table}: the lake still has {left} rows that match; were some written meanwhile? "
                "erase again"
            )

    def _planned(
        self, sql: str, table: TableId, view: SessionView, boundary: Boundary | None = None
    ) -> LocalQuery:
        cuts = () if boundary is None else (Cut(boundary.position, _LONG_AGO, {table: boundary}),)
        made = plan(sql, self.store.catalog, view, (), cuts)
        if isinstance(made, LocalQuery):
            if made.finish is None and {each.table for each in made.access} == {table}:
                return made
            why = "only PostgreSQL can compute it"
        elif isinstance(made, (Relay, Refuse)) and made.considered:
            why = made.considered[0].reason
        else:
            why = made.message if isinstance(made, Refuse) else "it is not a condition"
        raise ConfigError(f"where: it cannot be judged here: {why}")

    def _run(self, query: LocalQuery) -> int:
        with run(query, self.store, files=self.lake.files) as read:
            return sum(int(value.as_py()) for b in read.batches() for value in b.column(0))

    def _status(self, table: TableId) -> TableStatus:
        status = self.store.catalog.tables.get(table)
        if status is None or status.state is not TableState.FOLLOWING:
            raise CatalogChanged(f"{table} is not followed now; see htapkit status")
        return status
