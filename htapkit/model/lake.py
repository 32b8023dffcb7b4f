"""Where the hot copy of a table ends and the lake begins, and the runs that move that line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import pyarrow as pa

from htapkit.model.tables import Position, TableId

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Finds = Callable[[pa.Array], bool]
"""Whether some values of a column have any that is wanted."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One version of a lake table: what a reader is held to, whatever others commit later."""

    metadata: str  # location of the Iceberg metadata file
    snapshot: int  # the snapshot's id
    rows: int


@dataclass(frozen=True, slots=True)
class Boundary:
    """The cut of one table.

    The table is: every row of the hot relation, and every row of the lake version `pin` whose key
    is not among the hot store's tombstones. Rows of the lake all have a time below `below`; hot
    rows may lie anywhere (late rows and patches are below it).
    """

    column: int  # ordinal of the time column
    below: int  # microseconds since 1970-01-01 (a timestamptz: UTC; a date: its midnight)
    pin: Pin
    position: Position  # of the source, at which the lake's rows were cut

    @property
    def moment(self) -> datetime:
        """`below` as a time in UTC."""
        return _EPOCH + timedelta(microseconds=self.below)


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far back a table is kept: the copy has no row whose time is finite and below `since`.

    It only moves forward, until the table is copied again by the rule of that day.
    """

    column: int  # ordinal of the time column
    since: int  # microseconds, as in Boundary.below

    @property
    def moment(self) -> datetime:
        """`since` as a time in UTC."""
        return _EPOCH + timedelta(microseconds=self.since)


@dataclass(frozen=True, slots=True)
class LakeColumn:
    """A column as a lake version has it."""

    field: int  # Iceberg field id, which is also in the Parquet files
    type: str  # Iceberg's name: int, long, decimal(12, 2), timestamptz, …
    name: str = ""


@dataclass(frozen=True, slots=True)
class LakeFiles:
    """What to read of a lake version for one statement, after pruning.

    `columns` is keyed by the source's stable column number (Column.ordinal); a column that is not
    there is NULL in every row. `paths` are Parquet files whose rows all count; where all were
    written with the same columns, `names` has their names by ordinal, else only field ids tell
    them apart. `rest` gives the rows of files that have deletes written by other engines, already
    applied; its columns are named by ordinal (`"7"`); None where there are no such files.
    `rest_where` makes another such reader, of those files alone in which a test finds something:
    it reads the column with that ordinal first, and all of a file only where any batch of it meets
    the test. No row has a time below `first` (microseconds); None where nothing is known. None
    ends by itself before `first_end` (microseconds; None: no row ever does).
    """

    pin: Pin
    columns: Mapping[int, LakeColumn]
    paths: tuple[str, ...]
    rows: int  # of `paths`
    names: Mapping[int, str] = field(default_factory=dict)  # in all `paths`; {} = not known
    rest: Callable[[], Iterator[pa.RecordBatch]] | None = None
    rest_where: Callable[[int, Finds], Callable[[], Iterator[pa.RecordBatch]]] | None = None
    first: int | None = None
    first_end: int | None = None
    bytes: int = 0  # of all these files, as they are stored


@dataclass(frozen=True, slots=True)
class Layout:
    """How a table lies in the lake."""

    time_column: str
    partition: str = "day"  # hour, day or month of the time column
    sort: tuple[str, ...] = ()  # within a file; () means key, then time


class RunState(StrEnum):
    """How far a tiering run is."""

    EXPORTING = "exporting"  # begun in hot; the lake may or may not have its commit
    VOID = "void"  # something happened to one of its tables that it cannot cope with


@dataclass(frozen=True, slots=True)
class TieringRun:
    """One move of the line for some tables of a source, all cut at one position.

    From its beginning on, the hot store logs which keys of its tables change.
    """

    id: str
    source: str
    position: Position
    below: Mapping[TableId, int]  # the new boundary of each table, microseconds
    state: RunState
    why: str = field(default="")
