"""Lines of the log's reader as values: what one mutation wrote and deleted. Pure.

Values stay the node's own bytes: their order decides between writes of the same time, and they are
decoded where they are put into columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from htapkit.errors import SourceRefused
from htapkit_cassandra.blocks import Block, block

FORMAT = 2


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

    Or a part of a copy, in which most cells come in `blocks`.
    """

    changes: tuple[LogChange, ...]
    position: LogPosition
    size: int = field(default=0, compare=False)  # bytes of the lines that told it
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True)
class Synced:
    """All that the node has synced up to here was given out."""

    position: LogPosition


LogEvent = Ready | Mutation | Synced


class Lines:
    """Puts lines together to events: a mutation is given out only when its end was seen."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._changes: list[LogChange] = []
        self._blocks: list[Block] = []
        self._size = 0

    def feed(self, line: bytes) -> LogEvent | None:
        """The event that the line completes. Raises SourceRefused for another format."""
        found = json.loads(line)
        self._size += len(line)
        kind = found["kind"]
        if kind in _CHANGES:
            self._changes.append(_CHANGES[kind](found))
            return None
        if kind == "block":
            self._blocks.append(block(found))
            return None
        if kind == "ready":
            self._size = 0
            return _ready(found)
        position = LogPosition(found["segment"], found["offset"])
        if kind == "synced":
            assert not self._changes, "a mutation has an end"
            self._size = 0
            return Synced(position)
        assert kind == "end", kind
        mutation = Mutation(tuple(self._changes), position, self._size, tuple(self._blocks))
        self._changes, self._blocks, self._size = [], [], 0
        return mutation


def _ready(found: Mapping[str, Any]) -> Ready:
    if found["format"] != FORMAT:
        raise SourceRefused(f"the log's reader speaks format {found['format']}, not {FORMAT}")
    kinds = ("partition_key", "clustering", "static", "regular")
    tables = (
        LogTable(
            t["id"],
            t["keyspace"],
            t["table"],
            *(tuple((name, cql) for name, cql, _ in t[kind]) for kind in kinds),
        )
        for t in found["tables"]
    )
    return Ready({table.id: table for table in tables})


def _row(found: Mapping[str, Any]) -> RowWrite:
    return RowWrite(
        table=found["table"],
        key=_required(found["key"]),
        clustering=None if found["static"] else _bytes(found["clustering"]),
        cells=tuple(_cell(c) for c in found["cells"] if "reset" not in c),
        resets=tuple(Reset(c["column"], c["reset"]) for c in found["cells"] if "reset" in c),
        written=found.get("written"),
        ttl=found.get("ttl", 0),
        expires=found.get("expires"),
        deleted=found.get("deleted"),
    )


def _cell(found: Mapping[str, Any]) -> Cell:
    return Cell(
        found["column"],
        found["written"],
        _unhex(found.get("value")),
        _unhex(found.get("path")),
        found.get("ttl", 0),
        found.get("expires"),
    )


def _range(found: Mapping[str, Any]) -> RangeDeletion:
    return RangeDeletion(
        found["table"],
        _required(found["key"]),
        _bytes(found["start"]),
        found["start_inclusive"],
        _bytes(found["end"]),
        found["end_inclusive"],
        found["deleted"],
    )


def _partition(found: Mapping[str, Any]) -> PartitionDeletion:
    return PartitionDeletion(found["table"], _required(found["key"]), found["deleted"])


_CHANGES: Mapping[str, Any] = {
    "row": _row,
    "range": _range,
    "partition": _partition,
}


def _unhex(value: str | None) -> bytes | None:
    return None if value is None else bytes.fromhex(value)


def _bytes(values: list[str | None]) -> tuple[bytes | None, ...]:
    return tuple(_unhex(value) for value in values)


def _required(values: list[str]) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(value) for value in values)
