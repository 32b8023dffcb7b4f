"""Executes that are answered here, and how one goes to the source after all.

Writes rows to the client; whatever the source has to know of it goes there by hidden messages.
"""

from __future__ import annotations

import struct
from collections.abc import MutableMapping
from dataclasses import replace
from typing import NamedTuple, Protocol

from htapkit.errors import HtapkitError
from htapkit.plan.plan import READS, Effect, LocalQuery, Refuse, Relay
from htapkit.serve.pgwire import messages, own, protocol
from htapkit.serve.pgwire.answer import Answers
from htapkit.serve.pgwire.database import Database
from htapkit.serve.pgwire.portal import Answer, AtSource, Chunk, LocalRows, Portal, Statement
from htapkit.serve.pgwire.protocol import Captured, Phase
from htapkit.serve.pgwire.questions import HiddenFailed
from htapkit.serve.pgwire.relay import Interrupted, Link
from htapkit.serve.pgwire.state import SessionState
from htapkit.serve.pgwire.wanted import Wanted, copied_as

PASS = -1  # a handler's answer: the message goes to the source
_LENGTH = struct.Struct("!i")


class Batch(Protocol):
    """What the session is sending on, of which an Execute or a Query is a part."""

    data: bytes  # what the client sent
    executed: bool  # an Execute went to the source since its last ReadyForQuery
    unnamed_stale: bool  # a local Query has ended the client's unnamed statement

    def send_before(self, position: int) -> None:
        """Send on what was handled up to here."""
        ...

    def relay_execute(
        self, kind: int, effect: Effect, asked: Statement | None = None, *, again: bool = False
    ) -> int:
        """An Execute or a Query goes to the source; `again`: for more of its rows."""
        ...

    def drop_portal(self, name: bytes) -> None:
        """Forget a portal."""
        ...


class Early(NamedTuple):
    """The rest of a batch, sent before a local answer: the source's transaction ends first."""

    raw: bytes
    end: int
    held: Captured


