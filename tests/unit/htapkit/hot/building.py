"""Builds schemas, rows and batches for tests of the hot store. No test of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from htapkit.model import (
    Change,
    ChangeBatch,
    Column,
    Op,
    Position,
    RowChanges,
    SqlType,
    TableId,
    TableSchema,
)

INT4 = SqlType("int4", 23)
INT8 = SqlType("int8", 20)
TEXT = SqlType("text", 25)
FLOAT8 = SqlType("float8", 701)
NUMERIC = SqlType("numeric", 1700, ((12 << 16) | 2) + 4)
TIMESTAMPTZ = SqlType("timestamptz", 1184)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def position(number: int) -> Position:
    """The n-th position; text order is their order."""
    return Position(f"{number:016X}")


def covers(have: Position, want: Position) -> bool:
    return have >= want


def schema_of(
    name: str = "t",
    columns: Mapping[str, SqlType] | None = None,
    key: Sequence[str] = ("id",),
    **flags: bool,
) -> TableSchema:
    """A table of the source `shop`."""
    columns = columns or {"id": INT8, "a": INT4, "s": TEXT}
    return TableSchema(
        TableId("shop", "public", name),
        tuple(Column(n, t, i + 1) for i, (n, t) in enumerate(columns.items())),
        tuple(key),
        **flags,
    )


@dataclass
class Rows:
    """Collects changes of one table; a row is a tuple. `skip` names unchanged columns."""

    schema: TableSchema
    ops: list[int] = field(default_factory=list)
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    before: list[tuple[Any, ...] | None] = field(default_factory=list)
    skipped: list[frozenset[str]] = field(default_factory=list)
    commits: list[int] = field(default_factory=list)

    def add(
        self,
        op: Op,
        row: tuple[Any, ...],
        *,
        before: tuple[Any, ...] | None = None,
        skip: Sequence[str] = (),
        commit: int = 0,
    ) -> Rows:
        self.ops.append(int(op))
        self.rows.append(row)
        self.before.append(before)
        self.skipped.append(frozenset(skip))
        self.commits.append(commit)
        return self

    def insert(self, *row: Any, commit: int = 0) -> Rows:
        return self.add(Op.INSERT, row, commit=commit)

    def update(
        self,
        *row: Any,
        before: tuple[Any, ...] | None = None,
        skip: Sequence[str] = (),
        commit: int = 0,
    ) -> Rows:
        return self.add(Op.UPDATE, row, before=before, skip=skip, commit=commit)

    def delete(self, *row: Any, commit: int = 0) -> Rows:
        """`row` may be the key alone, if that comes first."""
        whole = row + (None,) * (len(self.schema.columns) - len(row))
        return self.add(Op.DELETE, whole, commit=commit)

    def changes(self) -> RowChanges:
        arrow = self.schema.arrow
        names = arrow.names if self.schema.whole_rows else list(self.schema.key)
        old = pa.schema([arrow.field(n) for n in names])
        moved = [b is not None for b in self.before]
        before = [b or (None,) * len(names) for b in self.before]
        skipped = sorted({name for s in self.skipped for name in s})
        rows = [
            tuple(None if n in s else v for n, v in zip(arrow.names, r, strict=True))
            for r, s in zip(self.rows, self.skipped, strict=True)
        ]
        return RowChanges(
            self.schema.table,
            pa.array(self.ops, pa.int8()),
            record_batch(arrow, rows),
            pa.array(self.commits, pa.int32()),
            record_batch(old, before) if any(moved) else None,
            pa.array(moved, pa.bool_()) if any(moved) else None,
            {n: pa.array([n in s for s in self.skipped], pa.bool_()) for n in skipped},
        )


def record_batch(schema: pa.Schema, rows: Sequence[tuple[Any, ...]]) -> pa.RecordBatch:
    """Rows as Arrow."""
    columns = [pa.array([r[i] for r in rows], f.type) for i, f in enumerate(schema)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def batch_of(
    end: int,
    *changes: Change,
    commits: Sequence[int] | None = None,
    complete: bool = True,
    marks: tuple[str, ...] = (),
) -> ChangeBatch:
    """A batch that ends at the n-th position; one commit unless told otherwise.

    The n-th commit is made in microsecond n of 1970.
    """
    numbers = commits if commits is not None else ([end] if changes else [])
    return ChangeBatch(
        "shop",
        changes,
        tuple(position(n) for n in numbers),
        position(end),
        NOON,
        complete,
        marks,
        tuple(numbers),
    )
