"""What goes over the socket between the server and its Spark's process: small frames.

The server sends one statement. Back come batches, and at last the end or a failure. Who wants no
more closes the socket. Without I/O but on the socket that it is given.
"""

from __future__ import annotations

import socket
import struct
from enum import IntEnum

import pyarrow as pa

_HEAD = struct.Struct("!BI")


class Kind(IntEnum):
    """What a frame is."""

    STATEMENT = 1  # SQL in UTF-8
    BATCH = 2  # an Arrow IPC stream with some rows
    END = 3  # no more rows
    FAILED = 4  # why, in UTF-8


def send(to: socket.socket, kind: Kind, body: bytes | pa.Buffer = b"") -> None:
    """Send a frame, which waits for the reader. Raises OSError."""
    to.sendall(_HEAD.pack(kind, len(body)))
    to.sendall(body)


def receive(of: socket.socket) -> tuple[Kind, bytes]:
    """The next frame. Raises OSError, EOFError where the other side is gone."""
    kind, length = _HEAD.unpack(_exactly(of, _HEAD.size))
    return Kind(kind), _exactly(of, length)


def _exactly(of: socket.socket, length: int) -> bytes:
    found = bytearray()
    while len(found) < length:
        piece = of.recv(min(length - len(found), 1 << 20))
        if not piece:
            raise EOFError("the other side has closed the socket")
        found += piece
    return bytes(found)


def packed(batch: pa.RecordBatch) -> pa.Buffer:
    """Rows as the body of a frame."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def unpacked(body: bytes) -> list[pa.RecordBatch]:
    """The rows of a frame."""
    with pa.ipc.open_stream(body) as stream:
        return list(stream)
