"""What each node says of TRUNCATE: a record of its own, with a place in its own log.

No log shows one. What a node logged of a table up to that place is gone.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from cassandra.cluster import Session

from htapkit_cassandra.mutations import LogPosition


class Truncations:
    """As each node said when it was last asked. Thread-safe: a node's word is replaced whole."""

    def __init__(self) -> None:
        """Nobody was asked yet."""
        self._records: dict[str, Mapping[str, str]] = {}
        self._places: dict[str, Mapping[str, LogPosition]] = {}

    def look(self, node: str, opened: Session) -> None:
        """Ask the node that the session is on; `node` is its host id."""
        (local,) = opened.execute("SELECT truncated_at FROM system.local")
        told = local.truncated_at or {}
        self.told(node, {str(table): bytes(record).hex() for table, record in told.items()})

    def told(self, node: str, records: Mapping[str, str]) -> None:
        """A node's records by the id of a table, in hexadecimal."""
        # First the places: a record must not be known without the place that belongs to it.
        self._places[node] = {table: place(record) for table, record in records.items()}
        self._records[node] = records

    def of(self, table_id: str) -> dict[str, str]:
        """A table's records, of each node that was asked; "" = it was never truncated."""
        return {node: told.get(table_id, "") for node, told in dict(self._records).items()}

    def gone(self, node: str, table_id: str, end: LogPosition) -> bool:
        """Whether a mutation in a node's log that ends there is of before a TRUNCATE."""
        truncated = self._places.get(node, {}).get(table_id)
        return truncated is not None and end <= truncated


def place(record: str) -> LogPosition:
    """Where a record says that the table was truncated: it begins with a place in the log."""
    return LogPosition(*struct.unpack_from(">qi", bytes.fromhex(record)))
