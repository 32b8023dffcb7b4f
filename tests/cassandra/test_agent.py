"""A real node whose files htapkit does not see: an agent's process beside it reads them."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest

from htapkit.errors import SourceRefused, SourceUnavailable
from htapkit.model import Finding, Position, Severity
from htapkit.testing.guard import Guard
from htapkit.testing.stack import Stack
from htapkit_cassandra import CassandraSource
from htapkit_cassandra.mutations import LogPosition, Mutation
from htapkit_cassandra.positions import reached
from htapkit_cassandra.segments import segments
from htapkit_cassandra.tail import LogTail
from tests.cassandra.agents import AgentProcess
from tests.cassandra.apart import apart
from tests.cassandra.mirrored import Copied, copied, ends_equal
from tests.cassandra.workload import Workload
from tests.fix_agent import TOKEN
from tests.fix_cassandra import SECONDS, Keyspace, connected, wait_for

pytestmark = pytest.mark.cassandra


@pytest.fixture
def agent(
    request: pytest.FixtureRequest, keyspace: Keyspace, tmp_path: Path
) -> Iterator[AgentProcess]:
    """It runs; with the parameter True it may delete."""
    guard = Guard(tmp_path)
    deletes = getattr(request, "param", False)
    made = AgentProcess(keyspace.node, tmp_path / "agent", deletes=deletes)
    made.start()
    try:
        yield made
    finally:
        made.stop()
        guard.release()


def _position(made: Copied) -> LogPosition:
    """Of the one node, as it is stored."""
    stored = made.store.stored_position("events")
    assert stored is not None
    (place,) = reached(stored).nodes.values()
    return place


def _moves(made: Copied) -> None:
    """What is stored gets further than it is now."""
    before = _position(made)
    wait_for(lambda: _position(made) > before or None)


def test_copied_and_followed_through_an_agent(
    keyspace: Keyspace, agent: AgentProcess, tmp_path: Path
) -> None:
    """Equal to CQL, though the connection is cut and the agent is killed; the place moves on."""
    seed = int(os.environ.get("CASSANDRA_SEED", "0")) or random.randrange(2**32)
    print(f"CASSANDRA_SEED={seed}")
    workload = Workload(keyspace, seed)
    workload.write(300)
    with copied(keyspace, tmp_path, **agent.settings()) as made:
        made.follows("t")
        workload.write(200)
        assert agent.proxy.cut() >= 1
        workload.write(100)
        _moves(made)
        agent.kill()
        workload.write(200)
        agent.start()
        _moves(made)
        workload.write(100)
        ends_equal(made)


def _errors(source: CassandraSource) -> dict[str, Finding]:
    return {f.subject: f for f in source.check() if f.severity is Severity.ERROR}


def test_check_through_an_agent(keyspace: Keyspace, agent: AgentProcess) -> None:
    """It looks where the files are, and names the agent when it is away or does not let us in."""
    keyspace.session.execute(f"CREATE TABLE {keyspace.name}.t (id int PRIMARY KEY) WITH cdc = true")
    source = keyspace.source(**agent.settings(delete_cdc_raw=True))
    found = {f.subject: f for f in source.check()}
    assert not [f for f in found.values() if f.severity is Severity.ERROR]
    assert {"agent", "java", "version", "cdc_raw", "jmx", "data_folders"} <= found.keys()
    assert found["data_folders"].message == f"{keyspace.node.folder}/data"
    assert found["delete_cdc_raw"].severity is Severity.WARNING
    wrong = keyspace.source(**agent.settings(agent_token=TOKEN[::-1]))
    assert _errors(wrong).keys() == {"agent"}
    assert "wrong token" in _errors(wrong)["agent"].message
    with pytest.raises(SourceRefused, match="wrong token"):
        wrong.follow(None, [])
    agent.kill()
    assert _errors(source).keys() == {"agent"}
    assert f"127.0.0.1:{agent.proxy.port}" in _errors(source)["agent"].message
    agent.start()
    assert not _errors(source)


@pytest.mark.long
def test_long_the_log_comes_once_through_cuts_and_kills(
    keyspace: Keyspace, agent: AgentProcess
) -> None:
    """Each mutation once, in the log's order, the same as without an agent."""
    seed = int(os.environ.get("CASSANDRA_SEED", "0")) or random.randrange(2**32)
    print(f"CASSANDRA_SEED={seed}")
    faults = ["cut", "kill", "reader", "cut"]
    random.Random(seed).shuffle(faults)
    start, workload, found = keyspace.log_end(), Workload(keyspace, seed), list[Mutation]()

    def read(tail: LogTail, condition: Callable[[], bool]) -> None:
        """Until it is true."""

        def reached() -> bool | None:
            with suppress(SourceUnavailable):
                while not condition() and (event := tail.next(0.05)) is not None:
                    if isinstance(event, Mutation):
                        found.extend(apart(event))
            return condition() or None

        wait_for(reached)

    def runs(tail: LogTail, restarts: int, mutations: int) -> bool:
        return tail.restarts >= restarts and tail.pid is not None and len(found) > mutations

    def until(tail: LogTail, end: LogPosition) -> list[Mutation]:
        read(tail, lambda: tail.position is not None and tail.position >= end)
        return [mutation for mutation in found if mutation.position <= end]

    with closing(keyspace.source(**agent.settings()).log(start)) as tail:
        for number, fault in enumerate(faults):
            workload.write(300)
            read(tail, partial(runs, tail, number, len(found)))
            _fail(agent, fault, tail)
            workload.write(300)
        end = keyspace.log_end()
        through = until(tail, end)
        assert tail.restarts >= len(faults)
    found.clear()
    with closing(keyspace.source().log(start)) as tail:
        directly = until(tail, end)
    assert len(directly) >= 600 * len(faults)
    assert through == directly


