"""The link between one client and its connection to the source.

Framed bytes, copied only where needed.

It passes the source's messages on, keeps replies to hidden messages back, and never blocks on
sending while the source blocks on sending to us. It never decides where a statement is answered.
"""

from __future__ import annotations

import select
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from htapkit.errors import HtapkitError, SourceUnavailable
from htapkit.serve.pgwire import messages, protocol
from htapkit.serve.pgwire.protocol import Captured, Conversation, Owed, Phase, Reply
from htapkit.spi import Wire

CHUNK_BYTES = 65536
_UNPACED_BYTES_MAX = 32768  # fits any socket buffer: cannot block both ends
_PACED_BYTES = 16384
_LENGTH = struct.Struct("!i")
_CLOSED = "the source closed the connection"
_SETTLING = frozenset((Reply.SYNC, Reply.QUERY, Reply.EXECUTE))


class ClientGone(ConnectionError):
    """The client's end is closed."""


class Interrupted(HtapkitError):
    """The client's batch is in error, or copies: the source takes no question now."""


class Listener(Protocol):
    """What the session wants to see of the source's messages, in their order."""

    def replied(self, owed: Owed, kind: int, body: bytes) -> None:
        """A message for an entry with a subject, or ReadyForQuery."""
        ...

    def parameter(self, body: bytes) -> None:
        """ParameterStatus."""
        ...


