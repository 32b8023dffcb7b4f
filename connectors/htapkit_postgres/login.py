"""A login to a PostgreSQL server on a bare socket.

TLS, password or SCRAM keys, up to ReadyForQuery.

libpq owns the sockets that it opens, and a relay must own its own. This takes the same DSN, with
the same defaults from the environment and the password file. It never logs a password or a key.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from htapkit.errors import SourceRefused, SourceUnavailable
from htapkit.scram import (
    MECHANISM,
    MECHANISM_PLUS,
    ScramClient,
    ScramRefused,
    certificate_hash,
    keys_from_password,
)
from htapkit.spi import Credential, OriginSession, Password, ScramKeys
from htapkit_postgres.server import Address, Server, sasl_prepared

_PROTOCOL = 196608
_SSL_REQUEST = 80877103
_CANCEL_REQUEST = 80877102
_CONNECT_SECONDS = 10.0
_MESSAGE_BYTES_MAX = 1 << 20
_SEND_BUFFER_BYTES = 262_144
_OK, _CLEARTEXT, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 5, 10, 11, 12


class SourceWire:
    """The connection to the source as a `Wire`."""

    def __init__(self, connection: socket.socket, closed: Callable[[], None]) -> None:
        """`closed` is called once, at the first close."""
        self._socket = connection
        self._tls = connection if isinstance(connection, ssl.SSLSocket) else None
        self._closed: Callable[[], None] | None = closed
        self.recv = connection.recv
        self.sendall = connection.sendall
        self.fileno = connection.fileno

    def pending(self) -> int:
        """Decrypted bytes that poll cannot see."""
        return self._tls.pending() if self._tls is not None else 0

    @property
    def encrypted(self) -> bool:
        """Whether there is TLS."""
        return self._tls is not None

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
        closed, self._closed = self._closed, None
        if closed is not None:
            closed()


def login(
    server: Server,
    parameters: Mapping[str, str],
    credential: Credential,
    closed: Callable[[], None],
) -> OriginSession:
    """Connect and log in. `closed` is called when the session closes, but not when this raises."""
    connection, address = connect(server)
    try:
        exchange = _Login(connection, parameters["user"], credential)
        exchange.send(b"", _startup(parameters))
        startup = exchange.run()
        connection.settimeout(None)
    except (OSError, ssl.SSLError) as error:
        connection.close()
        raise SourceUnavailable(f"{_named(address)}: {error}") from error
    except BaseException:
        connection.close()
        raise
    key = exchange.cancel_key
    encrypted = isinstance(connection, ssl.SSLSocket)

    def cancel() -> None:
        _cancel(server, address, key, encrypted=encrypted)

    return OriginSession(SourceWire(connection, closed), startup, cancel)


def _startup(parameters: Mapping[str, str]) -> bytes:
    pairs = b"".join(
        name.encode() + b"\0" + value.encode("utf-8", "surrogateescape") + b"\0"
        for name, value in parameters.items()
    )
    return struct.pack("!i", _PROTOCOL) + pairs + b"\0"


def _named(address: Address) -> str:
    return f"{address.host}:{address.port}"


def connect(server: Server) -> tuple[socket.socket, Address]:
    """A socket to the first address that answers, with TLS as sslmode says."""
    problem: Exception | None = None
    for address in server.addresses:
        try:
            connection = _socket(address)
        except OSError as error:
            problem = SourceUnavailable(f"{_named(address)}: {error.strerror or error}")
            continue
        try:
            return _secured(connection, server, address), address
        except (OSError, ssl.SSLError) as error:
            connection.close()
            problem = SourceUnavailable(f"{_named(address)}: TLS: {error}")
        except SourceRefused:
            connection.close()
            raise
    assert problem is not None
    raise problem


def _socket(address: Address) -> socket.socket:
    if address.local:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_CONNECT_SECONDS)
        connection.connect(f"{address.host}/.s.PGSQL.{address.port}")
        return connection
    connection = socket.create_connection(
        (address.hostaddr or address.host, address.port), _CONNECT_SECONDS
    )
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # The relay sends in slices once poll says that there is room: there must be room for a slice.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    return connection


def _secured(connection: socket.socket, server: Server, address: Address) -> socket.socket:
    if address.local or server.sslmode in {"disable", "allow"}:
        return connection
    connection.sendall(struct.pack("!ii", 8, _SSL_REQUEST))
    answer = connection.recv(1)
    if answer == b"S":
        return _tls_context(server).wrap_socket(connection, server_hostname=address.host)
    if server.sslmode != "prefer":
        raise SourceRefused(
            f"{_named(address)} does not offer TLS, and the DSN says sslmode={server.sslmode}"
        )
    return connection


def _tls_context(server: Server) -> ssl.SSLContext:
    settings, mode = server.settings, server.sslmode
    root = settings.get("sslrootcert") or "~/.postgresql/root.crt"
    context = ssl.create_default_context()
    context.check_hostname = mode == "verify-full"
    if root == "system":
        return context
    path = Path(root).expanduser()
    verify = mode.startswith("verify-") or (mode == "require" and path.exists())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = mode == "verify-full"
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    if verify:
        context.load_verify_locations(path)
    certificate = Path(settings.get("sslcert") or "~/.postgresql/postgresql.crt").expanduser()
    if certificate.exists():
        key = Path(settings.get("sslkey") or "~/.postgresql/postgresql.key").expanduser()
        context.load_cert_chain(certificate, key)
    return context


def _cancel(server: Server, address: Address, key: bytes, *, encrypted: bool) -> None:
    """Send a CancelRequest; the source answers nothing, and a failure changes nothing."""
    if not key:
        return
    try:
        connection = _socket(address)
        if encrypted:
            connection = _secured(connection, server, address)
        with connection:
            connection.sendall(struct.pack("!ii", len(key) + 8, _CANCEL_REQUEST) + key)
            connection.recv(1)
    except OSError as error:
        raise SourceUnavailable(f"{_named(address)}: cancel: {error}") from error


class _Login:
    """The messages between start-up and ReadyForQuery."""

    def __init__(self, connection: socket.socket, user: str, credential: Credential) -> None:
        self._socket = connection
        self._user = user
        self._credential = credential
        self.cancel_key = b""

    def send(self, kind: bytes, body: bytes) -> None:
        self._socket.sendall(kind + struct.pack("!i", len(body) + 4) + body)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise SourceUnavailable("the source closed the connection during login")
            data += more
        return data

    def receive(self) -> tuple[bytes, bytes]:
        """The next message. Raises SourceRefused with the server's own words."""
        head = self._exactly(5)
        (size,) = struct.unpack("!i", head[1:])
        if not 4 <= size < _MESSAGE_BYTES_MAX:
            raise SourceUnavailable("the source does not speak PostgreSQL's protocol")
        body = self._exactly(size - 4)
        if head[:1] == b"E":
            fields = {
                part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part
            }
            raise SourceRefused(fields.get(b"M", "the source refused the login"), body)
        return head[:1], body

    def run(self) -> bytes:
        """Log in; all messages after AuthenticationOk, with ReadyForQuery."""
        self._authenticate()
        startup = b""
        while True:
            kind, body = self.receive()
            startup += kind + struct.pack("!i", len(body) + 4) + body
            if kind == b"K":
                self.cancel_key = body
            if kind == b"Z":
                return startup

    def _request(self) -> tuple[int, bytes]:
        while True:
            kind, body = self.receive()
            if kind == b"R":
                return struct.unpack_from("!i", body)[0], body[4:]
            if kind not in {b"N", b"v"}:
                raise SourceUnavailable("the source does not speak PostgreSQL's protocol")

    def _authenticate(self) -> None:
        code, payload = self._request()
        if code == _OK:
            return
        if code == _SASL:
            self._scram(payload.rstrip(b"\0").split(b"\0"))
        elif code == _CLEARTEXT:
            self.send(b"p", self._password().encode() + b"\0")
        elif code == _MD5:
            inner = _md5(self._password().encode() + self._user.encode())
            self.send(b"p", b"md5" + _md5(inner + payload) + b"\0")
        else:
            raise SourceRefused(
                f"the source asks {self._user} for an authentication (request {code}) that cannot "
                "be passed through htapkit; a password with scram-sha-256 in pg_hba.conf can"
            )
        code, _ = self._request()
        if code != _OK:
            raise SourceRefused(f"unexpected authentication request {code} after the password")

    def _password(self) -> str:
        if isinstance(self._credential, Password):
            if not self._credential.password:
                raise SourceRefused(
                    f"the source asks {self._user} for a password, and none is configured"
                )
            return self._credential.password
        raise SourceRefused(
            f"the source asks {self._user} for the password itself, which htapkit does not know "
            "after SCRAM; give the role a scram-sha-256 password and method"
        )

    def _scram(self, offered: list[bytes]) -> None:
        tls = self._socket if isinstance(self._socket, ssl.SSLSocket) else None
        binding = None
        if tls is not None and MECHANISM_PLUS.encode() in offered:
            binding = certificate_hash(tls.getpeercert(binary_form=True) or b"")
        elif MECHANISM.encode() not in offered:
            raise SourceRefused("the source offers no SCRAM mechanism that we know")
        keys = self._credential
        client = ScramClient(b"", b"", binding)
        if isinstance(keys, ScramKeys):
            client.learn(keys.client_key, keys.server_key)
        first = client.first().encode()
        self.send(b"p", client.mechanism.encode() + b"\0" + struct.pack("!i", len(first)) + first)
        answer = self._sasl(_SASL_CONTINUE)
        if not isinstance(keys, ScramKeys):
            client.learn(*_keys(self._password(), answer))
        self.send(b"p", client.final(answer).encode())
        try:
            client.verify(self._sasl(_SASL_FINAL))
        except ScramRefused as error:
            raise SourceRefused(str(error)) from error

    def _sasl(self, expected: int) -> str:
        code, payload = self._request()
        if code != expected:
            raise SourceRefused(f"unexpected authentication request {code} during SCRAM")
        return payload.decode()


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).hexdigest().encode()


def _keys(password: str, server_first: str) -> tuple[bytes, bytes]:
    """Keys for the salt and the iterations that the server names."""
    found = dict(part.split("=", 1) for part in server_first.split(",") if "=" in part)
    try:
        salt, iterations = base64.b64decode(found["s"], validate=True), int(found["i"])
    except (KeyError, ValueError) as error:
        raise SourceRefused("the source sent a malformed SCRAM message") from error
    return keys_from_password(sasl_prepared(password), salt, iterations)
