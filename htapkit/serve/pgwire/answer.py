"""Local answers: may this session have one now, and the rows of it.

Looks into the source only by hidden messages. It never writes to the client: `session` does, once
the first rows are there, because until then the statement may still go to the source.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import pyarrow as pa

from htapkit.errors import (
    CatalogChanged,
    HtapkitError,
    QueryCancelled,
    SourceError,
    Stale,
)
from htapkit.model import Route
from htapkit.plan.plan import ExplainRoute, LocalQuery, Plan, Ranking
from htapkit.serve.pgwire import finish, own, protocol, ranked
from htapkit.serve.pgwire.bound_values import local_values
from htapkit.serve.pgwire.database import Database, Described, Opened
from htapkit.serve.pgwire.fresh import admitted
from htapkit.serve.pgwire.plans import Plans
from htapkit.serve.pgwire.portal import (
    Answer,
    AtSource,
    Cancelled,
    Chunk,
    LocalRows,
    Running,
    Statement,
    all_rows,
    check_encodable,
    computed_ahead,
)
from htapkit.serve.pgwire.protocol import Captured, Phase
from htapkit.serve.pgwire.questions import NAME, HiddenFailed, Questions, checked_list
from htapkit.serve.pgwire.relay import ClientGone, Link
from htapkit.serve.pgwire.rows import WireColumn, in_zone
from htapkit.serve.pgwire.settings import Fresh, FreshnessWanted
from htapkit.serve.pgwire.state import RELAYED, Last, SessionState
from htapkit.serve.pgwire.wanted import Wanted
from htapkit.serve.pgwire.worker import Job, Worker

T = TypeVar("T")
_log = logging.getLogger(__name__)
_REPLANS_MAX = 8
BINARY = 1
_BY_USER = "canceling statement due to user request"


class Answers:
    """The local answers of one session."""

    def __init__(self, name: str, database: Database, link: Link, state: SessionState) -> None:
        """`name` is of the database."""
        self._name = name
        self._database = database
        self._link = link
        self._state = state
        self._questions = Questions(database, link, state)
        self.describe = self._questions.describe
        self.clocks = self._questions.clocks
        self.plans = Plans(database, state, self.describe)
        self._worker = Worker(f"read {name}")
        self._running: Running | None = None
        self._job: Job[object] | None = None
        self._sending: Running | None = None

    def described(self, statement: Statement, *, anew: bool = False) -> Described:
        """The columns and parameters of its rows. Raises HiddenFailed."""
        return self.describe(own.question(statement), statement.types, anew=anew)

    def obstacle(self, plan: Plan, *, in_block: bool) -> str:  # noqa: PLR0911 - one for each reason
        """Why the statement may not be answered locally now; "" = it may. Raises HiddenFailed."""
        link, state = self._link, self._state
        if not link.settled() and not link.drain():
            return "the source waits for data"
        conversation = link.conversation
        if conversation.phase is Phase.SKIPPING or conversation.status == "E":
            return "the transaction is in error"
        reads = not (isinstance(plan, LocalQuery) and plan.only_views)  # rows of a source
        if reads and not state.pure:
            return "the transaction has written or locked"
        redefined = state.redefined_at
        if reads and redefined is not None and redefined >= self._database.looked_at():
            self._database.look()
            return "the session may have changed tables, and the copy has not looked at them yet"
        if state.unknown or state.doubtful:
            self._questions.refresh()
        assert state.settings is not None
        if state.settings.problem:
            return state.settings.problem
        if reads and in_block and not state.settings.read_committed:
            return "the transaction is not READ COMMITTED"
        return ""

    def held(self, plan: own.Own, *, in_block: bool) -> own.Held | None:
        """What keeps the statement of an EXPLAIN (ROUTE) from the copy now.

        It waits for a copy that is fresh enough as the statement would, and asks for the same
        rights: what is told is what happens. Raises Cancelled, HiddenFailed.
        """
        explained = plan.plan if isinstance(plan, ExplainRoute) else None
        if not isinstance(explained, LocalQuery):
            return None
        try:
            reason = self.obstacle(explained, in_block=in_block)
            if not reason:
                running = Running()
                call = partial(self._admit, explained, running, self._state.wanted())
                if self._wait(running, self._worker.submit(call)) is not explained:
                    return own.Held("the copy is not fresh enough now", None)
        except (AtSource, SourceError) as why:
            reason = str(why)
        except Stale as stale:
            return own.Held(str(stale), stale)
        return own.Held(reason, self.forced(reason, explained)) if reason else None

    # -- running -------------------------------------------------------------------------------

    def open(self, wanted: Wanted) -> tuple[Answer, Chunk]:
        """The answer and its first rows. Raises AtSource, Cancelled, Stale, HiddenFailed."""
        for _ in range(_REPLANS_MAX):
            try:
                return self._open(wanted)
            except CatalogChanged:
                # Any table may have: while many are copied, the catalog changes all the time.
                wanted = self._again(wanted)
        try:
            return self._open(wanted)
        except CatalogChanged as changed:
            raise AtSource(f"the hot store: {changed}") from changed

    def _again(self, wanted: Wanted) -> Wanted:
        """Planned on the tables as they are now. The client keeps the columns that it knows."""
        statement = wanted.statement
        statement.seen = None
        plan = self.plans.replan(statement)
        described = self.described(statement)
        if (
            not isinstance(plan, LocalQuery)
            or described != wanted.described
            or plan.clocks != wanted.query.clocks
        ):
            raise AtSource("the tables changed meanwhile")
        assert statement.seen is not None
        return replace(wanted, query=plan, version=statement.seen[1])

    def _open(self, wanted: Wanted) -> tuple[Answer, Chunk]:
        columns, state = wanted.columns(), self._state
        values = local_values(
            wanted.query.parameters, wanted.described.parameters, wanted.bound, wanted.clocks
        )
        assert state.settings is not None
        zone = state.settings.zone
        zoned = wanted.query.finish is None and any(in_zone(column) for column in columns)
        if zoned and not self._questions.zone_agrees(zone):
            raise AtSource(f"the source has another edition of the time zone {zone}")
        self._questions.confirm(wanted.query)
        running = Running()
        want = state.wanted()
        call = partial(self._start, wanted, columns, values, running, want)
        try:
            job = self._worker.submit(call, lambda late: late[0].close())
            read, opened, first = self._wait(running, job)
            answer: Answer = opened
            if wanted.query.finish is not None:
                answer, first = self._finish(wanted, opened), None
            elif wanted.query.ranking is not None:
                answer, first = self._sort(wanted, opened, wanted.query.ranking), None
        except (AtSource, Cancelled, CatalogChanged, Stale, HiddenFailed, ClientGone):
            raise
        except QueryCancelled:  # at limits.statement_time: not begun again at the source
            raise
        except HtapkitError as problem:
            sent_on = own.sent_on(wanted.query, problem)
            if self.forced(sent_on, wanted.query) is None:  # else it counts when it is told
                self._database.tally.failed(problem)
            raise sent_on from problem
        except Exception as problem:
            _log.exception("a local read failed: source=%s", self._name)
            raise AtSource(f"the hot store: {type(problem).__name__}") from problem
        self._remember(wanted.query, read, want)
        noted = replace(wanted.query, route=read.route)
        self._database.recent.note(state.user, wanted.statement.sql, noted)
        return answer, first if first is not None else answer.take(wanted.limit)

    def _start(
        self,
        wanted: Wanted,
        columns: Sequence[WireColumn],
        values: Sequence[object],
        running: Running,
        want: FreshnessWanted,
    ) -> tuple[Opened, LocalRows, Chunk | None]:
        """On the worker's thread: all that may take its time before the first row."""
        query, settings = wanted.query, self._state.settings
        assert settings is not None
        query = self._admit(query, running, want)
        read = self._database.reader(query, values, wanted.version, self._state.user)
        try:
            running.start(read)
            if query.finish is not None:
                table = all_rows(read, query.finish.rows_max)
                return read, LocalRows(read=read, batches=iter(table.to_batches())), None
            shown = pa.schema(list(read.schema)[: len(query.columns)])
            check_encodable(shown, columns, settings.zone)
            rows = LocalRows(read=read, columns=columns, zone=settings.zone, copied=wanted.copy())
            if query.ranking is not None:
                table = all_rows(read, query.ranking.rows_max)
                return read, replace(rows, batches=iter(table.to_batches())), None
            rows.batches = computed_ahead(query.sql, read.batches())
            return read, rows, rows.take(wanted.limit)
        except BaseException:
            read.close()
            raise

    def _admit(self, query: LocalQuery, running: Running, want: FreshnessWanted) -> LocalQuery:
        """What to run. Raises AtSource, Stale."""

        def given_up() -> bool:
            return running.cancelled

        return admitted(self._database, self._name, self._state, query, want, given_up=given_up)

    def _finish(self, wanted: Wanted, local: LocalRows) -> Answer:
        """Let the source compute what is left, on the small local result."""
        assert wanted.query.finish is not None
        assert wanted.described.fields is not None
        try:
            batches = list(local.batches)
            assert local.read is not None
            literals = finish.parameters(batches, local.read.schema, wanted.query.columns)
        finally:
            local.close()
        sent = finish.messages_for(NAME, wanted.query.finish.sql, literals, wanted.bound.results)
        found = finish.rows(self._completed(wanted, sent), wanted.described.fields)
        return found.as_copied(wanted.copy())

    def _sort(self, wanted: Wanted, local: LocalRows, ranking: Ranking) -> Answer:
        """Let the source rank the texts that the local result is sorted by."""
        assert local.read is not None
        try:
            table = pa.Table.from_batches(list(local.batches), schema=local.read.schema)
        finally:
            local.close()
        sorting = ranked.sorting(table, ranking, len(wanted.query.columns))
        sent = [
            message
            for asked in sorting.questions
            for message in finish.messages_for(NAME, asked.sql, [asked.literal], [BINARY])
        ]
        replies = self._completed(wanted, sent)
        bodies = [body for kind, body in replies if kind == protocol.ROW]
        rows = sorting.rows(ranked.answers(bodies, sorting.questions))
        return replace(local, read=None, batches=iter(rows.to_batches()))

    def _completed(self, wanted: Wanted, sent: list[bytes]) -> Captured:
        """What the source answers to hidden messages that complete a local result."""
        alone = self._link.conversation.phase is Phase.READY and not wanted.in_block
        replies = self._link.exchange(sent)
        try:
            return checked_list(replies)
        except HiddenFailed as failed:
            if alone:
                raise AtSource(f"finishing at the source: {failed}") from failed
            raise

    def _remember(self, query: LocalQuery, read: Opened, want: FreshnessWanted) -> None:
        state = self._state
        if query.as_of is not None:
            state.last = Last(query.route.value, query.as_of)
            return
        if read.route is Route.SOURCE:
            state.last, state.relayed = RELAYED, state.relayed or self._name in query.sources
            return
        position = read.positions.get(self._name)
        if position is not None and want.fresh is not Fresh.ANY:
            state.floors = (position,)
        if want.head and self._name in query.sources:
            state.relayed = False
        lag = self._database.lag_seconds()
        shown = "" if lag is None else f"{lag * 1000:.0f} ms"
        state.last = Last(read.route.value, position or "", shown)

    def more(self, answer: Answer, limit: int) -> Chunk:
        """The next rows of an answer that is open."""
        if not isinstance(answer, LocalRows):
            return answer.take(limit)
        return self.wait(self.ahead(answer, limit))

    def ahead(self, answer: LocalRows, limit: int) -> Job[Chunk]:
        """Begin to make the next rows while those before are being sent."""
        self._sending = Running()
        if answer.read is not None:
            self._sending.start(answer.read)
        return self._worker.submit(partial(answer.take, limit))

    def wait(self, job: Job[Chunk]) -> Chunk:
        """The rows of `ahead`. Raises Cancelled, also where that came while rows were sent."""
        running = self._sending
        assert running is not None
        try:
            chunk = self._wait(running, job)
        finally:
            self._sending = None
        if running.cancelled:
            raise Cancelled(_BY_USER)
        return chunk

    def _wait(self, running: Running, job: Job[T]) -> T:
        """Wait for a job while a cancel, a timeout or the client's going away may stop it."""
        settings = self._state.settings
        limit = settings.statement_seconds_max if settings else 0.0
        deadline = time.monotonic() + limit if limit else None
        self._job, self._running = job, running  # type: ignore[assignment]  # a job of any result
        try:
            while not job.wait(_slice(deadline)):
                if deadline is not None and time.monotonic() >= deadline:
                    self._give_up(job, running, "canceling statement due to statement timeout")
                elif self._link.client_closed():
                    self._give_up(job, running, "the client went away")
                    raise ClientGone
            return job.result()
        finally:
            self._job = self._running = None

    def _give_up(self, job: Job[T], running: Running, why: str) -> None:
        job.fail(Cancelled(why))
        running.cancel()
        # What still runs there ends by itself; the next answer must not wait for it.
        self._worker.stop()
        self._worker = Worker(f"read {self._name}")

    def cancel(self) -> bool:
        """Stop what runs locally; False where nothing does. Any thread."""
        job, running = self._job, self._running
        if job is not None and running is not None:
            self._give_up(job, running, _BY_USER)
            return True
        sending = self._sending
        if sending is None:
            return False
        sending.cancel()
        return True

    def close(self) -> None:
        """The session ends."""
        self._worker.stop()

    def forced(self, reason: str | AtSource, plan: object) -> HtapkitError | None:
        """The error for a statement that may not go to the source, or cannot."""
        view, route = self._state.view, self._state.options.route
        return own.not_elsewhere(plan, reason, view.source, route, alone=self._database.alone)


def _slice(deadline: float | None) -> float:
    if deadline is None:
        return 1.0
    return min(1.0, max(0.001, deadline - time.monotonic()))
