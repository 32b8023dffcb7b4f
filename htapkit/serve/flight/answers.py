"""The rows of a statement: from the copy where the planner says so, from the source otherwise.

The same rules as on the PostgreSQL port: names, types and errors are the source's; a local answer
needs settings that we honour, the role's privileges, and the freshness that was asked for; and as
long as no row has been sent, a statement can go to the source after all.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import pyarrow as pa

from htapkit.errors import (
    CatalogChanged,
    HtapkitError,
    QueryCancelled,
    SourceRefused,
    Stale,
)
from htapkit.model import Position
from htapkit.plan.plan import Effect, LocalQuery, Plan, Refuse, Relay, SetOption
from htapkit.serve.flight import local
from htapkit.serve.flight.clients import Memory
from htapkit.serve.flight.commands import NeedsSession
from htapkit.serve.flight.source import ColumnsChanged, SourceConnection
from htapkit.serve.flight.sources import Sources
from htapkit.serve.flight.statement import Part, Planned, Session, Statement, Values
from htapkit.serve.flight.waiting import Waiting, wanted
from htapkit.serve.flight.watch import Watched
from htapkit.serve.pgwire import finish, messages, own
from htapkit.serve.pgwire.database import Database, Described, Read
from htapkit.serve.pgwire.portal import AtSource, all_rows
from htapkit.serve.pgwire.settings import Fresh, FreshnessWanted, SourceSettings
from htapkit.serve.pgwire.state import Last, SessionState

_REPLANS_MAX = 8
_KEEPS_TABLES = ("INSERT", "UPDATE", "DELETE", "MERGE")
"""Command tags of what cannot make a table another one without a word in the stream of changes."""
_SESSIONLESS = frozenset({Effect.BEGIN, Effect.END, Effect.SETTINGS, Effect.RESET})

Batches = Iterator[pa.RecordBatch]


@dataclass(frozen=True, slots=True)
class _Ready:
    """What a local plan is run with."""

    values: Sequence[object]
    want: FreshnessWanted
    memory: Memory  # as it was before


class Answers:
    """Answers the statements of one call."""

    def __init__(
        self, database: Database, sources: Sources, session: Session, watched: Watched
    ) -> None:
        """`database` is the one that the session names."""
        self._database, self._alone = database, database.alone
        self._sources = sources
        self._session = session
        self._client, self._name = session.client, session.name
        self._watched = watched
        self._waiting = Waiting(database, session, watched)

    # -- what a statement is -------------------------------------------------------------------

    def statement(self, sql: str) -> Statement:
        """Its parameters and columns. Raises SourceRefused where the source refuses it."""
        settings = self._settings()
        plan = self._checked(sql, settings)
        if isinstance(plan, own.Own):
            return Statement(sql, Described((), own.fields(plan)))
        asked = sql
        if isinstance(plan, LocalQuery) and own.unseen(plan, self._name, alone=self._alone):
            asked = own.shape(plan)
        described = self._described(asked, settings)
        return Statement(sql, described, once=_writes(plan))

    def check_update(self, sql: str) -> None:
        """Raise NeedsSession, Refused for a statement that cannot be run for its changes."""
        if isinstance(self._checked(sql, self._settings()), own.Own):
            raise NeedsSession("the statement gives rows and changes none")

    def _checked(self, sql: str, settings: SourceSettings) -> Plan:
        """The plan of a statement that needs no session. Raises NeedsSession, Refused."""
        _, plan = self._plan(sql, settings, ())
        if isinstance(plan, Refuse) and "$" in sql:
            # Perhaps only because nothing was known of its parameters.
            _, plan = self._plan(sql, settings, self._described(sql, settings).parameters)
        if isinstance(plan, Relay) and plan.effect in _SESSIONLESS:
            raise NeedsSession(
                "there is no session over Flight SQL that could be set up or be in a transaction: "
                "each statement is one of its own; the PostgreSQL port has sessions"
            )
        if isinstance(plan, SetOption):
            raise NeedsSession(
                f"there is no session over Flight SQL: send htapkit.{plan.name} with the calls, "
                f"as header htapkit-{plan.name.replace('_', '-')}"
            )
        if isinstance(plan, Refuse):
            raise own.Refused(plan)
        return plan

    def _settings(self) -> SourceSettings:
        return self._sources.settings(self._client, self._name)

    def _described(self, sql: str, settings: SourceSettings) -> Described:
        cache, version = self._database.described, self._database.catalog_version()
        key = (sql.encode(), b"", settings.view(self._name, "auto").search_path, settings.role)
        found = cache.get((*key, version))
        if found is None or self._waiting.unseen(self._client.memory(self._name).redefined_at):
            # The version says nothing of tables that this client has just changed.
            with self._sources.borrow(self._client, self._name) as connection:
                found = connection.describe(sql)
            cache.put((*key, version), found)
        return found

    def _plan(
        self, sql: str, settings: SourceSettings, types: Sequence[int], *, parts: bool = False
    ) -> tuple[int, Plan]:
        """(catalog version, plan). The version comes first: it may only be too old."""
        version = self._database.catalog_version()
        options = self._session.options
        given = {"parts": parts, "alone": self._alone}
        view = settings.view(self._name, options.route, options.as_of, **given)
        return version, self._database.planner(sql, view, types)

    # -- running it ----------------------------------------------------------------------------

    def rows(self, asked: Statement | Part) -> Generator[pa.RecordBatch]:
        """Its rows, in the statement's schema."""
        if isinstance(asked, Part):
            yield from self._part(asked)
            return
        statement = asked
        here = self._here(statement)
        if here is None:
            yield from self._relayed(statement)
        else:
            yield from here

    def _here(self, statement: Statement) -> Batches | None:
        """The rows of a local answer that has begun; None: the source answers."""
        settings = self._settings()
        types = statement.described.parameters
        for attempt in range(_REPLANS_MAX):
            version, plan = self._plan(statement.sql, settings, types)
            if isinstance(plan, Refuse):
                raise own.Refused(plan)
            if isinstance(plan, Relay):
                self._note(statement, plan)
                return None
            if not isinstance(plan, LocalQuery):
                return iter([self._own(plan, settings, statement)])
            try:
                rows = self._local(statement, Planned(plan, version, settings))
            except CatalogChanged as changed:
                # Any table may have: while many are copied, the catalog changes all the time.
                if attempt + 1 < _REPLANS_MAX:
                    continue
                why = AtSource(str(changed))
            except AtSource as better:
                why = better
            else:
                return rows
            problem = self._forced(plan, why)
            if problem is not None:
                raise problem
            self._note(statement, plan, why.told)
            return None
        raise AssertionError

    def _note(self, statement: Statement, plan: Plan, why: str = "") -> None:
        self._database.recent.note(self._client.user, statement.sql.encode(), plan, why)

    def update(self, sql: str, rows: Sequence[Values] = ((),)) -> int:
        """Run it at the source once for each row of parameters, all or none: rows changed."""
        tag = ""
        try:
            with self._sources.borrow(self._client, self._name) as connection:
                with self._watched.running(connection.cancel):
                    changed, tag = connection.update(sql, rows)
                self._tidy(connection, wrote=True)
        finally:
            self._went_to_source(keeps_tables=tag.startswith(_KEEPS_TABLES))
        return changed

    def _relayed(self, statement: Statement) -> Batches:
        """The rows as the source has them."""
        try:
            with self._sources.borrow(self._client, self._name) as connection:
                with self._watched.running(connection.cancel):
                    yield from connection.rows(statement.sql, statement.values, statement.schema)
                self._tidy(connection, wrote=statement.once)
        except ColumnsChanged:
            self._database.described.forget(statement.described)
            raise
        finally:
            self._went_to_source(keeps_tables=not statement.once)

    def _tidy(self, connection: SourceConnection, *, wrote: bool) -> None:
        if self._watched.stopped:
            connection.broken = True  # the cancel may come late, and would hit the next statement
        elif wrote and not connection.in_transaction:
            connection.reset()

    def _went_to_source(self, *, keeps_tables: bool) -> None:
        self._database.tally.relayed()
        ended = time.monotonic()

        def change(memory: Memory) -> Memory:
            redefined = memory.redefined_at if keeps_tables else ended
            relays = memory.relays + 1
            return replace(memory, relays=relays, redefined_at=redefined, last=Last("source"))

        self._client.remember(self._name, change)

    def _own(self, plan: own.Own, settings: SourceSettings, statement: Statement) -> pa.RecordBatch:
        """SHOW htapkit.…, EXPLAIN (ROUTE)."""
        memory = self._client.memory(self._name)
        state = SessionState(self._name, self._session.options)
        state.learn(settings)
        state.floors, state.last = memory.floors, memory.last
        made = own.run(plan, state, self._database.lag_seconds, in_block=False)
        rows = [messages.read_row(row[5:]) for row in made.rows]
        arrays = [pa.array(list(column), pa.string()) for column in zip(*rows, strict=True)]
        return pa.record_batch(arrays, schema=statement.schema)

    def _forced(self, plan: LocalQuery, reason: AtSource) -> HtapkitError | None:
        """The error for a statement that may not go to the source, or cannot."""
        route = self._session.options.route
        return own.not_elsewhere(plan, reason, self._name, route, alone=self._alone)

    # -- from the copy -------------------------------------------------------------------------

    def _local(self, statement: Statement, planned: Planned) -> Batches:
        """Raises AtSource, CatalogChanged; what it gives has its first rows already."""
        query, ready = planned.query, self._ready(statement, planned)
        try:
            user = self._client.user
            read = self._database.reader(query, ready.values, planned.version, user)
            query = replace(query, route=read.route)
            batches = self._begun(read, statement, planned)
        except QueryCancelled as cancelled:
            raise QueryCancelled(self._watched.stopped or str(cancelled)) from None
        except (AtSource, CatalogChanged):
            raise
        except HtapkitError as problem:
            sent_on = own.sent_on(query, problem)
            if self._forced(query, sent_on) is None:  # else it counts when it is told
                self._database.tally.failed(problem)
            raise sent_on from problem
        self._remember(query, read.positions, ready)
        self._note(statement, query)
        return batches

    def _ready(self, statement: Statement, planned: Planned) -> _Ready:
        """Wait until the copy is what the session asks for. Raises AtSource, Stale."""
        query, settings = planned.query, planned.settings
        if settings.problem:
            raise AtSource(settings.problem)
        memory = self._client.memory(self._name)
        present = query.as_of is None and query.lookup is None
        if present and self._name in query.sources:
            self._waiting.looked(memory.redefined_at)
        values = local.values(query, statement.described.parameters, statement.values)
        reason = self._database.origin.denied(settings.role, query.access)
        if reason:
            raise AtSource(reason)
        want = wanted(self._session, memory)
        if present:
            self._waiting.fresh(want, query.sources or (self._name,))
        return _Ready(values, want, memory)

    # -- in parts

    def in_parts(self, statement: Statement) -> Sequence[Part]:
        """Parts of its rows, all of one moment: now. None of them: it is read whole."""
        count, begin = self._session.options.parts_max, self._database.in_parts
        if count < 2 or begin is None or statement.once:
            return ()
        settings = self._settings()
        for _ in range(_REPLANS_MAX):
            types = statement.described.parameters
            version, plan = self._plan(statement.sql, settings, types, parts=True)
            if not isinstance(plan, LocalQuery) or plan.parts is None:
                return ()
            planned = Planned(plan, version, settings)
            try:
                ready = self._ready(statement, planned)
                lease = begin(plan, ready.values, version, count)
            except CatalogChanged:
                continue
            except (Stale, QueryCancelled):
                raise
            except HtapkitError:
                return ()  # whoever reads it whole is told, or is answered by the source
            if lease is None or not local.convertible(lease, statement, settings):
                return ()
            self._remember(plan, lease.positions, ready)
            self._note(statement, plan)
            return [Part(statement, lease, n, planned) for n in range(lease.parts)]
        return ()

    def _part(self, part: Part) -> Batches:
        """The rows of a part. Raises MomentGone, PartInUse, SourceRefused, and others."""
        planned = part.planned
        reason = self._database.origin.denied(planned.settings.role, planned.query.access)
        if reason:
            raise SourceRefused(reason)
        return self._begun(part.lease.read(part.number), part.statement, planned)

    def _begun(self, read: Read, statement: Statement, planned: Planned) -> Batches:
        """The rows of a read, the first of them made. Closes it where it raises."""
        settings, query = planned.settings, planned.query
        schema, fields = statement.schema, statement.described.fields or ()
        seconds = settings.statement_seconds_max
        until = time.monotonic() + seconds if seconds else None
        completing = query.finish or query.ranking
        try:
            with self._watched.running(read.cancel, until):
                if completing is None:
                    convert = local.converter(read.schema, fields, schema, settings.zone)
                    batches = read.batches()
                    first = next(batches, None)
                    begun = chain([first] if first else [], batches)
                    return self._streamed(read, begun, convert, until)
                table = all_rows(read, completing.rows_max)
        except BaseException:
            read.close()
            raise
        read.close()
        if query.finish is not None:
            literals = finish.parameters(table.to_batches(), table.schema, query.columns)
            return iter(self._completed(query.finish.sql, literals, schema))
        rows = local.in_order(table, query, self._completed)
        return map(local.converter(rows.schema, fields, schema, settings.zone), rows.to_batches())

    def _streamed(
        self, read: Read, batches: Batches, convert: local.Convert, until: float | None
    ) -> Batches:
        try:
            with self._watched.running(read.cancel, until):
                yield from map(convert, batches)
        except QueryCancelled as cancelled:
            raise QueryCancelled(self._watched.stopped or str(cancelled)) from None
        finally:
            read.close()

    def _completed(
        self, sql: str, literals: Sequence[bytes], schema: pa.Schema
    ) -> list[pa.RecordBatch]:
        """What the source computes on a local result."""
        with self._sources.borrow(self._client, self._name) as connection:
            try:
                with self._watched.running(connection.cancel):
                    made = list(connection.rows(sql, literals, schema))
            except (SourceRefused, ColumnsChanged) as refused:
                raise AtSource(f"finishing at the source: {refused}") from refused
            self._tidy(connection, wrote=False)
        return made

    def _remember(
        self, query: LocalQuery, positions: Mapping[str, Position], ready: _Ready
    ) -> None:
        want, before = ready.want, ready.memory
        if query.as_of is not None or query.lookup is not None:
            past = Last(query.route.value, query.as_of or "")
            more = query.lookup is not None  # what is read next must not be older
            self._client.remember(
                self._name, lambda m: replace(m, last=past, relays=m.relays + more)
            )
            return
        position = positions.get(self._name)
        lag = self._database.lag_seconds()
        shown = "" if lag is None else f"{lag * 1000:.0f} ms"
        last = Last(query.route.value, position or "", shown)

        def change(memory: Memory) -> Memory:
            floors = memory.floors
            if position is not None and want.fresh is not Fresh.ANY:
                # It covers the floors that it had to; other threads may have set some since.
                floors = (*(each for each in floors if each not in before.floors), position)
            # What was relayed before this answer began is in it; what came since may not be.
            looked = want.head and self._name in query.sources
            covered = max(memory.covered, before.relays) if looked else memory.covered
            return replace(memory, floors=floors, covered=covered, last=last)

        self._client.remember(self._name, change)


def _writes(plan: Plan) -> bool:
    return isinstance(plan, Relay) and plan.effect is not Effect.READ
