"""Brings cells into reconciled tables, and tells the journal what became of their rows.

Never begins or commits.
"""

from __future__ import annotations

from collections.abc import Sequence

from htapkit.hot.collapse import NotConsistent
from htapkit.hot.horizon import young_changes
from htapkit.hot.noting import note_rows
from htapkit.hot.reconciled import Remade
from htapkit.hot.records import Record
from htapkit.hot.transactions import Transaction
from htapkit.model import CellChanges, TableId


def put_cells(transaction: Transaction, table: TableId, changes: Sequence[CellChanges]) -> None:
    """Bring cells and deletions into a table that follows, or is complete."""
    record = transaction.record(table)
    assert record is not None
    if not record.schema.reconciled:
        raise NotConsistent("cells came for a table that has rows")
    reconciled = transaction.writer.reconciled(record.schema, record.generation)
    patches, horizon = transaction.patches(record.schema), record.horizon
    young = [young_changes(record.schema, horizon, change) for change in changes]
    now, watched = transaction.writer.clock(), transaction.watches(table)
    _became(transaction, record, reconciled.apply(young, now, patches, horizon, watched=watched))


def end_cells(transaction: Transaction, record: Record) -> None:
    """Make the rows anew of which a cell is over: no change will ever say so."""
    reconciled = transaction.writer.reconciled(record.schema, record.generation)
    now, watched = transaction.writer.clock(), transaction.watches(record.table)
    _became(transaction, record, reconciled.expire(now, watched=watched))


def _became(transaction: Transaction, record: Record, made: Remade) -> None:
    transaction.changed(record.table, made.gone, made.came)
    if made.changed is not None:
        note_rows(transaction, record.schema, made.changed)
