"""Which batches are passed on as they came, and that all others are left alone."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from htapkit.plan.plan import Effect, Plan, Relay, SessionView
from htapkit.plan.skeleton import skeleton
from htapkit.serve.pgwire import messages, protocol
from htapkit.serve.pgwire.database import Database
from htapkit.serve.pgwire.lookups import Lookups
from htapkit.serve.pgwire.plans import Plans
from htapkit.serve.pgwire.portal import Statement
from htapkit.serve.pgwire.protocol import Phase
from htapkit.serve.pgwire.relay import Link
from htapkit.serve.pgwire.settings import Options
from htapkit.serve.pgwire.state import SessionState
from htapkit.serve.pgwire.tls import SocketWire
from tests.unit.htapkit.serve.pgwire.test_lobby import Silent

KNOWN = b"select name from item where id = 1"
EXECUTE = messages.execute(b"") + messages.SYNC
DESCRIBED = messages.describe(b"P", b"") + EXECUTE


def query(text: bytes) -> bytes:
    return messages.message(b"Q", text + b"\0")


def planner(text: str, _view: SessionView, _types: object) -> Plan:
    effect = Effect.READ if text.startswith("select") else Effect.OTHER
    return Relay(effect, (), skeleton(text) or "")


class Session:
    """As much of one as lookups need."""

    version = 1

    def __init__(self, client: socket.socket, source: socket.socket) -> None:
        database = Database(
            None,  # type: ignore[arg-type]
            planner,
            None,  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            lambda: self.version,
        )
        self.state = SessionState("shop", Options())
        self.state.unknown = False
        self.link = Link(SocketWire(client), SocketWire(source), Silent())
        self.plans = Plans(database, self.state, lambda *_: pytest.fail("asked the source"))
        self.plans.plan(KNOWN, b"")
        self.plans.plan(b"insert into item values (1)", b"")
        self.statements = {
            name: Statement(KNOWN, b"", Relay(effect, ()), (self.state.view, 1), confirmed=yes)
            for name, effect, yes in (
                (b"s", Effect.READ, True),
                (b"v", Effect.VIEW, True),
                (b"w", Effect.OTHER, True),
                (b"u", Effect.READ, False),
            )
        }
        self.lookups = Lookups(
            self.state, self.link, self.plans, self.statements, database.tally.begin()
        )


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, ...]]:
    made = (*socket.socketpair(), *socket.socketpair())
    yield made
    for each in made:
        each.close()


@pytest.fixture
def session(ends: tuple[socket.socket, ...]) -> Session:
    return Session(ends[1], ends[3])


PASSED = {
    "query": query(b"select name from item where id = 4711"),
    "execute": messages.bind(b"", b"s", [b"5"], [0]) + EXECUTE,
    "described": messages.bind(b"", b"s", [b"5"], [0]) + DESCRIBED,
}
KEPT = {
    "nothing": b"",
    "half": PASSED["query"][:-3],
    "two": PASSED["query"] * 2,
    "other text": query(b"select name from item where name = 1"),
    "writes": query(b"insert into item values (1)"),
    "bytes": query(b"select '\xff'"),
    "no Sync": messages.bind(b"", b"s") + messages.execute(b""),
    "limit": messages.bind(b"", b"s") + messages.execute(b"", 5) + messages.SYNC,
    "named portal": messages.bind(b"p", b"s") + messages.execute(b"p") + messages.SYNC,
    "named portal, other executed": messages.bind(b"p", b"s") + EXECUTE,
    "unknown statement": messages.bind(b"", b"nobody") + EXECUTE,
    "statement that reads a view": messages.bind(b"", b"v") + EXECUTE,
    "statement that writes": messages.bind(b"", b"w") + EXECUTE,
    "not yet parsed": messages.bind(b"", b"u") + EXECUTE,
    "long": messages.bind(b"", b"s", [b"x" * 9000]) + EXECUTE,
    "negative length": b"Q\xff\xff\xff\xffselect 1\0",
    "Terminate": messages.TERMINATE,
}


@pytest.mark.parametrize("name", PASSED)
def test_short_reads_pass(session: Session, ends: tuple[socket.socket, ...], name: str) -> None:
    assert session.lookups.passes(PASSED[name])
    assert ends[2].recv(1000) == PASSED[name]
    assert session.state.relayed
    assert session.state.last.route == "source"
    # One question: an error in it, and then ReadyForQuery, end it.
    conversation = session.link.conversation
    session.link.passed(messages.message(b"E", messages.error_body("22012", "division by zero")))
    assert len(conversation.owed) == 1
    session.link.passed(messages.ready("I"))
    assert not conversation.owed
    assert conversation.phase is Phase.READY


@pytest.mark.parametrize("name", KEPT)
def test_all_else_is_left_alone(session: Session, name: str) -> None:
    assert not session.lookups.passes(KEPT[name])
    assert not session.link.conversation.owed
    assert not session.state.relayed


@pytest.mark.parametrize("name", PASSED)
@pytest.mark.parametrize("why", ["block", "batch", "settings", "catalog", "view"])
def test_not_while_anything_is_open(session: Session, name: str, why: str) -> None:
    if why == "block":
        session.link.conversation.status = "T"
    elif why == "batch":
        session.link.conversation.sent(protocol.FLUSH)
        session.link.conversation.phase = Phase.BATCH
    elif why == "settings":
        session.state.unknown = True
    elif why == "catalog":
        session.version = 2
    else:
        session.state.set_option("route", "source", in_block=False, local=False)
    assert not session.lookups.passes(PASSED[name])


def test_a_query_ends_the_unnamed_statement(session: Session) -> None:
    session.statements[b""] = session.statements[b"s"]
    assert session.lookups.passes(PASSED["query"])
    assert b"" not in session.statements
