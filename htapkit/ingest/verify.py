"""Comparing source and copy, row by row, at ONE position.

The source's rows come from a snapshot at S; the follower stops exactly at S while a moment of the
copy is opened there, in which the tables are read one after the other. Both sides are digested per
chunk of keys by the same function; what differs is named.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import pyarrow as pa

from htapkit.errors import HtapkitError
from htapkit.hot import Digest, HotStore, Moment, less_old
from htapkit.ingest.mirror import Mirror
from htapkit.ingest.repair import Rows
from htapkit.model import Position, TableId
from htapkit.spi import Snapshot

CHUNKS = 64


@dataclass(frozen=True, slots=True)
class Verified:
    """What one table's comparison found."""

    table: str
    equal: bool
    rows_source: int | None  # None: not compared
    rows_copy: int | None
    chunks_different: tuple[int, ...]
    examples: tuple[str, ...]  # keys of rows that differ
    why: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """The result for a source."""

    position: str
    seconds: float
    tables: tuple[Verified, ...]

    @property
    def equal(self) -> bool:
        """Whether every table was compared and is equal."""
        return bool(self.tables) and all(table.equal for table in self.tables)


def verify(mirror: Mirror, store: HotStore, rows: Rows, tables: Sequence[TableId]) -> Verification:
    """Compare these tables (none given: all that follow). Raises SourceError.

    `rows` is the statement that reads all rows of a table of the copy, on a catalog.
    """
    begun = time.monotonic()
    catalog = store.catalog
    following = [
        t for t in sorted(catalog.tables) if t.source == mirror.name and catalog.readable(t)
    ]
    wanted = list(tables) or following
    reconciled = {t for t in following if catalog.tables[t].schema.reconciled}
    results = [
        _not_compared(t, "its source has no moment at which both could be read")
        if t in reconciled
        else _not_compared(t, f"it is not followed now: {_state(store, t)}")
        for t in wanted
        if t in reconciled or t not in following
    ]
    compared = [t for t in wanted if t in following and t not in reconciled]
    with ExitStack() as stack:
        opened: list[Snapshot] = []

        def open_position() -> Position:
            snapshot = mirror.source.snapshot(compared, _as_text(store, compared))
            stack.callback(snapshot.close)
            opened.append(snapshot)
            mirror.source.head.mark("verify")
            return snapshot.position

        def open_moment(_: Position) -> Moment:
            return stack.enter_context(store.moment())

        if compared:
            moment = mirror.held_at(open_position, open_moment)
            assert isinstance(moment, Moment)
            # A lake that cannot be read must not keep the others from being compared.
            compared.sort(key=lambda table: catalog.tables[table].boundary is not None)
            results += [_compare(table, opened[0], moment, rows) for table in compared]
        position = str(opened[0].position) if opened else ""
    seconds = round(time.monotonic() - begun, 2)
    return Verification(position, seconds, tuple(sorted(results, key=lambda r: r.table)))


def _as_text(store: HotStore, tables: Sequence[TableId]) -> Mapping[TableId, frozenset[str]]:
    return {table: store.text_columns(table) for table in tables}


def _state(store: HotStore, table: TableId) -> str:
    status = store.catalog.tables.get(table)
    return f"{status.state.value} {status.why}".strip() if status else "unknown table"


def _compare(table: TableId, snapshot: Snapshot, moment: Moment, rows: Rows) -> Verified:
    """Of the source only what the copy keeps is compared."""
    catalog, found = moment.catalog, snapshot.tables.get(table)
    schema = catalog.readable(table)
    if schema is None or found is None or found.schema != schema:
        return _not_compared(table, "it or its columns changed meanwhile; try again")
    horizon = catalog.tables[table].horizon
    try:
        with Digest(schema, CHUNKS) as source, Digest(schema, CHUNKS) as copy:
            for batch in _rows(snapshot, table):
                source.add(less_old(schema, horizon, batch))
            for batch in moment.batches(rows(catalog, table)):
                copy.add(batch)
            different = source.different(copy)
            examples = source.examples(copy, different) if different else ()
            return Verified(
                str(table), not different, source.rows, copy.rows, tuple(different), tuple(examples)
            )
    except HtapkitError as error:
        return _not_compared(table, str(error))


def _not_compared(table: TableId, why: str) -> Verified:
    return Verified(
        str(table),
        equal=False,
        rows_source=None,
        rows_copy=None,
        chunks_different=(),
        examples=(),
        why=why,
    )


def _rows(snapshot: Snapshot, table: TableId) -> Iterator[pa.RecordBatch]:
    for split in snapshot.splits(table):
        yield from snapshot.read(split)
