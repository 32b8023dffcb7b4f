"""The PostgreSQL port.

Accepts clients, one thread each, and finds the session that a cancel is meant for.

It is given everything it needs (databases, certificate, limits); it opens nothing but its own
socket and, through `Origin`, one connection to the source for each client. The connection to the
source opens at start-up, because its ParameterStatus messages are the client's.
"""

from __future__ import annotations

import logging
import secrets
import socket
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from htapkit.errors import ConfigError, HtapkitError, LimitReached, ProtocolError
from htapkit.serve.pgwire import messages
from htapkit.serve.pgwire.auth import CancelRequest, NotAllowed, Startup, authenticate, read_startup
from htapkit.serve.pgwire.database import Database
from htapkit.serve.pgwire.lobby import Lobby
from htapkit.serve.pgwire.session import Session
from htapkit.serve.pgwire.settings import Options, startup_options
from htapkit.serve.pgwire.state import SessionState
from htapkit.serve.pgwire.tally import Tally
from htapkit.serve.pgwire.tls import SocketWire, Tls
from htapkit.spi import Credential, OriginSession, OwnRole

_log = logging.getLogger(__name__)
_MOMENT_SECONDS = 0.01
_LAST_WORDS_SECONDS = 1.0
_INTERNAL = HtapkitError("an internal error of htapkit, whose log has it; connect again")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class TooManyClients(LimitReached):
    """limits.client_connections is reached."""

    sqlstate = "53300"


class NoSuchDatabase(HtapkitError):
    """The client asked for a database that is no source."""

    sqlstate = "3D000"


class NotHere(HtapkitError):
    """Something that only the source itself offers."""

    sqlstate = "0A000"


@dataclass(frozen=True, slots=True)
class PgwireOptions:
    """How the port behaves. `trust` is for loopback only: everybody is the source's own role."""

    host: str = "127.0.0.1"
    port: int = 6432  # 0: any free one
    trust: bool = False
    tls: Tls | None = None
    clients_max: int = 200
    login_seconds_max: float = 60.0


