"""What a node logged or has in its files, as cells and deletions of the copy. Pure.

One collector for each table gathers changes, in whatever order, until they are taken as one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from htapkit.model import DELETIONS, CellChanges, Column, TableSchema, cells_arrow
from htapkit_cassandra import cql
from htapkit_cassandra.cql import Cql
from htapkit_cassandra.mutations import (
    Cell,
    LogChange,
    PartitionDeletion,
    RangeDeletion,
    RowWrite,
)
from htapkit_cassandra.places import ORDERED, Places, timeuuid

_FLIP = 1 << 63
_TTL_END = 1 << 32
_AS_SHOWN = frozenset({"ascii", "blob", "text", "varchar"})  # texts sort as the node's bytes do


@dataclass(frozen=True, slots=True)
class Layout:
    """A table with what it takes to read the node's bytes of it."""

    schema: TableSchema
    types: Mapping[str, Cql]
    places: Places


def time_rank(written: int) -> bytes:
    """Sorts as the time of a write does."""
    return (written + _FLIP).to_bytes(8, "big")


def cell_rank(cell: Cell) -> bytes:
    """`Cell.rank` less the value; with the value behind it, its bytes sort the same."""
    written, ends, gone, expires, shorter, _ = cell.rank
    lives = (_TTL_END + shorter).to_bytes(4, "big") if shorter else b""  # all of this kind have one
    until = expires.to_bytes(8, "big") if ends else b""
    return time_rank(written) + bytes([ends, gone]) + until + lives


def deletion_rank(deleted: int) -> bytes:
    """Above all that was written at that time or before."""
    return time_rank(deleted) + b"\xff"


class Collector:
    """The changes of one table since the last batch."""

    def __init__(self, layout: Layout) -> None:
        """Nothing yet."""
        self.layout = layout
        self._arrow = cells_arrow(layout.schema)
        columns = [layout.schema.column(name) for name in layout.schema.key]
        self._keys = [(layout.types[c.name], maker(c)) for c in columns if c is not None]
        self._ordinals = {c.name: c.ordinal for c in layout.schema.columns}
        self._clear()

    def _clear(self) -> None:
        self._cells: dict[str, list[Any]] = {name: [] for name in self._arrow.names}
        self._deletions: dict[str, list[Any]] = {name: [] for name in DELETIONS.names}

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._cells["place"]) + len(self._deletions["low"])

    def take(self, change: LogChange) -> None:
        """Add one. Raises ValueError for a value that no column can hold."""
        places = self.layout.places
        if isinstance(change, RowWrite):
            self._row(change)
        elif isinstance(change, RangeDeletion):
            start = (change.start, change.start_inclusive)
            low, high = places.between(change.key, start, (change.end, change.end_inclusive))
            self._delete(low, high, None, change.deleted)
        elif isinstance(change, PartitionDeletion):
            low, high = places.whole(change.key)
            self._delete(low, high if places.clustering else None, None, change.deleted)

    def changes(self) -> CellChanges:
        """All of them, once."""
        cells = pa.RecordBatch.from_pydict(self._cells, schema=self._arrow)
        deletions = pa.RecordBatch.from_pydict(self._deletions, schema=DELETIONS)
        self._clear()
        return CellChanges(self.layout.schema.table, cells, deletions)

    def _row(self, change: RowWrite) -> None:
        layout = self.layout
        partition = layout.places.partition(change.key)
        place, within = partition, None
        if change.clustering:
            place = layout.places.row(change.key, change.clustering)
            within = partition if layout.schema.sharing else None
        at = (place, within, *self._key(change))
        if change.deleted is not None:
            self._delete(place, None, None, change.deleted)
        for reset in change.resets:
            if reset.column in self._ordinals:
                self._delete(place, None, self._ordinals[reset.column], reset.deleted)
        if change.written is not None:
            ends = change.expires if change.ttl else None
            marker = Cell("", change.written, b"", None, change.ttl, ends)
            self._cell(at, None, marker, "", None)
        for cell in change.cells:
            ordinal = self._ordinals.get(cell.column)
            if ordinal is None:
                continue  # a column that is newer than the copy, which is made again soon
            path, value = self._element(cell)
            self._cell(at, ordinal, cell, value, path)

    def _key(self, change: RowWrite) -> list[Any]:
        clustering = change.clustering
        there = [*change.key, *(clustering or ())]
        found: list[Any] = []
        for number, (type_, make) in enumerate(self._keys):
            value = there[number] if number < len(there) else None
            text = None if value is None else cql.as_text(type_, value)
            found.append(None if text is None else make(text))
        return found

    def _element(self, cell: Cell) -> tuple[bytes | None, str | None]:
        """(what orders it among its column's elements, its text)."""
        type_, value, path = self.layout.types[cell.column], cell.value, cell.path
        if path is None:
            return None, None if value is None else cql.as_text(type_, value)
        if type_.user_defined:
            number = int.from_bytes(path, "big")
            return path, None if value is None else cql.field_of(type_, number, value)
        if type_.name == "list":
            element = None if value is None else cql.as_json(type_.arguments[0], value)
            return timeuuid(path), element
        order = ORDERED.get(type_.arguments[0].name, bytes)(path)
        if value is None:
            return order, None
        if type_.name == "set":
            return order, cql.as_json(type_.arguments[0], path)
        return order, cql.pair(type_.arguments[0], path, type_.arguments[1], value)

    def _tie(self, cell: Cell) -> bytes | None:
        """The value as the node compares it; None: as its text does."""
        shown = cell.path is None and (
            not cell.column or self.layout.types[cell.column].name in _AS_SHOWN
        )
        return None if shown else cell.value

    def _cell(
        self,
        at: tuple[Any, ...],
        ordinal: int | None,
        cell: Cell,
        value: str | None,
        path: bytes | None,
    ) -> None:
        ends = cell.expires * 1_000_000 if cell.ttl and cell.expires is not None else None
        rest = (ordinal, path, cell_rank(cell), self._tie(cell), value, ends)
        row = (*at, *rest)
        for column, each in zip(self._cells.values(), row, strict=True):
            column.append(each)

    def _delete(self, low: bytes, high: bytes | None, ordinal: int | None, deleted: int) -> None:
        row = (low, high, ordinal, deletion_rank(deleted))
        for column, each in zip(self._deletions.values(), row, strict=True):
            column.append(each)


def maker(column: Column) -> Callable[[str], object]:
    """From a cell's text to what Arrow takes for the column's type."""
    arrow = column.arrow
    if pa.types.is_boolean(arrow):
        return lambda text: text == "true"
    if pa.types.is_binary(arrow):
        return bytes.fromhex
    if pa.types.is_floating(arrow):
        return float
    return str if pa.types.is_string(arrow) else int
