"""Rows read over CQL because a log named them, and whole tables of counters, at consistency ALL."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session
from cassandra.concurrent import execute_concurrent
from cassandra.query import BoundStatement

from htapkit.errors import SourceError, SourceUnavailable
from htapkit.model import TableId
from htapkit_cassandra import counters, scanned
from htapkit_cassandra.catalog import quoted
from htapkit_cassandra.cluster import session, translated
from htapkit_cassandra.layout import Layout
from htapkit_cassandra.mutations import LogChange
from htapkit_cassandra.named import Named
from htapkit_cassandra.settings import Settings
from htapkit_cassandra.ticks import Ticks
from htapkit_cassandra.undecoded import AsBytes, AtMoment, KeptSession

CONCURRENT: Final = 16  # readings at once, of which each asks all replicas of a row
PAGE_ROWS: Final = 1_000
READ_SECONDS_MAX: Final = 10  # of a row; other tables' changes wait meanwhile


class RowReads:
    """Reads over a session of its own. Thread-safe: one reading after the other."""

    def __init__(self, settings: Settings, ticks: Ticks) -> None:
        """Nothing is connected before the first reading."""
        self._settings = settings
        self.ticks = ticks
        self.scanned: dict[TableId, int] = {}  # when the last scan ended, in ticks
        self._boots: dict[TableId, Mapping[str, int]] = {}  # of a scan: how often nodes had started
        self._lock = threading.Lock()
        self._moment = AtMoment()
        self._kept = KeptSession(settings, self._moment)

    def read(
        self, layout: Layout, wanted: Sequence[Named]
    ) -> tuple[dict[Named, list[LogChange]], SourceError | None]:
        """What each is by now, as changes that override what was read before; and what failed.

        What failed is not there. None of them is older than this call.
        """
        deleted, written = self.ticks.next(), self.ticks.next()
        found: dict[Named, list[LogChange]] = {}
        problem: SourceError | None = None
        with self._lock:
            try:
                opened = self._kept.opened()
                moment = self._moment.seconds = int(time.time())
                calls = [(self._bound(opened, layout, each), ()) for each in wanted]
                answers = execute_concurrent(
                    opened,
                    calls,
                    concurrency=CONCURRENT,
                    raise_on_first_error=False,
                    execution_profile=opened.execution_profile_clone_update(
                        EXEC_PROFILE_DEFAULT, request_timeout=READ_SECONDS_MAX
                    ),
                )
                for each, (good, answer) in zip(wanted, answers, strict=True):
                    try:
                        with translated(self._settings):
                            if not good:
                                raise answer
                            rows = [list(row) for row in answer]
                    except SourceError as error:
                        problem = error
                        continue
                    if counters.counts(layout):
                        said = counters.read_again(layout, each, rows, deleted, written)
                    else:
                        said = scanned.read_again(layout, each, rows, moment, written)
                    found[each] = said
            except SourceError as error:
                problem = error
            if isinstance(problem, SourceUnavailable):
                self._kept.close()
        return found, problem

    def scan(self, layout: Layout) -> Iterator[list[LogChange]]:
        """All rows of a table of counters, in pages. Raises SourceError."""
        boots = self.boots()
        yield from self._pages(layout)
        self.scanned[layout.schema.table] = self.ticks.next()
        if _started(boots, self.boots()):
            name = layout.schema.table
            raise SourceUnavailable(
                f"{name}: a node was started again while its counters were read"
            )

    def was_scanned(self, table: TableId, boots: Mapping[str, int]) -> None:
        """A part of a table without counters was read, by nodes that had been started so."""
        self.scanned[table] = self.ticks.next()
        self._boots[table] = boots

    def may_be_gone(self, table: TableId) -> bool:
        """Whether a node that was started again may have lost what a scan saw of the table.

        Of counters it is not asked.
        """
        before = self._boots.get(table)
        if before is None:
            return True
        try:
            return _started(before, self.boots())
        except SourceUnavailable:
            return True

    def boots(self) -> dict[str, int]:
        """A number of each node's start; it loses then what it had shown and not synced."""
        found = {}
        for one in self._settings.each():
            with session(one) as opened, translated(one):
                for row in opened.execute("SELECT host_id, gossip_generation FROM system.local"):
                    found[str(row.host_id)] = row.gossip_generation
        return found

    def _pages(self, layout: Layout) -> Iterator[list[LogChange]]:
        with session(self._settings) as opened, translated(self._settings):
            opened.client_protocol_handler = AsBytes
            prepared = opened.prepare(counters.select(layout))
            prepared.consistency_level = ConsistencyLevel.ALL
            prepared.is_idempotent = True
            written = self.ticks.next()
            result = opened.execute(BoundStatement(prepared, fetch_size=PAGE_ROWS))
            while True:
                rows = (list(row) for row in result.current_rows)
                yield list(counters.counted(layout, rows, written))
                if not result.has_more_pages:
                    return
                written = self.ticks.next()
                result.fetch_next_page()

    def close(self) -> None:
        """Let go of the connection. Safe to call twice."""
        with self._lock:
            self._kept.close()

    def _bound(self, opened: Session, layout: Layout, wanted: Named) -> BoundStatement:
        text = counters.select(layout) if counters.counts(layout) else scanned.select(layout)
        names = layout.schema.key[: len(wanted.key)]
        values: list[bytes | None] = list(wanted.key)
        tail = ""
        if wanted.clustering is not None:
            names = layout.schema.key
            values += wanted.clustering
        elif not wanted.whole:
            tail = " LIMIT 1"
        where = " AND ".join(f"{quoted(name)} = ?" for name in names)
        with translated(self._settings):
            prepared = self._kept.statement(opened, f"{text} WHERE {where}{tail}")
        made = BoundStatement(prepared)
        made.consistency_level = ConsistencyLevel.ALL
        made.values = values  # as the node itself writes them
        return made


def _started(before: Mapping[str, int], now: Mapping[str, int]) -> bool:
    return any(now[node] != before[node] for node in before.keys() & now.keys())
