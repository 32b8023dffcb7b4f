"""Comparing source and copy, row by row, at ONE position.

The source's rows come from a snapshot at S; the follower stops exactly at S while one read of the
copy is opened there. Both are digested per chunk of keys by the same function; what differs is
named.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import pyarrow as pa

from htapkit.errors import HtapkitError
from htapkit.hot import Digest, HotStore, Read, less_old
from htapkit.ingest.mirror import Mirror
from htapkit.model import Horizon, Position, TableId, TableSchema
from htapkit.spi import Snapshot

CHUNKS = 64

Whole = Callable[[TableId], Read]


@dataclass(frozen=True, slots=True)
class Verified:
    """What one table's comparison found."""

    table: str
    equal: bool
    rows_source: int
    rows_copy: int
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


def verify(
    mirror: Mirror, store: HotStore, whole: Whole, tables: Sequence[TableId]
) -> Verification:
    """Compare these tables (none given: all that follow). Raises SourceError.

    `whole` starts reading all rows of a table of the copy, in one snapshot.
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

        def open_reads(_: Position) -> list[Read]:
            return [stack.enter_context(whole(table)) for table in compared]

        if compared:
            reads = mirror.held_at(open_position, open_reads)
            assert isinstance(reads, list)
            for table, read in zip(compared, reads, strict=True):
                before, after = catalog.tables[table], store.catalog.tables.get(table)
                if after is None or after.horizon != before.horizon:
                    results.append(_not_compared(table, "its horizon moved meanwhile; try again"))
                    continue
                results.append(_compare(before.schema, before.horizon, opened[0], read))
        position = str(opened[0].position) if opened else ""
    seconds = round(time.monotonic() - begun, 2)
    return Verification(position, seconds, tuple(sorted(results, key=lambda r: r.table)))


def _as_text(store: HotStore, tables: Sequence[TableId]) -> Mapping[TableId, frozenset[str]]:
    return {table: store.text_columns(table) for table in tables}


def _state(store: HotStore, table: TableId) -> str:
    status = store.catalog.tables.get(table)
    return f"{status.state.value} {status.why}".strip() if status else "unknown table"


def _compare(
    schema: TableSchema, horizon: Horizon | None, snapshot: Snapshot, read: Read
) -> Verified:
    """Of the source only what the copy keeps is compared."""
    table = schema.table
    found = snapshot.tables.get(table)
    if found is None or found.schema != schema:
        return _not_compared(table, "its columns changed meanwhile; try again")
    try:
        with Digest(schema, CHUNKS) as source, Digest(schema, CHUNKS) as copy:
            for batch in _rows(snapshot, table):
                source.add(less_old(schema, horizon, batch))
            for batch in read.batches():
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
        rows_source=0,
        rows_copy=0,
        chunks_different=(),
        examples=(),
        why=why,
    )


def _rows(snapshot: Snapshot, table: TableId) -> Iterator[pa.RecordBatch]:
    for split in snapshot.splits(table):
        yield from snapshot.read(split)
