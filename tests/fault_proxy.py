"""A TCP proxy that does to its connections what networks do: cut them, stall, delay, refuse.

For tests of what happens then; it passes bytes on unread and unchanged. All of its faults act on
connections that exist and on those to come.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

_PIECE_BYTES = 1 << 16


class FaultProxy:
    """Listens on a free port of the loopback interface and passes on to `port` there.

    A context manager that closes everything.
    """

    def __init__(self, port: int) -> None:
        """Listen at once."""
        self.target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._flowing = threading.Event()
        self._flowing.set()
        self._closed = threading.Event()
        self._delay_seconds = 0.0
        self._refusing = False
        self.accepted = 0
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def __enter__(self) -> FaultProxy:
        """It listens already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def dsn(self, database: str, user: str = "postgres") -> str:
        """A connection URL through the proxy."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def cut(self) -> int:
        """Close every connection, as a firewall that lost its state; how many there were."""
        with self._lock:
            cut, self._open = self._open, set()
        for one in cut:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        return len(cut) // 2

    def refuse(self, refusing: bool = True) -> None:  # noqa: FBT002 - on or off
        """Close new connections at once, until called with False."""
        self._refusing = refusing

    def stall(self) -> None:
        """Pass on nothing more, and close nothing, until `flow`."""
        self._flowing.clear()

    def flow(self) -> None:
        """Go on, with all that was held back."""
        self._flowing.set()

    def delay(self, seconds: float) -> None:
        """Hold back each piece for so long."""
        self._delay_seconds = seconds

    def close(self) -> None:
        """Close the listener and every connection. Safe to call twice."""
        self._closed.set()
        self._flowing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    # -- the threads

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self._refusing:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, server}
            for source, sink in ((client, server), (server, client)):
                pump = threading.Thread(target=self._pump, args=(source, sink), daemon=True)
                pump.start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_PIECE_BYTES):
                if self._delay_seconds:
                    self._closed.wait(self._delay_seconds)
                self._flowing.wait()
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open -= {source, sink}
        source.close()
