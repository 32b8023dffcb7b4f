"""The rows that a log's changes add up to, by Cassandra's rules: the model that tests compare with.

Of one table: pk int, ck int (descending), s text static, a text, b int, m map<text, int>.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from htapkit_cassandra.mutations import (
    Cell,
    LogChange,
    PartitionDeletion,
    RangeDeletion,
    RowWrite,
)

NEVER = -(2**63)
Marker = tuple[int, bool, int]  # written, whether it expires, when
Shown = tuple[object, ...]


@dataclass(slots=True)
class _Row:
    deleted: int = NEVER
    marker: Marker = (NEVER, False, 0)
    cells: dict[tuple[str, bytes | None], Cell] = field(default_factory=dict)
    resets: dict[str, int] = field(default_factory=dict)

    def live(self, deleted: int, now: float) -> dict[tuple[str, bytes | None], Cell]:
        """The cells that are read."""
        return {
            place: cell
            for place, cell in self.cells.items()
            if cell.value is not None
            and cell.written > max(deleted, self.resets.get(cell.column, NEVER))
            and not (cell.ttl and now >= (cell.expires or 0))
        }


@dataclass(slots=True)
class _Partition:
    deleted: int = NEVER
    ranges: list[RangeDeletion] = field(default_factory=list)
    rows: dict[bytes | None, _Row] = field(default_factory=lambda: defaultdict(_Row))


class Merged:
    """Takes changes in any order and any number of times."""

    def __init__(self) -> None:
        """No rows."""
        self._partitions: dict[bytes, _Partition] = defaultdict(_Partition)

    def apply(self, change: LogChange) -> None:
        """Merge one in."""
        partition = self._partitions[change.key[0]]
        if isinstance(change, PartitionDeletion):
            partition.deleted = max(partition.deleted, change.deleted)
        elif isinstance(change, RangeDeletion):
            partition.ranges.append(change)
        else:
            _write(partition.rows[_place(change)], change)

    def rows(self, now: float) -> list[Shown]:
        """As `SELECT` shows them, with the write times of a and b."""
        found = [
            row
            for key, partition in self._partitions.items()
            for row in _shown(_int(key), partition, now)
        ]
        return sorted(found, key=repr)


def _place(change: RowWrite) -> bytes | None:
    return None if change.clustering is None else change.clustering[0]


def _write(row: _Row, change: RowWrite) -> None:
    if change.deleted is not None:
        row.deleted = max(row.deleted, change.deleted)
    if change.written is not None:
        marker = (change.written, change.expires is not None, change.expires or 0)
        row.marker = max(row.marker, marker)
    for reset in change.resets:
        row.resets[reset.column] = max(row.resets.get(reset.column, NEVER), reset.deleted)
    for cell in change.cells:
        before = row.cells.get((cell.column, cell.path))
        if before is None or cell.rank > before.rank:
            row.cells[cell.column, cell.path] = cell


def _shown(key: int, partition: _Partition, now: float) -> Iterator[Shown]:
    static = partition.rows[None].live(partition.deleted, now)
    s = _text(static.get(("s", None)))
    any_row = False
    for place, row in partition.rows.items():
        if place is None:
            continue
        covering = [r.deleted for r in partition.ranges if _inside(r, _int(place))]
        deleted = max([partition.deleted, row.deleted, *covering])
        cells = row.live(deleted, now)
        written, expires, at = row.marker
        if not cells and (written <= deleted or (expires and now >= at)):
            continue
        any_row = True
        a, b = cells.get(("a", None)), cells.get(("b", None))
        m = {p.decode(): _int(c.value or b"") for (n, p), c in cells.items() if n == "m" and p}
        times = [cell.written if cell else None for cell in (a, b)]
        yield (key, _int(place), s, _text(a), _number(b), m or None, *times)
    if not any_row and s is not None:
        yield (key, None, s, *[None] * 5)


def _inside(deletion: RangeDeletion, ck: int) -> bool:
    """The clustering is descending: a range starts at its largest value."""
    if deletion.start:
        first = _int(deletion.start[0] or b"")
        if ck > first or (ck == first and not deletion.start_inclusive):
            return False
    if deletion.end:
        last = _int(deletion.end[0] or b"")
        if ck < last or (ck == last and not deletion.end_inclusive):
            return False
    return True


def _int(value: bytes) -> int:
    (number,) = struct.unpack(">i", value)
    return int(number)


def _text(cell: Cell | None) -> str | None:
    return (cell.value or b"").decode() if cell else None


def _number(cell: Cell | None) -> int | None:
    return _int(cell.value or b"") if cell else None
