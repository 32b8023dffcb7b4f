"""Of which tables an archive is kept, on somebody's word, and what is taken out of one.

Never touches a mirrored table's rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa

from htapkit.hot.archive import Archive, follow_archive
from htapkit.hot.core import Core
from htapkit.hot.transactions import Transaction
from htapkit.model import ARCHIVE, TableId


@dataclass(frozen=True, slots=True)
class Archives:
    """The archives of one store.

    Each row that a source deletes of such a table is in the table `archive_of` once, as it was,
    with the time at which its transaction was committed; NULL, where only a new copy of the table
    showed that it is gone.
    """

    core: Core

    def keep(self, tables: frozenset[TableId]) -> None:
        """Keep what is deleted of these tables from now on, and of no others.

        What was archived stays. A table's archive begins when the table first follows.
        """
        self.core.archived = tables
        for table, record in list(self.core.state.records.items()):
            if table.source != ARCHIVE and record.keeps != (table in tables):
                with self.core.operation(table.source) as transaction:
                    self._keep(transaction, table, keeps=table in tables)

    def erase(self, table: TableId, numbers: pa.Array) -> None:
        """Remove the rows with these numbers (int64) from a table's archive. Raises StoreFailed."""
        with self.core.operation(table.source) as transaction:
            Archive(transaction, table).erase(numbers)

    @staticmethod
    def _keep(transaction: Transaction, table: TableId, *, keeps: bool) -> None:
        record = transaction.record(table)
        if record is None or record.schema.reconciled:
            return
        if not keeps and record.former is not None:
            transaction.untier(table, "is not archived any more")
            record = transaction.record(table)
            assert record is not None
        transaction.put(replace(record, keeps=keeps, former=None))
        if keeps and record.complete:
            follow_archive(transaction, record.schema, anew=True)
