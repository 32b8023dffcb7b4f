"""The lobby over real sockets: what it passes on, and whom it calls back with what."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from htapkit.serve.pgwire import messages, protocol
from htapkit.serve.pgwire.lobby import Call, Guest, Lobby
from htapkit.serve.pgwire.protocol import Owed
from htapkit.serve.pgwire.relay import Link
from htapkit.serve.pgwire.tls import SocketWire

SHORT = messages.message(b"Q", b"select 1\0")
ROW = messages.data_row(["x" * 1000])
ANSWER = ROW + messages.complete("SELECT 1") + messages.ready("I")


class Silent:
    """A session that wants to see nothing."""

    def replied(self, owed: Owed, kind: int, body: bytes) -> None:
        """Nothing."""

    def parameter(self, body: bytes) -> None:
        """Nothing."""


class Place:
    """A guest, and the other ends of its two connections; its thread is `called` back once."""

    def __init__(self, lobby: Lobby) -> None:
        self.client, ours = socket.socketpair()
        self.source, theirs = socket.socketpair()
        for each in (self.client, self.source):
            each.settimeout(60)
        self.ends = (self.client, self.source, ours, theirs)
        wires = SocketWire(ours), SocketWire(theirs)
        self.link = Link(*wires, Silent())
        self.guest = Guest(*wires, self.link, self.passes)
        self.calls: list[Call] = []
        self.thread = threading.Thread(target=self._wait, args=(lobby,))
        self.thread.start()

    def passes(self, data: bytes) -> bool:
        """Only the short question."""
        if data != SHORT:
            return False
        self.link.conversation.sent(protocol.QUERY)
        self.link.send(data)
        return True

    def _wait(self, lobby: Lobby) -> None:
        self.calls.append(lobby.wait(self.guest))

    def call(self) -> Call:
        """Why it was called."""
        self.thread.join(60)
        assert self.calls, "nobody was called"
        return self.calls[0]

    def ask(self) -> None:
        """The short question, up to the source."""
        self.client.sendall(SHORT)
        assert receive(self.source, len(SHORT)) == SHORT


def receive(end: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += end.recv(size - len(data))
    return data


@pytest.fixture
def place() -> Iterator[Place]:
    """In a lobby of its own, which ends before the connections do."""
    lobby = Lobby()
    lobby.start()
    made = Place(lobby)
    yield made
    lobby.stop()
    for end in made.ends:
        end.close()


def test_short_questions_and_answers_pass(place: Place) -> None:
    for _ in range(3):
        place.ask()
        place.source.sendall(ANSWER)
        assert receive(place.client, len(ANSWER)) == ANSWER
    assert not place.calls


def test_an_answer_in_two_pieces_is_the_threads(place: Place) -> None:
    place.ask()
    place.source.sendall(ROW)
    assert receive(place.client, len(ROW)) == ROW
    assert place.call() == Call()
    assert place.link.conversation.owed


def test_what_is_not_short_is_given_back(place: Place) -> None:
    place.client.sendall(b"something else")
    assert place.call() == Call(b"something else")


def test_the_end_of_the_client(place: Place) -> None:
    place.client.close()
    assert place.call() == Call(b"")


def test_the_end_of_the_source(place: Place) -> None:
    place.source.close()
    assert place.call() == Call()


def test_a_client_that_does_not_wait_is_left_unread(place: Place) -> None:
    place.ask()
    place.client.sendall(SHORT)
    assert place.call() == Call()
    assert place.guest.client.recv(100) == SHORT


def test_a_client_that_does_not_read_blocks_nobody(place: Place) -> None:
    sent = 0
    place.ends[2].setblocking(False)
    with suppress(BlockingIOError):  # until it is full
        while True:
            sent += place.ends[2].send(b"\0" * 4096)
    place.ends[2].setblocking(True)
    place.ask()
    place.source.sendall(ANSWER)
    call = place.call()
    assert call.unsent
    assert call.error is None
    assert receive(place.client, sent) == b"\0" * sent
    already = len(ANSWER) - len(call.unsent)
    assert receive(place.client, already) + call.unsent == ANSWER


def test_stop_calls_everybody() -> None:
    lobby = Lobby()
    lobby.start()
    place = Place(lobby)
    place.ask()
    lobby.stop()
    assert place.call() == Call()
    assert lobby.wait(place.guest) == Call(), "who comes later is not kept"
    for end in place.ends:
        end.close()
