"""A real node whose files htapkit does not see: an agent's process beside it reads them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from htapkit.errors import SourceRefused
from htapkit.model import Finding, Severity
from htapkit.testing.guard import Guard, child_environment
from htapkit.testing.postgres import free_port
from htapkit_cassandra import CassandraSource
from htapkit_cassandra.mutations import LogPosition, Mutation
from htapkit_cassandra.positions import reached
from tests.cassandra.mirrored import Copied, copied, ends_equal
from tests.cassandra.workload import Workload
from tests.fault_proxy import FaultProxy
from tests.fix_agent import TOKEN
from tests.fix_cassandra import SECONDS, Keyspace, wait_for

pytestmark = pytest.mark.cassandra


class AgentProcess:
    """`htapkit cassandra-agent start` beside the test's node, behind a network that fails."""

    def __init__(self, keyspace: Keyspace, folder: Path) -> None:
        """Not started."""
        self.port = free_port()
        self.proxy = FaultProxy(self.port)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        node = keyspace.node
        (folder / "cassandra-agent.yaml").write_text(
            f"listen: 127.0.0.1:{self.port}\ncdc_raw: {node.cdc_raw}\njmx_port: {node.jmx_port}\n"
        )

    def settings(self, **more: object) -> dict[str, object]:
        """Of a source, instead of the folders."""
        agent = f"127.0.0.1:{self.proxy.port}"
        return {"cdc_raw": None, "jmx_port": None, "agent": agent, "agent_token": TOKEN, **more}

    def start(self) -> None:
        """Run it until it listens."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "htapkit", "cassandra-agent", "start"],
            cwd=self._folder,
            env={**child_environment(), "HTAPKIT_AGENT_TOKEN": TOKEN},
            stderr=subprocess.PIPE,
        )
        assert self._process.stderr is not None
        while b"listens on" not in (line := self._process.stderr.readline()):
            assert line, "it ended"

    def kill(self) -> None:
        """As a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    def stop(self) -> None:
        """As systemd would."""
        self.proxy.close()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.communicate(timeout=SECONDS)
            assert self._process.returncode == 0


@pytest.fixture
def agent(keyspace: Keyspace, tmp_path: Path) -> Iterator[AgentProcess]:
    """It runs."""
    guard = Guard(tmp_path)
    made = AgentProcess(keyspace, tmp_path / "agent")
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
    rolled = random.Random(seed)
    start = keyspace.log_end()
    Workload(keyspace, seed).write(4000)
    end = keyspace.log_end()
    faults = sorted(rolled.sample(range(50, 2000), 6))

    def read(source: CassandraSource, *, failing: bool) -> list[Mutation]:
        found: list[Mutation] = []
        with closing(source.log(start)) as tail:

            def done() -> bool | None:
                event = tail.next(0.1)
                if isinstance(event, Mutation):
                    found.append(event)
                if failing and faults and len(found) >= faults[0] and tail.pid is not None:
                    faults.pop(0)
                    _fail(agent, rolled, tail.pid)
                return (tail.position is not None and tail.position >= end) or None

            wait_for(done)
            assert not failing or tail.restarts >= 1
        return [m for m in found if m.position <= end]

    through = read(keyspace.source(**agent.settings()), failing=True)
    assert not faults
    directly = read(keyspace.source(), failing=False)
    assert len(directly) >= 4000
    assert through == directly


def _fail(agent: AgentProcess, rolled: random.Random, pid: int) -> None:
    """The connection, the agent or its reader."""
    fault = rolled.choice(["cut", "kill", "reader"])
    if fault == "cut":
        agent.proxy.cut()
    elif fault == "reader":
        os.kill(pid, signal.SIGKILL)
    else:
        agent.kill()
        agent.start()