class Link:
    """Two wires and the conversation between them. One thread."""

    def __init__(self, client: Wire, source: Wire, listener: Listener) -> None:
        """Both ends are past their start-up."""
        self.conversation = Conversation()
        self.client = client
        self._source = source
        self._listener = listener
        self._tail = b""
        self._skip = 0  # bytes of a row that is passed on in pieces
        self._unread = 0  # bytes sent since the source owed nothing
        self._both = select.poll()
        self._both.register(client.fileno(), select.POLLIN)
        self._both.register(source.fileno(), select.POLLIN)
        self._duplex = select.poll()
        self._duplex.register(source.fileno(), select.POLLIN | select.POLLOUT)
        self._source_alone = select.poll()
        self._source_alone.register(source.fileno(), select.POLLIN)
        self._client_alone = select.poll()
        self._client_alone.register(client.fileno(), select.POLLRDHUP)

    def wait(self) -> tuple[bool, bool]:
        """(the client has something, the source has something); blocks until one has."""
        client, source = self.client.pending() > 0, self._source.pending() > 0
        if client or source:
            return client, source
        wanted = self.client.fileno()
        for descriptor, _ in self._both.poll():
            if descriptor == wanted:
                client = True
            else:
                source = True
        return client, source

    def hear(self) -> bytes | None:
        """What the client sends next; None if it is silent for a moment. Raises ClientGone.

        A client that asks one thing after another is heard without a call to poll. What the
        source says of itself meanwhile waits until that moment is over.
        """
        try:
            data = self.client.recv(CHUNK_BYTES)
        except BlockingIOError:
            return None
        if not data:
            raise ClientGone
        return data

    def client_closed(self) -> bool:
        """Whether the client has closed its end with nothing left to read."""
        if self.client.pending():
            return False
        return any(
            event & (select.POLLHUP | select.POLLERR | select.POLLRDHUP)
            for _, event in self._client_alone.poll(0)
        )

    def receive(self) -> bytes:
        """What the client sent. Raises ClientGone."""
        data = self.client.recv(CHUNK_BYTES)
        if not data:
            raise ClientGone
        return data

    def reply(self, data: bytes | memoryview) -> None:
        """Send to the client."""
        if data:
            self.client.sendall(data)

    # -- towards the source ---------------------------------------------------------------------

    def send(self, data: bytes | memoryview) -> None:
        """Send to the source what the conversation already knows of. Raises SourceUnavailable."""
        size = len(data)
        if not size:
            return
        self._unread += size
        if self._unread <= _UNPACED_BYTES_MAX:
            self._send(data)
            return
        view = memoryview(data)
        while view:
            if self._source.pending():
                self.read()
            for _, event in self._duplex.poll():
                if event & select.POLLOUT:
                    self._send(view[:_PACED_BYTES])
                    view = view[_PACED_BYTES:]
                elif event:
                    self.read()
                if event & select.POLLIN and event & select.POLLOUT:
                    self.read()

    def _send(self, data: bytes | memoryview) -> None:
        try:
            self._source.sendall(data)
        except OSError as error:
            raise SourceUnavailable(_CLOSED) from error

    def drain(self) -> bool:
        """Read until the source owes nothing; False where it waits for the client (COPY)."""
        conversation = self.conversation
        if not conversation.owed:
            return True
        if not conversation.flushed and conversation.phase is not Phase.COPYING:
            conversation.sent(protocol.FLUSH)
            self.send(messages.FLUSH)
        while conversation.owed:
            if conversation.phase is Phase.COPYING or not conversation.flushed:
                return False
            self.read()
        return True

    def settled(self) -> bool:
        """Whether the status that we know is the one that the next message will meet."""
        return not any(owed.reply in _SETTLING for owed in self.conversation.owed)

    def exchange(self, sent: Sequence[bytes]) -> Captured:
        """Send hidden messages and give their replies; the client sees nothing of them.

        Between batches a Sync closes them (its ReadyForQuery is not among the replies); within a
        batch they belong to it, and an error among them puts the client's batch into error, too.
        Raises Interrupted.
        """
        if not self.drain() or self.conversation.phase is Phase.SKIPPING:
            raise Interrupted("the client's batch is in error")
        replies: Captured = []
        batch = list(sent)
        if self.conversation.phase is Phase.READY:
            batch.append(messages.SYNC)
        for each in batch:
            self.conversation.sent(each[0], None, replies, of=each[5] if each[0] == 0x44 else 0)
        self.send(b"".join(batch))
        self.drain()
        return [reply for reply in replies if reply[0] != protocol.READY]

    # -- from the source ------------------------------------------------------------------------

    def read(self) -> None:
        """One piece from the source, passed on. Raises SourceUnavailable when it closed."""
        self.reply(self.passed(self._received()))

    def read_raw(self) -> None:
        """One piece from the source as it is, for a client that left the protocol."""
        self.reply(self._received())

    def hear_out(self) -> None:
        """Pass on what a source said before it closed. It may have closed before it heard all."""
        with suppress(SourceUnavailable):
            while self._source.pending() or self._source_alone.poll(0):
                self.read()

    def _received(self) -> bytes:
        try:
            data = self._source.recv(CHUNK_BYTES)
        except OSError as error:
            raise SourceUnavailable(_CLOSED) from error
        if not data:
            raise SourceUnavailable(_CLOSED)
        return data

    def passed(self, data: bytes) -> bytes:
        """What of a piece from the source is for the client."""
        shown = self._shown(data)
        if not self.conversation.owed:
            self._unread = 0
        return shown

    def _shown(self, data: bytes) -> bytes:
        position = 0
        if self._skip:
            if len(data) <= self._skip:
                self._skip -= len(data)
                return data
            position, self._skip = self._skip, 0
        elif self._tail:
            data, self._tail = self._tail + data, b""
        end = len(data)
        parts, start, position = self._walk(data, position, end)
        if position < end:
            if self._may_split(data, position, end):
                size = _LENGTH.unpack_from(data, position + 1)[0] + 1
                self._skip = position + size - end
                position = end
            else:
                self._tail = data[position:]
        if not parts and start == 0 and position == end:
            return data
        parts.append(data[start:position])
        return b"".join(parts)

    def _walk(self, data: bytes, position: int, end: int) -> tuple[list[bytes], int, int]:
        """Whole messages.

        (pieces for the client before a hidden one, start of the rest, its end).
        """
        parts: list[bytes] = []
        start = 0
        conversation = self.conversation
        passing = conversation.passing()
        unpack = _LENGTH.unpack_from
        while end - position >= 5:
            kind = data[position]
            after = position + 1 + unpack(data, position + 1)[0]
            if after > end:
                break
            if kind in passing:
                position = after
                continue
            status = chr(data[position + 5]) if kind == protocol.READY else ""
            head, _ = conversation.received(kind, status)
            if kind in protocol.ASYNCHRONOUS:
                if kind == protocol.PARAMETER_STATUS:
                    self._listener.parameter(data[position + 5 : after])
            elif head is not None:
                if head.sink is not None and not (head.tells and kind == protocol.ERROR):
                    parts.append(data[start:position])
                    head.sink.append((kind, data[position + 5 : after]))
                    start = after
                if head.subject is not None or kind == protocol.READY:
                    self._listener.replied(head, kind, data[position + 5 : after])
            position = after
            passing = conversation.passing()
        return parts, start, position

    def _may_split(self, data: bytes, position: int, end: int) -> bool:
        """Whether the message that begins at `position` may be passed on before it is complete."""
        owed = self.conversation.owed
        hidden = bool(owed) and owed[0].sink is not None
        return not hidden and end - position >= 5 and data[position] in {0x44, 0x64}
