"""The lobby: one thread that listens for all sessions that nobody works for.

With a thread for each client, a short relayed statement costs two hand-overs of the interpreter's
lock and two switches between threads. Here one thread passes on what is certain to be short and
certain to be the source's, for all sessions in turn; whoever needs more is called back into a
thread of its own, with what was heard.

The lobby never blocks on a session: it sends what fits at once, reads what poll has seen, and
plans nothing. Sessions under TLS do not come here.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import threading
from dataclasses import dataclass, field
from typing import Protocol

from htapkit.errors import SourceUnavailable
from htapkit.serve.pgwire.relay import CHUNK_BYTES, Link
from htapkit.serve.pgwire.tls import SocketWire
from htapkit.spi import Wire

_log = logging.getLogger(__name__)
_EVENTS_MAX = 256


@dataclass(frozen=True, slots=True)
class Call:
    """Why a session is needed in its own thread."""

    heard: bytes | None = None  # what the client said; None: nothing new
    unsent: bytes = b""  # what did not fit into the client's connection, to be sent first
    error: OSError | SourceUnavailable | None = None  # a connection broke


class Passes(Protocol):
    """Sends on what the client said if it is certain to be short and the source's; else False."""

    def __call__(self, data: bytes, /) -> bool:
        """What was sent is known to the conversation."""
        ...


@dataclass(slots=True, eq=False)
class Guest:
    """A session that may wait in the lobby."""

    client: SocketWire
    source: Wire
    link: Link
    passes: Passes
    calls: queue.SimpleQueue[Call] = field(default_factory=queue.SimpleQueue)


class Lobby:
    """The thread and who waits there. `start`, then `stop`."""

    def __init__(self) -> None:
        """Nobody is there."""
        self._poll = select.epoll()
        self._guests: dict[int, Guest] = {}
        self._called: set[int] = set()  # their events of this round are old
        self._lock = threading.Lock()
        self._open = True
        self._bell = os.eventfd(0, os.EFD_NONBLOCK)
        self._poll.register(self._bell, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="pgwire lobby", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Whoever still waits is called."""
        if self._thread.is_alive():
            os.eventfd_write(self._bell, 1)
            self._thread.join()
        with self._lock:
            self._open = False
            for guest in set(self._guests.values()):
                guest.calls.put(Call())
            self._guests.clear()
            self._poll.close()
            os.close(self._bell)

    def wait(self, guest: Guest) -> Call:
        """Stay until this session needs its own thread. Of the session's thread."""
        with self._lock:
            if not self._open:
                return Call()
            for descriptor in (guest.client.fileno(), guest.source.fileno()):
                self._guests[descriptor] = guest
                self._poll.register(descriptor, select.EPOLLIN)
        return guest.calls.get()

    def _call(self, guest: Guest, call: Call) -> None:
        with self._lock:
            for descriptor in (guest.client.fileno(), guest.source.fileno()):
                self._poll.unregister(descriptor)
                del self._guests[descriptor]
                self._called.add(descriptor)
        guest.calls.put(call)

    def _run(self) -> None:
        while True:
            self._called.clear()
            for descriptor, _ in self._poll.poll(maxevents=_EVENTS_MAX):
                if descriptor == self._bell:
                    return
                guest = self._guests.get(descriptor)
                if guest is None or descriptor in self._called:
                    continue
                try:
                    call = (
                        self._hear(guest)
                        if descriptor == guest.client.fileno()
                        else self._pass_on(guest)
                    )
                except (OSError, SourceUnavailable) as error:
                    call = Call(error=error)
                except Exception:  # noqa: BLE001 - one session's fault must not stop the others
                    _log.exception("a client session failed in the lobby")
                    call = Call(error=ConnectionError("the session failed"))
                if call is not None:
                    self._call(guest, call)

    def _hear(self, guest: Guest) -> Call | None:
        """The client has something."""
        if guest.link.conversation.owed:
            return Call()  # it does not wait for the answer; the session's thread keeps the order
        data = guest.client.recv(CHUNK_BYTES)
        return None if guest.passes(data) else Call(data)

    def _pass_on(self, guest: Guest) -> Call | None:
        """The source has something."""
        try:
            data = guest.source.recv(CHUNK_BYTES)
        except OSError:
            data = b""
        if not data:
            return Call()  # the session's thread will see the same
        shown = guest.link.passed(data)
        sent = guest.client.send_now(shown)
        if sent < len(shown):
            return Call(unsent=shown[sent:])
        return Call() if guest.link.conversation.owed else None
