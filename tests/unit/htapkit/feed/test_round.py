"""Random histories and crashes between any two steps: whoever applies all events has the rows."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pytest

from htapkit import failpoints
from htapkit.errors import PositionLost, SourceRefused
from htapkit.feed import round as round_module
from htapkit.feed.round import Round
from htapkit.model import Column, Op, Position, SqlType, TableId, TableSchema
from htapkit.sinks import Part, Progress, Stage
from htapkit.testing.memory import MemorySource, Row, RowEvent, Server, TruncateEvent

ALL = ("*.*",)
Event = tuple[TableId, str, Row, str]  # table, what, row, position
COLUMNS = (Column("id", SqlType("int4", 23), 1), Column("v", SqlType("text", 25), 2))
FIRST, SECOND = (TableId("mem", "public", name) for name in ("first", "second"))


class Crash(Exception):
    """The process is gone."""


@dataclass(slots=True)
class MemorySink:
    """What a broker has: events, and the progress that came with them."""

    events: list[Event] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)


class MemorySession:
    """A sinks.SinkSession."""

    def __init__(self, sink: MemorySink) -> None:
        self._sink = sink
        self._open: list[Event] = []
        self.progress = sink.progress

    def write(self, part: Part) -> None:
        for changed in part.changes:
            table = changed.schema.table
            if changed.rows is None:
                at = part.commits[changed.truncated].position
                self._open.append((table, "t", (), at))
                continue
            rows = changed.rows
            former = rows.before.to_pylist() if rows.before is not None else []
            for index, (op, commit) in enumerate(zip(rows.ops, rows.commit, strict=True)):
                at = part.commits[commit.as_py()].position
                row = tuple(rows.rows.slice(index, 1).to_pylist()[0].values())
                if former and rows.moved is not None and rows.moved[index].as_py():
                    self._open.append((table, "d", tuple(former[index].values()), at))
                    self._open.append((table, "c", row, at))
                else:
                    self._open.append((table, "cud"[op.as_py()], row, at))

    def copy(self, schema: TableSchema, rows: pa.RecordBatch, at: Position) -> None:
        for row in rows.to_pylist():
            self._open.append((schema.table, "r", tuple(row.values()), at))

    def truncate(self, schema: TableSchema, at: Position) -> None:
        self._open.append((schema.table, "t", (), at))

    def commit(self, progress: Progress) -> None:
        self._sink.events += self._open
        self._open = []
        self._sink.progress = self.progress = progress

    def close(self) -> None:
        self._open = []


def replayed(events: list[Event]) -> Mapping[TableId, dict[object, Row]]:
    """Apply them; what is not there is never changed, what is there never made."""
    rows: dict[TableId, dict[object, Row]] = {FIRST: {}, SECOND: {}}
    for table, op, row, at in events:
        if op == "t":
            rows[table].clear()
        elif op == "d":
            del rows[table][row[0]]
        else:
            assert (row[0] in rows[table]) == (op == "u"), (table, op, row, at)
            rows[table][row[0]] = row
    return rows


def new_server() -> Server:
    schemas = {t: TableSchema(t, COLUMNS, ("id",)) for t in (FIRST, SECOND)}
    server = Server("mem", schemas)
    server.commit(*(RowEvent(FIRST, Op.INSERT, (i, "old")) for i in range(7)))
    return server


def a_round(source: MemorySource, sink: MemorySink, anew_for: str = "") -> Round:
    made = Round(source, MemorySession(sink), lambda *_: None, 3, anew_for=anew_for)
    made.look(ALL)
    made.open()
    return made


def finish(source: MemorySource, sink: MemorySink, made: Round) -> None:
    """Send all that there is."""
    for _ in range(200):
        follow = all(fed.stage is Stage.FOLLOWING for fed in made.tables.values())
        if follow and made.stored == f"{len(source.server.log):08d}":
            return
        made.step()
    raise AssertionError(f"it does not end: {made.stored}, {made.tables}")


def write(server: Server, chance: random.Random) -> None:
    """One transaction, now and then of several rows; seldom a truncate or a rewrite."""
    table = chance.choice((FIRST, SECOND))
    rows = server.rows[table]
    if chance.random() < 0.04:
        server.commit(TruncateEvent(table))
    elif chance.random() < 0.04:
        server.generation[table] = server.generation.get(table, 0) + 1
        rows.update({key: (key[0], "rewritten") for key in rows})
    else:
        key = chance.randint(0, 20)
        value = f"{len(server.log)}"
        if (key,) not in rows:
            server.commit(RowEvent(table, Op.INSERT, (key, value)))
        elif chance.random() < 0.3:
            server.commit(RowEvent(table, Op.DELETE, (key, None)))
        elif chance.random() < 0.3:
            server.commit(RowEvent(table, Op.UPDATE, (len(server.log) + 100, value), (key,)))
        else:
            server.commit(RowEvent(table, Op.UPDATE, (key, value)))


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is waited for, and no crash is left behind."""
    monkeypatch.setattr(round_module, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(round_module, "MOVE_SECONDS", 0.0)
    yield
    failpoints.arm(None)


@pytest.mark.parametrize("seed", range(30))
def test_events_give_the_rows_after_any_crash(seed: int) -> None:
    chance = random.Random(seed)
    server, sink = new_server(), MemorySink()
    source = MemorySource(server)

    def crash(name: str) -> None:
        if name.startswith("sink.") and chance.random() < 0.15:
            raise Crash(name)

    source.during_copy = lambda: write(server, chance)
    crashes = 0
    for _ in range(25):
        failpoints.arm(crash)
        try:
            made = a_round(source, sink)
            for _ in range(chance.randint(1, 12)):
                write(server, chance)
                made.step()
                if chance.random() < 0.2:
                    made.look(ALL)
        except Crash:
            crashes += 1
        finally:
            made.close()
        assert server.confirmed <= int(sink.progress.position or 0), "confirmed too early"
    failpoints.arm(None)
    source.during_copy = lambda: None
    finish(source, sink, a_round(source, sink))
    rows = {t: {k[0]: row for k, row in found.items()} for t, found in server.rows.items()}
    assert replayed(sink.events) == rows
    for table in (FIRST, SECOND):
        order = [at for t, op, _, at in sink.events if t == table and op in "cud"]
        assert order == sorted(order)
    assert crashes > 3


def test_a_gap_is_copied_over() -> None:
    """Where the log does not reach back, all is sent anew, and deleted rows are not left."""
    server, sink = new_server(), MemorySink()
    source = MemorySource(server)
    made = a_round(source, sink)
    finish(source, sink, made)
    made.close()
    server.commit(RowEvent(FIRST, Op.DELETE, (3, None)))
    source.lost_before = len(server.log)
    with pytest.raises(PositionLost):
        a_round(source, sink)
    finish(source, sink, a_round(source, sink, anew_for="a gap"))
    assert sorted(map(str, replayed(sink.events)[FIRST])) == ["0", "1", "2", "4", "5", "6"]
    assert [op for _, op, _, _ in sink.events].count("t") == 2


@pytest.mark.parametrize("crash", [True, False])
def test_a_table_that_comes_back(crash: bool) -> None:
    """Dropped and made again, or left out for a while: its former rows are not left."""
    server, sink = new_server(), MemorySink()
    source = MemorySource(server)
    made = a_round(source, sink)
    finish(source, sink, made)
    schema = server.schemas.pop(FIRST)
    server.rows.pop(FIRST)
    assert not made.look(ALL)
    server.commit(RowEvent(SECOND, Op.INSERT, (1, "v")))
    while made.stored != f"{len(server.log):08d}":
        made.step()
    if crash:
        made.close()
        made = a_round(source, sink)
    server.schemas[FIRST], server.rows[FIRST] = schema, {}
    server.commit(RowEvent(FIRST, Op.INSERT, (100, "new")))
    assert made.look(ALL)
    finish(source, sink, made)
    assert replayed(sink.events)[FIRST] == {100: (100, "new")}


def test_another_server_is_refused() -> None:
    """What the sink has is of one server."""
    server, sink = new_server(), MemorySink()
    finish(MemorySource(server), sink, a_round(MemorySource(server), sink))
    server.name = "other"
    with pytest.raises(SourceRefused):
        a_round(MemorySource(server), sink)


def test_tables_that_are_not_asked_for() -> None:
    """Patterns of the sink."""
    server, sink = new_server(), MemorySink()
    made = Round(MemorySource(server), MemorySession(sink), lambda *_: None, 3)
    made.look(["public.*", "!public.sec*"])
    assert list(made.tables) == [FIRST]


def test_a_table_follows_once_the_sink_has_its_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before: whoever sees it in the status counts on it, and we may be killed in between."""
    server, sink = new_server(), MemorySink()
    source = MemorySource(server)
    made = a_round(source, sink)
    ahead: list[TableId] = []
    commit = MemorySession.commit

    def looked(session: MemorySession, progress: Progress) -> None:
        stored = session.progress.tables
        for table, fed in made.tables.items():
            had = stored.get(table)
            if fed.stage is Stage.FOLLOWING and (had is None or had.stage is not Stage.FOLLOWING):
                ahead.append(table)
        commit(session, progress)

    monkeypatch.setattr(MemorySession, "commit", looked)
    finish(source, sink, made)
    assert ahead == []
    assert {fed.stage for fed in sink.progress.tables.values()} == {Stage.FOLLOWING}
