"""Copies that are cut short go on: what was read is not read again, and the copy ends exact."""

from __future__ import annotations

import os
import random
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from cassandra import ConsistencyLevel, DriverException
from cassandra.cluster import NoHostAvailable
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.query import SimpleStatement

from htapkit.model import DELETIONS, Split, TableId
from htapkit.testing.guard import Guard
from htapkit.testing.stack import Stack
from tests.cassandra.agents import AgentProcess
from tests.fix_cassandra import HAS_VECTORS, SECONDS, Keyspace, connected, wait_for

pytestmark = pytest.mark.cassandra
_BYTES = 4_000  # of a value, which does not get smaller when it is compressed
_PARTITION_ROWS = 4
_OVER_CQL = pytest.param(
    "cql",
    marks=pytest.mark.skipif(not HAS_VECTORS, reason="CQL says elements' times from 5.0 on"),
)


class Large:
    """A table whose files are read in several parts."""

    def __init__(self, keyspace: Keyspace, seed: int, rows: int) -> None:
        """Make it; `rows` in partitions of a few each."""
        self.keyspace = keyspace
        self.table = TableId("events", keyspace.name, "t")
        self.rows = rows
        self._rolled = random.Random(seed)
        self.create()
        self.write(range(rows))

    def create(self) -> None:
        """Empty."""
        self.execute("CREATE TABLE {} (id int, ck int, v blob, PRIMARY KEY (id, ck))")
        self.execute("ALTER TABLE {} WITH cdc = true")

    def execute(self, statement: str) -> None:
        """CQL; braces stand for the table."""
        self.keyspace.session.execute(statement.format(f"{self.keyspace.name}.t"))

    def write(self, numbers: Sequence[int]) -> None:
        """Insert or overwrite rows."""
        session = self.keyspace.session
        insert = session.prepare(f"INSERT INTO {self.keyspace.name}.t (id, ck, v) VALUES (?, ?, ?)")
        values = [(*divmod(n, _PARTITION_ROWS), self._rolled.randbytes(_BYTES)) for n in numbers]
        execute_concurrent_with_args(session, insert, values, concurrency=50)

    def change(self) -> None:
        """Everywhere in it: rows are overwritten, inserted and deleted in every way."""
        some = self._rolled.sample(range(self.rows), 60)
        self.write(some[:20])
        self.write(range(self.rows, self.rows + 20))
        for number in some[20:40]:
            key, ck = divmod(number, _PARTITION_ROWS)
            self.execute(f"DELETE FROM {{}} WHERE id = {key} AND ck = {ck}")
        for number in some[40:50]:
            key, ck = divmod(number, _PARTITION_ROWS)
            self.execute(f"DELETE FROM {{}} WHERE id = {key} AND ck > {ck}")
        for number in some[50:]:
            self.execute(f"DELETE FROM {{}} WHERE id = {number // _PARTITION_ROWS}")

    def selected(self) -> list[tuple[object, ...]]:
        """What CQL gives at ALL."""
        statement = SimpleStatement(
            f"SELECT id, ck, v FROM {self.keyspace.name}.t", consistency_level=ConsistencyLevel.ALL
        )
        return sorted(tuple(row) for row in self.keyspace.session.execute(statement))


def _seed() -> int:
    seed = int(os.environ.get("CASSANDRA_SEED", "0")) or random.randrange(2**32)
    print(f"CASSANDRA_SEED={seed}")
    return seed


def _keys(parts: Sequence[pa.RecordBatch | Split]) -> list[tuple[int, int]]:
    """Of rows that were written; each comes with its marker."""
    cells = [part for part in parts if isinstance(part, pa.RecordBatch)]
    return [
        (row["k0"], row["k1"])
        for batch in cells
        if batch.schema != DELETIONS
        for row in batch.select(["k0", "k1", "ordinal"]).to_pylist()
        if row["ordinal"] is None
    ]


