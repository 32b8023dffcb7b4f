"""Connections to the sources under the clients' own roles, kept for a moment between statements.

A connection serves one client in one database; nothing that a statement leaves in its session is
seen by the next one. At the source's limit, idle ones make room.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from htapkit.errors import LimitReached
from htapkit.serve.flight.clients import Client
from htapkit.serve.flight.commands import NeedsSession
from htapkit.serve.flight.source import SourceConnection
from htapkit.serve.pgwire.database import Database
from htapkit.serve.pgwire.settings import SourceSettings

_PARAMETERS = {
    "application_name": "htapkit flight",
    "client_encoding": "UTF8",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}
_IDLE_SECONDS = 15.0
_SETTINGS_SECONDS = 60.0
_SETTINGS_MAX = 1000

Key = tuple[Client, str]


@dataclass(slots=True)
class _Idle:
    key: Key
    connection: SourceConnection
    since: float


class Sources:
    """The connections of all clients. Thread-safe."""

    def __init__(
        self,
        databases: Mapping[str, Database],
        idle_max: int,
        monotonic: Callable[[], float] = time.monotonic,
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        """`idle_max`: how many are kept open while no statement needs them.

        `parameters` are settings of the source's sessions beyond our own.
        """
        self._databases = databases
        self._idle_max = idle_max
        self._now = monotonic
        self._parameters = {**_PARAMETERS, **(parameters or {})}
        self._lock = threading.Lock()
        self._idle: list[_Idle] = []
        self._settings: dict[Key, tuple[SourceSettings, float]] = {}
        self._closed = False

    def settings(self, client: Client, name: str) -> SourceSettings:
        """What the source says of the client's session there. Raises SourceRefused and others."""
        found = self._settings.get((client, name))
        if found is not None and found[1] > self._now():
            return found[0]
        with self.borrow(client, name) as connection:
            return connection.settings

    def check(self, client: Client, name: str) -> None:
        """Log in. Raises SourceRefused, SourceUnavailable, LimitReached."""
        with self.borrow(client, name):
            pass

    @contextlib.contextmanager
    def borrow(self, client: Client, name: str) -> Iterator[SourceConnection]:
        """A connection for one statement. Raises SourceRefused, SourceUnavailable, LimitReached."""
        key = (client, name)
        connection = self._taken(key) or self._opened(key)
        try:
            yield connection
        except BaseException:
            if connection.broken or connection.in_transaction:
                connection.close()
            raise
        else:
            if connection.in_transaction:
                connection.close()
                raise NeedsSession(
                    "there are no transactions over Flight SQL; nothing was done. Each statement "
                    "is one of its own, and the PostgreSQL port has transactions"
                )
        finally:
            self._give_back(key, connection)

    def _taken(self, key: Key) -> SourceConnection | None:
        with self._lock:
            for index, idle in enumerate(self._idle):
                if idle.key == key and idle.since + _IDLE_SECONDS > self._now():
                    return self._idle.pop(index).connection
        return None

    def _opened(self, key: Key) -> SourceConnection:
        client, name = key
        origin = self._databases[name].origin
        try:
            session = origin.open(client.user, self._parameters, client.credential)
        except LimitReached:
            if not self._make_room():
                raise
            session = origin.open(client.user, self._parameters, client.credential)
        try:
            connection = SourceConnection(session)
        except BaseException:
            session.wire.close()
            raise
        with self._lock:
            if len(self._settings) >= _SETTINGS_MAX:
                self._settings.clear()
            self._settings[key] = connection.settings, self._now() + _SETTINGS_SECONDS
        return connection

    def _make_room(self) -> bool:
        """Close what is idle; whether there was anything."""
        with self._lock:
            idle, self._idle = self._idle, []
        for each in idle:
            each.connection.close()
        return bool(idle)

    def _give_back(self, key: Key, connection: SourceConnection) -> None:
        if connection.broken:
            connection.close()
            return
        now = self._now()
        with self._lock:
            self._idle.append(_Idle(key, connection, now))
            kept = [] if self._closed else self._idle
            kept = [idle for idle in kept if idle.since + _IDLE_SECONDS > now][-self._idle_max :]
            gone = [idle for idle in self._idle if idle not in kept]
            self._idle = kept
        for idle in gone:
            idle.connection.close()

    def sweep(self) -> None:
        """Close what was idle for too long, and forget the clients behind it."""
        now = self._now()
        with self._lock:
            gone = [idle for idle in self._idle if idle.since + _IDLE_SECONDS <= now]
            self._idle = [idle for idle in self._idle if idle.since + _IDLE_SECONDS > now]
            self._settings = {key: found for key, found in self._settings.items() if found[1] > now}
        for idle in gone:
            idle.connection.close()

    def close(self) -> None:
        """Close what is idle, and what is given back from now on."""
        self._closed = True
        self._make_room()
