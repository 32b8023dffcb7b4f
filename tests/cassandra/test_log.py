"""The node's own log, read by Cassandra's reader: nothing is missing, doubled or guessed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from htapkit.errors import PositionLost
from htapkit_cassandra.mutations import LogPosition, Mutation, Ready, RowWrite
from htapkit_cassandra.tail import LogTail
from tests.cassandra.apart import apart
from tests.cassandra.merged import Merged, Shown
from tests.cassandra.workload import SHORT_TTL, Workload
from tests.fix_cassandra import SECONDS, Keyspace, wait_for

pytestmark = pytest.mark.cassandra
_SELECT = "SELECT pk, ck, s, a, b, m, writetime(a) AS wa, writetime(b) AS wb FROM {ks}.t"


@contextmanager
def _tail(keyspace: Keyspace, start: LogPosition | None) -> Iterator[LogTail]:
    tail = keyspace.source().log(start)
    try:
        yield tail
    finally:
        tail.close()


def _until(
    tail: LogTail,
    end: LogPosition,
    seen: Callable[[int], None] = lambda _: None,
    found: list[Mutation] | None = None,
) -> list[Mutation]:
    """The mutations up to there, put into `found`; `seen` is told their number after some."""
    found = [] if found is None else found
    deadline = time.monotonic() + SECONDS
    while tail.position is None or tail.position < end:
        assert time.monotonic() < deadline, f"at {tail.position}, not yet at {end}"
        event = tail.next(0.1)
        if isinstance(event, Mutation):
            found += apart(event)
            seen(len(found))
        if event is not None:
            deadline = time.monotonic() + SECONDS
    return found


def _ready(tail: LogTail) -> Ready:
    event = wait_for(lambda: tail.next(0.1))
    assert isinstance(event, Ready)
    return event


def _table_id(keyspace: Keyspace, name: str) -> str:
    (row,) = keyspace.session.execute(
        "SELECT id FROM system_schema.tables WHERE keyspace_name = %s AND table_name = %s",
        (keyspace.name, name),
    )
    return str(row.id)


def _of(table: str, mutations: list[Mutation]) -> list[Mutation]:
    return [m for m in mutations if any(c.table == table for c in m.changes)]


def _selected(keyspace: Keyspace) -> list[Shown]:
    rows = keyspace.session.execute(_SELECT.format(ks=keyspace.name))
    found = [(*row[:5], dict(row.m) if row.m else None, *row[6:]) for row in rows]
    return sorted(found, key=repr)


def _differential(keyspace: Keyspace, *, statements: int, kills: int, seed: int) -> None:
    print(f"seed {seed}")
    rolled = random.Random(seed)
    start = keyspace.log_end()
    workload = Workload(keyspace, seed)
    workload.write(statements)
    end = keyspace.log_end()
    table = _table_id(keyspace, "t")
    merged = Merged()
    # Early: what a killed reader had printed is still given out before the next one starts.
    at = sorted(rolled.sample(range(1, statements // 5), kills))
    killed: list[int] = []
    with _tail(keyspace, start) as tail:

        def kill(count: int) -> None:
            if at and count >= at[0] and tail.pid is not None and tail.pid not in killed:
                at.pop(0)
                killed.append(tail.pid)
                os.kill(tail.pid, signal.SIGKILL)

        def died() -> bool | None:
            tail.next(0.1)
            return tail.restarts >= kills or None

        mutations = _until(tail, end, kill)
        assert not at
        wait_for(died)  # one may have printed all before it was killed: that is heard last
        assert tail.restarts == kills
    ours = _of(table, mutations)
    positions = [m.position for m in ours]
    assert positions == sorted(set(positions)), "in the log's order, each once"
    assert len(ours) == statements
    for mutation in rolled.sample(ours, len(ours)) + ours[:100]:  # any order, some twice
        for change in mutation.changes:
            merged.apply(change)
    short = time.time() + SHORT_TTL + 1
    wait_for(lambda: True if time.time() > short else None)
    expected = _selected(keyspace)
    assert len(expected) > 100
    assert merged.rows(time.time()) == expected


def test_the_log_adds_up_to_the_rows(keyspace: Keyspace) -> None:
    """Random statements of all kinds with many equal times, while the reader is killed."""
    seed = int(os.environ.get("CASSANDRA_SEED", "0")) or random.randrange(2**32)
    _differential(keyspace, statements=1500, kills=1, seed=seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
def test_long_the_log_adds_up_to_the_rows(keyspace: Keyspace, seed: int) -> None:
    """The same with more of both."""
    _differential(keyspace, statements=8000, kills=6, seed=seed)


@pytest.mark.long
def test_a_tail_goes_on_right_behind_a_position(keyspace: Keyspace) -> None:
    """From the position of a mutation exactly the ones after it come."""
    start = keyspace.log_end()
    Workload(keyspace, 5).write(60)
    end = keyspace.log_end()
    table = _table_id(keyspace, "t")
    with _tail(keyspace, start) as tail:
        whole = _of(table, _until(tail, end))
    assert len(whole) == 60
    with _tail(keyspace, whole[24].position) as tail:
        assert _of(table, _until(tail, end)) == whole[25:]


def test_rows_that_are_only_written_come_in_blocks(keyspace: Keyspace) -> None:
    """Those of one table that follow one another; what deletes stands between them."""
    session, ks = keyspace.session, keyspace.name
    session.execute(f"CREATE TABLE {ks}.t (id int PRIMARY KEY, v int) WITH cdc = true")
    start = keyspace.log_end()
    insert = session.prepare(f"INSERT INTO {ks}.t (id, v) VALUES (?, ?)")
    for n in range(100):
        session.execute(insert, (n, n))
        if n == 49:
            session.execute(f"DELETE FROM {ks}.t WHERE id = 7")
    end, told = keyspace.log_end(), 0
    with _tail(keyspace, start) as tail:
        found: list[Mutation] = []
        while tail.position is None or tail.position < end:
            event = tail.next(SECONDS)
            if isinstance(event, Mutation):
                told += 1
                found += apart(event)
    ours = _of(_table_id(keyspace, "t"), found)
    writes = [m.changes[0] for m in ours]
    keys = [int.from_bytes(write.key[0], "big") for write in writes]
    assert keys == [*range(50), 7, *range(50, 100)]
    assert told < len(ours) / 2, "some came in blocks"
    with _tail(keyspace, ours[60].position) as tail:
        assert _of(_table_id(keyspace, "t"), _until(tail, end)) == ours[61:]


def test_tables_and_columns_that_come_and_go(keyspace: Keyspace) -> None:
    """A table that is made, columns added and dropped while the reader runs or lags."""
    session, ks = keyspace.session, keyspace.name
    session.execute(f"CREATE TABLE {ks}.old (id int PRIMARY KEY, v int, w int) WITH cdc = true")
    start = keyspace.log_end()
    with _tail(keyspace, start) as tail:
        assert {t.name for t in _ready(tail).tables.values() if t.keyspace == ks} == {"old"}
        session.execute(f"INSERT INTO {ks}.old (id, v, w) VALUES (1, 1, 1)")
        session.execute(f"CREATE TABLE {ks}.new (id int PRIMARY KEY, v int) WITH cdc = true")
        session.execute(f"INSERT INTO {ks}.new (id, v) VALUES (1, 1)")
        _until(tail, keyspace.log_end())
        assert tail.restarts == 1, "for the new table"
    session.execute(f"ALTER TABLE {ks}.old ADD x int")
    session.execute(f"INSERT INTO {ks}.old (id, v, w, x) VALUES (2, 2, 2, 2)")
    session.execute(f"ALTER TABLE {ks}.old DROP w")
    session.execute(f"INSERT INTO {ks}.old (id, v, x) VALUES (3, 3, 3)")
    old = _table_id(keyspace, "old")
    with _tail(keyspace, start) as tail:
        mutations = _of(old, _until(tail, keyspace.log_end()))
        assert tail.restarts == 0, "the schema knows dropped columns"
    changes = [change for m in mutations for change in m.changes]
    assert all(isinstance(change, RowWrite) for change in changes)
    written = [{c.column for c in x.cells} for x in changes if isinstance(x, RowWrite)]
    # Cassandra's own reader leaves out the values of a dropped column.
    assert [columns - {"w"} for columns in written] == [{"v"}, {"v", "x"}, {"v", "x"}]


def test_changes_of_a_dropped_table_are_left_out(keyspace: Keyspace) -> None:
    """It says of which, and goes on with what comes after."""
    session, ks = keyspace.session, keyspace.name
    session.execute(f"CREATE TABLE {ks}.kept (id int PRIMARY KEY) WITH cdc = true")
    session.execute(f"CREATE TABLE {ks}.gone (id int PRIMARY KEY) WITH cdc = true")
    start = keyspace.log_end()
    session.execute(f"INSERT INTO {ks}.kept (id) VALUES (1)")
    session.execute(f"INSERT INTO {ks}.gone (id) VALUES (1)")
    session.execute(f"INSERT INTO {ks}.kept (id) VALUES (2)")
    end, gone, kept = keyspace.log_end(), _table_id(keyspace, "gone"), _table_id(keyspace, "kept")
    session.execute(f"DROP TABLE {ks}.gone")
    with _tail(keyspace, start) as tail:
        found = _until(tail, end)
        assert tail.dropped == {gone}
    assert len(_of(kept, found)) == 2


def test_a_position_whose_files_are_gone(keyspace: Keyspace) -> None:
    """It is said, not skipped."""
    with (
        _tail(keyspace, LogPosition(1, 100)) as tail,
        pytest.raises(PositionLost, match="segment 1 is no longer"),
    ):
        _until(tail, LogPosition(2, 0))


def test_a_marker_that_the_node_is_writing(keyspace: Keyspace, tmp_path: Path) -> None:
    """Behind what is synced the next section may be half there: all before it is good."""
    name = keyspace.name
    keyspace.session.execute(f"CREATE TABLE {name}.t (id int PRIMARY KEY) WITH cdc = true")
    for number in range(5):
        keyspace.session.execute(f"INSERT INTO {name}.t (id) VALUES ({number})")
    end = keyspace.log_end()
    # First what says how far the log is synced: the node goes on meanwhile.
    (said,) = keyspace.node.cdc_raw.glob(f"*-{end.segment}_cdc.idx")
    text = wait_for(lambda: said.read_text() or None)  # it is empty while it is written
    (tmp_path / said.name).write_text(text)
    shutil.copy(said.with_name(said.name.replace("_cdc.idx", ".log")), tmp_path)
    synced = int(text.split()[0])
    # The marker is where the section ends, 0 as yet, and a checksum of segment and place.
    place = struct.pack(">III", end.segment & 0xFFFFFFFF, end.segment >> 32, synced)
    (log,) = tmp_path.glob("*.log")
    with log.open("r+b") as file:
        file.seek(synced)
        file.write(struct.pack(">II", 0, zlib.crc32(place)))
    tail = keyspace.source(cdc_raw=str(tmp_path)).log(None)
    try:
        mutations = _until(tail, LogPosition(end.segment, synced))
        assert len(_of(_table_id(keyspace, "t"), mutations)) == 5
        assert tail.restarts == 0
    finally:
        tail.close()


@pytest.mark.long
def test_what_a_killed_node_still_has_is_in_its_log(keyspace: Keyspace) -> None:
    """What the node replays after kill -9 is given out; it may lose what it had not synced."""
    session, ks = keyspace.session, keyspace.name
    session.execute(f"CREATE TABLE {ks}.t (id int PRIMARY KEY) WITH cdc = true")
    start = keyspace.log_end()
    for n in range(300):
        session.execute(f"INSERT INTO {ks}.t (id) VALUES ({n})")
        if n == 199:
            keyspace.log_end()
    table = _table_id(keyspace, "t")
    keyspace.node.kill()
    keyspace.node.start()
    with keyspace.node.session() as again:
        end = Keyspace(keyspace.node, again, ks).log_end()
        with _tail(keyspace, start) as tail:
            mutations = _of(table, _until(tail, end))
        there = {row.id for row in again.execute(f"SELECT id FROM {ks}.t")}
    keys = [c.key[0] for m in mutations for c in m.changes]
    assert {int.from_bytes(key, "big") for key in keys} == there
    assert there >= set(range(200))
