"""What comes from a source's stream: row changes in whole transactions, and what breaks a copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum

import pyarrow as pa

from htapkit.model.catalog import Split
from htapkit.model.tables import Column, Position, TableId, TableSchema

DELETIONS = pa.schema(
    [
        pa.field("low", pa.binary()),
        pa.field("high", pa.binary()),
        pa.field("ordinal", pa.int32()),
        pa.field("rank", pa.binary()),
    ]
)
"""Deletions of a reconciled table: what lies at a place in [low, high) (`high` None: at `low`
itself) and has a rank below this one is gone; only of the column with this ordinal, if there is
one."""


def place_keys(schema: TableSchema) -> tuple[str, ...]:
    """What the columns of the key are called where a place has them, in the key's order."""
    return tuple(f"k{number}" for number in range(len(schema.key)))


def place_key(schema: TableSchema, column: Column) -> str:
    """What one column of the key is called there."""
    return place_keys(schema)[schema.key.index(column.name)]


def cells_arrow(schema: TableSchema) -> pa.Schema:
    """Cell writes of a reconciled table, each once or more, in any order.

    `place` identifies a row, and the order of places is that of deletions' ranges. What all rows
    with the same first key columns share has a place of its own, which those rows name in `within`;
    the columns of the key (`k0`, `k1`, ...) that it does not have are None. `ordinal` is the
    column's, None: the row's own existence. `path` tells a column's elements apart, and orders
    them; only columns that are gathered have any. Of all writes of (place, ordinal, path) the one
    is read whose `rank` and `tie` are, one behind the other, the largest bytes: `value` as
    PostgreSQL prints it (bytea as hex digits, instants as microseconds and dates as days since
    1970), None: nothing is there; nothing either once `expires` (microseconds since 1970) is over.
    A `tie` that is None is the value itself. Cells of one write should have one rank: those of a
    place that have it, and one end, are kept as one record.
    """
    keys = zip(place_keys(schema), schema.key_columns, strict=True)
    return pa.schema(
        [
            pa.field("place", pa.binary()),
            pa.field("within", pa.binary()),
            *(pa.field(name, column.arrow) for name, column in keys),
            pa.field("ordinal", pa.int32()),
            pa.field("path", pa.binary()),
            pa.field("rank", pa.binary()),
            pa.field("tie", pa.binary()),
            pa.field("value", pa.string()),
            pa.field("expires", pa.int64()),
        ]
    )


class Op(IntEnum):
    """What happened to a row."""

    INSERT = 0
    UPDATE = 1
    DELETE = 2


@dataclass(frozen=True, slots=True)
class RowChanges:
    """Consecutive changes of one table, one row each, in commit order.

    `rows` has the table's Arrow schema: the row after an insert or update; for a delete, what the
    source sent of the old row (at least the key; with `whole_rows`, everything). `before` (None
    when no row needs it) has the same length: the old key columns (with `whole_rows`, all columns)
    of updates that changed the key, valid where `moved` is true. `unchanged` maps a column to a
    mask of rows whose value the source did not resend (unchanged TOAST). `commit` gives each row's
    transaction as an index into ChangeBatch.commits, and into `times` where somebody needs those.
    """

    table: TableId
    ops: pa.Int8Array
    rows: pa.RecordBatch
    commit: pa.Int32Array
    before: pa.RecordBatch | None = None
    moved: pa.BooleanArray | None = None
    unchanged: Mapping[str, pa.BooleanArray] = field(default_factory=dict)
    times: tuple[int, ...] = ()  # as ChangeBatch.times


@dataclass(frozen=True, slots=True)
class CellChanges:
    """What was written to and deleted from one reconciled table.

    In `cells_arrow` of its schema and in DELETIONS. Order and repetition do not matter.
    """

    table: TableId
    cells: pa.RecordBatch
    deletions: pa.RecordBatch

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.cells.num_rows + self.deletions.num_rows)


@dataclass(frozen=True, slots=True)
class Truncate:
    """All rows of these tables went away in one transaction (index into ChangeBatch.commits)."""

    tables: tuple[TableId, ...]
    commit: int


@dataclass(frozen=True, slots=True)
class Doubt:
    """Which rows of a table changed without events; all others are good."""

    ranges: tuple[Split, ...]  # all of the table's, in order, as those of spi.Ranged
    doubtful: frozenset[int]  # which of them

    @property
    def tokens(self) -> frozenset[str]:
        """Those of the ranges in doubt."""
        return frozenset(self.ranges[number].token for number in self.doubtful)


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """From here on, rows of the table have this schema.

    `faithful` is false where the source changed or filled values without events (a default for old
    rows, a rewrite): the table must then be copied again, for the reason in `why`; unless its copy
    was made of the table as it is with this `fingerprint` ("" = no copy is good). With a `doubt`,
    only those rows must be.
    """

    schema: TableSchema
    faithful: bool
    why: str = ""
    fingerprint: str = ""
    doubt: Doubt | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """The table cannot be followed from here on; the others go on."""

    table: TableId
    why: str
    copy_again: bool = True  # a new copy helps; otherwise somebody has to do something first
    doubt: Doubt | None = None  # with `copy_again`: a new copy of these rows is enough


Change = RowChanges | CellChanges | Truncate | SchemaChange | Broken


@dataclass(frozen=True, slots=True)
class ChangeBatch:
    """Whole transactions of one source, in commit order.

    The one exception is a transaction larger than the limits: it comes as several batches of which
    all but the last have `complete` false. Their changes become visible, and `end` is stored, only
    with the last.
    """

    source: str
    changes: tuple[Change, ...]
    commits: tuple[Position, ...]  # the end position of each transaction
    end: Position
    committed_at: datetime | None  # of the newest transaction, by the source's clock
    complete: bool = True
    marks: tuple[str, ...] = ()  # tokens of `Head.mark` that the stream has passed
    times: tuple[int, ...] = ()  # when each of `commits` was made, microseconds since 1970; () = ?

    def time(self, commit: int) -> int | None:
        """When one of its transactions was committed; None where the source does not say."""
        return self.times[commit] if self.times else None

    @property
    def row_count(self) -> int:
        """How many row changes there are."""
        rows = sum(len(c.ops) for c in self.changes if isinstance(c, RowChanges))
        return rows + sum(c.count for c in self.changes if isinstance(c, CellChanges))
