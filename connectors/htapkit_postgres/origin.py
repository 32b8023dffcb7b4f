"""The source as a PostgreSQL server for clients: raw logins, users' verifiers, users' rights.

A relay needs the bare byte stream, which libpq does not give away; so the login is done here.
Questions about verifiers and rights go through one ordinary connection under the source's own
role. Nothing is changed at the source, and no secret is kept or logged.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import psycopg

from htapkit.errors import LimitReached, SourceRefused, SourceUnavailable
from htapkit.model import Access
from htapkit.spi import HEAD_SECONDS, Credential, OriginSession, OwnRole, Password
from htapkit.sqlfiles import sql
from htapkit_postgres.login import login
from htapkit_postgres.server import Server

_DENIED_SECONDS = 5.0
_DENIED_MAX = 10_000
_NEVER_PASSED = frozenset({"user", "database", "replication"})


class ConnectionLimit(LimitReached):
    """limits.source_connections is reached."""

    sqlstate = "53300"


Admin = psycopg.Connection[tuple[object, ...]]


class PostgresOrigin:
    """One PostgreSQL source, for any number of client sessions. Thread-safe."""

    def __init__(
        self,
        source: str,
        dsn: str,
        connections_max: int,
        connect: Callable[[], Admin],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`connect` opens a connection under the source's own role (see `connection.connect`)."""
        self._source = source
        self._server = Server.from_dsn(dsn)
        self._connections_max = connections_max
        self._connect = connect
        self._now = monotonic
        self._lock = threading.Lock()
        self._open = 0
        self._asking = threading.Lock()
        self._admin: Admin | None = None
        self._denied: dict[tuple[str, Access], tuple[float, str]] = {}

    def open(
        self, user: str, parameters: Mapping[str, str], credential: Credential
    ) -> OriginSession:
        """Log in as `user`; see `spi.Origin`."""
        self._take()
        try:
            passed = {
                name: value for name, value in parameters.items() if name not in _NEVER_PASSED
            }
            if isinstance(credential, OwnRole):
                user = self._server.user
                credential = Password(self._server.password())
            passed = {"user": user, "database": self._server.database, **passed}
            return login(self._server, passed, credential, self._give_back)
        except SourceUnavailable as error:
            self._give_back()
            raise SourceUnavailable(f"source {self._source} does not answer: {error}") from error
        except BaseException:
            self._give_back()
            raise

    @property
    def connections(self) -> int:
        """How many are open for clients."""
        with self._lock:
            return self._open

    def _take(self) -> None:
        with self._lock:
            if self._open >= self._connections_max:
                raise ConnectionLimit(
                    f"source {self._source}: {self._open} connections are open for clients, which "
                    "is the limit; raise limits.source_connections, or close some"
                )
            self._open += 1

    def _give_back(self) -> None:
        with self._lock:
            self._open -= 1

    def verifier(self, user: str) -> str | None:
        """The role's SCRAM verifier; see `spi.Origin`."""
        try:
            row = self._ask(sql("source/verifier_way"), ())
            way = str(row[0][0])
            if way == "function":
                found = self._ask("select htapkit.verifier(%s)", (user,))
            elif way == "table":
                found = self._ask(sql("source/verifier"), (user,))
            else:
                raise self._unreadable()
        except psycopg.errors.InsufficientPrivilege as error:
            raise self._unreadable() from error
        value = found[0][0] if found else None
        return value if isinstance(value, str) and value.startswith("SCRAM-SHA-256$") else None

    def _unreadable(self) -> SourceRefused:
        return SourceRefused(
            f"source {self._source}: role {self._server.user} may not read password verifiers; "
            "a superuser can allow it with sql/source/auth_lookup.sql. Until then clients log in "
            "by password over TLS"
        )

    def denied(self, role: str, access: Sequence[Access]) -> str:
        """Why `role` may not read these columns from a copy; see `spi.Origin`."""
        now = self._now()
        asked: list[Access] = []
        for each in access:
            until, reason = self._denied.get((role, each), (0.0, ""))
            if until <= now:
                asked.append(each)
            elif reason:
                return reason
        if not asked:
            return ""
        reasons = self._ask_denied(role, asked)
        if len(self._denied) > _DENIED_MAX:
            self._denied.clear()
        for each, reason in zip(asked, reasons, strict=True):
            self._denied[role, each] = (now + _DENIED_SECONDS, reason)
        return next((reason for reason in reasons if reason), "")

    def _ask_denied(self, role: str, asked: Sequence[Access]) -> list[str]:
        reasons = []
        for each in asked:
            rows = self._ask(
                sql("source/denied"),
                {
                    "role": role,
                    "schema": each.table.schema,
                    "name": each.table.name,
                    "columns": sorted(each.columns),
                },
            )
            reasons.append(str(rows[0][0]) if rows else f"{each.table}: no such table, or role")
        return reasons

    def _ask(
        self, text: str, values: Sequence[object] | Mapping[str, object]
    ) -> list[tuple[object, ...]]:
        """Rows of a question under the source's own role.

        A broken connection is opened again once.
        """
        if not self._asking.acquire(timeout=HEAD_SECONDS):
            raise SourceUnavailable(f"source {self._source}: it leaves others without an answer")
        try:
            for attempt in (1, 2):
                try:
                    if self._admin is None or self._admin.closed:
                        self._admin = self._connect()
                    return self._admin.execute(text.encode(), values).fetchall()
                except psycopg.errors.InsufficientPrivilege:
                    raise
                except psycopg.OperationalError as error:
                    if self._admin is not None:
                        self._admin.close()
                    self._admin = None
                    if attempt == 2:
                        raise SourceUnavailable(f"source {self._source}: {error}") from error
                except psycopg.Error as error:
                    raise SourceRefused(f"source {self._source}: {error}") from error
        finally:
            self._asking.release()
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Let go of our own connection. Clients' sessions are theirs."""
        with self._asking:
            if self._admin is not None:
                self._admin.close()
            self._admin = None
