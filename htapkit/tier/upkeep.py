"""Keeping the lake small and tidy: small files joined, versions that nobody needs removed.

No row changes here. What a boundary, a cut that can still be asked for, or a statement that still
runs reads stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from htapkit.engines import LakeEngine
from htapkit.errors import CatalogChanged, ConfigError, LakeFailed
from htapkit.hot import HotStore
from htapkit.jobs import Progress
from htapkit.model import LakeFiles, Pin, TableId, lake_schema

_log = structlog.get_logger("htapkit.tier")


class LakeUpkeep(Protocol):
    """What upkeep needs of `htapkit.lake.Lake`; the promises stand there."""

    def compact(self, table: TableId, pin: Pin) -> Pin:
        """Join small files; the version with the same rows."""
        ...

    def expire(self, table: TableId, keep: Collection[Pin], older_than: datetime) -> int:
        """Remove old versions and their files; how many files."""
        ...

    def release(self, table: TableId, keep: Collection[Pin], older_than: datetime) -> None:
        """Leave to another engine's expiry what `expire` would remove."""
        ...

    def sweep(self, table: TableId, older_than: datetime, keep: Collection[Pin]) -> int:
        """Delete files that no version names; how many."""
        ...

    def adopt(self, table: TableId, pin: Pin) -> Pin:
        """The head, where another engine compacted since."""
        ...

    def identifier(self, table: TableId) -> Sequence[str]:
        """A table's name in the catalog."""
        ...

    def files(self, table: TableId, pin: Pin, lower: int | None, upper: int | None) -> LakeFiles:
        """What to read of a version."""
        ...


@dataclass(frozen=True, slots=True)
class Kept:
    """What upkeep did to one table."""

    table: TableId
    compacted: bool
    files_removed: int


def _no_engine(name: str) -> LakeEngine:
    raise ConfigError(f"engine '{name}' is not known here")


class Upkeep:
    """Upkeep of one store's tables in the lake. Not at the same time as a run."""

    def __init__(
        self,
        store: HotStore,
        lake: LakeUpkeep,
        keep_seconds: float,
        engines: Callable[[str], LakeEngine] = _no_engine,
    ) -> None:
        """Versions younger than `keep_seconds` stay, whoever may still read them.

        `engines` loads another engine by its name. Raises ConfigError.
        """
        self._engines = engines
        self._store = store
        self._lake = lake
        self._keep = timedelta(seconds=keep_seconds)

    def check(self, engine: str) -> None:
        """Raise ConfigError where that engine ("" is this server) or its settings are not right."""
        if engine:
            self._engines(engine)

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

    def compact_by(
        self, engine: str, tables: Sequence[TableId], progress: Progress
    ) -> Sequence[Kept]:
        """The same by another engine; what it made is compared before it is read.

        Raises ConfigError, LakeFailed (also where the rows differ: the old version is read on),
        CatalogChanged.
        """
        other, done = self._engines(engine), []
        for number, table in enumerate(tables):
            progress(f"{engine} compacts {table}", number, len(tables))
            pin = self._pin(table)
            if pin is None:
                continue
            other.compact(self._lake.identifier(table))
            new = self._lake.adopt(table, pin)
            if new != pin:
                self._compare(table, pin, new, engine)
                self._store.set_pin(table, pin, new)
                _log.info("compacted", table=str(table), engine=engine)
            done.append(Kept(table, compacted=new != pin, files_removed=0))
        return done

    def _compare(self, table: TableId, old: Pin, new: Pin, engine: str) -> None:
        status = self._store.catalog.tables.get(table)
        if status is None or status.boundary is None:
            raise CatalogChanged(f"nothing of {table} is in the lake")
        rows = [
            self._store.lake_digest(
                lake_schema(status.schema),
                self._lake.files(table, pin, None, None),
                status.boundary.column,
                None,
                None,
            )
            for pin in (old, new)
        ]
        if rows[0] != rows[1]:
            raise LakeFailed(
                f"{table}: what {engine} made has other rows than before (counts {rows[1][0]} and "
                f"{rows[0][0]}); the version from before is read on"
            )

    def expire(self, tables: Sequence[TableId], progress: Progress) -> Sequence[Kept]:
        """Remove versions that are older than is kept, and files that no version names."""
        return self._expire(self._lake.expire, tables, progress)

    def expire_by(
        self, engine: str, tables: Sequence[TableId], progress: Progress
    ) -> Sequence[Kept]:
        """The same by another engine, which is held to the tags of what is still read.

        Raises ConfigError, LakeFailed.
        """
        other = self._engines(engine)

        def work(table: TableId, keep: Collection[Pin], before: datetime) -> int:
            self._lake.release(table, keep, before)
            return other.expire(self._lake.identifier(table), before)

        return self._expire(work, tables, progress)

    def _expire(
        self,
        work: Callable[[TableId, Collection[Pin], datetime], int],
        tables: Sequence[TableId],
        progress: Progress,
    ) -> Sequence[Kept]:
        before = datetime.now(UTC) - self._keep
        for source in sorted({table.source for table in tables}):
            self._store.drop_cuts(source, before)
        done = []
        for number, table in enumerate(tables):
            progress(f"expiring {table}", number, len(tables))
            keep = self._kept(table)
            removed = work(table, keep, before)
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
