"""How a table is divided among several reads of one moment: ranges of hot rows, files of the lake.

Every hot row is in exactly one range and every file in exactly one part; that the reads have one
snapshot is the lease's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from htapkit.hot.lakearms import LakeArm
from htapkit.hot.names import relation, statement
from htapkit.model import TableSchema

_VECTOR_ROWS = 2048  # DuckDB's smallest unit of a scan


@dataclass(frozen=True, slots=True)
class HotPart:
    """The hot rows of a table in a range of DuckDB's row numbers; `name` (unquoted) is a view."""

    name: str
    schema: TableSchema
    first: int = 0
    end: int | None = None  # None: to the last one

    def query(self) -> str:
        """The rows."""
        table = relation(self.schema.table)
        if self.end is None:
            return statement("select_all", columns="*", table=table)
        return statement("rows_between", table=table, first=str(self.first), end=str(self.end))


@dataclass(frozen=True, slots=True)
class TablePart:
    """What one read has of the table."""

    hot: HotPart
    lake: tuple[LakeArm, ...]


def numbered(schema: TableSchema) -> bool:
    """Whether DuckDB's row numbers can be asked for: a column of that name would hide them."""
    return all(column.name.lower() != "rowid" for column in schema.columns)


def last_row(hot: HotPart) -> str:
    """A query of the last row number; NULL where there is no row."""
    return statement("last_row", table=relation(hot.schema.table))


def divided(
    hot: HotPart, lake: Sequence[LakeArm], rows: int, parts_max: int
) -> tuple[TablePart, ...]:
    """At most so many parts, none of them sure to be empty; at least one.

    `rows` is one more than the last row number of the hot rows; 0: they are not divided.
    """
    vectors = -(-rows // _VECTOR_ROWS)
    files = max((len(arm.files.paths) for arm in lake), default=0)
    count = max(1, min(parts_max, max(vectors, files)))
    return tuple(
        TablePart(_range(hot, rows, number, count), tuple(_files(a, number, count) for a in lake))
        for number in range(count)
    )


def _range(hot: HotPart, rows: int, number: int, count: int) -> HotPart:
    if rows == 0:
        return hot if number == 0 else replace(hot, end=0)
    vectors = -(-rows // _VECTOR_ROWS)
    first, end = (vectors * n // count * _VECTOR_ROWS for n in (number, number + 1))
    return replace(hot, first=first, end=end)


def _files(arm: LakeArm, number: int, count: int) -> LakeArm:
    """Each file goes to one part, and what needs pyiceberg to the last."""
    rest = arm.files.rest if number == count - 1 else None
    return replace(arm, files=replace(arm.files, paths=arm.files.paths[number::count], rest=rest))
