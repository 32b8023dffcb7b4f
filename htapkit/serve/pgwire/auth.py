"""From the first byte to a known user: start-up packets, TLS, and who the client is.

`trust` asks nothing (the server listens on loopback only). `source` lets the client prove itself
against the source's own SCRAM verifier, which gives the keys to log in there as that user; where
verifiers cannot be read, it takes the password over TLS and the source's login decides. Nothing
here is logged, and no secret is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from htapkit.errors import HtapkitError, ProtocolError, SourceRefused
from htapkit.scram import MECHANISM, ScramRefused, ScramServer, mock_verifier, parse_verifier
from htapkit.serve.pgwire import messages
from htapkit.serve.pgwire.tls import SocketWire, Tls
from htapkit.spi import Credential, Origin, Password, ScramKeys

_STARTUP_BYTES_MAX = 10_000  # as PostgreSQL's
_PASSWORD_BYTES_MAX = 65_536
_TLS_HANDSHAKE = 0x16
_CLEARTEXT, _SASL, _SASL_CONTINUE, _SASL_FINAL = 3, 10, 11, 12
_HEAD = struct.Struct("!ii")


class NotAuthenticated(HtapkitError):
    """Wrong password, unknown role: one answer for all, as PostgreSQL gives."""

    sqlstate = "28P01"


class NotAllowed(HtapkitError):
    """That way of logging in is not possible here."""

    sqlstate = "28000"


@dataclass(frozen=True, slots=True)
class Startup:
    """What the client asked for, and the wire it will speak on."""

    wire: SocketWire
    user: str
    database: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """A connection that only cancels another's statement."""

    key: bytes  # process id and secret as they came


def exactly(wire: SocketWire, size: int) -> bytes:
    """`size` bytes. Raises ConnectionError at the end of the stream."""
    data = b""
    while len(data) < size:
        more = wire.recv(size - len(data))
        if not more:
            raise ConnectionError("the client closed the connection")
        data += more
    return data


def read_startup(wire: SocketWire, tls: Tls | None) -> Startup | CancelRequest:
    """Negotiate TLS, read the start-up packet. Raises ProtocolError, ConnectionError."""
    if tls is not None and wire.peek()[:1] == bytes([_TLS_HANDSHAKE]):
        wire.secure(tls.context)
    while True:
        size, code = _HEAD.unpack(exactly(wire, 8))
        if not 8 <= size <= _STARTUP_BYTES_MAX:
            _refuse(wire, "invalid length of startup packet: only PostgreSQL's protocol is spoken")
        body = exactly(wire, size - 8)
        if code == messages.CANCEL_REQUEST:
            return CancelRequest(body)
        if code == messages.SSL_REQUEST and tls is not None and not wire.encrypted:
            wire.sendall(b"S")
            wire.secure(tls.context)
        elif code in {messages.SSL_REQUEST, messages.GSS_REQUEST}:
            wire.sendall(b"N")
        elif code >> 16 == 3:
            return _parse_startup(wire, code, body)
        else:
            version = f"{code >> 16}.{code & 0xFFFF}"
            _refuse(wire, f"unsupported frontend protocol {version}: server supports 3.0")


def _refuse(wire: SocketWire, why: str) -> NoReturn:
    problem = ProtocolError(why)
    wire.sendall(messages.error(problem, "FATAL"))
    wire.settimeout(0.0)
    with suppress(OSError):
        wire.recv(
            _STARTUP_BYTES_MAX
        )  # closed with bytes unread it would be reset, and no error be seen
    raise problem


def _parse_startup(wire: SocketWire, code: int, body: bytes) -> Startup:
    texts = [part.decode(errors="surrogateescape") for part in _pairs(body)]
    parameters = dict(zip(texts[::2], texts[1::2], strict=False))
    extensions = [name for name in parameters if name.startswith("_pq_.")]
    if code & 0xFFFF or extensions:
        names = b"".join(messages.text(name) for name in extensions)
        wire.sendall(messages.message(b"v", struct.pack("!ii", 196608, len(extensions)) + names))
    for name in extensions:
        del parameters[name]
    user = parameters.get("user", "")
    if not user:
        missing = NotAllowed("no PostgreSQL user name specified in startup packet")
        wire.sendall(messages.error(missing, "FATAL"))
        raise missing
    return Startup(wire, user, parameters.get("database") or user, parameters)


def _pairs(body: bytes) -> list[bytes]:
    """Names and values, which may be empty, up to the empty name that ends them."""
    parts = body.split(b"\0")
    for index in range(0, len(parts) - 1, 2):
        if not parts[index]:
            return parts[:index]
    return parts[: len(parts) // 2 * 2]


def authenticate(startup: Startup, origin: Origin, tls: Tls | None, secret: bytes) -> Credential:
    """Make the client prove who it is. `secret` feeds the verifiers of roles that do not exist."""
    try:
        text = origin.verifier(startup.user)
    except SourceRefused:
        return _password(startup)
    verifier = parse_verifier(text) or mock_verifier(startup.user, secret)
    binding = tls.certificate_hash if tls is not None and startup.wire.encrypted else None
    server = ScramServer(verifier, binding)
    wire = startup.wire
    try:
        offered = b"".join(messages.text(name) for name in server.mechanisms) + b"\0"
        wire.sendall(messages.authentication(_SASL, offered))
        mechanism, first = _initial_response(_read_password(wire))
        answer = server.first(mechanism, first)
        wire.sendall(messages.authentication(_SASL_CONTINUE, answer.encode()))
        final = server.final(_read_password(wire).decode())
    except (ScramRefused, ValueError, struct.error) as error:
        raise NotAuthenticated(
            f'password authentication failed for user "{startup.user}"'
        ) from error
    wire.sendall(messages.authentication(_SASL_FINAL, final.encode()))
    return ScramKeys(server.client_key, verifier.server_key)


def _initial_response(body: bytes) -> tuple[str, str]:
    name, rest = body.split(b"\0", 1)
    (size,) = struct.unpack_from("!i", rest)
    if size != len(rest) - 4:
        raise ValueError("malformed SASLInitialResponse")
    return name.decode() or MECHANISM, rest[4:].decode()


def _password(startup: Startup) -> Credential:
    if not startup.wire.encrypted:
        raise NotAllowed(
            "this source does not show its password verifiers to htapkit, so the password itself "
            "is needed, and that only over TLS: connect with sslmode=require "
            "(servers.pgwire.tls_certificate), or let htapkit read verifiers "
            "(sql/source/auth_lookup.sql)"
        )
    startup.wire.sendall(messages.authentication(_CLEARTEXT))
    return Password(_read_password(startup.wire).rstrip(b"\0").decode())


def _read_password(wire: SocketWire) -> bytes:
    kind, size = struct.unpack("!ci", exactly(wire, 5))
    if kind != b"p" or not 4 <= size <= _PASSWORD_BYTES_MAX:
        raise ProtocolError(f"expected a password message, got {kind!r}")
    return exactly(wire, size - 4)
