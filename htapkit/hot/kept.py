"""A new copy that begins with the rows that the table has, where only some ranges are in doubt.

The table's rows become the copy, as of the position that they stand at; the ranges in doubt are
read as those of a very large table are, and changes are brought in as there. Until it is finished
there is no table: the source answers. Never begins or commits.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from htapkit.hot import ranges
from htapkit.hot.names import quote, relation, shadow_name
from htapkit.hot.ranges import RangedCopy
from htapkit.hot.records import Copy, Record
from htapkit.hot.transactions import Transaction
from htapkit.model import Doubt, Position, SchemaChange, TableId, TableState

_log = logging.getLogger(__name__)


def keep(
    transaction: Transaction,
    table: TableId,
    why: str,
    fingerprint: str,
    doubt: Doubt,
    position: Position | None,
) -> bool:
    """Begin such a copy; False: the whole table must be copied.

    The table's rows are as of `position`. The record keeps the fingerprint that they had.
    """
    record = transaction.record(table)
    if record is None or record.state is not TableState.FOLLOWING or not record.complete:
        return False
    # The lake's part and an archive know the table's rows, and not those of a copy.
    if record.boundary is not None or record.keeps or not record.schema.key or position is None:
        return False
    _log.warning("table is in doubt", extra={"table": str(table), "why": why})
    transaction.void(table, f"does not follow any more: {why}")
    generation = record.generation + 1
    name = relation(table)
    transaction.writer.forget(name)
    renamed = quote(shadow_name(table, generation))
    transaction.cursor.execute(f"ALTER TABLE {name} RENAME TO {renamed}").fetchall()
    kept = replace(
        record.stopped(TableState.COPYING, why, position),
        complete=False,
        generation=generation,
        copy=Copy(record.schema, fingerprint, position),
    )
    transaction.put(kept)
    _plan(transaction, kept, doubt)
    return True


def keep_less(
    transaction: Transaction, record: Record, before: str, fingerprint: str, doubt: Doubt
) -> bool:
    """Begin such a copy again, where more is in doubt: against the fingerprint of the record.

    `before` is the copy's own that this was found with.
    """
    copy = made_so(transaction, record)
    if copy is None or record.copy is None or copy.fingerprint != before:
        return False
    if not doubt.tokens >= {r.split.token for r in copy.ranges if not r.kept}:
        return False  # what was in doubt, and may have been read, is not any more
    if not doubt.tokens >= ranges.told(before):
        return False  # something came and went, which the record's fingerprint does not know
    record = replace(record, copy=replace(record.copy, fingerprint=fingerprint))
    transaction.put(record)
    _plan(transaction, record, doubt)
    return True


def doubt_all(
    transaction: Transaction, record: Record, position: Position | None, doubt: Doubt
) -> bool:
    """What such a copy has read is in doubt, too; False: there is none. Whoever reads asks what."""
    if made_so(transaction, record) is None or record.copy is None:
        return False
    fingerprint = ranges.in_doubt(record.copy.fingerprint, position, doubt.tokens)
    transaction.put(replace(record, copy=replace(record.copy, fingerprint=fingerprint)))
    return True


def knows(transaction: Transaction, record: Record, change: SchemaChange) -> bool:
    """Whether the copy is of the table as it became, in all that the change has in doubt."""
    copied = record.copy.fingerprint if record.copy is not None else record.fingerprint
    if not change.fingerprint or change.fingerprint != copied:
        return False
    read = ranges.read_again(transaction.cursor, record)
    return read is None or (change.doubt is not None and change.doubt.tokens <= read)


def made_so(transaction: Transaction, record: Record) -> RangedCopy | None:
    """The copy of the table, if it is made like this."""
    found = ranges.read(transaction.cursor, record)
    if record.state is not TableState.COPYING or record.copy is None or not found:
        return None
    copy = RangedCopy(record.copy.schema, record.copy.fingerprint, found)
    return copy if copy.kept else None


def _plan(transaction: Transaction, record: Record, doubt: Doubt) -> None:
    """Nothing is to be read of the ranges that are kept: by that they are known."""
    assert record.copy is not None
    cursor = transaction.cursor
    splits = [
        replace(split, rows_estimate=max(split.rows_estimate, 1) if n in doubt.doubtful else 0)
        for n, split in enumerate(doubt.ranges)
    ]
    ranges.plan(cursor, record.table, record.generation, splits)
    for number in range(len(splits)):
        if number in doubt.doubtful:
            ranges.mark(cursor, record, number, None, ranges.STALE)
        else:
            ranges.mark(cursor, record, number, record.copy.position, None)
