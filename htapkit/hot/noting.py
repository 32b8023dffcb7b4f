"""Writes down in the journal what becomes of the rows of tables that somebody watches.

In the transaction in which it becomes so. Never begins or commits.
"""

from __future__ import annotations

import pyarrow as pa

from htapkit.hot.names import statement
from htapkit.hot.seen import OP
from htapkit.hot.staging import Staged, stage_rows, stage_schema
from htapkit.hot.times import microseconds
from htapkit.hot.transactions import Transaction
from htapkit.model import RowChanges, SchemaChange, TableSchema

COPIED = "copied"
_ROWS_MAX = 20_000  # of an entry


def note_rows(transaction: Transaction, schema: TableSchema, changed: pa.Table) -> None:
    """Write down what became of rows, as `Seen.changed` has it."""
    rows = changed.drop_columns([OP])
    for first in range(0, changed.num_rows, _ROWS_MAX):
        some = rows.slice(first, _ROWS_MAX).combine_chunks().to_batches()[0]
        ops = changed.column(OP).slice(first, _ROWS_MAX).combine_chunks()
        commit = pa.array([0] * some.num_rows, pa.int32())
        _add(transaction, stage_rows(RowChanges(schema.table, ops, some, commit)))


def note_schema(transaction: Transaction, schema: TableSchema) -> None:
    """Write down that a table's rows have other columns from here on."""
    _add(transaction, stage_schema(SchemaChange(schema, faithful=True)))


def note_copied(transaction: Transaction, schema: TableSchema) -> None:
    """Write down that a table's rows are those of a new copy."""
    staged = stage_schema(SchemaChange(schema, faithful=True))
    _add(transaction, Staged(staged.table, COPIED, (), staged.payload))


def _add(transaction: Transaction, staged: Staged) -> None:
    payload, table = staged.payload, staged.table
    assert payload is not None
    noted_at = microseconds(transaction.writer.clock())
    row = [table.source, table.schema, table.name, staged.kind, noted_at, len(payload), payload]
    transaction.cursor.execute(statement("journal_add"), row).fetchall()
