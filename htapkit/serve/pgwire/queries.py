"""The simple Query that is answered here."""

from __future__ import annotations

from collections.abc import MutableMapping

from htapkit.errors import HtapkitError
from htapkit.plan.plan import READS, Effect, LocalQuery, Plan, Refuse, Relay
from htapkit.serve.pgwire import messages, own, protocol
from htapkit.serve.pgwire.answer import Answers
from htapkit.serve.pgwire.database import Database
from htapkit.serve.pgwire.executes import Batch, Executes
from htapkit.serve.pgwire.messages import Bound
from htapkit.serve.pgwire.portal import AtSource, Statement
from htapkit.serve.pgwire.protocol import Phase
from htapkit.serve.pgwire.questions import HiddenFailed
from htapkit.serve.pgwire.relay import Link
from htapkit.serve.pgwire.state import SessionState
from htapkit.serve.pgwire.wanted import Wanted, copied_as


class Queries:
    """Answers simple Queries. One for each session."""

    def __init__(  # noqa: PLR0917 - the parts of one session
        self,
        database: Database,
        state: SessionState,
        link: Link,
        answers: Answers,
        executes: Executes,
        batch: Batch,
        statements: MutableMapping[bytes, Statement],
    ) -> None:
        """All are the session's own."""
        self._database = database
        self._state = state
        self._link = link
        self._answers = answers
        self._executes = executes
        self._batch = batch
        self._statements = statements

    def query(self, data: bytes, position: int, after: int) -> int:
        """A Query: where the next message begins, or PASS."""
        self._statements.pop(b"", None)
        self._batch.drop_portal(b"")
        text = data[position + 5 : after - 1]
        plan = self._answers.plans.plan(text, b"")
        statement = Statement(text, b"", plan)
        if isinstance(plan, Relay):
            known = plan.effect not in READS or not self._state.unknown
            if known or self._link.conversation.status != "I":
                return self._batch.relay_execute(protocol.QUERY, plan.effect, statement)
        self._batch.send_before(position)
        if not self._query_here(plan, statement):
            statement.plan = plan = self._answers.plans.plan(text, b"")
            effect = plan.effect if isinstance(plan, Relay) else Effect.READ
            return self._batch.relay_execute(protocol.QUERY, effect, statement)
        return after

    def _query_here(self, plan: Plan, statement: Statement) -> bool:
        """Answer a Query; False where the source shall."""
        link, conversation = self._link, self._link.conversation
        if not link.drain() or conversation.phase is not Phase.READY or conversation.status == "E":
            return False
        try:
            reason = self._answers.obstacle(plan, in_block=conversation.status == "T")
            if not reason:
                plan = self._answers.plans.plan_now(statement)
            if isinstance(plan, Relay):
                return False
            if isinstance(plan, Refuse):
                self._end_query(own.Refused(plan))
                return True
            if isinstance(plan, LocalQuery):
                return self._query_local(statement, plan, reason)
            self._query_own(plan)
        except HiddenFailed as failed:
            if conversation.status != "E":
                return False
            link.reply(messages.message(b"E", failed.body) + messages.ready("E"))
        return True

    def _query_own(self, plan: own.Own) -> None:
        in_block = self._link.conversation.status == "T"
        try:
            held = self._answers.held(plan, in_block=in_block)
            lag = self._database.lag_seconds
            rows = own.run(plan, self._state, lag, in_block=in_block, held=held)
        except HiddenFailed:
            raise
        except HtapkitError as problem:
            self._end_query(problem)
            return
        columns = own.fields(plan)
        if columns:
            self._link.reply(messages.row_description(columns))
        self._end_query(self._executes.stream(rows, rows.take(0), 0))

    def _query_local(self, statement: Statement, plan: LocalQuery, reason: str) -> bool:
        problem: HtapkitError | None = None
        try:
            bound_ones = any(parameter.number > 0 for parameter in plan.parameters)
            if reason or bound_ones or statement.seen is None:
                raise AtSource(reason or "a simple Query has no parameters")  # noqa: TRY301
            in_block = self._link.conversation.status == "T"
            if own.unseen(plan, self._state.view.source, alone=self._database.alone):
                statement.shape = own.shape(plan).encode()
            described = self._answers.described(statement, anew=in_block)
            version, bound = statement.seen[1], copied_as(plan) or Bound((), (), ())
            clocks = self._answers.clocks(plan)
            wanted = Wanted(statement, plan, version, described, bound, in_block, clocks=clocks)
            answer, chunk = self._answers.open(wanted)
        except AtSource as why:
            problem = self._answers.forced(why, plan)
            if problem is None:
                statement.why = why.told
                return False
        except HiddenFailed:
            raise
        except HtapkitError as failed:
            problem = failed
        else:
            assert described.fields is not None
            try:
                if answer.copied is None:
                    self._link.reply(messages.row_description(described.fields))
                problem = self._executes.stream(answer, chunk, 0)
            finally:
                answer.close()
        self._end_query(problem)
        return True

    def _end_query(self, problem: HtapkitError | None) -> None:
        """The error, if there was one, and ReadyForQuery."""
        if problem is not None:
            self._executes.fail(problem)
        self._batch.unnamed_stale = True
        self._link.reply(messages.ready(self._link.conversation.status))
