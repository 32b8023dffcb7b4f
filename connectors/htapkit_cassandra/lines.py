"""Lines of the readers of logs and files (java/CommitLogTail.java) as values. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from htapkit.errors import SourceRefused
from htapkit_cassandra.blocks import Block, block
from htapkit_cassandra.mutations import (
    Cell,
    LogChange,
    LogEvent,
    LogPosition,
    LogTable,
    Mutation,
    Part,
    PartitionDeletion,
    RangeDeletion,
    Ready,
    Reset,
    RowWrite,
    Synced,
)

FORMAT = 3


class Lines:
    """Puts lines together to events: a mutation is given out only when its end was seen."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._changes: list[LogChange] = []
        self._blocks: list[Block] = []
        self._size = 0

    def feed(self, line: bytes) -> LogEvent | Part | None:
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
        if kind == "part":
            assert not self._changes, "a mutation has an end"
            return Part(found["upto"])
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
