"""The rows of a statement: from the copy where the planner says so, from the source otherwise.

The same rules as on the PostgreSQL port: names, types and errors are the source's; a local answer
needs settings that we honour, the role's privileges, and the freshness that was asked for; and as
long as no row has been sent, a statement can go to the source after all.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import pyarrow as pa

from htapkit.errors import (
    CatalogChanged,
    HtapkitError,
    NotRoutable,
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
from htapkit.serve.flight.statement import Session, Statement, Values
from htapkit.serve.flight.watch import Watched
from htapkit.serve.pgwire import finish, messages, own
from htapkit.serve.pgwire.database import Database, Described, Read
from htapkit.serve.pgwire.portal import AtSource, all_rows
from htapkit.serve.pgwire.settings import Fresh, FreshnessWanted, SourceSettings
from htapkit.serve.pgwire.state import Last, SessionState

_REPLANS_MAX = 8
_LOOK_SECONDS = 0.02
_KEEPS_TABLES = ("INSERT", "UPDATE", "DELETE", "MERGE")
"""Command tags of what cannot make a table another one without a word in the stream of changes."""
_SESSIONLESS = frozenset({Effect.BEGIN, Effect.END, Effect.SETTINGS})

Batches = Iterator[pa.RecordBatch]


@dataclass(frozen=True, slots=True)
class Planned:
    """A local plan, and under what it was made."""

    query: LocalQuery
    version: int  # of the catalog
    settings: SourceSettings


class Answers:
    """Answers the statements of one call."""

    def __init__(
        self, database: Database, sources: Sources, session: Session, watched: Watched
    ) -> None:
        """`database` is the one that the session names."""
        self._database = database
        self._sources = sources
        self._session = session
        self._client, self._name = session.client, session.name
        self._watched = watched

    # -- what a statement is -------------------------------------------------------------------

    def statement(self, sql: str) -> Statement:
        """Its parameters and columns. Raises SourceRefused where the source refuses it."""
        settings = self._settings()
        plan = self._checked(sql, settings)
        if isinstance(plan, own.Own):
            return Statement(sql, Described((), own.fields(plan)))
        asked = sql
        if isinstance(plan, LocalQuery) and own.unseen(plan, self._name):
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
        if found is None or self._unseen(self._client.memory(self._name).redefined_at):
            # The version says nothing of tables that this client has just changed.
            with self._sources.borrow(self._client, self._name) as connection:
                found = connection.describe(sql)
            cache.put((*key, version), found)
        return found

    def _plan(self, sql: str, settings: SourceSettings, types: Sequence[int]) -> tuple[int, Plan]:
        """(catalog version, plan). The version comes first: it may only be too old."""
        version = self._database.catalog_version()
        options = self._session.options
        view = settings.view(self._name, options.route, options.as_of)
        return version, self._database.planner(sql, view, types)

    # -- running it ----------------------------------------------------------------------------

    def rows(self, statement: Statement) -> Generator[pa.RecordBatch]:
        """Its rows, in the statement's schema."""
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
                reason = told = str(changed)
            except AtSource as better:
                reason, told = str(better), better.told
            else:
                self._note(statement, plan)
                return rows
            self._check_forced(plan, reason)
            self._note(statement, plan, told)
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

    def _check_forced(self, plan: LocalQuery, reason: str) -> None:
        """Raise NotRoutable for a statement that may not go to the source, or cannot."""
        if own.elsewhere(plan, self._name):
            raise NotRoutable(f"it reads what the source does not have, and here: {reason}")
        route = self._session.options.route
        if route not in {"auto", "source"}:
            raise NotRoutable(f"htapkit.route = '{route}' cannot run this statement: {reason}")

    # -- from the copy -------------------------------------------------------------------------

    def _local(self, statement: Statement, planned: Planned) -> Batches:
        """Raises AtSource, CatalogChanged; what it gives has its first rows already."""
        query, settings = planned.query, planned.settings
        if settings.problem:
            raise AtSource(settings.problem)
        memory = self._client.memory(self._name)
        present = query.as_of is None
        if present and self._name in query.sources:
            self._wait_looked(memory.redefined_at)
        values = local.values(query, statement.described.parameters, statement.values)
        reason = self._database.origin.denied(settings.role, query.access)
        if reason:
            raise AtSource(reason)
        want = wanted(self._session, memory)
        if present:
            self._wait_fresh(want, query.sources or (self._name,))
        try:
            read = self._database.reader(query, values, planned.version, self._client.user)
            batches = self._begun(read, statement, planned)
        except QueryCancelled as cancelled:
            raise QueryCancelled(self._watched.stopped or str(cancelled)) from None
        except (AtSource, CatalogChanged):
            raise
        except HtapkitError as problem:
            raise AtSource(f"the hot store: {problem}") from problem
        self._remember(query, read, want, memory)
        return batches

    def _begun(self, read: Read, statement: Statement, planned: Planned) -> Batches:
        """The rows of a read, the first of them made. Closes it where it raises."""
        settings, finishing = planned.settings, planned.query.finish
        schema, fields = statement.schema, statement.described.fields or ()
        seconds = settings.statement_seconds_max
        until = time.monotonic() + seconds if seconds else None
        try:
            with self._watched.running(read.cancel, until):
                if finishing is None:
                    convert = local.converter(read.schema, fields, schema, settings.zone)
                    batches = read.batches()
                    first = next(batches, None)
                    begun = chain([first] if first else [], batches)
                    return self._streamed(read, begun, convert, until)
                table = all_rows(read, finishing.rows_max)
        except BaseException:
            read.close()
            raise
        read.close()
        literals = finish.parameters(table.to_batches(), table.schema, planned.query.columns)
        return iter(self._finished(finishing.sql, literals, schema))

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

    def _finished(
        self, sql: str, literals: Sequence[bytes], schema: pa.Schema
    ) -> list[pa.RecordBatch]:
        """What the source computes on the small local result."""
        with self._sources.borrow(self._client, self._name) as connection:
            try:
                with self._watched.running(connection.cancel):
                    made = list(connection.rows(sql, literals, schema))
            except (SourceRefused, ColumnsChanged) as refused:
                raise AtSource(f"finishing at the source: {refused}") from refused
            self._tidy(connection, wrote=False)
        return made

    def _unseen(self, redefined_at: float | None) -> bool:
        """Whether the client may have changed tables since the copy last looked at them."""
        return redefined_at is not None and redefined_at >= self._database.looked_at()

    def _wait_looked(self, redefined_at: float | None) -> None:
        """Raise AtSource while the copy has not looked at tables that the client has changed."""
        if not self._unseen(redefined_at):
            return
        options = self._session.options
        self._database.look()
        patience = 0.0 if options.route == "auto" else options.wait_seconds
        deadline = time.monotonic() + patience
        while self._unseen(redefined_at):
            if time.monotonic() >= deadline or self._watched.stopped:
                raise AtSource("the client has changed tables, which the copy has not looked at")
            time.sleep(_LOOK_SECONDS)

    def _wait_fresh(self, want: FreshnessWanted, sources: Sequence[str]) -> None:
        """Raises AtSource, Stale."""
        options = self._session.options
        unasked = want.fresh is Fresh.SESSION and not want.head and not want.floors
        if want.fresh is Fresh.ANY or unasked:
            return
        while True:
            try:
                for name in sources:
                    # The client's own floors say nothing of another source.
                    own_want = want if name == self._name else replace(want, head=False, floors=())
                    deadline = time.monotonic() + options.wait_seconds
                    self._database.freshness.wait(name, own_want, deadline)
            except Stale as stale:
                if options.on_stale == "source" and options.route == "auto":
                    raise AtSource(str(stale)) from stale
                if options.on_stale != "wait" or self._watched.stopped:
                    raise
            else:
                return

    def _remember(
        self, query: LocalQuery, read: Read, want: FreshnessWanted, before: Memory
    ) -> None:
        if query.as_of is not None:
            past = Last(query.route.value, query.as_of)
            self._client.remember(self._name, lambda memory: replace(memory, last=past))
            return
        position = read.positions.get(self._name)
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


def wanted(session: Session, memory: Memory) -> FreshnessWanted:
    """How fresh the next local answer must be."""
    options = session.options
    fresh = options.fresh
    head = fresh is Fresh.STRONG or (fresh is Fresh.SESSION and memory.relayed)
    floors = () if fresh is Fresh.ANY else memory.floors
    if options.position and fresh is not Fresh.ANY:
        floors = (*floors, Position(options.position))
    return FreshnessWanted(fresh, head, floors, options.bound)


def _writes(plan: Plan) -> bool:
    return isinstance(plan, Relay) and plan.effect is not Effect.READ
