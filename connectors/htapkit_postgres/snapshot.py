"""The rows of some tables at one position of the replication stream, read in parallel parts.

A temporary replication slot tells the position and exports the snapshot; an ordinary connection
takes the snapshot over and keeps it, so that the slot goes at once and holds back no log. The
source is not changed, no table is locked against writers, and a table that was rewritten meanwhile
is refused, never copied half: its old rows would be invisible or in two parts.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final, cast

import psycopg
import pyarrow as pa

from htapkit.errors import CatalogChanged, SourceError, SourceUnavailable, TableSetAside
from htapkit.model import Position, Split, TableId, TableSchema
from htapkit.spi import Discovered
from htapkit.sqlfiles import sql
from htapkit_postgres import ranges
from htapkit_postgres.bulk import BulkReader, select
from htapkit_postgres.connection import Connection, Settings, connect, conninfo, translated
from htapkit_postgres.pace import Listener, Pace, Rhythm, Room
from htapkit_postgres.pgoutput import lsn_position, parse_lsn
from htapkit_postgres.types import projection, quoted

_log = logging.getLogger(__name__)

Describe = Callable[[Connection, Sequence[TableId]], Mapping[TableId, Discovered]]
"""The tables as the connection's snapshot has them; those that are gone are left out."""

PAGES_PER_SPLIT: Final = 8192
"""64 MiB of table: half a second to a second of reading."""

_BATCH_BYTES: Final = 4 << 20  # a turn of some tens of milliseconds
_BATCH_BYTES_THROTTLED: Final = 1 << 20  # in small steps, so that the rate is even
_LISTENER_STOP_SECONDS: Final = 1.0  # where the source hangs, its thread ends later
_ROWS_PER_PAGE: Final = 60.0  # of a table that was never analysed

_SESSION: Final = {
    # A copy takes as long as it takes, but it never waits long for a lock, nor makes others wait.
    "lock_timeout": "60s",
    "default_transaction_isolation": "repeatable\\ read",
    "default_transaction_read_only": "on",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
}


