"""What a reconciled table must hold: random cells and deletions, and a dict that merges them.

Of one table: key (p, c), s shared by all rows of p, a and n of a row, m made of elements.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field

import pyarrow as pa

from htapkit.model import (
    DELETIONS,
    CellChanges,
    Column,
    SqlType,
    TableId,
    TableSchema,
    cells_arrow,
)

TABLE = TableId("events", "demo", "t")
_TEXT, _INT, _JSON = SqlType("text", 25), SqlType("int4", 23), SqlType("json", 114)
S, A, N, M = 3, 4, 5, 6
SCHEMA = TableSchema(
    TABLE,
    (
        Column("p", _INT, 1, nullable=False),
        Column("c", _INT, 2),
        Column("s", _TEXT, S, shared=True),
        Column("a", _TEXT, A),
        Column("n", _INT, N),
        Column("m", _JSON, M, gathered="{}"),
    ),
    ("p", "c"),
    reconciled=True,
)
PARTITIONS, ROWS, TIMES = 6, 5, 12
Row = tuple[int, int | None, str | None, str | None, int | None, str | None]


@dataclass(frozen=True, slots=True)
class Cell:
    """One write; `place` (p, None) is what the rows of p share."""

    place: tuple[int, int | None]
    ordinal: int | None
    path: str | None
    time: int
    value: str | None
    expires: int | None = None

    @property
    def rank(self) -> bytes:
        """Time first; a tombstone wins a tie, then what ends later."""
        gone = self.value is None
        return bytes([self.time, 0, gone]) + (self.expires or 0).to_bytes(8, "big")

    @property
    def tie(self) -> bytes | None:
        """Of numbers and elements the larger loses: the texts' own order must not decide."""
        if self.value is None or self.ordinal not in {N, M}:
            return None
        return bytes(255 - byte for byte in self.value.encode())

    @property
    def order(self) -> bytes:
        """The largest is read."""
        tie = self.tie
        return self.rank + ((self.value or "").encode() if tie is None else tie)


@dataclass(frozen=True, slots=True)
class Deletion:
    """Of the rows of p with low <= c < high; without `low` all of p; of one column, or of all."""

    p: int
    low: int | None
    high: int | None
    ordinal: int | None
    time: int

    @property
    def rank(self) -> bytes:
        """Above every cell of its time."""
        return bytes([self.time, 255])


Event = Cell | Deletion


def place(p: int, c: int | None) -> bytes:
    """Of a row, or of what p's rows share."""
    return bytes([p]) if c is None else bytes([p, 64 + c])


def events(seed: random.Random, count: int, now: int) -> list[Event]:
    """Random ones, many at the same time; what expires does so before or after `now`."""
    return [_event(seed, now) for _ in range(count)]


def _event(seed: random.Random, now: int) -> Event:
    p, c, time = seed.randrange(PARTITIONS), seed.randrange(ROWS), seed.randrange(1, TIMES)
    roll = seed.random()
    expires = seed.choice([None, None, now - 5, now + 5])
    if roll < 0.06:
        return Deletion(p, None, None, None, seed.randrange(1, 4))
    if roll < 0.12:
        low = seed.randrange(ROWS)
        return Deletion(p, low, seed.randrange(low, ROWS + 1), None, time)
    if roll < 0.18:
        return Deletion(p, c, c + 1, seed.choice([None, M]), time)
    if roll < 0.3:
        return Cell((p, c), None, None, time, "", expires)
    if roll < 0.38:
        return Cell((p, None), S, None, time, seed.choice([None, "x", "y"]), expires)
    ordinal = seed.choice([A, N, M])
    path = f"e{seed.randrange(3)}" if ordinal == M else None
    texts = {A: ["x", "yy", "", "{}'"], N: ["-1", "7"], M: [f'"{path}": 1', f'"{path}": 2']}
    value = None if seed.random() < 0.2 else seed.choice(texts[ordinal])
    return Cell((p, c), ordinal, path, time, value, expires)


