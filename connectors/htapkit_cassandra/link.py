"""What htapkit and an agent say to each other: frames over one connection, either way.

A frame is a letter, the length of what follows (4 bytes, big-endian), and that. Nothing is kept
beyond one frame that comes and one that goes: who does not read makes the other one wait.
"""

from __future__ import annotations

import ipaddress
import json
import select
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

PROTOCOL = 1

# From htapkit: who it is, what it asks; while a reader runs: it is alive, what may be deleted.
HELLO, ASK, ALIVE, FORGET = b"H", b"A", b"B", b"F"
# From the agent: come in; no; an answer; a reader runs; of that its standard output and error, the
# log's files meanwhile, its exit code.
WELCOME, REFUSED, ANSWER, STARTED = b"W", b"R", b"N", b"S"
OUTPUT, SAID, FILES, ENDED = b"O", b"E", b"L", b"X"

HELLO_BYTES_MAX = 4 << 10
ASK_BYTES_MAX = 32 << 20  # with a schema
FRAME_BYTES_MAX = 1 << 20
PIECE_BYTES = 64 << 10  # of a reader's output
LINE_BYTES_MAX = 1 << 30  # a mutation of 256 MiB, the most that a reader takes, in hexadecimal
BEAT_SECONDS = 2.0
SILENT_SECONDS_MAX = 30.0  # of who is to say every BEAT_SECONDS that it is alive
_HEAD = struct.Struct(">cI")

Frame = tuple[bytes, bytes]


class LinkLost(ConnectionError):
    """The other side is gone, or does not take what it is sent."""


class Frames:
    """Bytes as they come, as frames. Pure."""

    def __init__(self, frame_bytes_max: int) -> None:
        """Nothing yet."""
        self.frame_bytes_max = frame_bytes_max
        self._held = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Those that are whole now. ValueError: a frame is larger than it may be."""
        self._held += data
        found, at = [], 0
        while len(self._held) - at >= _HEAD.size:
            kind, size = _HEAD.unpack_from(self._held, at)
            if size > self.frame_bytes_max:
                raise ValueError(f"a message of {size} bytes; {self.frame_bytes_max} at most")
            if len(self._held) - at - _HEAD.size < size:
                break
            at += _HEAD.size
            found.append((kind, bytes(self._held[at : at + size])))
            at += size
        del self._held[:at]
        return found


class WholeLines:
    """Pieces of a text, as its lines. Pure."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._held: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that are whole now, each with its end. ValueError: one is too long."""
        *whole, rest = piece.split(b"\n")
        if whole:
            whole[0] = b"".join([*self._held, whole[0]])
            self._held, self._size = [], 0
        self._held.append(rest)
        self._size += len(rest)
        if self._size > LINE_BYTES_MAX:
            raise ValueError(f"a line of more than {LINE_BYTES_MAX} bytes")
        return [line + b"\n" for line in whole]

    def rest(self) -> bytes:
        """What has no end."""
        return b"".join(self._held)


class Link:
    """One connection. One thread receives; any may send, and `shut` it."""

    def __init__(self, connection: socket.socket, frame_bytes_max: int) -> None:
        """`connection` may be encrypted; both sides know by now that it is."""
        connection.setblocking(False)  # noqa: FBT003 - its name
        self._socket = connection
        self.frames = Frames(frame_bytes_max)
        self._came: deque[Frame] = deque()
        self._going = bytearray()
        # An encrypted connection is to be used by one thread at a time.
        self._using = threading.Lock()
        self._sending = threading.Lock()

    def fileno(self) -> int:
        """For `poll`."""
        return self._socket.fileno()

    @property
    def going(self) -> bool:
        """Whether something that was put has not gone yet."""
        return bool(self._going)

    def receive(self, timeout_seconds: float) -> Frame | None:
        """The next frame; None: there was none in time. Raises LinkLost, ValueError."""
        deadline = time.monotonic() + timeout_seconds
        while not self._came:
            if self._receive():
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            _ready(self._socket, select.POLLIN, left)
        return self._came.popleft()

    def _receive(self) -> bool:
        """Take what is there; False: nothing."""
        try:
            with self._using:
                data = self._socket.recv(PIECE_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            return False
        except OSError as error:
            raise LinkLost(str(error)) from error
        if not data:
            raise LinkLost("the other side closed it")
        self._came.extend(self.frames.feed(data))
        return True

    def put(self, kind: bytes, payload: bytes = b"") -> None:
        """Have a frame sent by `flush`. For one thread."""
        self._going += _HEAD.pack(kind, len(payload)) + payload

    def flush(self) -> bool:
        """Send what can be sent now; whether all is. Raises LinkLost."""
        while self._going:
            try:
                with self._using:
                    sent = self._socket.send(bytes(self._going[: PIECE_BYTES * 2]))
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
                return False
            except OSError as error:
                raise LinkLost(str(error)) from error
            del self._going[:sent]
        return True

    def send(self, kind: bytes, payload: bytes = b"", within_seconds: float = 30.0) -> None:
        """Send a frame. Raises LinkLost where the other side does not take it in time."""
        deadline = time.monotonic() + within_seconds
        with self._sending:
            self.put(kind, payload)
            while not self.flush():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise LinkLost(f"nothing was taken for {within_seconds:g} s")
                _ready(self._socket, select.POLLOUT, left)

    def shut(self) -> None:
        """Have both sides see its end; whoever receives then closes it. Safe to call twice."""
        with suppress(OSError):
            # Not the encrypted one's own, which would have what comes be taken for plain text.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of it, in the thread that receives. Safe to call twice."""
        with self._using:
            self._socket.close()


def _ready(connection: socket.socket, events: int, seconds: float) -> None:
    poll = select.poll()  # `select` knows 1,024 files only
    try:
        poll.register(connection, events)
        poll.poll(seconds * 1000)
    except (OSError, ValueError) as error:
        raise LinkLost(str(error)) from error


def packed(value: Mapping[str, object]) -> bytes:
    """A frame's payload."""
    return json.dumps(value).encode()


def unpacked(payload: bytes | str) -> dict[str, Any]:
    """The same back. ValueError: it is none."""
    found = json.loads(payload)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - what came is wrong, not its type
    return found


def host_and_port(text: str) -> tuple[str, int] | None:
    """Of `host:port` or `[::1]:port`; None: it is none."""
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if not bare or (":" in bare) != bracketed or set(bare) & set("[]"):
        return None
    if not (port.isascii() and port.isdigit()):
        return None
    return (bare, int(port)) if 0 <= int(port) < 65536 else None


def shown_address(host: str, port: int) -> str:
    """As `host_and_port` reads it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether it is an address of this machine that no network has."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
