"""A source in memory: a list of commits that can be followed, snapshotted and broken at will.

For testing the core without a database, and as the shortest complete example of the Source
Protocol.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa

from htapkit.errors import PositionLost, SourceRefused, SourceUnavailable
from htapkit.model import (
    Broken,
    Change,
    ChangeBatch,
    Finding,
    Op,
    Position,
    RowChanges,
    SchemaChange,
    Split,
    Storage,
    TableId,
    TableSchema,
    Truncate,
)
from htapkit.spi import HEAD_SECONDS, Discovered, Origin

Row = tuple[object, ...]
Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class RowEvent:
    """One row's change in a commit. `before` is the old key of an update that changed it."""

    table: TableId
    op: Op
    row: Row
    before: Key | None = None


@dataclass(frozen=True, slots=True)
class TruncateEvent:
    """Truncation of one table in a commit."""

    table: TableId


Event = RowEvent | TruncateEvent


@dataclass(slots=True)
class Server:
    """The "database": tables by key, and the log of commits.

    Position n covers the first n commits.
    """

    name: str
    schemas: dict[TableId, TableSchema]
    rows: dict[TableId, dict[Key, Row]] = field(default_factory=dict)
    log: list[tuple[Event, ...]] = field(default_factory=list)
    up: bool = True
    changed: threading.Condition = field(default_factory=threading.Condition)
    confirmed: int = 0
    generation: dict[TableId, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Empty tables."""
        for table in self.schemas:
            self.rows.setdefault(table, {})

    def commit(self, *events: Event) -> Position:
        """Apply one transaction to the tables and append it to the log."""
        with self.changed:
            for event in events:
                self._apply(event)
            self.log.append(events)
            self.changed.notify_all()
            return position_of(len(self.log))

    def _apply(self, event: Event) -> None:
        rows = self.rows[event.table]
        if isinstance(event, TruncateEvent):
            rows.clear()
            return
        schema = self.schemas[event.table]
        places = [schema.arrow.names.index(name) for name in schema.key]
        key = tuple(event.row[i] for i in places)
        if event.before is not None:
            rows.pop(event.before, None)
        if event.op is Op.DELETE:
            rows.pop(key, None)
        else:
            rows[key] = event.row


def position_of(commits: int) -> Position:
    """The position that covers that many commits."""
    return Position(f"{commits:08d}")


def _count(position: Position) -> int:
    return int(position)


class MemoryOrder:
    """Positions are counts."""

    def covers(self, have: Position, want: Position) -> bool:
        """By number."""
        return _count(have) >= _count(want)


class MemoryHead:
    """The end of the log."""

    def __init__(self, server: Server) -> None:
        """Of this server."""
        self._server = server
        self.marks: list[tuple[int, str]] = []

    def head(self, timeout_seconds: float = HEAD_SECONDS) -> Position:  # noqa: ARG002
        """How many commits there are."""
        if not self._server.up:
            raise SourceUnavailable(f"{self._server.name} is down")
        return position_of(len(self._server.log))

    def mark(self, token: str, timeout_seconds: float = HEAD_SECONDS) -> None:  # noqa: ARG002
        """Put a token behind all commits."""
        with self._server.changed:
            self.marks.append((len(self._server.log), token))
            self._server.changed.notify_all()


class MemoryStream:
    """Follows the log, `commits_max` commits a batch."""

    def __init__(
        self, source: MemorySource, start: int, tables: Sequence[TableSchema], commits_max: int
    ) -> None:
        """From the commit after `start`."""
        self._source = source
        self._at = start
        self._marked = 0
        self._commits_max = commits_max
        self._nudged = False
        self._closed = False
        self.expect(tables)

    def expect(self, tables: Sequence[TableSchema]) -> None:
        """Only these tables, in these schemas."""
        self._schemas = {schema.table: schema for schema in tables}

    def next(self, timeout_seconds: float) -> ChangeBatch | None:
        """The next commits."""
        server = self._source.server
        with server.changed:
            server.changed.wait_for(self._ready, timeout_seconds)
            if not server.up or self._closed:
                raise SourceUnavailable(f"{server.name} is down")
            if not self._ready():
                return None
            self._nudged = False
            commits = server.log[self._at : self._at + self._commits_max]
            marks = self._source.head.marks
            end = self._at + len(commits)
            passed = tuple(token for at, token in marks[self._marked :] if at <= end)
            self._marked += len(passed)
            batch = ChangeBatch(
                source=server.name,
                changes=tuple(self._changes(commits)),
                commits=tuple(position_of(self._at + i + 1) for i in range(len(commits))),
                end=position_of(end),
                committed_at=datetime.now(UTC),
                marks=passed,
                times=tuple(self._at + i + 1 for i in range(len(commits))),
            )
            self._at = end
            return batch

    def _ready(self) -> bool:
        server = self._source.server
        behind = len(server.log) > self._at
        marked = len(self._source.head.marks) > self._marked
        return behind or marked or self._nudged or not server.up or self._closed

    def _changes(self, commits: Sequence[tuple[Event, ...]]) -> Iterator[Change]:
        for index, events in enumerate(commits):
            for event in events:
                schema = self._schemas.get(event.table)
                if schema is None:
                    continue
                if isinstance(event, TruncateEvent):
                    yield Truncate((event.table,), index)
                else:
                    yield row_changes(schema, [event], index)

    def confirm(self, position: Position) -> None:
        """Remember it."""
        server = self._source.server
        server.confirmed = max(server.confirmed, _count(position))

    def nudge(self) -> None:
        """Send a batch that only moves the position."""
        with self._source.server.changed:
            self._nudged = True
            self._source.server.changed.notify_all()

    def lag_bytes(self) -> int:
        """In commits."""
        return len(self._source.server.log) - self._at

    def close(self) -> None:
        """Stop."""
        with self._source.server.changed:
            self._closed = True
            self._source.server.changed.notify_all()


def row_changes(schema: TableSchema, events: Sequence[RowEvent], commit: int) -> RowChanges:
    """Events of one table and one commit as RowChanges."""
    columns = list(zip(*(e.row for e in events), strict=True))
    arrays = [pa.array(list(v), f.type) for v, f in zip(columns, schema.arrow, strict=True)]
    before = None
    if any(e.before is not None for e in events):
        width = len(schema.key)
        keys = [e.before if e.before is not None else (None,) * width for e in events]
        fields = [schema.arrow.field(name) for name in schema.key]
        before = pa.record_batch(
            [pa.array([k[i] for k in keys], f.type) for i, f in enumerate(fields)],
            schema=pa.schema(fields),
        )
    return RowChanges(
        table=schema.table,
        ops=pa.array([int(e.op) for e in events], pa.int8()),
        rows=pa.record_batch(arrays, schema=schema.arrow),
        commit=pa.array([commit] * len(events), pa.int32()),
        before=before,
        moved=None if before is None else pa.array([e.before is not None for e in events]),
    )


class MemorySnapshot:
    """The rows as they are now."""

    def __init__(
        self,
        source: MemorySource,
        tables: Sequence[TableId],
        as_text: Mapping[TableId, frozenset[str]],
    ) -> None:
        """Taken at once."""
        server = source.server
        with server.changed:
            self.position = position_of(len(server.log))
            self.tables = {
                t: source.discovered(t, as_text.get(t, frozenset()))
                for t in tables
                if t in server.rows
            }
            self._rows = {t: list(server.rows[t].values()) for t in self.tables}
        self._during = source.during_copy

    def splits(self, table: TableId) -> Sequence[Split]:
        """Halves."""
        return [Split(table, half, len(self._rows[table]) // 2) for half in ("even", "odd")]

    def read(self, split: Split) -> Iterator[pa.RecordBatch]:
        """One batch."""
        self._during()
        rows = self._rows[split.table]
        if split.token in {"even", "odd"}:
            rows = rows[0 if split.token == "even" else 1 :: 2]  # noqa: S105
        else:
            rows = [row for row in rows if _inside(split, row[0])]
        schema = self.tables[split.table].schema.arrow
        columns = list(zip(*rows, strict=True)) if rows else [() for _ in schema]
        arrays = [pa.array(list(v), f.type) for v, f in zip(columns, schema, strict=True)]
        yield pa.record_batch(arrays, schema=schema)

    def close(self) -> None:
        """Nothing is held."""


def _inside(split: Split, key: object) -> bool:
    """Whether a range `low:high` has the key; "" is no bound."""
    low, _, high = split.token.partition(":")
    number = int(str(key))
    return (not low or int(low) <= number) and (not high or number < int(high))


class MemorySource:
    """A Source over a Server, and Ranged."""

    origin: Origin | None = None

    def __init__(self, server: Server, commits_max: int = 3) -> None:
        """Batches of up to `commits_max` commits."""
        self.server = server
        self.positions = MemoryOrder()
        self.head = MemoryHead(server)
        self.during_copy: Callable[[], None] = lambda: None
        self.lost_before = 0
        self._commits_max = commits_max

    def identity(self, known: str = "", _: Position | None = None, /) -> str:
        """Its name; it has one history only."""
        if known not in ("", self.server.name):
            raise SourceRefused(f"another server answers ({self.server.name}, not {known})")
        return self.server.name

    def check(self) -> Sequence[Finding]:
        """Nothing can be missing."""
        return ()

    def discovered(self, table: TableId, as_text: frozenset[str] = frozenset()) -> Discovered:
        """A table as it is now."""
        schema = self.server.schemas[table]
        columns = tuple(
            dataclasses.replace(c, storage=Storage.TEXT) if c.name in as_text else c
            for c in schema.columns
        )
        generation = self.server.generation.get(table, 0)
        found = dataclasses.replace(schema, columns=columns)
        return Discovered(found, f"generation {generation}", len(self.server.rows[table]))

    def discover(self) -> Sequence[Discovered]:
        """All tables."""
        return [self.discovered(table) for table in self.server.schemas]

    def compare(
        self, schema: TableSchema, fingerprint: str, now: Discovered
    ) -> SchemaChange | Broken | None:
        """By fingerprint alone."""
        if fingerprint == now.fingerprint:
            return None
        return Broken(schema.table, f"{fingerprint} became {now.fingerprint}")

    def follow(self, start: Position | None, tables: Sequence[TableSchema]) -> MemoryStream:
        """From a position on."""
        if not self.server.up:
            raise SourceUnavailable(f"{self.server.name} is down")
        at = len(self.server.log) if start is None else _count(start)
        if at < self.lost_before:
            raise PositionLost(f"commits before {self.lost_before} are gone")
        return MemoryStream(self, at, tables, self._commits_max)

    def snapshot(
        self, tables: Sequence[TableId], as_text: Mapping[TableId, frozenset[str]]
    ) -> MemorySnapshot:
        """The rows as they are now."""
        return MemorySnapshot(self, tables, as_text)

    def ranges(self, tables: Sequence[TableId], rows: int) -> Mapping[TableId, Sequence[Split]]:
        """By the first column of the key, which must be an integer and the first of the table."""
        with self.server.changed:
            firsts = {t: sorted(int(str(k[0])) for k in self.server.rows[t]) for t in tables}
        found = {}
        for table, keys in firsts.items():
            bounds = sorted(set(keys[rows::rows]))
            if bounds:
                ends = [*map(str, bounds)]
                pairs = zip(["", *ends], [*ends, ""], strict=True)
                found[table] = [Split(table, f"{a}:{b}", rows) for a, b in pairs]
        return found

    def place(self, ranges: Sequence[Split], keys: pa.RecordBatch) -> pa.Array:
        """One by one."""
        keys_of = keys.column(0).to_pylist()
        places = [next(i for i, r in enumerate(ranges) if _inside(r, key)) for key in keys_of]
        return pa.array(places, pa.int64())

    def detach(self) -> None:
        """Nothing was created."""

    def close(self) -> None:
        """Nothing is kept."""
