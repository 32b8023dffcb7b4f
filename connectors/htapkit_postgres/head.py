"""Where the source's log ends now, in one short round trip, for whoever waits to be fresh.

It reads the insert position: the flush position misses commits that were acknowledged without a
flush. It never decides whether the copy is fresh; the two known holes of log positions are for the
caller's marks to close.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import LiteralString

import psycopg

from htapkit.errors import SourceError, SourceRefused, SourceUnavailable
from htapkit.model import Position
from htapkit.spi import HEAD_SECONDS
from htapkit_postgres.connection import Impatient, Settings, source_error, translate
from htapkit_postgres.connection import connect as connect_to
from htapkit_postgres.pgoutput import format_lsn, lsn_position, parse_lsn
from htapkit_postgres.receiver import MARK_PREFIX

_HEAD: LiteralString = "SELECT pg_current_wal_insert_lsn()::text"
# Flushed whatever synchronous_commit is here, and waits for no standby.
_MARK: LiteralString = (
    "SELECT set_config('synchronous_commit', 'local', true), pg_logical_emit_message(true, %s, %s)"
)
_RETAINED: LiteralString = (
    "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), confirmed_flush_lsn)::int8"
    " FROM pg_replication_slots WHERE slot_name = %s"
)
_SPILLED: LiteralString = (
    "SELECT spill_bytes::int8 FROM pg_stat_replication_slots WHERE slot_name = %s"
)
# Flushed at once, without a transaction of its own (17 and later).
_MARK_FLUSHED: LiteralString = "SELECT pg_logical_emit_message(false, %s, %s, true)"


ANSWER_SECONDS_MIN = 1.0
"""An answer that is only a little late is not thrown away, and its connection with it."""


def behind(source: str, ours: int, theirs: int) -> str:
    """What to say of a server whose log ends before our position."""
    return (
        f"{source}: the copy is at {format_lsn(ours)}, the server only at {format_lsn(theirs)}: it "
        "is another server, or was restored from a backup; check sources.dsn, or run "
        f"`htapkit detach {source}` and start again"
    )


class PostgresHead:
    """An spi.Head on a connection of its own, opened when first asked."""

    def __init__(self, settings: Settings, connect: Callable[[], Impatient] | None = None) -> None:
        """Nothing is opened yet. `connect` makes the connection, where it is not to be just any."""
        self._settings = settings
        self._connect = connect or partial(connect_to, settings)
        self._lock = threading.Lock()
        self._connection: Impatient | None = None
        self.last = 0
        self.reached = 0
        """What the copy has: a log that ends before it is not the one that was copied."""

    def head(self, timeout_seconds: float = HEAD_SECONDS) -> Position:
        """A position that covers every commit acknowledged before this call.

        Raises SourceRefused where the server has less than the copy: it would pass for fresh.
        """
        reached = self.reached
        row = self._ask(_HEAD, (), timeout_seconds)
        assert row is not None, "a function gives one row"
        self.last = parse_lsn(str(row[0]))
        if self.last < reached:
            raise SourceRefused(behind(self._settings.source, reached, self.last))
        return lsn_position(self.last)

    def mark(self, token: str, timeout_seconds: float = HEAD_SECONDS) -> None:
        """Write `token` into the log behind every commit acknowledged before this call."""
        self._ask(_MARK, (MARK_PREFIX, token), timeout_seconds)

    def retained(self) -> int:
        """Log that the server keeps because our slot has not confirmed it."""
        row = self._ask(_RETAINED, (self._settings.slot,))
        return int(str(row[0])) if row is not None and row[0] is not None else 0

    def spilled(self) -> int:
        """What decoding for our slot wrote to files, since the server's statistics began."""
        row = self._ask(_SPILLED, (self._settings.slot,))
        return int(str(row[0])) if row is not None and row[0] is not None else 0

    def close(self) -> None:
        """Let go of the connection; the next call opens another."""
        with self._lock:
            self._close()

    def _opened(self) -> Impatient:
        if self._connection is None:
            self._connection = self._connect()
            self._connection.prepare_threshold = 0
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _ask(
        self,
        query: LiteralString,
        parameters: tuple[str, ...],
        timeout_seconds: float = HEAD_SECONDS,
    ) -> tuple[object, ...] | None:
        limit = max(timeout_seconds, ANSWER_SECONDS_MIN)
        until = time.monotonic() + limit
        if not self._lock.acquire(timeout=limit):
            raise source_error(
                self._settings,
                "read the log's position",
                "",
                f"no answer within {round(limit, 3):g} s",
            )
        try:
            reused = self._connection is not None
            try:
                return self._run(query, parameters, until)
            except SourceUnavailable:
                # The connection may have died long ago: that says nothing of the source now.
                if not reused or time.monotonic() >= until:
                    raise
                return self._run(query, parameters, until)
        finally:
            self._lock.release()

    def _run(
        self, query: LiteralString, parameters: tuple[str, ...], until: float
    ) -> tuple[object, ...] | None:
        connection = self._opened()
        if query is _MARK and connection.info.server_version >= 170000:
            query = _MARK_FLUSHED
        connection.answer_seconds = max(until - time.monotonic(), ANSWER_SECONDS_MIN)
        try:
            return connection.execute(query, parameters).fetchone()
        except psycopg.Error as error:
            self._close()
            raise self._explained(error) from None

    def _explained(self, error: psycopg.Error) -> SourceError:
        if error.sqlstate == "55000":
            words = "it is a standby; put the primary into sources.dsn"
            return source_error(self._settings, "read the log's position", "55000", words)
        return translate(self._settings, "read the log's position", error)
