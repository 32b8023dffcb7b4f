"""Moves the horizon of tables: rows that are too old leave the hot store and are not read again.

What the lake has of them is hidden by the same transaction; it is taken out of there by others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from htapkit.errors import CatalogChanged, StoreError
from htapkit.hot.applier import Applying
from htapkit.hot.core import Core
from htapkit.hot.names import relation, statement
from htapkit.hot.reconciled import check_leaves
from htapkit.hot.times import in_range, time_column
from htapkit.model import Horizon, TableId, TableState


@dataclass(frozen=True, slots=True)
class Retention:
    """The horizons of one store's tables."""

    core: Core

    def retain(self, table: TableId, horizon: Horizon) -> int:
        """Drop what is below it; how many hot rows that were."""
        with self.core.alone(table.source) as transaction:
            record = transaction.record(table)
            if record is None or record.state is not TableState.FOLLOWING:
                state = "unknown" if record is None else record.state.value
                raise CatalogChanged(f"{table} is {state}; old rows can be dropped when it follows")
            check_leaves(record.schema, horizon.column)
            for former in (record.horizon, record.boundary):
                if former is not None and former.column != horizon.column:
                    raise StoreError(
                        f"{table} was cut by another time column; `htapkit resync` copies it again"
                    )
            if record.horizon is not None and record.horizon.since >= horizon.since:
                return 0
            old = in_range(time_column(record.schema, horizon.column), None, horizon.since)
            text = f"{statement('delete_all', table=relation(table))} WHERE {old}"
            count = int(transaction.cursor.execute(text).fetchall()[0][0])
            transaction.evicted(table, count)
            if record.schema.reconciled:
                cells = transaction.writer.reconciled(record.schema, record.generation)
                cells.drop_below(horizon)
            transaction.put(replace(record, horizon=horizon))
            return count

    def copy_again(self, table: TableId, horizon: Horizon | None, why: str) -> None:
        """The table waits for a new copy, which has all that is above this horizon."""
        with self.core.alone(table.source) as transaction:
            record = transaction.record(table)
            if record is None:
                raise CatalogChanged(f"{table} is not known to the hot store")
            position = self.core.progress.applied(table.source).position
            Applying(transaction, position, 0).copy_again(table, why, exact=True)
            record = transaction.record(table)
            assert record is not None
            transaction.put(replace(record, horizon=horizon))
