"""Counters, which are read over CQL: neither log nor files have the number, only each node's part.

What is read is the row as all of its replicas have it (consistency ALL). It gets a time of ours
from before it was read, so of two readings the later one counts, and no rule of Cassandra's for
deleted counters has to be known.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session
from cassandra.concurrent import execute_concurrent
from cassandra.query import BoundStatement, PreparedStatement

from htapkit.errors import SourceError, SourceUnavailable
from htapkit.model import TableId
from htapkit_cassandra.catalog import quoted, quoted_table
from htapkit_cassandra.cluster import session, translated
from htapkit_cassandra.layout import Layout
from htapkit_cassandra.mutations import Cell, LogChange, PartitionDeletion, RowWrite
from htapkit_cassandra.settings import Settings
from htapkit_cassandra.ticks import Ticks
from htapkit_cassandra.undecoded import AsBytes, KeptSession

CONCURRENT: Final = 16  # readings at once, of which each asks all replicas of a row
PAGE_ROWS: Final = 1_000
READ_SECONDS_MAX: Final = 10  # of a row; other tables' changes wait meanwhile
Key = tuple[bytes, ...]
Row = Sequence[bytes | None]


@dataclass(frozen=True, slots=True)
class Named:
    """A row, what all rows of a partition share (`clustering` None), or the whole partition."""

    key: Key
    clustering: tuple[bytes | None, ...] | None = None
    whole: bool = False


def counts(layout: Layout) -> bool:
    """Whether it is a table of counters: then all columns outside of its key are."""
    return any(type_.name == "counter" for type_ in layout.types.values())


def named(change: LogChange) -> Named:
    """What a change may have changed."""
    if isinstance(change, RowWrite):
        return Named(change.key, change.clustering)
    return Named(change.key, whole=True)


class CounterReads:
    """Reads over a session of its own. Thread-safe: one reading after the other."""

    def __init__(self, settings: Settings, ticks: Ticks) -> None:
        """Nothing is connected before the first reading."""
        self._settings = settings
        self.ticks = ticks
        self.scanned: dict[TableId, int] = {}  # when the last scan ended, in ticks
        self._lock = threading.Lock()
        self._kept = KeptSession(settings)

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
                    found[each] = _changes(layout, each, rows, deleted, written)
            except SourceError as error:
                problem = error
            if isinstance(problem, SourceUnavailable):
                self._kept.close()
        return found, problem

    def scan(self, layout: Layout) -> Iterator[list[LogChange]]:
        """All rows, in pages. Raises SourceError."""
        boots = self._boots()
        yield from self._pages(layout)
        self.scanned[layout.schema.table] = self.ticks.next()
        now = self._boots()
        if any(now[node] != boots[node] for node in boots.keys() & now.keys()):
            name = layout.schema.table
            raise SourceUnavailable(
                f"{name}: a node was started again while its counters were read"
            )

    def _boots(self) -> dict[str, int]:
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
            statement = BoundStatement(_prepare(opened, _select(layout)), fetch_size=PAGE_ROWS)
            written = self.ticks.next()
            result = opened.execute(statement)
            while True:
                yield list(_rows(layout, (list(row) for row in result.current_rows), written))
                if not result.has_more_pages:
                    return
                written = self.ticks.next()
                result.fetch_next_page()

    def close(self) -> None:
        """Let go of the connection. Safe to call twice."""
        with self._lock:
            self._kept.close()

    def _bound(self, opened: Session, layout: Layout, wanted: Named) -> BoundStatement:
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
            prepared = self._kept.statement(opened, f"{_select(layout)} WHERE {where}{tail}")
        made = BoundStatement(prepared)
        made.consistency_level = ConsistencyLevel.ALL
        made.values = values  # as the node itself writes them
        return made


def _prepare(opened: Session, text: str) -> PreparedStatement:
    made = opened.prepare(text)
    made.consistency_level = ConsistencyLevel.ALL
    made.is_idempotent = True
    return made


def _select(layout: Layout) -> str:
    schema = layout.schema
    columns = ", ".join(quoted(column.name) for column in schema.columns)
    return f"SELECT {columns} FROM {quoted_table(schema.table)}"  # noqa: S608 - quoted names


def _changes(
    layout: Layout, wanted: Named, rows: Sequence[Row], deleted: int, written: int
) -> list[LogChange]:
    """What a reading says of what was wanted; what is not there is gone."""
    if wanted.whole:
        gone = PartitionDeletion("", wanted.key, deleted)
        return [gone, *_rows(layout, rows, written)]
    shared = wanted.clustering is None
    row = rows[0] if rows else [None] * len(layout.schema.columns)
    return [_write(layout, wanted.key, wanted.clustering, row, written, shared=shared)]


def _rows(layout: Layout, rows: Iterable[Row], written: int) -> Iterator[LogChange]:
    """All that some rows have, with what their partitions share."""
    schema, last = layout.schema, None
    at = [next(n for n, c in enumerate(schema.columns) if c.name == name) for name in schema.key]
    partition = len(at) - len(layout.places.clustering)
    for row in rows:
        key = tuple(row[n] or b"" for n in at[:partition])
        clustering = tuple(row[n] for n in at[partition:])
        if schema.sharing and key != last:
            last = key
            yield _write(layout, key, None, row, written, shared=True)
        if not clustering or any(value is not None for value in clustering):
            yield _write(layout, key, clustering, row, written, shared=False)


def _write(
    layout: Layout,
    key: Key,
    clustering: tuple[bytes | None, ...] | None,
    row: Row,
    written: int,
    *,
    shared: bool,
) -> RowWrite:
    cells = [
        Cell(column.name, written, value, expires=None if value is not None else written // 10**6)
        for column, value in zip(layout.schema.columns, row, strict=True)
        if column.shared is shared and column.name not in layout.schema.key
    ]
    return RowWrite("", key, clustering, tuple(cells))