def test_behind_each_part_is_the_rest(keyspace: Keyspace) -> None:
    """What came before it and what is read of it, under another snapshot, is all, each row once."""
    large = Large(keyspace, _seed(), 6_000)
    with closing(keyspace.source()) as source:
        with closing(source.snapshot([large.table], {})) as snapshot:
            (split,) = snapshot.splits(large.table)
            parts = list(snapshot.parts(split))
        rests = [number for number, part in enumerate(parts) if isinstance(part, Split)]
        assert len(rests) > 2
        every = sorted(_keys(parts))
        assert every == [divmod(n, _PARTITION_ROWS) for n in range(large.rows)]
        with closing(source.snapshot([large.table], {})) as later:
            for number in (rests[0], rests[len(rests) // 2], rests[-1]):
                before, rest = parts[:number], parts[number]
                assert isinstance(rest, Split)
                assert _keys(before)
                assert sorted(_keys(before) + _keys(list(later.parts(rest)))) == every


class Cut:
    """An htapkit that copies the table, killed behind parts of it."""

    def __init__(self, large: Large, folder: Path, running: ExitStack, **more: object) -> None:
        """Not started; `more` settings of the source."""
        self.large = large
        keyspace = large.keyspace
        found = keyspace.node.settings(tables=[f"{keyspace.name}.*"], **more)
        settings = {name: value for name, value in found.items() if value is not None}
        self.stack = Stack(folder, {"events": {"connector": "cassandra", **settings}})
        running.callback(self.stack.stop)

    def die(self, parts: int) -> None:
        """Copy so many parts, and be killed."""
        self.stack.start({"HTAPKIT_FAILPOINT": f"copy.part:{parts}"})
        code = self.stack.wait_ended(SECONDS)
        assert code == -signal.SIGKILL, self.stack.log_end()

    def finish(self) -> float:
        """Start it and wait until the table follows; how many cells were read for that."""
        self.stack.start()
        self.stack.wait_ready(SECONDS)
        text = httpx.get(f"http://127.0.0.1:{self.stack.http_port}/metrics", timeout=SECONDS).text
        (line,) = re.findall(r"^htapkit_copied_rows_total\{.*\} (\S+)$", text, re.MULTILINE)
        return float(line)

    def went_on_at(self) -> list[int]:
        """With how many cells copies went on so far."""
        log = self.stack.log_path.read_text(errors="replace")
        return [int(rows) for rows in re.findall(r'event="copy goes on".*? rows=(\d+)', log)]

    def anew(self) -> list[str]:
        """Why copies began anew so far."""
        log = self.stack.log_path.read_text(errors="replace")
        return re.findall(r'event="copy begins anew".*? why="?([^"\n]*)', log)

    def equals(self, columns: str = "id, ck, v") -> None:
        """The copy is what CQL gives."""
        with closing(connected(self.stack, "events")) as connection:
            sql = f"SELECT {columns} FROM {self.large.keyspace.name}.t"
            found = sorted(connection.execute(sql.encode()).fetchall())
        assert found == self.large.selected()


@pytest.fixture
def running() -> Iterator[ExitStack]:
    """What is stopped at the end."""
    with ExitStack() as stack:
        yield stack


def _by_an_agent(large: Large, folder: Path, running: ExitStack) -> dict[str, object]:
    """The settings of a source whose files an agent reads, which runs till the end."""
    guard = Guard(folder)
    running.callback(guard.release)
    agent = AgentProcess(large.keyspace.node, folder / "agent")
    running.callback(agent.stop)
    agent.start()
    return agent.settings()


@pytest.mark.long
@pytest.mark.parametrize("how", ["files", _OVER_CQL, "by an agent"])
def test_kills_in_the_middle(
    keyspace: Keyspace, tmp_path: Path, running: ExitStack, how: str
) -> None:
    """Each time it goes on behind what it had, while rows come, change and go everywhere."""
    large = Large(keyspace, _seed(), 6_000)
    more = _by_an_agent(large, tmp_path, running) if how == "by an agent" else {"snapshot": how}
    cut = Cut(large, tmp_path / "stack", running, **more)
    cut.die(2)
    large.change()
    cut.die(2)
    large.change()
    read = cut.finish()
    large.change()
    cut.equals()
    # In files each has its marker, of which CQL says nothing.
    cells = large.rows * (1 if how == "cql" else 2)
    first, second = cut.went_on_at()
    print(f"{cells} cells: {first} kept, then {second}, {read:.0f} read")
    assert 0 < first < second < cells
    assert not cut.anew()
    assert read < cells - second + cells / 10


@pytest.mark.long
@pytest.mark.parametrize(
    "statements",
    [
        ("TRUNCATE {}",),
        ("ALTER TABLE {} ADD w int",),
        ("DROP TABLE {}", None),
    ],
    ids=["truncated", "altered", "dropped"],
)
def test_another_table_between_the_parts(
    keyspace: Keyspace, tmp_path: Path, running: ExitStack, statements: Sequence[str | None]
) -> None:
    """No row of the former one is in the copy: not of its first parts, nor of the log meanwhile."""
    large = Large(keyspace, _seed(), 3_000)
    cut = Cut(large, tmp_path, running)
    cut.stack.start({"HTAPKIT_FAILPOINT": "copy.snapshot:1"})
    large.write(range(3_000, 3_100))  # staged, before anything is read
    assert cut.stack.wait_ended(SECONDS) == -signal.SIGKILL
    cut.die(1)
    large.write(range(3_100, 3_200))
    for statement in statements:
        large.create() if statement is None else large.execute(statement)
    large.write(range(50))
    cut.finish()
    large.write(range(50, 100))
    cut.equals()
    assert not cut.went_on_at()


@pytest.mark.long
def test_another_method_begins_anew(keyspace: Keyspace, tmp_path: Path, running: ExitStack) -> None:
    """Half of it from files, half over CQL would be neither; it is said."""
    large = Large(keyspace, _seed(), 3_000)
    Cut(large, tmp_path, running).die(1)
    large.change()
    cut = Cut(large, tmp_path, running, snapshot="cql")
    cut.die(1)
    large.change()
    cut = Cut(large, tmp_path, running)
    cut.finish()
    cut.equals()
    first, second = cut.anew()
    assert "began with files, and copies are made with cql now" in first
    assert "began with cql, and copies are made with files now" in second
    assert not cut.went_on_at()


@pytest.mark.long
@pytest.mark.parametrize("snapshot", ["files", _OVER_CQL])
def test_the_node_is_killed_between(
    keyspace: Keyspace, tmp_path: Path, running: ExitStack, snapshot: str
) -> None:
    """Its files have all that they had; what it showed over CQL may be lost."""
    large = Large(keyspace, _seed(), 3_000)
    cut = Cut(large, tmp_path, running, snapshot=snapshot)
    cut.die(1)
    keyspace.node.kill()
    keyspace.node.start()
    wait_for(lambda: _answers(large))
    large.change()
    cut.finish()
    cut.equals()
    if snapshot == "files":
        assert cut.went_on_at()
        assert not cut.anew()
    else:
        assert "a node was started again" in cut.anew()[0]


def _answers(large: Large) -> bool | None:
    """Whether the test's own connection is up again."""
    try:
        large.write([0])
    except (DriverException, NoHostAvailable):
        return None
    return True
