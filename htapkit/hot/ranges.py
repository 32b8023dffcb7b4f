"""Copies that are made range by range, because one snapshot could not be held for all of a table.

Each range of keys is read at a position of its own. This is what is noted of them in the control
tables, so that ranges which are in a copy survive a restart. Never begins or commits.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from htapkit.hot.names import statement
from htapkit.hot.records import Record
from htapkit.model import Position, Split, TableId, TableSchema

STALE = -1
"""Instead of a number of rows: those that are there do not count."""

_IN_DOUBT = "in doubt: "


@dataclass(frozen=True, slots=True)
class KeyRange:
    """A range of a copy that is being made."""

    number: int
    split: Split
    position: Position | None  # at which its rows were read; None: they are not in the copy
    rows: int
    again: bool = False  # some of its rows were in the copy, and had to be taken out, or stay
    kept: bool = False  # they are those of the table, which was good but for some ranges
    stale: bool = False  # rows are there that do not count, and have to be taken out


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
    def in_doubt(self) -> bool:
        """Whether what was read of it is in doubt, too, whatever its ranges say."""
        return came_into_doubt(self.fingerprint)

    @property
    def kept(self) -> bool:
        """Whether it began with the table's rows, and has them still but for those in doubt."""
        return any(r.kept for r in self.ranges) and all(
            r.kept or r.split.rows_estimate for r in self.ranges
        )

    @property
    def rows(self) -> int:
        """How many rows were read so far."""
        return sum(r.rows for r in self.ranges)

    @property
    def rows_estimate(self) -> int:
        """How many there will be."""
        return sum(r.split.rows_estimate for r in self.ranges)

    @property
    def rows_expected(self) -> int:
        """How many there will be of a copy in parts, if what was not begun is like the rest."""
        done = [r.rows for r in self.ranges if r.position is not None]
        begun = [r.rows + r.split.rows_estimate for r in self.left if r.rows]
        known = [*done, *begun]
        return sum(known) * len(self.ranges) // len(known) if known else self.rows_estimate


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
    return _noted(cursor, record)


def read_again(cursor: duckdb.DuckDBPyConnection, record: Record) -> frozenset[str] | None:
    """Tokens of what the last copy, or the one that is being made, does not keep; None: all."""
    found = _noted(cursor, record)
    if not any(each.kept for each in found):
        return None
    return frozenset(each.split.token for each in found if not each.kept)


def in_doubt(fingerprint: str, position: Position | None, tokens: frozenset[str]) -> str:
    """The fingerprint of a copy that had another one, when ranges came into doubt there."""
    found = sorted(tokens | told(fingerprint))
    return f"{_IN_DOUBT}{json.dumps({'since': position, 'tokens': found})}"


def came_into_doubt(fingerprint: str) -> bool:
    """Whether it is of a copy whose rows changed without events while they were read."""
    return fingerprint.startswith(_IN_DOUBT)


def told(fingerprint: str) -> frozenset[str]:
    """Tokens of what came into doubt while a copy with this fingerprint was made."""
    if not came_into_doubt(fingerprint):
        return frozenset()
    return frozenset(json.loads(fingerprint.removeprefix(_IN_DOUBT))["tokens"])


def _noted(cursor: duckdb.DuckDBPyConnection, record: Record) -> tuple[KeyRange, ...]:
    values = [*_names(record.table), record.generation]
    return tuple(
        KeyRange(
            number,
            Split(record.table, token, estimate),
            None if position is None else Position(position),
            max(rows or 0, 0),
            again=position is None and rows not in {None, STALE},
            kept=position is not None and rows is None,
            stale=position is None and rows == STALE,
        )
        for number, token, estimate, position, rows in cursor.execute(
            statement("load_ranges"), values
        ).fetchall()
    )


def shorten(
    cursor: duckdb.DuckDBPyConnection, record: Record, number: int, left: Split, rows: int
) -> None:
    """Of a range of a reconciled table no more is left than that, and so many rows were read."""
    values = [*_names(record.table), record.generation, number, left.token, left.rows_estimate]
    cursor.execute(statement("shorten_range"), [*values, rows]).fetchall()


def mark(
    cursor: duckdb.DuckDBPyConnection,
    record: Record,
    number: int,
    position: Position | None,
    rows: int | None,
) -> None:
    """A range's rows are in the copy, as of `position`; None: they are not.

    Without a number of rows none were read: those that are there are the table's own. STALE: they
    do not count.
    """
    values = [*_names(record.table), record.generation, number, position, rows]
    cursor.execute(statement("mark_range"), values).fetchall()


def _names(table: TableId) -> list[str]:
    return [table.source, table.schema, table.name]
