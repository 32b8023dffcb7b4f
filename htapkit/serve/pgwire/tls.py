"""TLS at our port: the context, the hash for channel binding, and a connection as a Wire."""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from htapkit.errors import ConfigError
from htapkit.scram import certificate_hash

_TIME = struct.Struct("@ll")


class SocketWire:
    """A connected socket, with or without TLS, as a `Wire`. Whoever made it closes it."""

    def __init__(self, connection: socket.socket) -> None:
        """The socket blocks."""
        self._tls: ssl.SSLSocket | None = None
        self._use(connection)

    def _use(self, connection: socket.socket) -> None:
        self._socket = connection
        self.recv = connection.recv  # the hot path: no call in between
        self.sendall = connection.sendall
        self.fileno = connection.fileno
        self.settimeout = connection.settimeout

    def secure(self, context: ssl.SSLContext) -> None:
        """Speak TLS from here on. Raises OSError."""
        # The handshake comes after: if it fails, the socket is ours to close already.
        self._tls = context.wrap_socket(
            self._socket, server_side=True, do_handshake_on_connect=False
        )
        self._use(self._tls)
        self._tls.do_handshake()

    def be_impatient(self, seconds: float) -> None:
        """Let `recv` raise BlockingIOError after a silence of that length. Not under TLS."""
        whole, rest = divmod(int(seconds * 1_000_000), 1_000_000)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIME.pack(whole, rest))

    def send_now(self, data: bytes) -> int:
        """Send what fits at once, and say how much that was. Not under TLS."""
        try:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def peek(self) -> bytes:
        """The first byte, without taking it."""
        return self._socket.recv(1, socket.MSG_PEEK)

    @property
    def encrypted(self) -> bool:
        """Whether there is TLS."""
        return self._tls is not None

    def pending(self) -> int:
        """Decrypted bytes that poll cannot see."""
        return self._tls.pending() if self._tls is not None else 0

    def shut(self) -> None:
        """Make both ends see the end, from any thread."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection, with TLS's own goodbye but without waiting for the peer's."""
        if self._tls is not None:
            with suppress(OSError, ValueError):
                self._tls.settimeout(0)
                self._tls.unwrap()
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Tls:
    """Our certificate."""

    context: ssl.SSLContext
    certificate_hash: bytes


def load_tls(certificate: Path, key: Path) -> Tls:
    """Read certificate (chain) and key. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
        text = certificate.read_text(encoding="ascii")
        begin = text.index("-----BEGIN CERTIFICATE-----")
        end = text.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----")
        der = ssl.PEM_cert_to_DER_cert(text[begin:end] + "\n")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"servers.pgwire: {certificate} and {key} are not a PEM certificate and its key: "
            f"{error}"
        ) from error
    return Tls(context, certificate_hash(der))
