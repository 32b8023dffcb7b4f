"""The copy of a source as what a feed reads: its journal, and its rows at one entry of that.

For sources that have no order of their own, and say everything as often as they have replicas: in
the copy each change of a row is there once, in an order. A position is the number of an entry.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyarrow as pa

from htapkit.errors import SourceUnavailable, StoreError
from htapkit.hot import Applied, Entry, HotStore, last_entry
from htapkit.ingest.repair import Rows
from htapkit.model import (
    ChangeBatch,
    Position,
    RowChanges,
    SchemaChange,
    Split,
    TableId,
    TableSchema,
    TableState,
)
from htapkit.spi import Discovered

_BATCH_BYTES = 8 << 20
_CONFIRM_SECONDS = 1.0
_LOOK_SECONDS = 0.5  # rows end without a batch of the source
_ORDERED = "its source keeps one place in its log, which is the copy's"
_STANDS = frozenset({TableState.FOLLOWING, TableState.PAUSED})


def position(number: int) -> Position:
    """Of an entry; the texts' order is that of the numbers."""
    return Position(f"{number:016d}")


class Entries:
    """Compares positions."""

    def covers(self, have: Position, want: Position) -> bool:
        """Whether `have` is as far. ValueError: one is no position."""
        return int(have) >= int(want)


class CopyReader:
    """A `Reader`, which retains: one feed's place in the journal of a source's copy."""

    def __init__(self, store: HotStore, source: str, name: str, rows: Rows) -> None:
        """`name` is the feed's."""
        self.store = store
        self.source = source
        self.name = name
        self.positions = Entries()
        self._rows = rows
        self._watched: frozenset[TableId] = frozenset()

    def identity(self, _known: str = "", _position: Position | None = None, /) -> str:
        """Which server the copy is made from. Raises SourceUnavailable: it is not known yet.

        Another one than was known is the copy's concern: its tables are then other copies.
        """
        found = self.store.identity(self.source)
        if found is None:
            raise SourceUnavailable(f"{self.source} was not attached to yet")
        return found

    def discover(self) -> Sequence[Discovered]:
        """The tables that the copy has."""
        journal = self.store.journal
        found = []
        for table, status in self.store.catalog.tables.items():
            if table.source != self.source:
                continue
            problem = ""
            if not status.schema.reconciled:
                problem = _ORDERED
            elif status.state not in _STANDS:
                problem = f"its copy is {status.state.value}{status.why and ': '}{status.why}"
            found.append(Discovered(ordered(status.schema), journal.fingerprint(table), 0, problem))
        return found

    def compare(
        self, schema: TableSchema, fingerprint: str, now: Discovered
    ) -> SchemaChange | None:
        """What became of a table. A new copy may have other rows without an entry."""
        if fingerprint != now.fingerprint:
            why = "it was copied again"
            return SchemaChange(now.schema, faithful=False, why=why, fingerprint=now.fingerprint)
        return SchemaChange(now.schema, faithful=True) if schema != now.schema else None

    def follow(self, start: Position | None, tables: Sequence[TableSchema]) -> CopyStream:
        """What comes behind an entry. Raises PositionLost, SourceUnavailable."""
        with asked():
            after = None if start is None else int(start)
            at = self.store.journal.follow(self.source, self.name, after)
        self.watch(frozenset(schema.table for schema in tables))
        return CopyStream(self, at)

    def watch(self, tables: frozenset[TableId]) -> None:
        """Have noted what becomes of these tables, and no others."""
        with asked():
            self.store.journal.watch(self.source, self.name, tables)
        self._watched = tables

    def snapshot(
        self, tables: Sequence[TableId], _as_text: Mapping[TableId, frozenset[str]]
    ) -> CopySnapshot:
        """The rows of those of these tables that can be read now."""
        self.watch(self._watched | frozenset(tables))
        return CopySnapshot(self, frozenset(tables), self._rows)

    def retained_bytes(self) -> int:
        """What the journal keeps for this feed."""
        with asked():
            return self.store.journal.kept_bytes(self.source, self.name)

    def spilled_bytes(self) -> int:
        """Nothing."""
        return 0

    def let_go(self) -> None:
        """Keep nothing for this feed any more."""
        with asked():
            self.store.journal.let_go(self.source, self.name)

    def detach(self) -> None:
        """Keep nothing for this feed any more."""
        self.let_go()

    def close(self) -> None:
        """There is nothing to let go of: the store is everybody's."""


