"""Where the node's log ends now: a mark of ours is written, and found again in the log.

The log shows only what is synced, so no file says where it ends. A mark is a row of a table of our
own; what was acknowledged before it lies before it in the log.
"""

from __future__ import annotations

import struct
import threading
import time
from contextlib import ExitStack
from uuid import uuid4

from cassandra.cluster import Session
from cassandra.query import PreparedStatement

from htapkit.errors import SourceUnavailable
from htapkit.model import Position
from htapkit_cassandra.cluster import session, translated
from htapkit_cassandra.mutations import Mutation, RowWrite
from htapkit_cassandra.positions import Reached
from htapkit_cassandra.settings import Settings

KEYSPACE = "htapkit"
TABLE = "marks"
_CREATE = (
    f"CREATE KEYSPACE IF NOT EXISTS {KEYSPACE} WITH replication = "
    "{'class': 'SimpleStrategy', 'replication_factor': 1}",
    f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.{TABLE} (reader text PRIMARY KEY, mark bigint) "
    "WITH cdc = true AND default_time_to_live = 86400",
)
_WRITE = "INSERT INTO htapkit.marks (reader, mark) VALUES (?, ?)"


def create(opened: Session) -> None:
    """Make the table of marks, if it is not there."""
    for statement in _CREATE:
        opened.execute(statement)


def remove(opened: Session) -> None:
    """Remove it again."""
    opened.execute(f"DROP KEYSPACE IF EXISTS {KEYSPACE}")


class Marks:
    """Writes marks, and knows its own. Thread-safe. It is the source's spi.Head."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is connected before the first mark."""
        self._settings = settings
        self._reader = str(uuid4())  # another process's marks say nothing of our commits
        self._lock = threading.Lock()
        self._kept = ExitStack()
        self._session: Session | None = None
        self._write: PreparedStatement | None = None
        self._last = 0

    def begin_after(self, mark: int) -> None:
        """Marks to come are larger than one that is stored, whatever the clock says."""
        with self._lock:
            self._last = max(self._last, mark)

    def head(self) -> Position:
        """Write a mark; a position with it covers everything acknowledged before."""
        with self._lock:  # marks lie in the log in the order of their numbers
            self._last = max(self._last + 1, time.time_ns() // 1000)
            try:
                with translated(self._settings):
                    opened, write = self._opened()
                    opened.execute(write, (self._reader, self._last))
            except Exception:
                self._let_go()
                raise
            return Reached(mark=self._last).position()

    def mark(self, token: str) -> None:
        """Not needed: what `head` gives is in the log already."""

    def of(self, mutation: Mutation, table_id: str) -> int:
        """The number of our mark in a mutation; 0 = there is none."""
        found = 0
        for change in mutation.changes:
            ours = change.table == table_id and change.key == (self._reader.encode(),)
            for cell in change.cells if ours and isinstance(change, RowWrite) else ():
                if cell.column == "mark" and cell.value is not None:
                    found = max(found, struct.unpack(">q", cell.value)[0])
        return found

    def close(self) -> None:
        """Let go of the connection. Safe to call twice."""
        with self._lock:
            self._let_go()

    def _opened(self) -> tuple[Session, PreparedStatement]:
        if self._session is None or self._write is None:
            self._session = self._kept.enter_context(session(self._settings))
            self._write = self._session.prepare(_WRITE)
        return self._session, self._write

    def _let_go(self) -> None:
        self._session = self._write = None
        try:
            self._kept.close()
        except SourceUnavailable:
            return
