"""Watching the source's catalog for what the stream cannot tell: new, changed and dropped tables.

A rewrite, a default filled in for old rows or a changed set of partitions sends no events. So the
catalog is read every few seconds and compared with what was copied; what does not agree is copied
again.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import structlog

from htapkit.hot import HotStore
from htapkit.ingest.copier import BetweenBatches
from htapkit.model import (
    Broken,
    Doubt,
    SchemaChange,
    Severity,
    Storage,
    TableId,
    TableSchema,
    TableState,
    TableStatus,
)
from htapkit.spi import Discovered, Source

_log = structlog.get_logger("htapkit.ingest")


class Watcher:
    """Keeps the hot store's list of tables in step with the source's."""

    def __init__(
        self,
        name: str,
        source: Source,
        store: HotStore,
        between_batches: BetweenBatches,
        reopen: Callable[[], None],
        streamed: Callable[[TableId], str],
    ) -> None:
        """`reopen` makes the follower open a new stream, which adds tables at the source.

        `streamed` is the fingerprint that the stream knows of a table, or "".
        """
        self._name = name
        self._source = source
        self._store = store
        self._between = between_batches
        self._reopen = reopen
        self._streamed = streamed
        self._problems: Mapping[TableId, str] = {}
        self._hindered: set[TableId] = set()
        self._warnings: tuple[str, ...] = ()
        self._whole = True  # the look in hand could judge every table
        self.looked_at = float("-inf")
        """When (time.monotonic) the last whole look began."""

    def problems(self) -> Mapping[TableId, str]:
        """Tables that are asked for and cannot be mirrored, with what would mend it."""
        return self._problems

    def warnings(self) -> tuple[str, ...]:
        """What the last preflight warned of."""
        return self._warnings

    def prepare(self) -> None:
        """Before a stream is opened: know the tables. Called by the follower."""
        findings = self._source.check()
        bad = [f for f in findings if f.severity is not Severity.OK]
        self._warnings = tuple(f"{f.subject}: {f.message}" for f in bad)
        known = self._known()
        self._compare(known, self._source.discover(), lambda work: work())

    def look(self) -> bool:
        """Look once; whether every table could be judged. Raises SourceError."""
        begun = time.monotonic()
        known = self._known()
        self._whole = True
        if self._compare(known, self._source.discover(), self._between):
            self._reopen()
        if self._whole:
            self.looked_at = begun
        return self._whole

    def _known(self) -> Mapping[TableId, TableStatus]:
        tables = self._store.catalog.tables
        return {table: status for table, status in tables.items() if table.source == self._name}

    def _compare(
        self,
        known: Mapping[TableId, TableStatus],
        found: Sequence[Discovered],
        run: Callable[[Callable[[], object]], object],
    ) -> bool:
        """Act on every difference; whether tables were added. `known` is older than `found`."""
        tables: dict[TableId, Discovered] = {d.schema.table: d for d in found}
        self._problems = {t: d.problem for t, d in tables.items() if d.problem and t not in known}
        added = False
        for table, now in tables.items():
            if table not in known:
                if not now.problem:
                    _log.info("new table", table=str(table))
                    run(partial(self._store.add_table, now.schema, now.fingerprint))
                    added = True
                continue
            # What the stream changes meanwhile may be newer than what was found.
            same = partial(self._is_still, known[table].schema)
            status = self._store.catalog.tables.get(table)
            if status is not None and same():
                self._compare_one(status, now, partial(_run_if, same, run))
            else:
                self._whole = False
        for table in known.keys() - tables.keys():
            _log.info("table is gone", table=str(table))
            run(partial(self._store.drop_table, table))
        return added

    def _is_still(self, schema: TableSchema) -> bool:
        """Whether the copy has a table as it was."""
        status = self._store.catalog.tables.get(schema.table)
        return status is not None and status.schema == schema

    def _compare_one(
        self,
        status: TableStatus,
        now: Discovered,
        run: Callable[[Callable[[], object]], object],
    ) -> None:
        table = now.schema.table
        if now.problem:
            self._hindered.add(table)
            if status.state is not TableState.SET_ASIDE or status.why != now.problem:
                why = now.problem
                run(lambda: self._store.set_state(table, TableState.SET_ASIDE, why))
            return
        if status.state is TableState.SET_ASIDE:
            if table in self._hindered:
                self._hindered.discard(table)
                _log.info("table is copied again", table=str(table), why="its problem is mended")
                why = "what was wrong with it at the source is mended"
                run(lambda: self._store.add_table(now.schema, now.fingerprint, why))
            return
        fingerprint = self._store.fingerprint(table)
        change = self._source.compare(status.schema, fingerprint, now)
        if change is None:
            return
        if isinstance(change, SchemaChange) and change.faithful:
            kept = _keep_text(change, status.schema)
            _log.info("schema changed", table=str(table), why=change.why)
            run(lambda: self._store.change_schema(kept, now.fingerprint))
            return
        why, doubt = change.why, change.doubt
        if status.state is TableState.COPYING:
            return  # the snapshot that is coming will have the new form
        run(lambda: self._copy_again(now, why, doubt))

    def _copy_again(self, now: Discovered, why: str, doubt: Doubt | None) -> None:
        """All of it, or where that is enough, the ranges in doubt."""
        table, keeping = now.schema.table, self._store.copying.keeping
        status = self._store.catalog.tables.get(table)
        if status is None or status.state is TableState.COPYING:
            return  # the stream told it in between
        enough = doubt is not None and self._is_all(status.schema, now, doubt)
        if enough and doubt and keeping.begin(table, why, now.fingerprint, doubt):
            _log.info("table is partly copied again", table=str(table), why=why)
            return
        _log.info("table is copied again", table=str(table), why=why)
        self._store.add_table(now.schema, now.fingerprint, why)

    def _is_all(self, schema: TableSchema, now: Discovered, doubt: Doubt) -> bool:
        """Whether the stream, too, has seen nothing else that went: it looks at other times."""
        streamed = self._streamed(schema.table)
        change = self._source.compare(schema, streamed, now) if streamed else None
        if not isinstance(change, Broken):
            return True
        return change.doubt is not None and change.doubt.tokens <= doubt.tokens


def _run_if(
    same: Callable[[], bool],
    run: Callable[[Callable[[], object]], object],
    work: Callable[[], object],
) -> object:
    """Run `work` if that still holds when its turn comes."""
    return run(lambda: work() if same() else None)


def _keep_text(change: SchemaChange, before: TableSchema) -> SchemaChange:
    """The same change, with columns that are kept as text still kept so."""
    text = {c.ordinal for c in before.columns if c.storage is Storage.TEXT}
    columns = tuple(
        dataclasses.replace(c, storage=Storage.TEXT) if c.ordinal in text else c
        for c in change.schema.columns
    )
    return dataclasses.replace(change, schema=dataclasses.replace(change.schema, columns=columns))
