"""The link over real sockets: what a source says last reaches the client."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from htapkit.errors import SourceUnavailable
from htapkit.serve.pgwire import messages, protocol
from htapkit.serve.pgwire.relay import Link
from htapkit.serve.pgwire.tls import SocketWire
from tests.unit.htapkit.serve.pgwire.test_lobby import SHORT, Silent, receive

FATAL = messages.message(b"E", messages.error_body("08P01", "out of step", severity="FATAL"))


def _connected() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection: only there does unread data make a close abrupt."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    for end in (one, other):
        end.settimeout(60)
    return one, other


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket, Link]]:
    """The client's end, the source's end, and the link between them."""
    client, ours = _connected()
    source, theirs = _connected()
    with client, ours, source, theirs:
        yield client, source, Link(SocketWire(ours), SocketWire(theirs), Silent())


def _send_on(link: Link) -> None:
    """Until it fails: the first pieces may still go into the void."""
    while True:
        link.send(SHORT)


def test_a_source_that_closed_before_it_heard_all(
    ends: tuple[socket.socket, socket.socket, Link],
) -> None:
    """What it said is in our buffer while sending to it already fails."""
    client, source, link = ends
    link.conversation.sent(protocol.QUERY)
    link.send(SHORT)
    receive(source, 1)
    source.sendall(FATAL)
    source.close()  # with the rest unread: a reset
    with pytest.raises(SourceUnavailable, match="closed the connection"):
        _send_on(link)
    link.hear_out()
    assert receive(client, len(FATAL)) == FATAL


def test_a_source_that_closes_between_two_statements(
    ends: tuple[socket.socket, socket.socket, Link],
) -> None:
    """Reading says the same as sending."""
    _, source, link = ends
    link.send(SHORT)
    receive(source, 1)
    source.close()
    for _ in range(2):  # reset, then the end
        with pytest.raises(SourceUnavailable, match="closed the connection"):
            link.read()
    link.hear_out()