class CopyStream:
    """A `spi.ChangeStream` of the entries of a journal."""

    def __init__(self, reader: CopyReader, at: int) -> None:
        """Begin behind an entry."""
        self._reader = reader
        self._at = at
        self._tell = True  # where it stands, with or without an entry
        self._closed = threading.Event()
        self._gather_seconds = 0.0
        self._given_at = self._confirmed_at = float("-inf")  # monotonic clock
        self._confirmed = at
        self._to_confirm = at

    def next(self, timeout_seconds: float) -> ChangeBatch | None:
        """Some entries; each is what one transaction of the copy did. Raises SourceUnavailable."""
        store, source = self._reader.store, self._reader.source
        deadline = time.monotonic() + timeout_seconds
        with asked():
            while not self._closed.is_set():
                seen = store.applied(source).position
                self._closed.wait(self._given_at + self._gather_seconds - time.monotonic())
                found = store.journal.read(source, self._at, _BATCH_BYTES)
                if found or self._tell:
                    return self._batch(found)
                self._confirm_if_due()
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                store.wait_applied(source, _other_than(seen), min(left, _LOOK_SECONDS))
        return None

    def confirm(self, position: Position) -> None:
        """The sink has all up to here; the file is told now and then."""
        self._to_confirm = int(position)
        with asked():
            self._confirm_if_due()

    def nudge(self) -> None:
        """Have the next batch at once, with or without changes."""
        self._tell = True

    def gather(self, seconds: float) -> None:
        """Look for entries no sooner than so long after the last ones."""
        self._gather_seconds = seconds

    def expect(self, tables: Sequence[TableSchema]) -> None:
        """Have noted what becomes of these tables, and no others."""
        self._reader.watch(frozenset(schema.table for schema in tables))

    def lag_bytes(self) -> int:
        """Bytes of entries that were not given yet."""
        with asked():
            return self._reader.store.journal.bytes_after(self._reader.source, self._at)

    def close(self) -> None:
        """Give nothing more."""
        self._closed.set()

    def _batch(self, found: Sequence[Entry]) -> ChangeBatch:
        self._tell = False
        self._given_at = time.monotonic()
        if found:
            self._at = found[-1].number
        end = position(self._at)
        return ChangeBatch(
            self._reader.source,
            tuple(_numbered(entry, index) for index, entry in enumerate(found)),
            tuple(position(entry.number) for entry in found),
            end,
            None,
            times=tuple(entry.noted_at for entry in found),
        )

    def _confirm_if_due(self) -> None:
        now = time.monotonic()
        if self._to_confirm > self._confirmed and now - self._confirmed_at >= _CONFIRM_SECONDS:
            reader = self._reader
            reader.store.journal.confirm(reader.source, reader.name, self._to_confirm)
            self._confirmed, self._confirmed_at = self._to_confirm, now


class CopySnapshot:
    """A `spi.Snapshot` of a source's copy: all of it as of one entry."""

    def __init__(self, reader: CopyReader, tables: frozenset[TableId], rows: Rows) -> None:
        """Raises SourceUnavailable."""
        self._rows = rows
        with asked():
            self._moment = reader.store.moment()
            catalog = self._moment.catalog
            try:
                (last,) = self._moment.batches(last_entry(reader.source))
            except BaseException:
                self.close()
                raise
        self.position = position(int(last.column(0)[0].as_py()))
        self.tables = {
            found.schema.table: found
            for found in reader.discover()
            if found.schema.table in tables and catalog.readable(found.schema.table) is not None
        }

    def splits(self, table: TableId) -> Sequence[Split]:
        """One."""
        return [Split(table, "", self._moment.catalog.tables[table].rows)]

    def read(self, split: Split) -> Iterator[pa.RecordBatch]:
        """Its rows. Raises CatalogChanged, LakeFailed, SourceUnavailable."""
        with asked():
            yield from self._moment.batches(self._rows(self._moment.catalog, split.table))

    def close(self) -> None:
        """End the moment."""
        self._moment.close()


def _other_than(seen: Position | None) -> Callable[[Applied], bool]:
    return lambda applied: applied.position != seen


def ordered(schema: TableSchema) -> TableSchema:
    """A reconciled table as who reads the journal sees it: one of rows, which change in order."""
    return dataclasses.replace(schema, reconciled=False)


@contextmanager
def asked() -> Iterator[None]:
    """What the store cannot do now, a feed tries again."""
    try:
        yield
    except StoreError as error:
        raise SourceUnavailable(str(error)) from error


def _numbered(entry: Entry, index: int) -> RowChanges | SchemaChange:
    """The change, as the one of that commit."""
    change = entry.change
    if isinstance(change, SchemaChange):
        return dataclasses.replace(change, schema=ordered(change.schema))
    commit = pa.array([index] * len(change.commit), pa.int32())
    return dataclasses.replace(change, commit=commit)
