"""The simplest reconciled table there is: of each cell the largest write, and the deletions.

It knows what `cells_arrow` and DELETIONS promise, and nothing of any source. The table is one of
the contract's, so no cell has elements or expires.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from htapkit.model import DELETIONS, TableSchema, cells_arrow

Rows = dict[int, str | None]
At = tuple[bytes, int | None]  # place, ordinal; of a deletion, None is every column


@dataclass(frozen=True, slots=True)
class _Cell:
    id: int
    rank: bytes
    order: bytes  # rank and tie
    value: str | None


@dataclass(frozen=True, slots=True)
class _Range:
    low: bytes
    high: bytes
    ordinal: int | None
    rank: bytes

    def has(self, place: bytes, ordinal: int | None) -> bool:
        return self.low <= place < self.high and self.ordinal in {None, ordinal}


class MergedTable:
    """Takes writes and deletions in any order and any number of times."""

    def __init__(self, schema: TableSchema) -> None:
        """Nothing was written yet."""
        column = schema.column("v")
        assert column is not None
        self._v = column.ordinal
        self._arrow = cells_arrow(schema)
        self._cells: dict[At, _Cell] = {}
        self._gone: dict[At, bytes] = {}  # deletions of one place: the largest rank
        self._ranges: set[_Range] = set()

    def load(self, batch: pa.RecordBatch) -> None:
        """Merge cells or deletions in."""
        if batch.schema == DELETIONS:
            for row in batch.to_pylist():
                self._delete(**row)
            return
        assert batch.schema == self._arrow
        for row in batch.to_pylist():
            self._write(row)

    def _delete(self, low: bytes, high: bytes | None, ordinal: int | None, rank: bytes) -> None:
        if high is None:
            self._gone[low, ordinal] = max(self._gone.get((low, ordinal), b""), rank)
        else:
            self._ranges.add(_Range(low, high, ordinal, rank))

    def _write(self, row: dict[str, object]) -> None:
        place, within, key, ordinal, path, rank, tie, value, expires = row.values()
        assert within is None, "no column is shared"
        assert path is None, "no column has elements"
        assert expires is None, "nothing expires"
        assert isinstance(place, bytes)
        assert isinstance(rank, bytes)
        assert isinstance(key, int)
        assert ordinal is None or isinstance(ordinal, int)
        assert value is None or isinstance(value, str)
        assert tie is None or isinstance(tie, bytes)
        order = rank + ((value or "").encode() if tie is None else tie)
        before = self._cells.get((place, ordinal))
        if before is None or order > before.order:
            self._cells[place, ordinal] = _Cell(key, rank, order, value)

    def rows(self) -> Rows:
        """A row is there as long as one of its cells is."""
        rows: Rows = {}
        for (place, ordinal), cell in self._cells.items():
            if cell.value is not None and self._deleted(place, ordinal) <= cell.rank:
                rows.setdefault(cell.id, None)
                if ordinal == self._v:
                    rows[cell.id] = cell.value
        return rows

    def _deleted(self, place: bytes, ordinal: int | None) -> bytes:
        """The largest rank of a deletion of a cell; what is below it is gone."""
        points = [self._gone.get(at, b"") for at in ((place, None), (place, ordinal))]
        return max([*points, *(r.rank for r in self._ranges if r.has(place, ordinal))])
