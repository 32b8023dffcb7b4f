"""Copies of reconciled tables that are cut short: what the copier asks, keeps and begins anew."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from htapkit.errors import SourceUnavailable
from htapkit.hot import HotStore, table_query
from htapkit.ingest import Mirror, MirrorOptions
from htapkit.metrics import Metrics
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
    TableState,
    cells_arrow,
)
from htapkit.resumable import Begun
from htapkit.spi import HEAD_SECONDS, Discovered
from htapkit.testing.stack import wait_until

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


@contextmanager
def _mirrored(source: Source, store: HotStore) -> Iterator[Mirror]:
    mirror = Mirror("mem", source, store, Metrics(), MirrorOptions(watch_interval_seconds=0.02))
    mirror.start()
    try:
        yield mirror
    finally:
        source.goes_on.set()
        mirror.stop()


def _wait(what: Callable[[], bool], source: Source) -> None:
    wait_until(what, 60, lambda: f"read {source.asked}, begun {source.begun}")


def _keeps(source: Source, store: HotStore, parts: int) -> None:
    """So many of them are durable; of each row there are two cells."""

    def kept() -> bool:
        copy = store.copying.ranged(NOTES)
        return copy is not None and copy.rows == 2 * ROWS * parts // PARTS

    _wait(kept, source)


def _rows(source: Source, store: HotStore) -> dict[int, str]:
    """Once it follows, and all is applied."""
    follows, covers = TableState.FOLLOWING, source.positions.covers

    def reached() -> bool:
        stored = store.applied("mem").position
        status = store.catalog.tables.get(NOTES)
        there = status is not None and status.state is follows
        return there and stored is not None and covers(stored, source.head.head())

    _wait(reached, source)
    with store.read(table_query(SCHEMA)) as read:
        return {row["id"]: row["v"] for batch in read.batches() for row in batch.to_pylist()}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HotStore]:
    """Empty."""
    with HotStore(tmp_path / "hot.duckdb") as made:
        yield made


def test_it_goes_on_behind_what_it_had(store: HotStore) -> None:
    """Twice, and what was written meanwhile is in it: behind its parts by the stream."""
    source = Source()
    source.fails_before = {2}
    source.goes_on.clear()
    with _mirrored(source, store) as mirror:
        _keeps(source, store, 2)
        source.log.writes += [(number, "again") for number in range(8)]
        (report,) = mirror.report().tables
        assert (report.state, report.rows, report.rows_estimate) == ("copying", ROWS, 2 * ROWS)
        source.goes_on.set()
        assert _rows(source, store) == {n: "again" if n < 8 else f"v{n}" for n in range(ROWS)}
    assert source.asked == [0, 1, 2, 3]
    assert source.begun == ["first"]


def test_a_restart_tells_how_far_it_is(store: HotStore) -> None:
    """Before its turn has come again."""
    source = Source()
    source.fails_before = {3}
    source.goes_on.clear()
    with _mirrored(source, store):
        _keeps(source, store, 3)
    mirror = Mirror("mem", source, store, Metrics())
    (report,) = mirror.report().tables
    assert (report.state, report.rows, report.rows_estimate) == ("copying", 60, 80)
    with _mirrored(source, store):
        assert len(_rows(source, store)) == ROWS
    assert source.asked == [0, 1, 2, 3]


def test_a_table_that_was_truncated_is_copied_anew(store: HotStore) -> None:
    """Neither its first parts nor what was kept aside of before come back."""
    source = Source()
    source.fails_before = {2}
    source.goes_on.clear()
    with _mirrored(source, store):
        _keeps(source, store, 2)
        source.log.writes += [(number, "staged") for number in range(100, 110)]
        want = source.head.head()
        _wait(lambda: (store.applied("mem").position or "0") == want, source)
        source.since, source.fingerprint = len(source.log.writes), "second"
        source.log.writes += [(7, "new")]
        source.goes_on.set()
        assert _rows(source, store) == {7: "new"}
    assert source.begun == ["first", "second"]
    assert source.asked == [0, 1, 0, 1, 2, 3]


def test_who_says_that_it_cannot_go_on_is_heard(store: HotStore) -> None:
    """The copy begins anew, with all of its parts."""
    source = Source()
    source.fails_before, source.refusal = {2}, "rows lie elsewhere"
    with _mirrored(source, store):
        assert len(_rows(source, store)) == ROWS
    assert source.asked == [0, 1, 0, 1, 2, 3]
    assert source.begun == ["first"] * 2


def test_a_pause_does_not_begin_anew(store: HotStore) -> None:
    """Resumed, it reads what is left."""
    source = Source()
    source.fails_before = {1}
    source.goes_on.clear()
    with _mirrored(source, store) as mirror:
        _keeps(source, store, 1)
        mirror.pause(NOTES)
        source.goes_on.set()
        _wait(lambda: not source.fails_before, source)
        mirror.resume(NOTES)
        assert len(_rows(source, store)) == ROWS
    assert source.asked == [0, 1, 2, 3]
