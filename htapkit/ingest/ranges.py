"""Copying a table that is too large for one snapshot: some ranges of keys at a time.

Each step opens a snapshot at a position S, reads as many ranges as there are readers and lets it
go; then what was staged is folded into the ranges that are in the copy. So neither a snapshot at
the source nor what is kept aside here lasts longer than a step. Finished ranges survive a restart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial, reduce
from typing import Protocol

import pyarrow as pa
import structlog

from htapkit import failpoints
from htapkit.errors import CatalogChanged, SourceUnavailable, TableSetAside
from htapkit.hot import HotStore
from htapkit.hot.ranges import KeyRange, RangedCopy
from htapkit.model import Broken, Position, SchemaChange, Split, TableId, TableState
from htapkit.spi import Discovered, Ranged, Snapshot, Source

_log = structlog.get_logger("htapkit.ingest")
_FINISH_SECONDS = 60.0
_AGAIN_MAX = 20


class BetweenBatches(Protocol):
    """Runs something on the follower between two batches."""

    def __call__(self, work: Callable[[], object], timeout_seconds: float = ...) -> object:
        """Run it and give its result."""
        ...


@dataclass(frozen=True, slots=True)
class CopyLimits:
    """How tables are copied."""

    readers: int = 2  # that read one table at the same time
    range_rows: int = 20_000_000  # larger tables are copied range by range, if the source can


Counted = Callable[[Snapshot, Split], Iterator[pa.RecordBatch]]


class RangeCopier:
    """Copies tables range by range. One thread calls it."""

    def __init__(
        self,
        name: str,
        source: Source,
        store: HotStore,
        *,
        limits: CopyLimits,
        between_batches: BetweenBatches,
        reach: Callable[[Position], object],
        counted: Counted,
    ) -> None:
        """`counted` reads and keeps count; for the rest see `Copier`."""
        self._name = name
        self._source = source
        self._ranged = source if isinstance(source, Ranged) else None
        self._store = store
        self._limits = limits
        self._between = between_batches
        self._reach = reach
        self._counted = counted
        self._again: Counter[TableId] = Counter()

    def chosen(self, tables: Sequence[TableId]) -> dict[TableId, Sequence[Split]]:
        """Those of the tables that are copied range by range, with the ranges of a new copy.

        Raises SourceError.
        """
        if self._ranged is None:
            return {}
        begun = [table for table in tables if self._is_ranged(table)]
        restless = {table for table, count in self._again.items() if count > _AGAIN_MAX}
        others = [table for table in tables if table not in begun and table not in restless]
        cut = self._ranged.ranges(others, self._limits.range_rows) if others else {}
        return {**dict.fromkeys(begun, ()), **cut}

    def _is_ranged(self, table: TableId) -> bool:
        """Whether such a copy of it has begun; that of a reconciled table is in parts."""
        copy = self._store.copying.ranged(table)
        return copy is not None and not copy.schema.reconciled

    def step(self, table: TableId, splits: Sequence[Split]) -> bool:
        """Go on with a table; whether it follows now.

        Raises UnfaithfulValue, TableSetAside, CatalogChanged (finished ranges stay), SourceError.
        """
        assert self._ranged is not None
        covers, copying = self._source.positions.covers, self._store.copying
        copy = copying.ranged(table)
        if copy is None or copy.left or copy.in_doubt:
            if copy is not None and self._restless(table, copy):
                return False
            if not self._read(table, splits):
                return False
            copying.fold(table, covers, self._ranged.place)
            copy = copying.ranged(table)
        if copy is None or copy.left or copy.in_doubt:
            return False
        failpoints.reach("copy.loaded")
        positions = [r.position for r in copy.ranges if r.position is not None]
        self._reach(reduce(lambda a, b: a if covers(a, b) else b, positions))
        return copying.finish(table, covers, _FINISH_SECONDS, self._ranged.place)

    def _restless(self, table: TableId, copy: RangedCopy) -> bool:
        """Whether its rows move from range to range too often to be copied like this."""
        self._again[table] += bool(copy.left) and all(each.again for each in copy.left)
        if self._again[table] <= _AGAIN_MAX:
            return False
        why = "rows move from range to range too often: it is copied at one position"
        self._between(lambda: self._store.copy_again(table, why))
        return True

    def _read(self, table: TableId, splits: Sequence[Split]) -> bool:
        """Read the next ranges under one snapshot; False: the copy begins anew."""
        streamed = self._store.applied(self._name).position
        as_text = {table: self._store.text_columns(table)}
        snapshot = self._source.snapshot([table], as_text)
        try:
            failpoints.reach("copy.snapshot")
            if streamed and not self._source.positions.covers(snapshot.position, streamed):
                raise SourceUnavailable(
                    f"{self._name}: a snapshot at {snapshot.position} is behind the stream at "
                    f"{streamed}; it is taken again"
                )
            copy = self._prepared(snapshot, table, splits)
            if copy is None:
                return False
            if any(each.stale for each in copy.left):
                self._clear(table)
            self._load(snapshot, self._next(copy))
        finally:
            snapshot.close()
        return True

    def _next(self, copy: RangedCopy) -> Sequence[KeyRange]:
        """The ranges to read under one snapshot.

        Those that had to be taken out come last and all at once: rows that move between them then
        bring none of them into doubt again. A few in doubt are read all at once, too.
        """
        if copy.kept:
            return copy.left
        new = [each for each in copy.left if not each.again]
        return new[: self._limits.readers] or copy.left

    def _load(self, snapshot: Snapshot, chosen: Sequence[KeyRange]) -> None:
        with ThreadPoolExecutor(
            self._limits.readers, thread_name_prefix=f"copy-{self._name}"
        ) as pool:
            jobs = [pool.submit(self._load_one, snapshot, each) for each in chosen]
            done, left = wait(jobs, return_when=FIRST_EXCEPTION)
            for job in left:
                job.cancel()
            for job in done:
                job.result()

    def _load_one(self, snapshot: Snapshot, each: KeyRange) -> None:
        table, position = each.split.table, snapshot.position
        batches = self._counted(snapshot, each.split)
        rows = self._store.copying.loading.load(table, batches, each.number, position)
        _log.info("range copied", table=str(table), number=each.number, rows=rows)
        failpoints.reach("copy.range")

    def _prepared(
        self, snapshot: Snapshot, table: TableId, splits: Sequence[Split]
    ) -> RangedCopy | None:
        """The copy, with the snapshot's schema; None: the table must be looked at again."""
        found = found_in(snapshot, table)
        copy = self._store.copying.ranged(table)
        if copy is None:
            return self._begun(snapshot, found, splits)
        change = self._source.compare(copy.schema, copy.fingerprint, found)
        if change is not None and not (isinstance(change, SchemaChange) and change.faithful):
            why = self._kept(copy, found, change)
            if not why:
                return self._store.copying.ranged(table)
            self._between(lambda: self._store.copy_again(table, why))
            return None
        if copy.schema != found.schema:
            if copy.kept:  # the fingerprint of what is kept would be lost
                why = "its columns changed while a part of it was copied again"
                self._between(lambda: self._store.copy_again(table, why))
                return None
            self._evolve(snapshot, found)
            copy = self._store.copying.ranged(table)
            if copy is None or copy.schema != found.schema:
                raise CatalogChanged(f"{table} changed its columns while it was copied")
        before = copy.fingerprint
        self._store.copying.keeping.note_fingerprint(table, before, found.fingerprint)
        return copy

    def _kept(self, copy: RangedCopy, found: Discovered, change: SchemaChange | Broken) -> str:
        """Begin a copy again that began with the table's rows, with fewer; or why it cannot be.

        `change` is since the copy began.
        """
        table, before = copy.schema.table, copy.fingerprint
        if not copy.kept:
            return change.why
        whole = self._source.compare(copy.schema, self._store.fingerprint(table), found)
        why = "partitions came and went while a part of it was copied again"
        if not isinstance(whole, Broken) or whole.doubt is None:
            return whole.why if whole is not None and whole.why else why
        if not copy.in_doubt and (
            change.doubt is None or not change.doubt.tokens <= whole.doubt.tokens
        ):
            return why
        keeping = self._store.copying.keeping
        return "" if keeping.less(table, before, found.fingerprint, whole.doubt) else why

    def _clear(self, table: TableId) -> None:
        assert self._ranged is not None
        covers = self._source.positions.covers
        try:
            self._store.copying.keeping.clear(table, covers, self._ranged.place)
        except CatalogChanged as error:
            why = str(error)
            self._between(lambda: self._store.copy_again(table, why))
            raise

    def _begun(
        self, snapshot: Snapshot, found: Discovered, splits: Sequence[Split]
    ) -> RangedCopy | None:
        if not agrees(self._source, self._store, self._between, found):
            return None
        copying = self._store.copying
        copying.start(found.schema, found.fingerprint, snapshot.position, splits)
        return copying.ranged(found.schema.table)

    def _evolve(self, snapshot: Snapshot, found: Discovered) -> None:
        """Bring the copy to the snapshot's schema, which the ranges to come will have."""
        assert self._ranged is not None
        change = SchemaChange(found.schema, faithful=True)
        self._reach(snapshot.position)
        self._between(partial(self._store.change_schema, change, found.fingerprint))
        covers = self._source.positions.covers
        self._store.copying.fold(found.schema.table, covers, self._ranged.place)


def found_in(snapshot: Snapshot, table: TableId) -> Discovered:
    """The table as it is inside the snapshot. Raises CatalogChanged, TableSetAside."""
    found = snapshot.tables.get(table)
    if found is None:
        raise CatalogChanged(f"{table} is no longer at the source")
    if found.problem:
        raise TableSetAside(table, found.problem)
    return found


def agrees(
    source: Source, store: HotStore, between_batches: BetweenBatches, found: Discovered
) -> bool:
    """Whether what is kept aside is of the table in the snapshot: it has that one's schema.

    Of a reconciled table no change is known to be in the copy, so nothing else may have become of
    it either: a TRUNCATE. If not, stage anew with that one.
    """
    table, schema = found.schema.table, found.schema
    status = store.catalog.tables.get(table)
    if status is None or status.state is not TableState.COPYING:
        return False
    change = None
    if schema.reconciled:
        change = source.compare(status.schema, store.fingerprint(table), found)
    if change is None and status.schema == schema:
        return True
    why = change.why if change is not None else ""
    between_batches(lambda: store.add_table(schema, found.fingerprint, why))
    return False
