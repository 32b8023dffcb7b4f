"""Where the nodes' logs end now: a mark of ours is written, and found again in each of them.

A log shows only what is synced, so no file says where it ends. A mark is a row of a table of our
own, of which every node has a replica; what a node acknowledged before lies before it in its log.
"""

from __future__ import annotations

import struct
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from uuid import uuid4

from cassandra.cluster import Session

from htapkit.errors import SourceRefused, SourceUnavailable
from htapkit.model import Position
from htapkit.spi import HEAD_SECONDS
from htapkit_cassandra.cluster import Sessions
from htapkit_cassandra.lags import Lags
from htapkit_cassandra.mutations import Mutation, RowWrite
from htapkit_cassandra.placements import Placements
from htapkit_cassandra.positions import Reached
from htapkit_cassandra.replicas import Member
from htapkit_cassandra.ring import members
from htapkit_cassandra.settings import Settings
from htapkit_cassandra.ticks import Ticks

KEYSPACE = "htapkit"
TABLE = "marks"
_TABLE = (
    f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.{TABLE} (reader text PRIMARY KEY, mark bigint) "
    "WITH cdc = true AND default_time_to_live = 86400"
)
_WRITE = "INSERT INTO htapkit.marks (reader, mark) VALUES (%s, %s)"
_REPLICATION = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = %s"


def create(opened: Session, members: Sequence[Member]) -> None:
    """Make the table of marks, if it is not there, with a replica at each node of the ring."""
    wanted = {dc: str(n) for dc, n in Counter(member.datacenter for member in members).items()}
    pairs = ", ".join(f"'{dc}': {n}" for dc, n in sorted(wanted.items()))
    replication = f"replication = {{'class': 'NetworkTopologyStrategy', {pairs}}}"
    opened.execute(f"CREATE KEYSPACE IF NOT EXISTS {KEYSPACE} WITH {replication}")
    (there,) = opened.execute(_REPLICATION, (KEYSPACE,))
    if {name: n for name, n in there.replication.items() if name != "class"} != wanted:
        opened.execute(f"ALTER KEYSPACE {KEYSPACE} WITH {replication}")
    opened.execute(_TABLE)


def remove(opened: Session) -> None:
    """Remove it again."""
    opened.execute(f"DROP KEYSPACE IF EXISTS {KEYSPACE}")


class Marks:
    """Writes marks, and knows its own. Thread-safe. It is the source's spi.Head."""

    def __init__(self, settings: Settings, ticks: Ticks) -> None:
        """Nothing is connected before the first mark."""
        self._settings = settings
        self.ticks = ticks
        self._reader = str(uuid4())  # another process's marks say nothing of our commits
        self._lock = threading.Lock()
        self._sessions = Sessions(settings)
        self._placements = Placements(settings.write_consistency)
        self._keyspaces: frozenset[str] | None = None  # that are followed; None = not told
        self.lags = Lags(())
        self.stopped = ""  # why the logs that are read are not all there are any more

    @property
    def _looks(self) -> bool:
        """Whether it matters who acknowledges: at ONE it may be anybody."""
        return self._settings.write_consistency != "ONE"

    def begin_after(self, stored: Reached, logs: Iterable[str] = ()) -> None:
        """Marks are waited for in these logs (host ids), those behind what is stored."""
        with self._lock:
            self.ticks.after(stored.mark)
            placed = stored.placed if self._looks else None
            self.lags, self.stopped = Lags(logs, stored.through, placed), ""
            self._keyspaces = None

    def expect(self, keyspaces: Collection[str]) -> None:
        """In these tables are followed. Before any is copied. Raises SourceError."""
        if self._looks:
            with self._sessions.first() as opened:
                found = members(opened, tokens=True)
                self.lags.followed(self._placements.look(opened, found, keyspaces))
        self._keyspaces = frozenset(keyspaces)

    def vouched_for(self, now: float) -> str:
        """For what the copy vouches where a log is missing, for people; "" = for nothing."""
        if not self._looks:
            return ""
        return (
            f"writes at {self._settings.write_consistency} (write_consistency), which is what "
            f"strong reads wait for, are {self.lags.vouched_seconds(now):.1f} s behind"
        )

    def head(self, timeout_seconds: float = HEAD_SECONDS) -> Position:
        """Write a mark; a position with it covers everything acknowledged before.

        One replica is enough for that: the others are waited for in their logs, as many as the
        consistency of the writers asks. Raises SourceRefused where the ring has a node by now whose
        log is not read. The driver has a limit of its own for each answer.
        """
        # Marks lie in each log about in the order of their numbers.
        if not self._lock.acquire(timeout=timeout_seconds):
            raise SourceUnavailable(
                f"{self._settings.source}: no mark was written within "
                f"{round(timeout_seconds, 3):g} s"
            )
        try:
            mark = self.ticks.next()
            self.lags.written(mark, time.monotonic())
            try:
                self._put(mark)
            except SourceUnavailable:  # the node that we spoke with; another may answer
                self._put(mark)
            return Reached(mark=mark).position()
        finally:
            self._lock.release()

    def _put(self, mark: int) -> None:
        with self._sessions.first() as opened:
            opened.execute(_WRITE, (self._reader, mark))
            # Behind it: whoever acknowledged something before it was written is a member by now.
            known, found = self.lags.logs, members(opened, tokens=self._looks)
            if known and (new := [m for m in found if m.host_id not in known]):
                addresses = ", ".join(member.address for member in new)
                self.stopped = (
                    f"{self._settings.source}: the ring has nodes whose log is not read "
                    f"({addresses}), so nobody knows how fresh the copy is; add them to "
                    f"sources.{self._settings.source}.nodes"
                )
                raise SourceRefused(self.stopped)
            if self._looks and self._keyspaces is not None:
                placed = self._placements.look(opened, found, self._keyspaces)
                self.lags.looked(mark, placed, time.monotonic())

    def mark(self, token: str, timeout_seconds: float = HEAD_SECONDS) -> None:
        """Not needed: what `head` gives is in the log already."""

    def of(self, mutation: Mutation, table_id: str) -> int:
        """The number of our newest mark in a mutation; 0 = there is none."""
        found = 0
        blocks = (block.writes() for block in mutation.blocks if block.table == table_id)
        for change in chain(mutation.changes, *blocks):
            ours = change.table == table_id and change.key == (self._reader.encode(),)
            for cell in change.cells if ours and isinstance(change, RowWrite) else ():
                if cell.column == "mark" and cell.value is not None:
                    found = max(found, struct.unpack(">q", cell.value)[0])
        return found

    def close(self) -> None:
        """Let go of the connections. Safe to call twice."""
        self._sessions.close()
