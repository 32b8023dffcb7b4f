"""Keeping the lake small and tidy: small files joined, versions that nobody needs removed.

No row changes here. What a boundary, a cut that can still be asked for, or a statement that still
runs reads stays.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from htapkit.hot import HotStore
from htapkit.jobs import Progress
from htapkit.model import Pin, TableId

_log = structlog.get_logger("htapkit.tier")


class LakeUpkeep(Protocol):
    """What upkeep needs of `htapkit.lake.Lake`; the promises stand there."""

    def compact(self, table: TableId, pin: Pin) -> Pin:
        """Join small files; the version with the same rows."""
        ...

    def expire(self, table: TableId, keep: Collection[Pin], older_than: datetime) -> int:
        """Remove old versions and their files; how many files."""
        ...

    def sweep(self, table: TableId, older_than: datetime, keep: Collection[Pin]) -> int:
        """Delete files that no version names; how many."""
        ...


@dataclass(frozen=True, slots=True)
class Kept:
    """What upkeep did to one table."""

    table: TableId
    compacted: bool
    files_removed: int


class Upkeep:
    """Upkeep of one store's tables in the lake. Not at the same time as a run."""

    def __init__(self, store: HotStore, lake: LakeUpkeep, keep_seconds: float) -> None:
        """Versions younger than `keep_seconds` stay, whoever may still read them."""
        self._store = store
        self._lake = lake
        self._keep = timedelta(seconds=keep_seconds)

    def tables(self) -> Sequence[TableId]:
        """Those that have a part in the lake now."""
        found = self._store.catalog.tables
        return sorted(table for table, status in found.items() if status.boundary is not None)

    def compact(self, tables: Sequence[TableId], progress: Progress) -> Sequence[Kept]:
        """Join the small files of these tables, and read the result from now on.

        Raises LakeFailed, CatalogChanged (the table changed meanwhile; its old version is read).
        """
        done = []
        for number, table in enumerate(tables):
            progress(f"compacting {table}", number, len(tables))
            pin = self._pin(table)
            new = self._lake.compact(table, pin) if pin is not None else pin
            if pin is not None and new is not None and new != pin:
                self._store.set_pin(table, pin, new)
                _log.info("compacted", table=str(table))
            done.append(Kept(table, compacted=new != pin, files_removed=0))
        return done

    def expire(self, tables: Sequence[TableId], progress: Progress) -> Sequence[Kept]:
        """Remove versions that are older than is kept, and files that no version names."""
        before = datetime.now(UTC) - self._keep
        for source in sorted({table.source for table in tables}):
            self._store.drop_cuts(source, before)
        done = []
        for number, table in enumerate(tables):
            progress(f"expiring {table}", number, len(tables))
            keep = self._kept(table)
            removed = self._lake.expire(table, keep, before)
            removed += self._lake.sweep(table, before, keep)
            if removed:
                _log.info("expired", table=str(table), files=removed)
            done.append(Kept(table, compacted=False, files_removed=removed))
        return done

    def _pin(self, table: TableId) -> Pin | None:
        status = self._store.catalog.tables.get(table)
        return status.boundary.pin if status is not None and status.boundary is not None else None

    def _kept(self, table: TableId) -> Collection[Pin]:
        """Every version of a table that somebody may still ask for."""
        pins = {
            cut.boundaries[table].pin
            for cut in self._store.cuts(table.source)
            if table in cut.boundaries
        }
        current = self._pin(table)
        return pins | {current} if current is not None else pins
