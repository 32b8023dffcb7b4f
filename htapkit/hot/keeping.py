"""Copies that are made range by range: what is noted of them, and those that begin with most rows.

See `kept`. One thread at a time makes a table's copy; others may bring more of it into doubt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from htapkit.errors import CatalogChanged
from htapkit.hot import ranges
from htapkit.hot.collapse import NotConsistent
from htapkit.hot.core import Core
from htapkit.hot.kept import keep, keep_less
from htapkit.hot.replay import Place, RangedReplay
from htapkit.hot.staging import Covers
from htapkit.model import Doubt, TableId


@dataclass(frozen=True, slots=True)
class Keeping:
    """The copies of one store."""

    core: Core

    def begin(self, table: TableId, why: str, fingerprint: str, doubt: Doubt) -> bool:
        """Copy only the ranges in doubt of a table that follows; False: copy all of it.

        Call it between two batches. The source answers for the table until that is done.
        """
        with self.core.operation(table.source) as transaction:
            if transaction.batches:
                return False  # some of a large transaction's changes are in the table
            position = self.core.progress.applied(table.source).position
            return keep(transaction, table, why, fingerprint, doubt, position)

    def less(self, table: TableId, before: str, now: str, doubt: Doubt) -> bool:
        """More is in doubt, against the table's fingerprint; False: copy all of it.

        `before` and `now` are the copy's. Not while rows are loaded.
        """
        with self.core.operation(table.source) as transaction:
            record = transaction.record(table)
            return record is not None and keep_less(transaction, record, before, now, doubt)

    def note_fingerprint(self, table: TableId, before: str, now: str) -> None:
        """The next ranges are read from a table that has another fingerprint."""
        with self.core.operation(table.source) as transaction:
            record = transaction.record(table)
            copy = record.copy if record is not None else None
            # Not where it came into doubt since.
            if record is not None and copy is not None and copy.fingerprint == before != now:
                transaction.put(replace(record, copy=replace(copy, fingerprint=now)))

    def clear(self, table: TableId, covers: Covers, place: Place) -> None:
        """Take out the rows of the ranges in doubt. Raises CatalogChanged (copy all of it)."""
        with self.core.operation(table.source) as transaction:
            record = transaction.record(table)
            found = ranges.read(transaction.cursor, record) if record is not None else ()
            if record is None or record.copy is None or not any(r.stale for r in found):
                return
            replay = RangedReplay(transaction, record, list(found), covers, place)
            stale = [each.number for each in found if each.stale]
            try:
                replay.take_out(record.copy.schema, stale)
            except NotConsistent as error:
                raise CatalogChanged(f"{table}: {error}") from error
            for number in stale:
                ranges.mark(transaction.cursor, record, number, None, None)
