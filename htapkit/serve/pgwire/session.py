"""One client session.

What its messages mean, and which Execute is answered here instead of at the source.

Every message but Execute (and a simple Query) goes to the source, always: it owns statement and
portal names, parameters, types, errors and the transaction. So a statement can go to the source
at any moment before its first row, simply by sending its Execute there after all.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress

from htapkit.errors import SourceUnavailable
from htapkit.plan.plan import Effect, LocalQuery, Refuse, Relay
from htapkit.serve.pgwire import messages, own, protocol
from htapkit.serve.pgwire.answer import Answers
from htapkit.serve.pgwire.database import Database
from htapkit.serve.pgwire.executes import PASS, Executes
from htapkit.serve.pgwire.lobby import Guest, Lobby
from htapkit.serve.pgwire.lookups import Lookups
from htapkit.serve.pgwire.portal import Portal, Statement
from htapkit.serve.pgwire.protocol import Owed, Phase
from htapkit.serve.pgwire.queries import Queries
from htapkit.serve.pgwire.questions import HiddenFailed
from htapkit.serve.pgwire.relay import ClientGone, Interrupted, Link
from htapkit.serve.pgwire.state import KEEPS_TABLES, RELAYED, SessionState
from htapkit.serve.pgwire.tls import SocketWire
from htapkit.spi import OriginSession

_LENGTH = struct.Struct("!i")
_LOOKED_INTO_BYTES_MAX = 1 << 20  # longer messages are passed on in pieces, unread
_MESSAGE_BYTES_MAX = 1 << 30
_STATEMENT = ord("S")
_SPLITTABLE = frozenset(b"PBQFd")


class Session:
    """A logged-in client. `run` ends when either side does; `cancel` may come from any thread."""

    def __init__(
        self,
        database: Database,
        state: SessionState,
        client: SocketWire,
        origin: OriginSession,
        lobby: Lobby | None = None,
    ) -> None:
        """Both ends are logged in; the client has not been told yet.

        `lobby`: where it may wait; then the client's `recv` gives up after a moment.
        """
        self._lobby = lobby
        self._database = database
        self._origin = origin
        self._state = state
        link = self._link = Link(client, origin.wire, self)
        self._answers = Answers(state.source, database, self._link, state)
        self._relays = database.tally.begin()
        self._statements: dict[bytes, Statement] = {}
        self._portals: dict[bytes, Portal] = {}
        self.executed = False  # an Execute went to the source since its last ReadyForQuery
        self.unnamed_stale = False  # a local Query has ended the client's unnamed statement
        self._tag = b""
        self.data = b""  # what the client sent, and where its part that is not sent on begins
        self._start = 0
        self._rest = b""
        self._skip = 0
        self._raw = False
        self._lookups = Lookups(state, link, self._answers.plans, self._statements, self._relays)
        self._guest = Guest(client, origin.wire, self._link, self._lookups.passes)
        self._executes = Executes(database, state, self._link, self._answers, self, self._portals)
        queries = Queries(
            database, state, self._link, self._answers, self._executes, self, self._statements
        )
        self._handlers: dict[int, Callable[[bytes, int, int], int]] = {
            protocol.QUERY: queries.query,
            protocol.PARSE: self._parse,
            protocol.BIND: self._bind,
            protocol.DESCRIBE: self._describe,
            protocol.EXECUTE: self._executes.execute,
            protocol.CLOSE: self._close,
            protocol.CALL: self._call,
        }

    def run(self) -> None:
        """Serve until one side closes."""
        link = self._link
        conversation = link.conversation
        try:
            link.reply(self._origin.startup)
            while True:
                if conversation.owed:
                    if conversation.flushed and not (self._raw or self._skip):
                        link.read()
                        continue
                elif self._lobby is not None and not (self._raw or self._skip or self._rest):
                    heard = self._hear(self._lobby)
                    if heard is not None and not self._feed(heard):
                        return
                    continue
                client, source = link.wait()
                if source:
                    link.read_raw() if self._raw else link.read()
                if client and not self._feed(link.receive()):
                    return
        except ClientGone:
            with suppress(SourceUnavailable):
                link.send(messages.TERMINATE)
        except SourceUnavailable as problem:
            link.hear_out()
            self._database.tally.failed(problem)
            link.reply(messages.error(problem, "FATAL"))
        finally:
            self._end()

    def _hear(self, lobby: Lobby) -> bytes | None:
        """What the client says that is not passed on in the lobby; None: look again."""
        link = self._link
        heard = link.hear()
        if heard is not None and not self._lookups.passes(heard):
            return heard
        call = lobby.wait(self._guest)
        if call.error is not None:
            raise call.error
        link.reply(call.unsent)
        if call.heard == b"":
            raise ClientGone
        return call.heard

    def cancel(self) -> None:
        """Stop what this session runs now, here or at the source. Any thread."""
        if not self._answers.cancel():
            self._origin.cancel()

    def _end(self) -> None:
        self._database.tally.end(self._relays)
        self._drop_portals()
        self._answers.close()
        self._origin.wire.close()

    # -- what the source says ------------------------------------------------------------------

    def replied(self, owed: Owed, kind: int, body: bytes) -> None:
        """A reply that changes what we know."""
        subject = owed.subject
        if kind == protocol.READY:
            if isinstance(subject, Effect):
                self._state.done(subject)
            self._ready()
        elif isinstance(subject, (Statement, Portal)):
            if kind in {protocol.PARSED, protocol.BOUND}:
                subject.confirmed = True
            else:
                statement = subject.statement if isinstance(subject, Portal) else subject
                statement.told(kind, body)
        elif kind == protocol.COMPLETE:
            self._completed(body)
            if subject is Effect.OTHER and not body.startswith(KEEPS_TABLES):
                self._state.redefining = True
            if owed.reply is protocol.Reply.EXECUTE and isinstance(subject, Effect):
                self._state.done(subject)
        elif (
            kind in {protocol.ERROR, protocol.SUSPENDED, protocol.EMPTY}
            and owed.reply is protocol.Reply.EXECUTE
            and isinstance(subject, Effect)
        ):
            self._state.done(subject)

    def parameter(self, body: bytes) -> None:
        """ParameterStatus: some setting has changed."""
        if not body.startswith((b"application_name\0", b"in_hot_standby\0")):
            self._state.unknown = True

    def _ready(self) -> None:
        status = self._link.conversation.status
        if status == "I":
            if self._portals:
                self._drop_portals()
            self.executed = False
            self._state.ready("I", rolled_back=self._tag.startswith(b"ROLLBACK"))
            self._tag = b""

    def _completed(self, body: bytes) -> None:
        self._tag = body
        if body.startswith((b"DEALLOCATE ALL", b"DISCARD ALL")):
            self._statements.clear()
        elif body.startswith(b"DEALLOCATE"):
            # Which one is gone is not said. Those of the source's own can be sent there unknown;
            # of ours only we know the meaning, and that of the one which is gone harms nobody.
            kept = {name: each for name, each in self._statements.items() if each.shape}
            self._statements.clear()
            self._statements.update(kept)

    def _drop_portals(self) -> None:
        for name in list(self._portals):
            self.drop_portal(name)

    def drop_portal(self, name: bytes) -> None:
        """Forget a portal."""
        portal = self._portals.pop(name, None)
        if portal is None:
            return
        portal.dropped = True
        if portal.answer is not None:
            portal.answer.close()

    # -- what the client says ------------------------------------------------------------------

    def _feed(self, data: bytes) -> bool:
        """Cut into messages and handle them; False at Terminate."""
        if self._raw:
            self._link.send(data)
            return True
        if self._skip:
            taken = min(self._skip, len(data))
            self._skip -= taken
            self._link.send(data[:taken] if taken < len(data) else data)
            data = data[taken:]
        if self._rest:
            data, self._rest = self._rest + data, b""
        self.data, self._start = data, 0
        position, going = self._walk(data)
        self.send_before(position)
        self.data = b""
        return going

    def _walk(self, data: bytes) -> tuple[int, bool]:
        position, end = 0, len(data)
        conversation = self._link.conversation
        unpack = _LENGTH.unpack_from
        while end - position >= 5:
            kind = data[position]
            size = unpack(data, position + 1)[0]
            after = position + 1 + size
            if kind not in protocol.FRONTEND or not 4 <= size < _MESSAGE_BYTES_MAX:
                # The source has words for that, and closes the connection.
                self._raw = True
                return end, True
            if after > end:
                position = self._incomplete(data, position, after)
                break
            if kind == protocol.TERMINATE:
                return after, False
            handler = self._handlers.get(kind)
            ordinary = conversation.phase in {Phase.READY, Phase.BATCH}
            if handler is not None and ordinary:
                if self.unnamed_stale:
                    self._forget_unnamed(data, position)
                moved = handler(data, position, after)
                if moved != PASS:
                    position = self._start = moved
                    continue
            else:
                conversation.sent(kind)
            position = after
        if position < end and not self._skip and not self._rest:
            self._rest = data[position:]
        return position, True

    def _incomplete(self, data: bytes, position: int, after: int) -> int:
        """The last message has not come whole: wait for it, or pass it on in pieces, unread."""
        kind, size = data[position], after - position
        big = size > _LOOKED_INTO_BYTES_MAX and len(data) - position > 1024
        if kind not in _SPLITTABLE or not (big or kind == protocol.COPY_DATA):
            return position
        conversation = self._link.conversation
        if kind == protocol.PARSE:
            self._statements.pop(data[position + 5 : data.find(b"\0", position + 5)], None)
        elif kind == protocol.BIND:
            self.drop_portal(data[position + 5 : data.find(b"\0", position + 5)])
        executes = kind in {protocol.QUERY, protocol.CALL}
        self._relays.count += kind == protocol.QUERY
        conversation.sent(kind, Effect.OTHER if executes else None)
        self._skip = after - len(data)
        return len(data)

    def send_before(self, position: int) -> None:
        """Send on what was handled up to here."""
        data, start = self.data, self._start
        if start < position:
            whole = start == 0 and position == len(data)
            self._link.send(data if whole else data[start:position])
            self._start = position

    def _forget_unnamed(self, data: bytes, position: int) -> None:
        """Tell the source what a local Query has done to the unnamed statement."""
        self.unnamed_stale = False
        if (
            data[position] != protocol.QUERY
            and data[position : position + 6] != b"P" + data[position + 1 : position + 5] + b"\0"
        ):
            self.send_before(position)
            self._link.conversation.sent(protocol.CLOSE, None, [])
            self._link.send(messages.close(b"S", b""))

    # -- messages that pass, and what they change ----------------------------------------------

    def _bind(self, data: bytes, position: int, after: int) -> int:
        body = data[position + 5 : after]
        try:
            name, statement_name, rest = messages.bind_names(body)
        except ValueError:
            self._link.conversation.sent(protocol.BIND)
            return PASS
        statement = self._statements.get(statement_name)
        if name in self._portals:
            self.drop_portal(name)
        if statement is None or (statement.owed is not None and statement.owed.void):
            self._link.conversation.sent(protocol.BIND)
            return PASS
        portal = Portal(statement, data[position:after], rest)
        self._portals[name] = portal
        self._link.conversation.sent(protocol.BIND, portal)
        return PASS

    def _describe(self, data: bytes, position: int, after: int) -> int:
        of = data[position + 5] if after > position + 5 else 0
        name = data[position + 6 : after - 1]
        subject: Statement | Portal | None
        subject = self._statements.get(name) if of == _STATEMENT else self._portals.get(name)
        self._link.conversation.sent(protocol.DESCRIBE, subject, of=of)
        return PASS

    def _close(self, data: bytes, position: int, after: int) -> int:
        name = data[position + 6 : after - 1]
        if data[position + 5 : position + 6] == b"S":
            self._statements.pop(name, None)
        else:
            self.drop_portal(name)
        self._link.conversation.sent(protocol.CLOSE)
        return PASS

    def _call(self, _data: bytes, _position: int, _after: int) -> int:
        self.executed = True
        self._link.conversation.sent(protocol.CALL, Effect.OTHER)
        return PASS

    def relay_execute(
        self, kind: int, effect: Effect, asked: Statement | None = None, *, again: bool = False
    ) -> int:
        """An Execute or a Query goes to the source."""
        self.executed = True
        self._relays.count += not again
        if asked is not None:
            self._database.recent.note(self._state.user, asked.sql, asked.plan, asked.why)
        self._state.last = RELAYED
        if effect is Effect.READ:
            self._state.relayed = True
            self._link.conversation.sent(kind)
        else:
            self._link.conversation.sent(kind, effect)
        return PASS

    # -- Parse ---------------------------------------------------------------------------------

    def _parse(self, data: bytes, position: int, after: int) -> int:
        conversation = self._link.conversation
        try:
            name, text, types = messages.read_parse(data[position + 5 : after])
            plan = self._answers.plans.plan(text, types)
        except (ValueError, struct.error):
            conversation.sent(protocol.PARSE)
            return PASS
        if isinstance(plan, Refuse) and conversation.status != "E":
            return self._refuse_parse(plan, text, types, position, after)
        statement = Statement(text, types, plan)
        self._statements[name] = statement
        statement.owed = conversation.sent(protocol.PARSE, statement)
        if own.unseen(plan, self._state.view.source, alone=self._database.alone):
            assert isinstance(plan, LocalQuery)
            statement.shape = own.shape(plan).encode()
        elif isinstance(plan, (Relay, LocalQuery, Refuse)):
            return PASS
        else:
            statement.shape = own.shape(plan).encode()
        self.send_before(position)
        self._link.send(messages.parse(name, statement.shape.decode()))
        return after

    def _refuse_parse(
        self, plan: Refuse, text: bytes, types: bytes, position: int, after: int
    ) -> int:
        self.send_before(position)
        try:
            if not self._answers.obstacle(plan, in_block=False):
                now = self._answers.plans.plan(text, types)
                if not isinstance(now, Refuse):
                    return self._parse(self.data, position, after)
        except HiddenFailed as failed:
            self._link.reply(messages.message(b"E", failed.body))
            return after
        except Interrupted:
            return PASS
        if self._link.conversation.phase is not Phase.SKIPPING:
            self._executes.fail_batch(own.Refused(plan))
        return after
