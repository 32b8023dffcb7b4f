"""A client that only counts bytes: it costs so little that the server is what is measured."""

from __future__ import annotations

import socket
import struct
import time
from types import TracebackType

_READY = b"Z\0\0\0\5I"
_RECEIVE_BYTES = 1 << 18


def message(kind: bytes, body: bytes) -> bytes:
    """One message of the wire protocol."""
    return kind + struct.pack("!i", len(body) + 4) + body


class RawReader:
    """A connection without a driver. A context manager that closes it."""

    def __init__(self, port: int, database: str) -> None:
        """Log in at 127.0.0.1 as postgres, who is trusted."""
        self._wire = socket.create_connection(("127.0.0.1", port))
        words = b"user\0postgres\0database\0" + database.encode() + b"\0\0"
        body = struct.pack("!i", 196608) + words
        self._wire.sendall(struct.pack("!i", len(body) + 4) + body)
        self.until_ready()

    def __enter__(self) -> RawReader:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self._wire.close()

    def execute(self, sql: str, *, binary: bool = False) -> None:
        """Send a statement by the extended protocol; `until_ready` then reads its answer."""
        formats = struct.pack("!hh", 1, 1) if binary else struct.pack("!h", 0)
        self._wire.sendall(
            message(b"P", b"\0" + sql.encode() + b"\0\0\0")
            + message(b"B", b"\0\0\0\0\0\0" + formats)
            + message(b"E", b"\0\0\0\0\0")
            + message(b"S", b"")
        )

    def until_ready(self, *, pause_seconds: float = 0.0, every_bytes: int = 0) -> int:
        """Read to the end of the answer, ReadyForQuery in state idle; its bytes.

        With a pause behind each `every_bytes`, as a reader that is slower than the server.
        """
        size, tail, next_pause = 0, b"", every_bytes
        while not tail.endswith(_READY):
            data = self._wire.recv(_RECEIVE_BYTES)
            assert data, "the server closed the connection"
            size += len(data)
            tail = (tail + data)[-6:]
            if pause_seconds and size >= next_pause:
                time.sleep(pause_seconds)
                next_pause += every_bytes
        return size
