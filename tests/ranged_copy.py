"""A table of a source that is a list of commits, and its copy in a store, made range by range."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from htapkit.hot import HotStore
from htapkit.model import Change, Split
from tests.unit.htapkit.hot.building import batch_of, covers, position, record_batch, schema_of

SCHEMA = schema_of()
TABLE = SCHEMA.table
BOUNDS = (10, 20, 30)
SPLITS = [Split(TABLE, str(n), 10) for n in range(len(BOUNDS) + 1)]
WHOLE = 'SELECT * FROM "shop.public".t ORDER BY ALL'

Row = tuple[Any, ...]


def number_of(key: int) -> int:
    return sum(key >= bound for bound in BOUNDS)


def place(ranges: Sequence[Split], keys: pa.RecordBatch) -> pa.Array:
    assert len(ranges) == len(SPLITS)
    return pa.array([number_of(key) for key in keys.column(0).to_pylist()], pa.int64())


class Copy:
    """A table of a source that is a list of commits, and its copy in a store."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "hot.duckdb"
        self.store = HotStore(self.path)
        self.rows: dict[int, Row] = {}
        self.log: list[list[Change]] = []
        self.applied = 0
        self.store.add_table(SCHEMA, "f")

    def close(self) -> None:
        self.store.close()

    def restart(self) -> None:
        self.store.close()
        self.store = HotStore(self.path)
        stored = self.store.stored_position("shop")
        self.applied = int(stored, 16) if stored is not None else 0

    def commit(self, *changes: Change) -> None:
        """At the source; `rows` is changed by the caller."""
        self.log.append(list(changes))

    def stream(self, commits: int | None = None) -> None:
        """The store learns of the next commits."""
        until = len(self.log) if commits is None else min(self.applied + commits, len(self.log))
        while self.applied < until:
            self.applied += 1
            batch = batch_of(self.applied, *self.log[self.applied - 1], commits=[self.applied])
            self.store.apply(batch, covers)

    def start(self) -> None:
        self.store.copying.start(SCHEMA, "f", position(len(self.log)), SPLITS)

    def read(self, number: int) -> None:
        """Read a range as it is now."""
        rows = [row for key, row in self.rows.items() if number_of(key) == number]
        now = position(len(self.log))
        batches = [record_batch(SCHEMA.arrow, rows)]
        self.store.copying.loading.load(TABLE, batches, number, now)

    def fold(self) -> None:
        self.store.copying.fold(TABLE, covers, place)

    def left(self) -> list[int]:
        copy = self.store.copying.ranged(TABLE)
        assert copy is not None
        return [r.number for r in copy.left]

    def finish(self) -> bool:
        return self.store.copying.finish(TABLE, covers, 5.0, place)

    def found(self) -> list[Row]:
        with self.store.read(WHOLE) as read:
            return [tuple(r.values()) for batch in read.batches() for r in batch.to_pylist()]
