"""What a node logged or has in its files, as cells and deletions of the copy. Pure.

One collector for each table gathers changes, in whatever order, until they are taken as one batch.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from htapkit.model import DELETIONS, CellChanges, cells_arrow
from htapkit_cassandra import cql
from htapkit_cassandra.blockcells import cells_of
from htapkit_cassandra.blocks import Block
from htapkit_cassandra.layout import (
    Layout,
    cell_rank,
    deletion_rank,
    element,
    ends_at,
    sorts_as_text,
)
from htapkit_cassandra.mutations import (
    Cell,
    LogChange,
    PartitionDeletion,
    RangeDeletion,
    RowWrite,
)


class Collector:
    """The changes of one table since the last batch."""

    def __init__(self, layout: Layout) -> None:
        """Nothing yet."""
        self.layout = layout
        self._arrow = cells_arrow(layout.schema)
        self._keys = layout.key
        self._ordinals = layout.ordinals
        self._clear()

    def _clear(self) -> None:
        self._blocks: list[pa.RecordBatch] = []
        self._cells: dict[str, list[Any]] = {name: [] for name in self._arrow.names}
        self._deletions: dict[str, list[Any]] = {name: [] for name in DELETIONS.names}

    @property
    def count(self) -> int:
        """How many there are."""
        single = len(self._cells["place"]) + len(self._deletions["low"])
        return single + sum(block.num_rows for block in self._blocks)

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

    def take_block(self, block: Block) -> None:
        """Add its cells. Raises ValueError for a value that no column can hold."""
        self._blocks.append(cells_of(block, self.layout, self._arrow))

    def changes(self) -> CellChanges:
        """All of them, once."""
        single = pa.RecordBatch.from_pydict(self._cells, schema=self._arrow)
        cells = pa.concat_batches([single, *self._blocks]) if self._blocks else single
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
            self._cell(at, None, marker, None, "")
        for cell in change.cells:
            ordinal = self._ordinals.get(cell.column)
            if ordinal is None:
                continue  # a column that is newer than the copy, which is made again soon
            type_, value, path = layout.types[cell.column], cell.value, cell.path
            if path is not None:
                path, text = element(type_, value, path)
            else:
                text = None if value is None else cql.as_text(type_, value)
            tie = None if cell.path is None and sorts_as_text(type_) else value
            self._cell(at, ordinal, cell, path, text, tie)

    def _key(self, change: RowWrite) -> list[object]:
        there = [*change.key, *(change.clustering or ())]
        there += [None] * (len(self._keys) - len(there))  # what rows share has no clustering
        return [part.value(each) for part, each in zip(self._keys, there, strict=True)]

    def _cell(
        self,
        at: tuple[Any, ...],
        ordinal: int | None,
        cell: Cell,
        path: bytes | None,
        value: str | None,
        tie: bytes | None = None,
    ) -> None:
        row = (*at, ordinal, path, cell_rank(cell), tie, value, ends_at(cell))
        for column, each in zip(self._cells.values(), row, strict=True):
            column.append(each)

    def _delete(self, low: bytes, high: bytes | None, ordinal: int | None, deleted: int) -> None:
        row = (low, high, ordinal, deletion_rank(deleted))
        for column, each in zip(self._deletions.values(), row, strict=True):
            column.append(each)
