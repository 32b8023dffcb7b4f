"""The program that reads one node's log, kept running: started again where it stopped.

It is Cassandra's own reader in a process of its own (java/CommitLogTail.java). What it cannot read
stops it; nothing is ever skipped. Its standard error goes to our log.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from htapkit.errors import PositionLost, SourceError, SourceRefused
from htapkit_cassandra.lines import Lines
from htapkit_cassandra.machine import Child, Machine
from htapkit_cassandra.mutations import LogEvent, LogPosition, Mutation, Part, Ready
from htapkit_cassandra.waiting import Waiting

# Exit codes of CommitLogTail.java.
UNDECODABLE = 4
UNKNOWN_TABLE = 5
POSITION_LOST = 6
BAD_SCHEMA = 7
_OLD_SCHEMA = (UNDECODABLE, UNKNOWN_TABLE, BAD_SCHEMA)

PAUSE_SECONDS_FIRST = 0.2
PAUSE_SECONDS_MAX = 10.0
STOP_SECONDS_MAX = 15.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event of a run."""

    code: int
    said: str


class Run:
    """One reader: its output as events in a queue that ends with `Ended`."""

    def __init__(
        self, child: Child, queue_bytes_max: int, news: threading.Event | None = None
    ) -> None:
        """It runs; `news` is set with each event."""
        self.events: Waiting[LogEvent | Part | Ended | SourceRefused] = Waiting(
            queue_bytes_max, news
        )
        self.child = child
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        lines = Lines()
        with closing(self.child.lines()) as told:
            for line in told:
                if not line.endswith(b"\n"):
                    break  # it died while it wrote
                try:
                    event = lines.feed(line)
                except SourceRefused as refused:
                    self.events.put(refused, 0)
                    break
                if event is not None:
                    self.events.put(event, event.size if isinstance(event, Mutation) else 0)
        code = self.child.wait()
        self.events.put(Ended(code, self.child.said), 0)

    def stop(self) -> None:
        """End it. Safe to call twice."""
        self.events.close()
        self.child.end()
        self._thread.join(STOP_SECONDS_MAX)


class LogTail:
    """The events of one node's log from a position on. One thread calls `next`.

    Mutations come in the log's order, each once within a tail; a new tail starts right after its
    position. A reader that dies is started again behind the last event that was given out.
    """

    def __init__(
        self,
        machine: Machine,
        schema: Callable[[], str],
        start: LogPosition | None = None,
        *,
        queue_bytes_max: int = 32 * 2**20,
        news: threading.Event | None = None,
    ) -> None:
        """`schema` asks the node for its schema; `start` None: from the oldest that is there.

        `queue_bytes_max`: of what was read and nobody has taken. `news` is set when `next` may
        have something.
        """
        self._machine = machine
        self._queue_bytes_max = queue_bytes_max
        self._news = news
        self._schema = schema
        self._run: Run | None = None
        self._pause = 0.0
        self._not_before = 0.0
        self._stopped_at: object = object()  # where the schema was read anew to get further
        self.position = start
        self.restarts = 0
        self.why = ""  # why nothing comes now, "" = it is being read
        self.dropped: set[str] = set()  # ids of tables that the log has and the node has no more

    @property
    def pid(self) -> int | None:
        """The reader's process id while it runs."""
        return self._run.child.pid if self._run else None

    @property
    def due(self) -> bool:
        """Whether its reader does not run, and is to be started by now."""
        return self._run is None and time.monotonic() >= self._not_before

    @property
    def queued_bytes(self) -> int:
        """How many bytes were read and not given out."""
        run = self._run
        return run.events.bytes if run else 0

    def next(self, timeout_seconds: float) -> LogEvent | None:
        """The next event, or None when none came in time.

        Raises PositionLost (the node's files after the position are gone) and SourceRefused (what
        comes next cannot be read, and the message says where it stands).
        """
        if self._run is None:
            wait = self._not_before - time.monotonic()
            if wait > 0:
                time.sleep(min(wait, timeout_seconds))
                return None
            self.start()
        assert self._run is not None
        event = self._run.events.get(timeout_seconds)
        if event is None:
            return None
        if isinstance(event, SourceRefused):
            raise event
        if isinstance(event, Ended):
            self._ended(event)
            return None
        assert not isinstance(event, Part), "only copies have parts"
        if not isinstance(event, Ready):
            self.position = event.position
            self._pause, self.why = 0.0, ""
        return event

    def start(self) -> None:
        """Start its reader, which takes as long as the node takes to tell its schema.

        Not beside `next`. Raises SourceError; it is due again later.
        """
        try:
            schema = json.loads(self._schema())
            schema["ignored"] += sorted(self.dropped)
            child = self._machine.read_log(json.dumps(schema), self.position)
        except SourceError as error:
            self.why = str(error)
            self._rest()
            raise
        self._run = Run(child, self._queue_bytes_max, self._news)

    def _rest(self) -> None:
        self._not_before = time.monotonic() + self._pause
        self._pause = min(max(self._pause * 2, PAUSE_SECONDS_FIRST), PAUSE_SECONDS_MAX)

    def _ended(self, ended: Ended) -> None:
        assert self._run is not None
        self._run.stop()
        self._run = None
        where = f"the log in {self._machine.name} after {self.position or 'its start'}"
        if ended.code == POSITION_LOST:
            raise PositionLost(f"{where}: {ended.said}")
        if ended.code in _OLD_SCHEMA:
            again = self._stopped_at == self.position
            unknown = re.search(r"table id (\S+) is not", ended.said)
            if again and unknown is not None and unknown[1] not in self.dropped:
                # The schema is newer than the mutation and does not have it: it was dropped.
                self.dropped.add(unknown[1])
            elif again:
                raise SourceRefused(f"cannot read {where}: {ended.said}")
            # Perhaps the schema is older than what was written: once more, with the present one.
            self._stopped_at = self.position
        self.restarts += 1
        self.why = f"the reader of its log ended with code {ended.code}: {ended.said}"
        _log.warning("%s: %s", self._machine.name, self.why)
        self._rest()

    def close(self) -> None:
        """End the reader. Safe to call twice."""
        if self._run is not None:
            self._run.stop()
            self._run = None