class Executes:
    """Answers Executes. One for each session."""

    def __init__(
        self,
        database: Database,
        state: SessionState,
        link: Link,
        answers: Answers,
        batch: Batch,
        portals: MutableMapping[bytes, Portal],
    ) -> None:
        """All are the session's own."""
        self._database = database
        self._state = state
        self._link = link
        self._answers = answers
        self._batch = batch
        self._portals = portals

    def fail(self, problem: HtapkitError) -> None:
        """Put the batch, or the transaction, into error at the source, and tell the client why."""
        self._link.drain()
        if (
            self._link.conversation.phase is not Phase.READY
            or self._link.conversation.status == "T"
        ):
            self._link.exchange([messages.parse(b"_htapkit", "htapkit has refused a statement")])
        self._tell(problem)

    def fail_batch(self, problem: HtapkitError) -> None:
        """Like `fail` at a Parse: what follows in the batch, up to its Sync, must be skipped."""
        self._link.drain()
        self._link.conversation.sent(protocol.PARSE, None, [])
        self._link.send(messages.parse(b"_htapkit", "htapkit has refused a statement"))
        self._link.drain()
        self._tell(problem)

    def _tell(self, problem: HtapkitError) -> None:
        self._database.tally.failed(problem)
        self._link.reply(messages.error(problem))

    def execute(self, data: bytes, position: int, after: int) -> int:
        """An Execute: where the next message begins, or PASS."""
        end = data.find(b"\0", position + 5, after)
        portal = self._portals.get(data[position + 5 : end])
        if portal is None or after - end != 5:
            return self._batch.relay_execute(protocol.EXECUTE, Effect.OTHER)
        statement = portal.statement
        if portal.at_source or (portal.answer is None and self._must_relay(statement)):
            again, portal.at_source = portal.at_source, True
            asked = None if again else statement
            effect = statement.effect
            return self._batch.relay_execute(protocol.EXECUTE, effect, asked, again=again)
        limit = max(_LENGTH.unpack_from(data, end + 1)[0], 0)
        self._batch.send_before(position)
        try:
            moved = self._execute_here(portal, limit, position, after)
        except HiddenFailed as failed:
            self._link.reply(messages.message(b"E", failed.body))
            return after
        except Interrupted:
            moved = PASS
        if moved == PASS:
            if self._link.conversation.phase in {Phase.SKIPPING, Phase.COPYING}:
                return PASS
            portal.at_source = True
            return self._batch.relay_execute(protocol.EXECUTE, statement.effect, statement)
        return moved

    def _must_relay(self, statement: Statement) -> bool:
        """Whether it is certain without a look at the source that this goes there."""
        plan = statement.plan
        if not isinstance(plan, Relay):
            return False
        if plan.effect not in READS:
            return True
        if self._link.conversation.status == "T" and not self._state.pure:
            return True
        if self._state.unknown or not self._answers.plans.settled(statement):
            return False
        return isinstance(statement.plan, Relay)

    def _execute_here(  # noqa: PLR0911 - each way out is a way to answer
        self, portal: Portal, limit: int, position: int, after: int
    ) -> int:
        """Answer an Execute, or say PASS. Raises HiddenFailed."""
        answers, statement = self._answers, portal.statement
        if portal.answer is not None:
            if not self._settle() or not portal.usable:
                return PASS
            if self._link.conversation.status == "E":
                self.fail(AbortedTransaction(ABORTED))
                return after
            if portal.answer.copied is not None:
                self.fail(PortalDone(f'portal "{portal.name}" cannot be run'))
                return after
            return self._continue(portal.answer, limit, after)
        plan = statement.plan
        if not isinstance(plan, (Relay, LocalQuery, Refuse)):
            return self._execute_own(portal, plan, limit, after)
        reason = answers.obstacle(plan, in_block=self._in_block())
        statement.why = reason
        if not reason:
            plan = answers.plans.replan(statement)
        if isinstance(plan, Refuse):
            if not self._settle() or not portal.usable:
                return PASS
            self.fail(own.Refused(plan))
            return after
        if isinstance(plan, LocalQuery) and not reason:
            try:
                wanted = self._wanted(portal, plan, limit)
            except AtSource as why:
                reason = str(why)
                statement.why = why.told
            else:
                return self._open(portal, wanted, position, after)
        problem = answers.forced(reason, plan) if isinstance(plan, LocalQuery) else None
        if problem is not None:
            self.fail(problem)
            return after
        return PASS

    def _wanted(self, portal: Portal, plan: LocalQuery, limit: int) -> Wanted:
        """What to open. Raises AtSource, HiddenFailed."""
        statement = portal.statement
        described = self._answers.described(statement)
        copied = copied_as(plan)
        bound = copied or messages.read_bound(portal.message[5:], portal.rest)
        assert statement.seen is not None
        version = statement.seen[1]
        # Before the batch may end: its transaction is the one that now() is about.
        clocks = self._answers.clocks(plan)
        in_block = self._in_block()
        limit = 0 if copied else limit  # PostgreSQL bounds the rows of queries only
        return Wanted(statement, plan, version, described, bound, in_block, limit, clocks)

    def _as_told(self, wanted: Wanted) -> None:
        """Raise AtSource where the client was told other columns than we know of.

        The source may have changed a table of which the copy does not know yet.
        """
        if wanted.statement.differs(wanted.described):
            self._database.described.forget(wanted.described)
            raise AtSource("its columns have changed at the source")

    def _settle(self) -> bool:
        """Have all replies at the client; False where the source would not take an Execute now."""
        return self._link.drain() and self._link.conversation.phase is not Phase.SKIPPING

    def _in_block(self) -> bool:
        return self._link.conversation.status != "I" or self._batch.executed

    def _execute_own(self, portal: Portal, plan: own.Own, limit: int, after: int) -> int:
        if not self._settle() or not portal.usable:
            return PASS
        in_block = self._in_block()
        try:
            held = self._answers.held(plan, in_block=in_block)
            lag = self._database.lag_seconds
            portal.answer = own.run(plan, self._state, lag, in_block=in_block, held=held)
        except HiddenFailed:
            raise
        except HtapkitError as problem:
            self.fail(problem)
            return after
        return self._continue(portal.answer, limit, after)

    def _open(  # noqa: PLR0911 - the same
        self, portal: Portal, wanted: Wanted, position: int, after: int
    ) -> int:
        if portal.dropped:
            return PASS
        early = None if wanted.in_block else self._early(after)
        # The early Sync ends the source's portal: that it was bound is enough then.
        if not self._settle() or not (portal.bound if early else portal.usable):
            if early is None:
                return PASS
            self._release(early, failed=True)
            return early.end
        end = early.end if early else after
        try:
            self._as_told(wanted)  # now that all replies are here
            answer, chunk = self._answers.open(wanted)
        except AtSource as reason:
            problem = self._answers.forced(reason, wanted.query)
            if problem is None:
                portal.statement.why = reason.told
                return self._replay(portal, early, position, after)
            self._broken(problem, early)
            return end
        except HiddenFailed:
            raise
        except HtapkitError as problem:
            self._broken(problem, early)
            return end
        portal.answer = answer
        failed = self.stream(answer, chunk, wanted.limit)
        if failed is not None:
            self._broken(failed, early)
        elif early is not None:
            self._release(early, failed=False)
        if early is not None:
            answer.close()
        return end

    def _early(self, after: int) -> Early | None:
        """Send what is left of the batch now, if that is only Closes of portals and Sync."""
        data, position = self._batch.data, after
        kinds = []
        while True:
            kind = data[position : position + 1]
            closes = kind == b"C" and data[position + 5 : position + 6] == b"P"
            if len(data) - position < 5 or not (closes or kind == b"S"):
                return None
            position += 1 + _LENGTH.unpack_from(data, position + 1)[0]
            if position > len(data):
                return None
            kinds.append(kind[0])
            if kind == b"S":
                break
        raw = data[after:position]
        held: Captured = []
        for each in kinds:
            self._link.conversation.sent(each, None, held)
        self._link.send(raw)
        return Early(raw, position, held)

    def _release(self, early: Early, *, failed: bool) -> None:
        """Give the client the replies that were held back; after an error only the last."""
        kept = [each for each in early.held if not failed or each[0] == protocol.READY]
        self._link.reply(b"".join(messages.message(bytes([kind]), body) for kind, body in kept))

    def _replay(self, portal: Portal, early: Early | None, position: int, after: int) -> int:
        """The source shall execute it after all."""
        if early is None:
            return PASS
        conversation = self._link.conversation
        conversation.sent(protocol.BIND, None, [], tells=True)
        self._batch.relay_execute(protocol.EXECUTE, portal.statement.effect, portal.statement)
        cursor = 0
        while cursor < len(early.raw):
            conversation.sent(early.raw[cursor])
            cursor += 1 + _LENGTH.unpack_from(early.raw, cursor + 1)[0]
        self._link.send(portal.message + self._batch.data[position:after] + early.raw)
        return early.end

    def _broken(self, problem: HtapkitError, early: Early | None) -> None:
        """The local answer failed for good."""
        if early is None:
            self.fail(problem)
        else:
            self._tell(problem)
            self._release(early, failed=True)

    def _continue(self, answer: Answer, limit: int, after: int) -> int:
        try:
            chunk = (
                Chunk(b"", 0, last=True) if answer.finished else self._answers.more(answer, limit)
            )
        except HtapkitError as problem:
            self.fail(problem)
            return after
        failed = self.stream(answer, chunk, limit)
        if failed is not None:
            self.fail(failed)
        return after

    def stream(self, answer: Answer, chunk: Chunk, limit: int) -> HtapkitError | None:
        """Send rows and the closing message; gives the error that came in between."""
        sent = 0
        copied = answer.copied
        if copied is not None:
            chunk = replace(chunk, data=copied.begin(chunk.data))
        while True:
            sent += chunk.rows
            if limit and sent >= limit:
                self._link.reply(b"".join((chunk.data, messages.SUSPENDED)))
                return None
            if chunk.last:
                answer.finished = True
                if copied is not None:
                    end = copied.end() + messages.complete(f"COPY {sent}")
                else:
                    tag = f"SELECT {sent}" if answer.tag == "SELECT" else answer.tag
                    end = messages.complete(tag)
                self._link.reply(b"".join((chunk.data, end)))
                return None
            following = limit - sent if limit else 0
            try:
                if isinstance(answer, LocalRows):
                    job = self._answers.ahead(answer, following)
                    self._link.reply(chunk.data)
                    chunk = self._answers.wait(job)
                else:
                    self._link.reply(chunk.data)
                    chunk = answer.take(following)
            except HtapkitError as problem:
                return problem


ABORTED = "current transaction is aborted, commands ignored until end of transaction block"


class PortalDone(HtapkitError):
    """A second Execute of what is no query."""

    sqlstate = "55000"


class AbortedTransaction(HtapkitError):
    """As PostgreSQL words it."""

    sqlstate = "25P02"
