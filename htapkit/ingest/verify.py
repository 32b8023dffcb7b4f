"""Comparing source and copy, row by row, at ONE position.

The source's rows come from a snapshot at S; the follower stops exactly at S while a moment of the
copy is opened there, in which the tables are read one after the other. Both sides are digested per
chunk of keys by the same function; what differs is named. Reconciled tables, whose source has no
such position, are compared row by row (`doubts`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass

import pyarrow as pa

from htapkit.errors import HtapkitError
from htapkit.hot import Digest, HotStore, Keys, Moment, less_old
from htapkit.ingest.beside import Beside, check_history, histories, keys_of, left_out
from htapkit.ingest.doubts import DOUBTS_MAX, Doubts
from htapkit.ingest.mirror import Mirror
from htapkit.ingest.repair import Rows
from htapkit.lookups import ReadsRows
from htapkit.model import Position, TableId, history_of, origin_of
from htapkit.spi import Snapshot

CHUNKS = 64
EXAMPLES_MAX = 10


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
    not_compared: tuple[Beside, ...]  # what no source can be asked about, and what does not follow

    @property
    def equal(self) -> bool:
        """Whether every table was compared and is equal, and no history is damaged."""
        sound = all(beside.sound is not False for beside in self.not_compared)
        return bool(self.tables) and sound and all(table.equal for table in self.tables)


def verify(mirror: Mirror, store: HotStore, rows: Rows, tables: Sequence[TableId]) -> Verification:
    """Compare these tables and look at their histories (none given: all that follow).

    `rows` is the statement that reads all rows of a table of the copy, on a catalog. Raises
    SourceError.
    """
    begun = time.monotonic()
    catalog = store.catalog
    following = [
        t for t in sorted(catalog.tables) if t.source == mirror.name and catalog.readable(t)
    ]
    wanted = list(tables) or following
    reconciled = {t for t in following if catalog.tables[t].schema.reconciled}
    results = [
        _compare_cells(t, mirror, store, rows)
        if t in reconciled
        else _not_compared(t, f"it is not followed now: {_state(store, t)}")
        for t in wanted
        if t in reconciled or t not in following
    ]
    compared = [t for t in wanted if t in following and t not in reconciled]
    beside = [] if tables else list(left_out(catalog, mirror.name))
    with ExitStack() as stack:
        snapshot, moment = _opened(mirror, store, compared, stack)
        left = histories(moment.catalog, mirror.name, tables)
        # A lake that cannot be read must not keep the others from being compared.
        compared.sort(key=lambda t: catalog.tables[t].boundary is not None or history_of(t) in left)
        for table in compared:
            history = history_of(table) if history_of(table) in left else None
            assert snapshot is not None
            verified, looked = _both(table, history, snapshot, moment, rows)
            results.append(verified)
            beside += looked
        for history in left:
            if origin_of(history) not in compared:
                with _keys(moment, history) or nullcontext() as keys:
                    beside.append(check_history(history, moment, rows, keys, source_read=False))
        position = "" if snapshot is None else str(snapshot.position)
    return Verification(
        position,
        round(time.monotonic() - begun, 2),
        tuple(sorted(results, key=lambda r: r.table)),
        tuple(sorted(beside, key=lambda b: b.table)),
    )


def _opened(
    mirror: Mirror, store: HotStore, tables: Sequence[TableId], stack: ExitStack
) -> tuple[Snapshot | None, Moment]:
    """Both sides at one position, until the stack ends; of no tables only the copy's."""
    if not tables:
        return None, stack.enter_context(store.moment())
    opened: list[Snapshot] = []

    def open_position() -> Position:
        snapshot = mirror.source.snapshot(tables, _as_text(store, tables))
        stack.callback(snapshot.close)
        opened.append(snapshot)
        mirror.source.head.mark("verify")
        return snapshot.position

    moment = mirror.held_at(open_position, lambda _: stack.enter_context(store.moment()))
    assert isinstance(moment, Moment)
    return opened[0], moment


def _as_text(store: HotStore, tables: Sequence[TableId]) -> Mapping[TableId, frozenset[str]]:
    return {table: store.text_columns(table) for table in tables}


def _state(store: HotStore, table: TableId) -> str:
    status = store.catalog.tables.get(table)
    return f"{status.state.value} {status.why}".strip() if status else "unknown table"


def _both(
    table: TableId, history: TableId | None, snapshot: Snapshot, moment: Moment, rows: Rows
) -> tuple[Verified, list[Beside]]:
    """A table and the history that it has, if any."""
    if history is None:
        return _compare(table, snapshot, moment, rows), []
    with _keys(moment, history) or nullcontext() as keys:
        verified = _compare(table, snapshot, moment, rows, keys)
        read = verified.rows_source is not None
        return verified, [check_history(history, moment, rows, keys, source_read=read)]


def _keys(moment: Moment, history: TableId) -> Keys | None:
    """For those of a history and of its table; None where they cannot be told apart."""
    table = origin_of(history)
    owner = moment.catalog.tables.get(table) if table is not None else None
    if owner is None:
        return None
    return keys_of(owner.schema, moment.catalog.imported[history].schema)


def _compare(
    table: TableId, snapshot: Snapshot, moment: Moment, rows: Rows, keys: Keys | None = None
) -> Verified:
    """Of the source only what the copy keeps is compared; `keys` gets all that it has."""
    catalog, found = moment.catalog, snapshot.tables.get(table)
    schema = catalog.readable(table)
    if schema is None or found is None or found.schema != schema:
        return _not_compared(table, "it or its columns changed meanwhile; try again")
    horizon = catalog.tables[table].horizon
    try:
        with Digest(schema, CHUNKS) as source, Digest(schema, CHUNKS) as copy:
            for batch in _rows(snapshot, table):
                source.add(less_old(schema, horizon, batch))
                if keys is not None:
                    keys.source(batch)
            for batch in moment.batches(rows(catalog, table)):
                copy.add(batch)
            different = source.different(copy)
            examples = source.examples(copy, different) if different else ()
            return Verified(
                str(table), not different, source.rows, copy.rows, tuple(different), tuple(examples)
            )
    except HtapkitError as error:
        return _not_compared(table, str(error))


def _compare_cells(table: TableId, mirror: Mirror, store: HotStore, rows: Rows) -> Verified:
    """A reconciled table: by what both sides have of each row at some moments."""
    if not isinstance(mirror.source, ReadsRows):
        return _not_compared(table, "its source cannot give its rows")
    try:
        found = Doubts(mirror, mirror.source, store, rows).compare(table)
    except HtapkitError as error:
        return _not_compared(table, str(error))
    why = ""
    if found.more:
        why = f"more than {DOUBTS_MAX} rows differ, or change faster than they can be compared"
    elif found.restless:
        why = f"{found.restless} rows changed each time that they were read"
    return Verified(
        str(table),
        not found.different,
        found.rows_source,
        found.rows_copy,
        (),
        found.different[:EXAMPLES_MAX],
        why,
    )


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
