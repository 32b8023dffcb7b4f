"""What one mutation wrote and deleted, as the log's reader tells it (`lines`). Pure.

Values stay the node's own bytes: their order decides between writes of the same time, and they are
decoded where they are put into columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # an agent has neither numpy nor pyarrow in its memory
    from htapkit_cassandra.blocks import Block


@dataclass(frozen=True, slots=True, order=True)
class LogPosition:
    """A place in one node's commit log: right behind the mutation that ends at `offset`."""

    segment: int
    offset: int

    def __str__(self) -> str:
        """As the reader takes and the position holds it."""
        return f"{self.segment}:{self.offset}"


@dataclass(frozen=True, slots=True)
class LogTable:
    """A table as the reader decodes it; columns are (name, CQL type)."""

    id: str
    keyspace: str
    name: str
    partition_key: tuple[tuple[str, str], ...]
    clustering: tuple[tuple[str, str], ...]
    static: tuple[tuple[str, str], ...]
    regular: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """The reader has loaded its schema."""

    tables: Mapping[str, LogTable]


@dataclass(frozen=True, slots=True)
class Cell:
    """One write of a column, or of one element of a collection (`path`).

    Times are microseconds but `expires`: seconds, when an expiring cell ends or a tombstone was
    made.
    """

    column: str
    written: int
    value: bytes | None  # None: a tombstone
    path: bytes | None = None
    ttl: int = 0
    expires: int | None = None

    @property
    def rank(self) -> tuple[int, bool, bool, int, int, bytes]:
        """Of all writes of a cell the one with the largest rank is read.

        Cassandra's rule: the later; of the same time a tombstone, then what expires, then what
        expires later, of that what lives shorter, then the larger bytes.
        """
        ends = self.expires is not None
        gone = self.value is None
        return (self.written, ends, gone, self.expires or 0, -self.ttl, self.value or b"")


@dataclass(frozen=True, slots=True)
class Reset:
    """All elements of a collection that were written at or before `deleted` are gone."""

    column: str
    deleted: int


@dataclass(frozen=True, slots=True)
class RowWrite:
    """What a mutation did to one row, or (`clustering` None) to the static columns."""

    table: str  # its id
    key: tuple[bytes, ...]
    clustering: tuple[bytes | None, ...] | None
    cells: tuple[Cell, ...]
    resets: tuple[Reset, ...] = ()
    written: int | None = None  # the row's own marker, which an INSERT makes
    ttl: int = 0
    expires: int | None = None
    deleted: int | None = None  # all of the row that was written at or before it is gone


@dataclass(frozen=True, slots=True)
class RangeDeletion:
    """Rows between two prefixes of the clustering, of what was written at or before `deleted`."""

    table: str
    key: tuple[bytes, ...]
    start: tuple[bytes | None, ...]
    start_inclusive: bool
    end: tuple[bytes | None, ...]
    end_inclusive: bool
    deleted: int


@dataclass(frozen=True, slots=True)
class PartitionDeletion:
    """A whole partition, of what was written at or before `deleted`."""

    table: str
    key: tuple[bytes, ...]
    deleted: int


LogChange = RowWrite | RangeDeletion | PartitionDeletion


@dataclass(frozen=True, slots=True)
class Mutation:
    """Everything that one mutation did to CDC tables; `position` is where to go on after it.

    Or what several wrote that follow one another, in `blocks`; or a part of a copy.
    """

    changes: tuple[LogChange, ...]
    position: LogPosition
    size: int = field(default=0, compare=False)  # bytes of the lines that told it
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True)
class Synced:
    """All that the node has synced up to here was given out."""

    position: LogPosition


@dataclass(frozen=True, slots=True)
class Part:
    """Of a copy: all partitions up to and with this token were given out."""

    upto: int


LogEvent = Ready | Mutation | Synced