def _fail(agent: AgentProcess, fault: str, tail: LogTail) -> None:
    """The connection, the agent or the reader that it has started."""
    print(fault)
    if fault == "cut":
        agent.proxy.cut()
    elif fault == "reader":
        assert tail.pid is not None
        os.kill(tail.pid, signal.SIGKILL)
    else:
        agent.kill()
        agent.start()


@pytest.mark.long
@pytest.mark.parametrize("agent", [True], indirect=True, ids=["deletes"])
def test_long_htapkit_is_killed(keyspace: Keyspace, agent: AgentProcess, tmp_path: Path) -> None:
    """Its readers at the node end; the next one goes on; files are deleted behind the commit."""
    name, rolled = keyspace.name, random.Random(7)
    keyspace.session.execute(f"CREATE TABLE {name}.t (id int PRIMARY KEY, v text) WITH cdc = true")
    insert = keyspace.session.prepare(f"INSERT INTO {name}.t (id, v) VALUES (?, ?)")

    def write(count: int) -> None:
        for _ in range(count):
            keyspace.session.execute(insert, (rolled.randrange(300), rolled.randbytes(5000).hex()))

    found = keyspace.node.settings(tables=[f"{name}.*"], **agent.settings(delete_cdc_raw=True))
    settings = {key: value for key, value in found.items() if value is not None}
    write(200)
    stack = Stack(tmp_path / "stack", {"events": {"connector": "cassandra", **settings}})
    try:
        stack.start()
        stack.wait_ready(SECONDS)
        assert agent.readers()
        first = _segments(keyspace)[0]
        stack.kill()
        wait_for(lambda: not agent.readers() or None)
        write(400)
        assert _segments(keyspace)[0] == first, "nobody has taken what is in it"
        stack.start()

        def equal() -> bool | None:
            with closing(connected(stack, "events")) as connection:
                rows = connection.execute(f"SELECT id, v FROM {name}.t".encode()).fetchall()
            told = keyspace.session.execute(f"SELECT id, v FROM {name}.t")
            return sorted(rows) == sorted((row.id, row.v) for row in told) or None

        stack.wait_ready(SECONDS)
        wait_for(equal)
        wait_for(lambda: _segments(keyspace)[0] > first or None)
        with stack.client() as client:
            stored = reached(Position(client.status()["sources"][0]["position"]))
        (place,) = stored.nodes.values()
        assert _segments(keyspace)[0] <= place.segment
        assert equal()
    finally:
        stack.stop()
    wait_for(lambda: not agent.readers() or None)


def _segments(keyspace: Keyspace) -> list[int]:
    """Those that are there, in order."""
    return [segment for segment, _ in segments(keyspace.node.cdc_raw).sizes]
