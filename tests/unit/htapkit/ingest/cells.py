"""A source of reconciled rows for tests: a log of writes, and copies that fail when told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import pyarrow as pa

from htapkit.errors import SourceUnavailable
from htapkit.model import DELETIONS as NONE
from htapkit.model import (
    Broken,
    CellChanges,
    ChangeBatch,
    Column,
    Finding,
    Position,
    SchemaChange,
    Split,
    SqlType,
    TableId,
    TableSchema,
    cells_arrow,
)
from htapkit.resumable import Begun
from htapkit.spi import HEAD_SECONDS, Discovered

NOTES = TableId("mem", "demo", "notes")
SCHEMA = TableSchema(
    NOTES,
    (Column("id", SqlType("int4", 23), 1, nullable=False), Column("v", SqlType("text", 25), 2)),
    ("id",),
    reconciled=True,
)
PARTS = 4
ROWS = 40
Write = tuple[int, str]


class Log:
    """Writes; how many there are is a position."""

    def __init__(self) -> None:
        self.writes: list[Write] = [(number, f"v{number}") for number in range(ROWS)]

    def covers(self, have: Position, want: Position) -> bool:
        return int(have) >= int(want)

    def head(self, timeout_seconds: float = HEAD_SECONDS) -> Position:
        del timeout_seconds
        return Position(str(len(self.writes)))

    def mark(self, token: str, timeout_seconds: float = HEAD_SECONDS) -> None:
        """The head is always reached."""


class Source:
    """Its copies have parts, of the rows whose number leaves that rest, and fail when told to."""

    origin = None

    def __init__(self) -> None:
        self.log = self.positions = self.head = Log()
        self.since = 0  # what was written before is truncated away
        self.fingerprint, self.refusal = "first", ""
        self.fails_before: set[int] = set()  # parts, at which it fails once
        self.goes_on = threading.Event()  # what fails waits for it first
        self.goes_on.set()
        self.asked: list[int] = []  # parts that were read
        self.begun: list[str] = []
        self.otherwise: dict[int, str | None] = {}  # rows that no log told
        self.before_rows: Callable[[], None] = lambda: None
        self.read_rows: Callable[[set[int] | None], None] = lambda _: None

    def identity(self, *_: object) -> str:
        return "mem"

    def check(self) -> Sequence[Finding]:
        return ()

    def discover(self) -> Sequence[Discovered]:
        return [Discovered(SCHEMA, self.fingerprint)]

    def compare(
        self, schema: TableSchema, fingerprint: str, now: Discovered
    ) -> SchemaChange | Broken | None:
        same = fingerprint.split(",", maxsplit=1)[0] == now.fingerprint
        return None if same else Broken(schema.table, "it was truncated")

    def follow(self, start: Position | None, tables: Sequence[TableSchema]) -> Stream:
        del tables
        return Stream(self, int(start or self.head.head()))

    def snapshot(self, tables: Sequence[TableId], as_text: Mapping[TableId, object]) -> Snapshot:
        del tables, as_text
        return Snapshot(self)

    def rows(
        self, schema: TableSchema, keys: pa.Table | None = None, /
    ) -> Iterator[pa.RecordBatch]:
        """As they are now, but for what is told otherwise."""
        self.before_rows()
        found = {n: v for at, (n, v) in enumerate(self.log.writes) if at >= self.since}
        wanted = None if keys is None else set(keys.column("id").to_pylist())
        self.read_rows(wanted)
        rows = [
            {"id": n, "v": v}
            for n, v in {**found, **self.otherwise}.items()
            if v is not None and (wanted is None or n in wanted)
        ]
        yield pa.RecordBatch.from_pylist(rows, schema=schema.arrow)

    def detach(self) -> None:
        """Nothing was made."""

    def close(self) -> None:
        """Nothing is held."""

    def cells(self, first: int, writes: Sequence[Write]) -> pa.RecordBatch:
        """Writes, of which the first has that number in the log."""
        rows = [
            {
                "place": number.to_bytes(4, "big"),
                "k0": number,
                "ordinal": ordinal,
                "rank": at.to_bytes(8, "big"),
                "value": value if ordinal else "",
            }
            for at, (number, value) in enumerate(writes, first)
            for ordinal in (None, 2)
        ]
        return pa.RecordBatch.from_pylist(rows, schema=cells_arrow(SCHEMA))


class Stream:
    """The log from a place on."""

    def __init__(self, source: Source, at: int) -> None:
        self.source, self.at, self.begun = source, at, False

    def next(self, timeout_seconds: float) -> ChangeBatch | None:
        del timeout_seconds
        writes, begun, self.begun = self.source.log.writes[self.at :], self.begun, True
        if not writes and begun:
            threading.Event().wait(0.01)
            return None
        none = pa.RecordBatch.from_pylist([], schema=NONE)
        cells = self.source.cells(self.at, writes)
        self.at += len(writes)
        end = Position(str(self.at))
        changes = (CellChanges(NOTES, cells, none),) if writes else ()
        return ChangeBatch("mem", changes, (end,), end, None)

    def confirm(self, position: Position) -> None:
        """Nothing is forgotten."""

    def nudge(self) -> None:
        """It is always there."""

    def expect(self, tables: Sequence[TableSchema]) -> None:
        """There is one."""

    def lag_bytes(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing is held."""


class Snapshot:
    """Resumable."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.tables = {NOTES: Discovered(SCHEMA, source.fingerprint, ROWS)}

    @property
    def position(self) -> Position:
        return self.source.head.head()

    def begin(self, table: TableId) -> Begun:
        found = self.tables[table]
        self.source.begun.append(found.fingerprint)
        return Begun(Discovered(SCHEMA, f"{found.fingerprint},begun"), Position("0"))

    def goes_on(self, table: TableId, fingerprint: str) -> str:
        assert table == NOTES
        assert fingerprint.endswith(",begun")
        return self.source.refusal

    def splits(self, table: TableId) -> Sequence[Split]:
        return [Split(table, "0", ROWS)]

    def read(self, split: Split) -> Iterator[pa.RecordBatch]:
        return (part for part in self.parts(split) if isinstance(part, pa.RecordBatch))

    def parts(self, split: Split) -> Iterator[pa.RecordBatch | Split]:
        source = self.source
        for part in range(int(split.token), PARTS):
            if part in source.fails_before:
                source.goes_on.wait(60)
                source.fails_before.discard(part)
                raise SourceUnavailable("the node is away")
            source.asked.append(part)
            for at, write in enumerate(source.log.writes):
                if at >= source.since and write[0] % PARTS == part:
                    yield source.cells(at, [write])
            if part + 1 < PARTS:
                yield Split(NOTES, str(part + 1), 2 * ROWS * (PARTS - part - 1) // PARTS)

    def close(self) -> None:
        """Nothing is held."""