@dataclass(frozen=True, slots=True)
class _Part:
    """A range of pages of one relation; `high` None: to its end."""

    oid: int
    filenode: int
    schema: str
    name: str
    low: int
    high: int | None
    whole: bool  # with all partitions below it

    @property
    def relation(self) -> str:
        """For FROM."""
        only = "" if self.whole else "ONLY "
        return f"{only}{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def condition(self) -> str:
        """The WHERE clause, or nothing."""
        bounds = [f"ctid >= '({self.low},0)'"] if self.low else []
        bounds += [f"ctid < '({self.high},0)'"] if self.high is not None else []
        return " WHERE " + " AND ".join(bounds) if bounds else ""


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A row of leaves.sql."""

    oid: int
    schema: str
    name: str
    kind: str
    persistence: str
    filenode: int  # in the snapshot
    filenode_now: int
    pages: int  # 0: not asked for
    rows: float
    pages_counted: int  # when `rows` was
    readable: bool

    @property
    def relation(self) -> str:
        """For FROM: with all partitions below it."""
        only = "" if self.kind == "p" else "ONLY "
        return f"{only}{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def rows_per_page(self) -> float:
        """By the last ANALYZE."""
        known = self.rows >= 0 and self.pages_counted > 0
        return self.rows / self.pages_counted if known else _ROWS_PER_PAGE


class Throttle:
    """A token bucket over all readers: at most so many rows in any second."""

    def __init__(
        self,
        rows_per_second: int | None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._rate = rows_per_second
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._free_at = clock()

    def spend(self, rows: int) -> None:
        """Account for rows that were read, and wait until that many are due."""
        if self._rate is None:
            return
        with self._lock:
            now = self._clock()
            self._free_at = max(self._free_at, now) + rows / self._rate
            seconds = self._free_at - now
        self._wait(seconds)


class PostgresSnapshot:
    """An spi.Snapshot."""

    def __init__(
        self,
        settings: Settings,
        tables: Sequence[TableId],
        describe: Describe,
        *,
        rows_per_second_max: int | None = None,
        pace: Pace | None = None,
        rhythm: Rhythm | None = None,
        pages_per_split: int = PAGES_PER_SPLIT,
    ) -> None:
        """Take the snapshot. Waits for the transactions that run at the source to end.

        Raises SourceUnavailable, SourceRefused.
        """
        self._settings = settings
        self._pages_per_split = pages_per_split
        self._closed = threading.Event()
        self._throttle = Throttle(rows_per_second_max, wait=self._closed.wait)
        throttled = rows_per_second_max is not None
        self._batch_bytes = _BATCH_BYTES_THROTTLED if throttled else _BATCH_BYTES
        self._room = Room(pace or Pace(), self._closed)
        self._rhythm = rhythm or Rhythm()
        self._listener: threading.Thread | None = None
        self._readers: set[BulkReader] = set()
        self._lock = threading.Lock()
        self._position, self._keeper, self._exported = _take(settings)
        try:
            with translated(settings, "describe the tables"):
                self._tables = dict(describe(self._keeper, tables))
        except BaseException:
            self._keeper.close()
            raise

    @property
    def position(self) -> Position:
        """Commits covered by this position are in the rows, later ones are not."""
        return self._position

    @property
    def tables(self) -> Mapping[TableId, Discovered]:
        """The tables as they are inside the snapshot."""
        return self._tables

    def splits(self, table: TableId) -> Sequence[Split]:
        """The parts of a table; small partitions share one.

        Raises TableSetAside, CatalogChanged, SourceError.
        """
        leaves = self._leaves(table, sizes=True)
        root = _root(table, leaves)
        found = [leaf for leaf in leaves if leaf.kind != "p"]
        if root.kind == "p" and not all(leaf.readable for leaf in found):
            # Rights on the root only: PostgreSQL lets us read through it, but not by page ranges.
            part = _Part(root.oid, 0, root.schema, root.name, 0, None, whole=True)
            return [_split(table, [part], sum(_rows(leaf, leaf.pages) for leaf in found))]
        return list(self._packed(table, found))

    def read(self, split: Split) -> Iterator[pa.RecordBatch]:
        """The rows of one part. Raises UnfaithfulValue, SourceUnavailable, CatalogChanged."""
        schema = self._tables[split.table].schema
        with self._room.reader():
            self._listen()
            yield from self._read(split, schema)

    def _read(self, split: Split, schema: TableSchema) -> Iterator[pa.RecordBatch]:
        reader = self._open_reader()
        try:
            condition = ranges.condition(schema, split.token)
            if condition is not None:
                root = _root(split.table, self._leaves(split.table))
                yield from self._rows(reader, schema, root.relation, condition)
                # The locks of the read are still held: what is true now was true during it.
                self._leaves(split.table)
                return
            for fields in json.loads(split.token):
                part = _Part(*fields)
                yield from self._rows(reader, schema, part.relation, part.condition)
                _check_file(reader, part, schema)
        finally:
            with self._lock:
                self._readers.discard(reader)
            reader.close()

    def _rows(
        self, reader: BulkReader, schema: TableSchema, relation: str, condition: str
    ) -> Iterator[pa.RecordBatch]:
        projections = [projection(column) for column in schema.columns]
        batches = reader.read(select(schema, projections, relation, condition), schema)
        while True:
            begun = time.monotonic()
            batch = next(batches, None)
            if batch is None:
                return
            took = time.monotonic() - begun
            yield batch
            self._throttle.spend(batch.num_rows)
            self._room.breathe(took)
            self._check_open()

    def _listen(self) -> None:
        """Hear whether the source suffers, from the first read to the end of the snapshot."""
        with self._lock:
            if self._listener is not None or not self._room.pace.careful or self._closed.is_set():
                return
            name = f"pace-{self._settings.source}"
            self._listener = threading.Thread(target=self._hear, name=name, daemon=True)
            self._listener.start()

    def _hear(self) -> None:
        listener = Listener(self._room, self._closed, self._rhythm)
        if not listener.wait():
            return
        try:
            with connect(self._settings) as connection:
                listener.run(lambda: connection.execute("SELECT 1").fetchone())
        except (SourceError, psycopg.Error) as error:
            # Readers meet with the same, or go on at the pace that they have.
            _log.debug("the source is not listened to: %s", type(error).__name__)

    def close(self) -> None:
        """End the snapshot at the source. Safe to call twice."""
        self._closed.set()
        with self._lock:
            readers = list(self._readers)
        for reader in readers:
            reader.cancel()
        if self._listener is not None:
            self._listener.join(_LISTENER_STOP_SECONDS)
        self._keeper.close()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise SourceUnavailable(f"{self._settings.source}: the snapshot was closed")

    def _open_reader(self) -> BulkReader:
        self._check_open()
        reader = BulkReader(
            self._settings,
            conninfo(self._settings, more=_SESSION),
            self._exported,
            self._batch_bytes,
        )
        with self._lock:
            self._readers.add(reader)
        return reader

    def _leaves(self, table: TableId, *, sizes: bool = False) -> list[_Leaf]:
        """With `sizes` only while nobody reads the table: it may wait for who waits for them."""
        self._check_open()
        names = {"schema": table.schema, "name": table.name, "sizes": sizes}
        with translated(self._settings, f"look at {table}"):
            rows = self._keeper.execute(sql("source/leaves"), names).fetchall()
        leaves = [_Leaf(*cast("tuple[Any, ...]", row)) for row in rows]
        if not leaves:
            raise CatalogChanged(f"{table} does not exist in the snapshot; take another")
        for leaf in leaves:
            _check_leaf(table, leaf)
        return leaves

    def _packed(self, table: TableId, leaves: Sequence[_Leaf]) -> Iterator[Split]:
        parts: list[_Part] = []
        room, rows = self._pages_per_split, 0
        for leaf in leaves:
            for low in range(0, max(leaf.pages, 1), self._pages_per_split):
                high = low + self._pages_per_split
                pages = min(high, leaf.pages) - low
                if parts and pages > room:
                    yield _split(table, parts, rows)
                    parts, room, rows = [], self._pages_per_split, 0
                # Pages appended meanwhile hold nothing that the snapshot sees, but cost nothing
                # either.
                end = high if high < leaf.pages else None
                parts.append(
                    _Part(leaf.oid, leaf.filenode, leaf.schema, leaf.name, low, end, whole=False)
                )
                room -= pages
                rows += _rows(leaf, pages)
        if parts:
            yield _split(table, parts, rows)


def _take(settings: Settings) -> tuple[Position, Connection, str]:
    """(position, connection that keeps the snapshot open, the name under which it exports it)."""
    slot = f"htapkit_copy_{secrets.token_hex(8)}"
    create = f"CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput (SNAPSHOT 'export')"
    walsender = conninfo(settings, replication="database")
    with (
        translated(settings, "take a snapshot"),
        psycopg.connect(walsender, autocommit=True, prepare_threshold=None) as replication,
    ):
        created = replication.execute(create).fetchone()
        assert created is not None, "the command gives one row"
        keeper = psycopg.connect(
            conninfo(settings, more=_SESSION), autocommit=True, prepare_threshold=None
        )
        try:
            keeper.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            keeper.execute(f"SET TRANSACTION SNAPSHOT '{created[2]}'")
            exported = keeper.execute("SELECT pg_export_snapshot()").fetchone()
        except BaseException:
            keeper.close()
            raise
        # The slot goes with its connection, here: from now on nothing holds back the log.
    assert exported is not None, "a function gives one row"
    return lsn_position(parse_lsn(str(created[1]))), keeper, str(exported[0])


def _root(table: TableId, leaves: Sequence[_Leaf]) -> _Leaf:
    return next(leaf for leaf in leaves if (leaf.schema, leaf.name) == (table.schema, table.name))


def _check_leaf(table: TableId, leaf: _Leaf) -> None:
    if leaf.kind == "p":
        return
    own = f"{quoted(leaf.schema)}.{quoted(leaf.name)}"
    if leaf.kind != "r":
        raise TableSetAside(
            table, f"its partition {own} is a foreign table, whose changes are not sent"
        )
    if leaf.persistence != "p":
        why = f"{own} is not logged, so its changes are not sent; ALTER TABLE {own} SET LOGGED"
        raise TableSetAside(table, why)
    if leaf.filenode != leaf.filenode_now:
        raise CatalogChanged(f"{own} was rewritten or truncated while it was copied")


def _check_file(reader: BulkReader, part: _Part, schema: TableSchema) -> None:
    if part.whole:
        return
    now = reader.one(f"SELECT pg_relation_filenode({part.oid})::int8", schema)
    if now != part.filenode:
        own = f"{quoted(part.schema)}.{quoted(part.name)}"
        raise CatalogChanged(f"{own} was rewritten or truncated while it was copied")


def _rows(leaf: _Leaf, pages: int) -> int:
    return round(max(pages, 0) * leaf.rows_per_page)


def _split(table: TableId, parts: Sequence[_Part], rows: int) -> Split:
    return Split(table, json.dumps([astuple(part) for part in parts]), rows)
