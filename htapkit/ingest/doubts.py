"""Comparing a reconciled table with its source, which has no moment at which both could be read.

The source's rows are read as they are, then the copy's, once it has passed what was acknowledged by
then. What differs may have changed in between. So those rows are read again by their keys: at the
source, in the copy once that has passed it, and at the source again. One that was the same there
before and after, and another here, is a difference, if it is one once more. One that changes each
time is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from htapkit.errors import CatalogChanged, LookupRefused
from htapkit.hot import HotStore, Sides, less_old
from htapkit.ingest.mirror import Mirror
from htapkit.ingest.repair import Rows
from htapkit.lookups import ReadsRows
from htapkit.model import TableId, TableSchema

DOUBTS_MAX: Final = 1_000
ROUNDS_MAX: Final = 5
PASS_SECONDS: Final = 60.0
_BEFORE, _HERE, _AFTER = "before", "here", "after"
Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What a comparison found."""

    rows_source: int
    rows_copy: int
    different: tuple[str, ...]  # keys of rows that differ; all of them, unless there are `more`
    more: bool  # than are read again: nobody knows which of them changed meanwhile
    restless: int  # rows that changed each time that they were read


@dataclass(frozen=True, slots=True)
class Doubts:
    """Compares the tables of one source."""

    mirror: Mirror
    source: ReadsRows
    store: HotStore
    rows: Rows

    def compare(self, table: TableId) -> Found:
        """Read both sides, and what differs again. Raises HtapkitError."""
        schema = self._schema(table)
        with Sides(schema) as sides:
            self._read(sides, _BEFORE, schema, None)
            self._read_here(sides, schema)
            doubts = sides.unequal(_BEFORE, _HERE, DOUBTS_MAX + 1)
            counts = sides.rows(_BEFORE), sides.rows(_HERE)
        if doubts.num_rows > DOUBTS_MAX:
            return Found(*counts, _shown(_keys(doubts)), more=True, restless=0)
        once: set[Key] = set()
        twice: set[Key] = set()
        for _ in range(ROUNDS_MAX):
            if doubts.num_rows == len(twice):
                break
            doubts, different = self._round(schema, doubts)
            once, twice = different, once & different
        restless = doubts.num_rows - len(twice)
        return Found(*counts, _shown(twice), more=False, restless=restless)

    def _schema(self, table: TableId) -> TableSchema:
        schema = self.store.catalog.readable(table)
        if schema is None:
            raise CatalogChanged(f"{table} is not followed any more; try again")
        return schema

    def _round(self, schema: TableSchema, doubts: pa.Table) -> tuple[pa.Table, set[Key]]:
        """(the rows that are still in doubt, which of them are a difference by this reading)."""
        with Sides(schema, doubts) as sides:
            self._read(sides, _BEFORE, schema, doubts)
            self._read_here(sides, schema)
            self._read(sides, _AFTER, schema, doubts)
            most = doubts.num_rows
            left = _keys(sides.unequal(_BEFORE, _HERE, most))
            left &= _keys(sides.unequal(_HERE, _AFTER, most))
            different = left - _keys(sides.unequal(_BEFORE, _AFTER, most))
        wanted = [key in left for key in _ordered(doubts)]
        return doubts.filter(pa.array(wanted, pa.bool_())), different

    def _read(self, sides: Sides, side: str, schema: TableSchema, keys: pa.Table | None) -> None:
        """The source's rows, less those that are too old to be kept here."""
        horizon = self.store.catalog.tables[schema.table].horizon
        sides.begin(side)
        for batch in self.source.rows(schema, keys):
            sides.take(side, less_old(schema, horizon, batch))

    def _read_here(self, sides: Sides, schema: TableSchema) -> None:
        """The copy's, once it has all that was acknowledged before this call."""
        self.mirror.freshness.wait_strong(PASS_SECONDS)
        self.store.maintain()  # what has expired goes
        with self.store.moment() as moment:
            if moment.catalog.readable(schema.table) != schema:
                raise CatalogChanged(f"{schema.table} or its columns changed meanwhile; try again")
            sides.begin(_HERE)
            for batch in moment.batches(self.rows(moment.catalog, schema.table)):
                sides.take(_HERE, batch)


def _ordered(keys: pa.Table) -> Iterable[Key]:
    try:
        return [tuple(row.values()) for row in keys.to_pylist()]
    except (ValueError, OverflowError) as error:  # a date that Python does not have
        raise LookupRefused(f"a row that differs cannot be asked for by its key: {error}") from None


def _keys(found: pa.Table) -> set[Key]:
    return set(_ordered(found))


def _shown(keys: Iterable[Key]) -> tuple[str, ...]:
    return tuple(sorted(", ".join("NULL" if v is None else str(v) for v in key) for key in keys))
