"""Reading a range of one table again from the source, and correcting the copy by it.

The source's rows come from a snapshot at S. The follower stops exactly at S while the table is
paused there, so that its rows and the snapshot are of one position; what comes after is kept
aside and replayed on the corrected rows. The source answers for the table meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import structlog

from htapkit import failpoints
from htapkit.errors import CatalogChanged
from htapkit.hot import Asked, Difference, HotStore, Moment, less_old
from htapkit.ingest.mirror import REPAIRING, Mirror
from htapkit.model import Catalog, Op, Position, TableId, TableState
from htapkit.spi import Snapshot

_log = structlog.get_logger("htapkit.ingest")
Progress = Callable[[str, int, int], None]
Rows = Callable[[Catalog, TableId], Asked]  # a statement that reads all rows of a table


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did: how many rows of the source were compared, and what was wrong."""

    table: str
    position: str
    rows: int
    missing: int  # rows that the copy did not have
    different: int
    surplus: int  # rows that the source does not have


@dataclass(frozen=True, slots=True)
class Span:
    """Rows of a table with a time in [lower, upper), in microseconds since 1970."""

    table: TableId
    column: int  # the ordinal of the time column
    lower: int | None
    upper: int | None


def repair(mirror: Mirror, store: HotStore, rows: Rows, span: Span, progress: Progress) -> Repaired:
    """Make the copy's rows of a span those of the source. The table has a key.

    Raises CatalogChanged (the table does not follow, or changed meanwhile), SourceError, and what
    the store raises. Where the copy turns out not to be what it says of itself, the table is copied
    again.
    """
    table = span.table
    schema = store.catalog.readable(table)
    if schema is None:
        raise CatalogChanged(f"{table} is not followed now; see htapkit status")
    with ExitStack() as stack:
        opened: list[Snapshot] = []

        def open_position() -> Position:
            text = {table: store.text_columns(table)}
            snapshot = mirror.source.snapshot([table], text)
            stack.callback(snapshot.close)
            opened.append(snapshot)
            mirror.source.head.mark("backfill")
            return snapshot.position

        def stop_there(_: Position) -> Moment:
            moment = stack.enter_context(store.moment())
            store.set_state(table, TableState.PAUSED, REPAIRING)
            return moment

        moment = mirror.held_at(open_position, stop_there)
        assert isinstance(moment, Moment)
        failpoints.reach("repair.paused")
        try:
            snapshot = opened[0]
            found = snapshot.tables.get(table)
            if found is None or found.schema != schema:
                raise CatalogChanged(f"{table}: its columns changed meanwhile; try again")
            difference = Difference(schema, span.column, span.lower, span.upper)
            with difference:
                asked = rows(moment.catalog, table)
                difference.copy(_told(moment.batches(asked), f"reading {table} here", progress))
                # While it is paused, its horizon stands still, too.
                horizon = store.catalog.tables[table].horizon
                theirs = (less_old(schema, horizon, batch) for batch in _rows(snapshot, table))
                difference.source(_told(theirs, f"reading {table} at the source", progress))
                difference.elsewhere(moment.batches(asked))
                done = np.zeros(len(Op), np.int64)
                for changes in difference.changes():
                    store.correct(changes, schema)
                    failpoints.reach("repair.corrected")
                    done += np.bincount(changes.ops.to_numpy(), minlength=len(Op))
                compared = difference.rows()
        finally:
            again = _resume(mirror, store, table)
    if again:
        raise CatalogChanged(f"{table} is now copied again as a whole: {again}")
    counts = [int(n) for n in done]
    _log.info("range read again", table=str(table), rows=compared, changed=sum(counts))
    return Repaired(str(table), str(snapshot.position), compared, *counts)


def present_rows(
    mirror: Mirror, store: HotStore, rows: Rows, table: TableId
) -> Iterator[pa.RecordBatch]:
    """All rows that the source has now: the copy's, or where that lacks old ones, the source's own.

    Raises CatalogChanged, SourceError, and what the store raises.
    """
    status = store.catalog.tables.get(table)
    if status is None or store.catalog.readable(table) is None:
        raise CatalogChanged(f"{table} is not followed now; see htapkit status")
    if status.horizon is None:
        with store.moment() as moment:
            yield from moment.batches(rows(moment.catalog, table))
        return
    snapshot = mirror.source.snapshot([table], {table: store.text_columns(table)})
    try:
        found = snapshot.tables.get(table)
        if found is None or found.schema != status.schema:
            raise CatalogChanged(f"{table}: its columns changed meanwhile; try again")
        yield from _rows(snapshot, table)
    finally:
        snapshot.close()


def _resume(mirror: Mirror, store: HotStore, table: TableId) -> str:
    """Follow it again; why that cannot be, or ""."""
    status = store.catalog.tables.get(table)
    if status is None or status.why != REPAIRING:
        return status.why if status is not None and status.state is TableState.COPYING else ""
    mirror.resume(table)
    return ""


def _rows(snapshot: Snapshot, table: TableId) -> Iterator[pa.RecordBatch]:
    for split in snapshot.splits(table):
        yield from snapshot.read(split)


def _told(
    batches: Iterator[pa.RecordBatch], step: str, progress: Progress
) -> Iterator[pa.RecordBatch]:
    done = 0
    for batch in batches:
        yield batch
        done += batch.num_rows
        progress(step, done, 0)