class PgwireServer:
    """The port. `start`, then `stop`; both are quick."""

    def __init__(
        self, databases: Mapping[str, Database], options: PgwireOptions, tally: Tally | None = None
    ) -> None:
        """`databases` by the names that clients connect to. Raises ConfigError.

        `tally` counts refused logins; each database has one for its sessions.
        """
        self.tally = tally or Tally()
        if options.trust and options.host not in _LOOPBACK:
            raise ConfigError(
                f"servers.pgwire.listen: auth: trust is for loopback only, found {options.host}"
            )
        self._databases = databases
        self._options = options
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._sessions: dict[bytes, Session] = {}
        self._wires: set[SocketWire] = set()
        self._listener: socket.socket | None = None
        self._stopping = False
        self._lobby = Lobby()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._listener is not None
        return int(self._listener.getsockname()[1])

    @property
    def clients(self) -> int:
        """How many connections there are."""
        with self._lock:
            return len(self._wires)

    def start(self) -> None:
        """Listen. Raises ConfigError when the address is taken."""
        host, port = self._options.host, self._options.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._listener = socket.create_server((host, port), family=family, backlog=256)
        except OSError as error:
            raise ConfigError(f"servers.pgwire.listen: {host}:{port}: {error.strerror}") from error
        self._lobby.start()
        threading.Thread(target=self._accept, name="pgwire", daemon=True).start()

    def stop(self) -> None:
        """Close the port and all sessions."""
        self._stopping = True
        if self._listener is not None:
            with suppress(OSError):  # wakes the accepting thread
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        with self._lock:
            wires = list(self._wires)
        for wire in wires:
            wire.shut()
        self._lobby.stop()

    def _accept(self) -> None:
        assert self._listener is not None
        while not self._stopping:
            try:
                connection, address = self._listener.accept()
            except OSError as error:
                if self._stopping:
                    return
                # Out of descriptors, or the peer was gone at once: the port must stay open.
                _log.warning("accept failed: %s", error)
                threading.Event().wait(0.1)
                continue
            threading.Thread(
                target=self._serve,
                args=(connection, str(address[0])),
                name="pgwire client",
                daemon=True,
            ).start()

    def _serve(self, connection: socket.socket, peer: str) -> None:
        """One client, from its first byte to its last."""
        wire = SocketWire(connection)
        with self._lock:
            self._wires.add(wire)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            wire.settimeout(self._options.login_seconds_max)
            self._greet(wire, peer)
        except ProtocolError as error:
            self.tally.failed(error)
            _log.warning("client refused", extra={"why": str(error)})
        except NotAllowed as error:
            self.tally.failed(error)
            _log.debug("client refused: %s", error)
        except (OSError, struct.error) as error:
            _log.debug("client closed: %s", error)
        except Exception:  # noqa: BLE001 - the task's top
            _log.exception("a client session failed")
            self.tally.failed(_INTERNAL)
            with suppress(OSError):
                wire.settimeout(_LAST_WORDS_SECONDS)
                wire.sendall(messages.error(_INTERNAL, "FATAL"))
        finally:
            wire.close()
            with self._lock:
                self._wires.discard(wire)

    def _greet(self, wire: SocketWire, peer: str) -> None:
        started = read_startup(wire, self._options.tls)
        if isinstance(started, CancelRequest):
            with self._lock:
                session = self._sessions.get(started.key)
            if session is not None:
                session.cancel()
            return
        try:
            session, key = self._open(started)
        except HtapkitError as problem:
            who = {"user": started.user, "database": started.database, "client": peer}
            _log.warning("login refused", extra={**who, "why": str(problem)})
            self.tally.failed(problem)
            wire.sendall(messages.error(problem, "FATAL"))
            return
        wire.settimeout(None)
        with self._lock:
            self._sessions[key] = session
        try:
            session.run()
        finally:
            with self._lock:
                self._sessions.pop(key, None)

    def _open(self, started: Startup) -> tuple[Session, bytes]:
        """Log the client in, here and at the source. Raises HtapkitError, which the client sees."""
        if self.clients > self._options.clients_max:
            raise TooManyClients("sorry, too many clients already (limits.client_connections)")
        if started.parameters.get("replication", "").lower() in {
            "1",
            "true",
            "on",
            "yes",
            "database",
        }:
            raise NotHere("replication connections go to the source itself, not through htapkit")
        database = self._databases.get(started.database)
        if database is None:
            raise NoSuchDatabase(
                f'database "{started.database}" does not exist; connect to the name of a source '
                "(htapkit status lists them)"
            )
        options = Options()
        for name, value in startup_options(started.parameters).items():
            options = options.set(name, value)
        credential: Credential = OwnRole()
        if not self._options.trust:
            credential = authenticate(started, database.origin, self._options.tls, self._secret)
        state = SessionState(
            started.database,
            options,
            "" if self._options.trust else started.user,
            alone=database.alone,
            readable=partial(database.freshness.readable, started.database),
        )
        origin = database.origin.open(started.user, started.parameters, credential)
        shown = OriginSession(
            origin.wire, messages.authentication(0) + origin.startup, origin.cancel
        )
        plain = not (started.wire.encrypted or origin.wire.encrypted)
        if plain:
            started.wire.be_impatient(_MOMENT_SECONDS)
        session = Session(database, state, started.wire, shown, self._lobby if plain else None)
        return session, _cancel_key(origin.startup)


def _cancel_key(startup: bytes) -> bytes:
    """The source's own BackendKeyData: the client may use it with us as it would there."""
    position = 0
    while position + 5 <= len(startup):
        size = int.from_bytes(startup[position + 1 : position + 5], "big")
        if startup[position] == 0x4B:
            return startup[position + 5 : position + 1 + size]
        position += 1 + size
    return secrets.token_bytes(8)  # a source that cannot cancel: nobody knows this key
