"""Rows and cells into copies that are being made, by many threads and without the writer lock.

What is noted of a part becomes durable with its rows, in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from htapkit import failpoints
from htapkit.errors import CatalogChanged, TableSetAside
from htapkit.hot import ranges
from htapkit.hot.core import Core
from htapkit.hot.database import is_fatal
from htapkit.hot.horizon import less_old, young_cells
from htapkit.hot.names import shadow
from htapkit.hot.reconciled import Reconciled
from htapkit.hot.records import Copy, Record, usable
from htapkit.hot.relations import Relation
from htapkit.model import Position, Split, TableId


@dataclass(frozen=True, slots=True)
class _Target:
    """The copy of a table, through a cursor of its own."""

    cursor: duckdb.DuckDBPyConnection
    record: Record
    copy: Copy
    rows: Relation | Reconciled

    def put(self, batches: Iterable[pa.RecordBatch]) -> int:
        """Add them; how many there were."""
        schema, horizon = self.copy.schema, self.record.horizon
        if isinstance(self.rows, Relation):
            return self.rows.insert_all(less_old(schema, horizon, batch) for batch in batches)
        return sum(self.rows.load(young_cells(schema, horizon, batch)) for batch in batches)


@dataclass(frozen=True, slots=True)
class Loading:
    """The copies of one store."""

    core: Core

    def load(
        self,
        table: TableId,
        batches: Iterable[pa.RecordBatch],
        number: int | None = None,
        position: Position | None = None,
    ) -> int:
        """Add rows to the copy, all or none of them; how many there were.

        With a `number` they are that range, as of `position`; both become durable together.
        """
        with self._into(table) as target:
            target.cursor.begin()
            count = target.put(batches)
            if number is not None:
                ranges.mark(target.cursor, target.record, number, position, count)
            target.cursor.commit()
        return count

    def load_parts(
        self, table: TableId, number: int, parts: Iterable[pa.RecordBatch | Split]
    ) -> None:
        """Add the split of that number to a reconciled table's copy, part by part.

        With each Split that comes, what came before it is durable, and that is all of the split
        that is left; at the end none of it is.
        """
        with self._into(table) as target:
            cursor, record = target.cursor, target.record
            (wanted,) = [each for each in ranges.read(cursor, record) if each.number == number]
            count = wanted.rows
            cursor.begin()
            for part in parts:
                if isinstance(part, Split):
                    ranges.shorten(cursor, record, number, part, count)
                    cursor.commit()
                    failpoints.reach("copy.part")
                    cursor.begin()
                else:
                    count += target.put([part])
            ranges.mark(cursor, record, number, target.copy.position, count)
            cursor.commit()
            failpoints.reach("copy.part")

    @contextmanager
    def _into(self, table: TableId) -> Iterator[_Target]:
        """What is not committed within goes with the cursor."""
        core = self.core
        with core.lock:
            core.ensure_open()
            record = usable(core.state.records.get(table), table)
            cursor = core.database.cursor()
        try:
            copy, generation = record.copy, record.generation
            if copy is None:
                raise CatalogChanged(f"no copy of {table} is being made; start one first")
            rows: Relation | Reconciled
            if copy.schema.reconciled:
                rows = Reconciled(cursor, copy.schema, generation)
            else:
                rows = Relation(cursor, shadow(table, generation), copy.schema)
            with core.guarded(), self._refused(record):
                yield _Target(cursor, record, copy, rows)
        finally:
            core.database.release(cursor)

    @contextmanager
    def _refused(self, record: Record) -> Iterator[None]:
        """What DuckDB refuses sets the table aside, unless the copy was given up meanwhile."""
        table = record.table
        try:
            yield
        except (duckdb.Error, pa.ArrowException) as error:
            if is_fatal(error) or isinstance(error, duckdb.OutOfMemoryException):
                raise
            with self.core.lock:  # whoever gave the copy up may not have published it yet
                now = self.core.state.records.get(table)
            if now is None or now.generation != record.generation:
                raise CatalogChanged(f"the copy of {table} was given up") from error
            why = f"its rows cannot be loaded: {str(error).splitlines()[0]}"
            raise TableSetAside(table, why) from error
