"""Copies that are made range by range, because one snapshot could not be held for all of a table.

Each range of keys is read at a position of its own. This is what is noted of them in the control
tables, so that ranges which are in a copy survive a restart. Never begins or commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from htapkit.hot.names import statement
from htapkit.hot.records import Record
from htapkit.model import Position, Split, TableId, TableSchema


@dataclass(frozen=True, slots=True)
class KeyRange:
    """A range of a copy that is being made."""

    number: int
    split: Split
    position: Position | None  # at which its rows were read; None: they are not in the copy
    rows: int
    again: bool = False  # its rows were in the copy, and had to be taken out


@dataclass(frozen=True, slots=True)
class RangedCopy:
    """A copy that is made range by range, and how far it is."""

    schema: TableSchema
    fingerprint: str
    ranges: tuple[KeyRange, ...]

    @property
    def left(self) -> tuple[KeyRange, ...]:
        """The ranges that are to be read; first those that never were."""
        return tuple(sorted((r for r in self.ranges if r.position is None), key=lambda r: r.again))

    @property
    def rows(self) -> int:
        """How many rows were read so far."""
        return sum(r.rows for r in self.ranges)

    @property
    def rows_estimate(self) -> int:
        """How many there will be."""
        return sum(r.split.rows_estimate for r in self.ranges)


def plan(
    cursor: duckdb.DuckDBPyConnection, table: TableId, generation: int, splits: Sequence[Split]
) -> None:
    """Note the ranges of a new copy, instead of all earlier ones of the table."""
    forget(cursor, table)
    for number, split in enumerate(splits):
        values = [*_names(table), generation, number, split.token, split.rows_estimate]
        text = "INSERT INTO htapkit.ranges VALUES ($1, $2, $3, $4, $5, $6, $7, NULL, NULL)"
        cursor.execute(text, values).fetchall()


def forget(cursor: duckdb.DuckDBPyConnection, table: TableId) -> None:
    """Remove what is noted of the table's copies."""
    text = "DELETE FROM htapkit.ranges WHERE source = $1 AND schema_name = $2 AND table_name = $3"
    cursor.execute(text, _names(table)).fetchall()


def read(cursor: duckdb.DuckDBPyConnection, record: Record) -> tuple[KeyRange, ...]:
    """The ranges of the copy that is being made; () where it is made at one position."""
    if record.copy is None:
        return ()
    values = [*_names(record.table), record.generation]
    return tuple(
        KeyRange(
            number,
            Split(record.table, token, estimate),
            None if position is None else Position(position),
            rows or 0,
            again=position is None and rows is not None,
        )
        for number, token, estimate, position, rows in cursor.execute(
            statement("load_ranges"), values
        ).fetchall()
    )


def mark(
    cursor: duckdb.DuckDBPyConnection,
    record: Record,
    number: int,
    position: Position | None,
    rows: int,
) -> None:
    """A range's rows are in the copy, as of `position`; None: they are not."""
    values = [*_names(record.table), record.generation, number, position, rows]
    cursor.execute(statement("mark_range"), values).fetchall()


def _names(table: TableId) -> list[str]:
    return [table.source, table.schema, table.name]