def series(seed: random.Random, count: int, now: int) -> list[Event]:
    """Whole rows, most of them written once; few are written again, deleted, or over."""
    found: list[Event] = []
    while len(found) < count:
        p, c, time = seed.randrange(PARTITIONS), seed.randrange(100), seed.randrange(2, TIMES)
        low = seed.randrange(100)
        deletion = Deletion(p, low, low + seed.randrange(1, 20), None, seed.randrange(1, TIMES))
        alone = Deletion(p, c, c + 1, seed.choice([None, N, M]), seed.randrange(1, TIMES))
        roll, ends = seed.random(), seed.choice([None] * 8 + [now - 5, now + 5])
        found += [
            Cell((p, c), None, None, time, "", ends),
            Cell((p, c), A, None, time, seed.choice(["x", "yy", ""]), ends),
        ]
        found += [Cell((p, c), N, None, time, seed.choice([None, "7"]))] if roll < 0.5 else []
        found += [deletion] if roll < 0.05 else [alone] if roll > 0.9 else []
        found += [Cell((p, c), M, "e0", time, '"e0": 1')] if 0.5 < roll < 0.6 else []
        found += [Cell((p, None), S, None, time, "x")] if roll < 0.1 else []
    return found


def changes(found: list[Event], schema: TableSchema = SCHEMA) -> CellChanges:
    """As a source sends them."""
    cells = [e for e in found if isinstance(e, Cell)]
    deletions = [e for e in found if isinstance(e, Deletion)]
    rows = [
        {
            "place": place(*e.place),
            "within": None if e.place[1] is None else place(e.place[0], None),
            "k0": e.place[0],
            "k1": e.place[1],
            "ordinal": e.ordinal,
            "path": None if e.path is None else e.path.encode(),
            "rank": e.rank,
            "tie": e.tie,
            "value": e.value,
            "expires": e.expires,
        }
        for e in cells
    ]
    return CellChanges(
        TABLE,
        pa.RecordBatch.from_pylist(rows, schema=cells_arrow(schema)),
        pa.RecordBatch.from_pylist([_deletion(d) for d in deletions], schema=DELETIONS),
    )


def _deletion(d: Deletion) -> dict[str, object]:
    if d.low is None:
        low, high = place(d.p, None), place(d.p + 1, None)
    else:
        assert d.high is not None
        low, high = place(d.p, d.low), place(d.p, d.high)
    if d.low is not None and d.high == d.low + 1:
        return {"low": low, "high": None, "ordinal": d.ordinal, "rank": d.rank}
    return {"low": low, "high": high, "ordinal": d.ordinal, "rank": d.rank}


@dataclass(slots=True)
class Model:
    """Takes events in any order."""

    cells: dict[tuple[tuple[int, int | None], int | None, str | None], Cell] = field(
        default_factory=dict
    )
    deletions: list[Deletion] = field(default_factory=list)

    def take(self, event: Event) -> None:
        """Merge one in."""
        if isinstance(event, Deletion):
            self.deletions.append(event)
            return
        at = (event.place, event.ordinal, event.path)
        if at not in self.cells or event.order > self.cells[at].order:
            self.cells[at] = event

    def rows(self, now: int) -> list[Row]:
        """What is read."""
        found: dict[tuple[int, int | None], dict[tuple[int | None, str | None], str]]
        found = defaultdict(dict)
        for cell in self.cells.values():
            over = cell.expires is not None and cell.expires <= now
            if cell.value is not None and not over and not self._erased(cell):
                found[cell.place][cell.ordinal, cell.path] = cell.value
        rows = [
            _row(at, cells, found.get((at[0], None), {}))
            for at, cells in found.items()
            if at[1] is not None
        ]
        there = {row[0] for row in rows}
        alone = [at[0] for at in found if at[1] is None and at[0] not in there]
        rows += [(p, None, found[p, None][S, None], None, None, None) for p in alone]
        return sorted(rows, key=repr)

    def _erased(self, cell: Cell) -> bool:
        p, c = cell.place
        for d in self.deletions:
            inside = d.low is None or (c is not None and d.low <= c < (d.high or 0))
            right = d.ordinal is None or d.ordinal == cell.ordinal
            if d.p == p and inside and right and d.time >= cell.time:
                return True
        return False


def _row(
    at: tuple[int, int | None],
    cells: dict[tuple[int | None, str | None], str],
    shared: dict[tuple[int | None, str | None], str],
) -> Row:
    elements = [cells[M, path] for path in ("e0", "e1", "e2") if (M, path) in cells]
    n = cells.get((N, None))
    return (
        *at,
        shared.get((S, None)),
        cells.get((A, None)),
        None if n is None else int(n),
        "{" + ", ".join(elements) + "}" if elements else None,
    )
