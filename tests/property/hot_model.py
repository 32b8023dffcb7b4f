"""A source in memory, its stream, and a hot store that follows it: for model tests.

The model is plain Python: after each commit it keeps every table's rows. Whatever the hot store is
put through, what can be read must be exactly the rows at the position that the read says it has.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from htapkit.errors import CatalogChanged, Stale
from htapkit.hot import HotLimits, HotStore, table_query
from htapkit.model import (
    Change,
    Column,
    SchemaChange,
    SqlType,
    TableId,
    TableSchema,
    TableState,
    TableStatus,
    Truncate,
)
from tests.property.archive_model import Commit, Erased, Event, Row, check_archives
from tests.unit.htapkit.hot.building import (
    INT4,
    INT8,
    TEXT,
    TIMESTAMPTZ,
    Rows,
    batch_of,
    covers,
    position,
    record_batch,
    schema_of,
)
from tests.unit.htapkit.hot.lakes import PlainLake, arm

KEYED = schema_of("keyed", {"id": INT8, "a": INT4, "s": TEXT})
PAIRS = schema_of("pairs", {"x": TEXT, "y": INT4, "s": TEXT, "t": TEXT}, key=("x", "y"))
WHOLE = schema_of("whole", {"a": INT4, "s": TEXT}, key=(), whole_rows=True)
EVENTS = schema_of("events", {"a": INT4}, key=(), append_only=True)
TIMED = schema_of("timed", {"id": INT8, "at": TIMESTAMPTZ, "s": TEXT, "a": INT4})
DAYS = schema_of("days", {"s": TEXT, "x": TEXT, "on": SqlType("date", 1082)}, key=("x", "on"))
TABLES = (KEYED, PAIRS, WHOLE, EVENTS, TIMED, DAYS)
TIME_COLUMNS = {TIMED.table: 2, DAYS.table: 3}  # of the tables that go to a lake
DAY_ZERO = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Origin:
    """The source: commits 1, 2, 3 and so on."""

    rng: random.Random
    commits: list[Commit] = field(default_factory=list)
    # No column's number or name is ever used again.
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(10))

    def __post_init__(self) -> None:
        self.commits.append(Commit([], {s.table: [] for s in TABLES}, {s.table: s for s in TABLES}))

    @property
    def head(self) -> int:
        return len(self.commits) - 1

    def commit(self) -> None:
        """One random transaction."""
        last = self.commits[-1]
        rows = {t: list(r) for t, r in last.rows.items()}
        schemas = dict(last.schemas)
        if self.rng.random() < 0.06:
            self._alter(rows, schemas)
        events: list[Event] = []
        for _ in range(self.rng.randrange(0, 9)):
            table = self.rng.choice(TABLES).table
            for _ in range(self.rng.choice((1, 1, 2, 6))):
                events += self._change(schemas[table], rows[table])
        self.commits.append(Commit(events, rows, schemas))

    def _change(self, schema: TableSchema, rows: list[Row]) -> list[Event]:
        table, rng = schema.table, self.rng
        if rng.random() < 0.02:
            gone = tuple(rows)
            rows.clear()
            return [Event(table, gone=gone)]
        kind = (
            "insert"
            if schema.append_only or not rows
            else rng.choice(("insert", "update", "delete"))
        )
        if kind == "insert":
            new = self._row(schema)
            if schema.key and key_of(schema, new) in {key_of(schema, r) for r in rows}:
                return []
            rows.append(new)
            return [Event(table, None, new)]
        at = rng.randrange(len(rows))
        old = rows[at]
        if kind == "delete":
            del rows[at]
            return [Event(table, old)]
        new = self._row(schema)
        keep_key = schema.key and rng.random() < 0.7
        names = [c.name for c in schema.columns]
        kept = {n for n in names if n not in schema.key and rng.random() < 0.5}
        if keep_key:
            kept |= set(schema.key)
        new = tuple(o if n in kept else v for n, o, v in zip(names, old, new, strict=True))
        taken = {key_of(schema, r) for r in rows[:at] + rows[at + 1 :]}
        if schema.key and key_of(schema, new) in taken:
            return []
        rows[at] = new
        text = {c.name for c in schema.columns if c.type.name == "text"} - set(schema.key)
        skip = tuple(sorted(n for n in kept & text if rng.random() < 0.7))
        return [Event(table, old, new, skip)]

    def _row(self, schema: TableSchema) -> Row:
        rng = self.rng
        values: list[Any] = []
        for column in schema.columns:
            small = 4 if column.name in {"x", "y"} or not schema.key else 12
            number = rng.randrange(small)
            nullable = column.name not in schema.key and rng.random() < 0.15
            values.append(None if nullable else _value(column, number))
        return tuple(values)

    def _alter(self, rows: dict[TableId, list[Row]], schemas: dict[TableId, TableSchema]) -> None:
        table = self.rng.choice((KEYED, TIMED)).table
        schema = schemas[table]
        ordinal = next(self.numbers)
        last = schema.columns[-1]
        kind = self.rng.choice(("add", "rename", "drop", "rename key", "widen"))
        if kind == "add" and len(schema.columns) < 6:
            columns = (*schema.columns, Column(f"n{ordinal}", TEXT, ordinal))
            rows[table] = [(*r, None) for r in rows[table]]
        elif kind == "rename":
            columns = (*schema.columns[:-1], replace(last, name=f"r{ordinal}"))
        elif kind == "widen" and last.type == INT4:
            columns = (*schema.columns[:-1], replace(last, type=INT8))
        elif kind == "rename key":
            name = f"id{ordinal}"
            columns = (replace(schema.columns[0], name=name), *schema.columns[1:])
            schema = replace(schema, key=(name,))
        elif kind == "drop" and len(schema.columns) > 3:
            columns = schema.columns[:-1]
            rows[table] = [r[:-1] for r in rows[table]]
        else:
            return
        schemas[table] = replace(schema, columns=columns)


def _value(column: Column, number: int) -> Any:
    if column.type.name == "timestamptz":
        return DAY_ZERO + timedelta(hours=12 * number)
    if column.type.name == "date":
        return (DAY_ZERO + timedelta(days=number)).date()
    return f"v{number}" if column.type.name == "text" else number


def key_of(schema: TableSchema, row: Row) -> Row:
    names = [c.name for c in schema.columns]
    return tuple(row[names.index(k)] for k in schema.key)


class Follower:
    """A hot store on a file, and the stream that feeds it.

    With `archives` it keeps what is deleted of all tables, and no copy is made of one in doubt.
    """

    def __init__(
        self, path: Path, origin: Origin, *, archives: bool = False, **limits: Any
    ) -> None:
        self.path = path
        self.origin = origin
        self.archives = archives
        self.archived_since: dict[TableId, int] = {}
        self.archived: Counter[str] = Counter()
        self.erased = Erased()
        self.limits = HotLimits(
            memory_bytes=400 * 2**20, position_seconds=0.0, disk_free_bytes=0, **limits
        )
        self.reads = 0
        self.lake = PlainLake(path.parent / "warehouse")
        self.open()

    def open(self) -> None:
        self.store = HotStore(
            self.path, self.limits, warehouse=str(self.lake.folder), lake=self.lake
        )
        if self.archives:
            self.store.archives.keep(frozenset(s.table for s in TABLES))
        self.restart()

    def reopen(self) -> None:
        self.store.close()
        self.open()

    def restart(self) -> None:
        """A new stream, right after the stored position."""
        self.store.abort("shop")
        if self.store.stored_position("shop") is None:
            self.store.apply(batch_of(0), covers)
        stored = self.store.stored_position("shop")
        assert stored is not None
        self.at = int(stored, 16)
        self.chunk = False
        self.schemas = {t: s.schema for t, s in self.tables().items()}

    def tables(self) -> dict[TableId, TableStatus]:
        """The mirrored ones."""
        return {t: s for t, s in self.store.catalog.tables.items() if t.source == "shop"}

    def redeliver(self) -> None:
        """A stream that begins too early: the store must know better."""
        self.restart()
        self.at = max(0, self.at - 2)

    def step(self, rng: random.Random) -> None:
        """Apply the next few commits, or a part of a transaction, as one batch."""
        if self.at >= self.origin.head:
            return
        end = min(self.origin.head, self.at + rng.choice((1, 1, 2, 4)))
        numbers = list(range(self.at + 1, end + 1))
        changes = self._changes(numbers)
        if len(numbers) == 1 and len(changes) > 1 and rng.random() < 0.4:
            for change in changes[:-1]:
                assert (
                    self.store.apply(batch_of(end, change, commits=numbers, complete=False), covers)
                    is None
                )
                if rng.random() < 0.1:
                    self.check()
                    self.restart()
                    return
            changes = changes[-1:]
        self.store.apply(batch_of(end, *changes, commits=numbers), covers)
        self.at = end

    def _changes(self, numbers: list[int]) -> list[Change]:
        result: list[Change] = []
        open_rows: Rows | None = None
        for index, number in enumerate(numbers):
            commit = self.origin.commits[number]
            for event in commit.events:
                schema = commit.schemas[event.table]
                if open_rows is not None and open_rows.schema != schema:
                    result.append(open_rows.changes())
                    open_rows = None
                if self.schemas.get(event.table) != schema and event.table in self.schemas:
                    self.schemas[event.table] = schema
                    result.append(SchemaChange(schema, faithful=True))
                if event.old is None and event.new is None:
                    if open_rows is not None:
                        result.append(open_rows.changes())
                        open_rows = None
                    result.append(Truncate((event.table,), index))
                    continue
                open_rows = open_rows or Rows(schema)
                add_event(open_rows, event, index)
        if open_rows is not None:
            result.append(open_rows.changes())
        return result

    def copy(self, table: TableId, rng: random.Random) -> None:
        """Copy a table as it is at some commit that the stream may not have reached."""
        stored = self.store.stored_position("shop")
        assert stored is not None
        at = rng.randrange(int(stored, 16), self.origin.head + 1)
        commit = self.origin.commits[at]
        schema = commit.schemas[table]
        status = self.store.catalog.tables.get(table)
        if self.archives and status is not None and status.state is TableState.PAUSED:
            self.store.copy_again(table, "a test")
        if status is None or (
            rng.random() < 0.3 and status.state is not TableState.PAUSED and not self.archives
        ):
            # From here on the stream has the table.
            self.store.add_table(schema, f"f{at}")
            self.schemas[table] = schema
        elif status.state is TableState.FOLLOWING:
            self.store.copy_again(table, "a test")
        self.store.start_copy(schema, f"f{at}", position(at))
        rows = commit.rows[table]
        half = len(rows) // 2
        for part in (rows[:half], rows[half:]):
            self.store.load(table, [record_batch(schema.arrow, part)] if part else [])
        for _ in range(rng.choice((0, 0, 1, 3))):
            self.origin.commit()
            self.step(rng)
        if rng.random() < 0.2:
            return  # it is never finished: a later copy starts again
        try:
            self.store.finish_copy(table, covers, timeout_seconds=0)
        except Stale:
            while self.at < at:
                self.step(rng)
            try:
                self.store.finish_copy(table, covers, timeout_seconds=0)
            except CatalogChanged:
                return
        applied = self.store.applied("shop").position
        assert applied is not None
        self.archived_since.setdefault(table, int(applied, 16))

    def erase(self, table: TableId, rng: random.Random) -> None:
        """Some rows of an archive go."""
        if table in self.archived_since:
            self.archived += self.erased.erase(self.store, self.lake, table, rng)

    def check(self) -> None:
        """All tables that follow, each in its own read and all in one."""
        # The stream is right, so no table may stop but when told to.
        if self.archives:
            self.archived += check_archives(
                self.store, self.lake, self.origin.commits, self.archived_since, self.erased
            )
        reasons = {str(t): s.why for t, s in self.tables().items()}
        assert set(reasons.values()) <= {"", "a test"}, reasons
        following = [s.schema for s in self.tables().values() if s.state is TableState.FOLLOWING]
        for schema in following:
            sql, arms = table_query(schema), []
            if self.store.catalog.tables[schema.table].boundary is not None:
                arms = [arm(self.store, self.lake, schema.table)]
                sql += ' UNION ALL SELECT * FROM "htapkit lake 1"'
            with self.store.read(sql, lake=arms) as read:
                found = Counter(
                    tuple(row.values()) for batch in read.batches() for row in batch.to_pylist()
                )
                at = int(read.positions["shop"], 16)
            commit = self.origin.commits[at]
            # A column that the stream has not shown yet, or not shown to be gone, is left out.
            ours = [c.ordinal for c in schema.columns]
            theirs = [c.ordinal for c in commit.schemas[schema.table].columns]
            expected = Counter(projected(r, theirs, ours) for r in commit.rows[schema.table])
            seen = Counter(projected(r, ours, theirs) for r in found.elements())
            assert seen == expected, (schema.table, at)
            self.reads += 1


def projected(row: Row, columns: list[int], kept: list[int]) -> Row:
    """The values of those columns that both have."""
    return tuple(v for c, v in zip(columns, row, strict=True) if c in kept)


def add_event(rows: Rows, event: Event, commit: int) -> None:
    """As a source sends it: unchanged values left out, old keys only where they changed."""
    schema = rows.schema
    if event.old is None:
        assert event.new is not None
        rows.insert(*event.new, commit=commit)
    elif event.new is None:
        sent = event.old
        if not schema.whole_rows:
            sent = tuple(
                v if c.name in schema.key else None
                for c, v in zip(schema.columns, event.old, strict=True)
            )
        rows.delete(*sent, commit=commit)
    else:
        before: Row | None = event.old if schema.whole_rows else None
        if schema.key and key_of(schema, event.old) != key_of(schema, event.new):
            before = key_of(schema, event.old)
        rows.update(*event.new, before=before, skip=event.skip, commit=commit)


__all__ = ["TABLES", "Follower", "Origin", "pa"]
