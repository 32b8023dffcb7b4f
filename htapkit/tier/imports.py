"""Iceberg tables of others, for reading: registered by name, and looked at again and again.

A statement reads the version that was the newest at the last look. Nothing is written to them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, Protocol

import structlog

from htapkit.errors import ConfigError, LakeFailed, LakeRefused
from htapkit.hot import HotStore
from htapkit.model import HISTORY, LAKE, Import, TableId, TableSchema, TableState

_log = structlog.get_logger("htapkit.tier")
_LEVELS_MIN = 2


class ImportingLake(Protocol):
    """What imports need of `htapkit.lake.Lake`; the promises stand there."""

    def look(
        self, identifier: Sequence[str], table: TableId, known: TableSchema | None = None
    ) -> Import:
        """The newest version of a table of the catalog."""
        ...

    def identifier(self, table: TableId) -> Sequence[str]:
        """A table's name in the catalog."""
        ...


@dataclass(slots=True)
class Imports:
    """The imports of one server."""

    store: HotStore
    lake: ImportingLake
    interval_seconds: float
    clock: Callable[[], float] = time.monotonic
    _looked_at: float = float("-inf")
    _lock: Lock = field(default_factory=Lock)

    def add(self, name: str, as_name: str | None) -> Import:
        """Read `namespace.table` of the catalog from now on, as `lake.<namespace>.<table>`.

        `as_name` is another `[schema.]name` for it. Raises ConfigError, LakeRefused, LakeFailed.
        """
        identifier = tuple(name.split("."))
        if len(identifier) < _LEVELS_MIN or not all(identifier):
            raise ConfigError(f"'{name}': expected namespace.table, as the catalog has it")
        schema, _, last = (as_name or identifier[-1]).rpartition(".")
        table = TableId(LAKE, schema or ".".join(identifier[:-1]), last)
        for mirrored in self.store.catalog.tables:
            if tuple(self.lake.identifier(mirrored)) == identifier:
                raise ConfigError(
                    f"{mirrored} is a mirrored table: ask for it by its own name, which reads hot "
                    "and lake"
                )
        if identifier[0] == HISTORY:
            raise ConfigError(
                f"{name} is the history of a mirrored table, whose readers may read it; "
                "htapkit backfill --parquet registers it"
            )
        with self._lock:
            there = next((each for each in self.store.imports.all() if each.table == table), None)
            if there is not None and there.identifier != identifier:
                raise ConfigError(
                    f"{table} is {'.'.join(there.identifier)} already; drop that, or choose "
                    "another name with --as"
                )
            found = self.lake.look(identifier, table)
            self.store.imports.put(found)
        _log.info("table imported", table=str(table), rows=found.pin.rows)
        return found

    def drop(self, name: str) -> TableId:
        """Read it no more: `lake.<schema>.<name>`, also without `lake.`; `history.…` of a table.

        Raises ConfigError.
        """
        source = HISTORY if name.startswith(f"{HISTORY}.") else LAKE
        schema, _, last = name.removeprefix(f"{source}.").rpartition(".")
        table = TableId(source, schema, last)
        with self._lock:
            if all(each.table != table for each in self.store.imports.all()):
                raise ConfigError(f"{table} is not imported; see htapkit status")
            self.store.imports.drop(table)
        return table

    def refresh(self) -> None:
        """Look for newer versions, when that is due."""
        if self.clock() - self._looked_at < self.interval_seconds:
            return
        self._looked_at = self.clock()
        for each in self.store.imports.all():
            self.look(each.table)

    def look(self, table: TableId) -> None:
        """Look for a newer version of one table; what cannot be read any more says why."""
        with self._lock:
            there = next((e for e in self.store.imports.all() if e.table == table), None)
            if there is None:
                return
            try:
                known = there.schema if table.source == HISTORY else None
                found = self.lake.look(there.identifier, table, known)
            except LakeRefused as refused:
                found = replace(there, why=str(refused))
            except LakeFailed as failed:
                # The catalog is away: what was read last may still be there.
                _log.warning(
                    "an imported table is not looked at", table=str(table), why=str(failed)
                )
                return
            if found != there:
                self.store.imports.put(found)

    def described(self) -> list[Mapping[str, Any]]:
        """All of them, for `status`."""
        return [describe(each) for each in self.store.imports.all()]


def describe(found: Import) -> Mapping[str, Any]:
    """An import as people are told of it."""
    return {
        "table": str(found.table),
        "catalog_name": ".".join(found.identifier),
        "state": TableState.SET_ASIDE.value if found.why else "imported",
        "rows": found.pin.rows,
        "snapshot": found.pin.snapshot,
        "left_out": list(found.left_out),
        "why": found.why,
    }
