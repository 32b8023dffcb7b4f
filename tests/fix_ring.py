"""Three real Cassandra nodes, a ring on 127.0.0.1 to 3, started when first asked for.

Tests with it are of one module, which one worker runs (conftest.py): it is started once.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from cassandra import ConsistencyLevel, DriverException
from cassandra.cluster import NoHostAvailable
from cassandra.query import SimpleStatement

from htapkit.errors import SourceUnavailable
from htapkit.testing.guard import Guard
from htapkit.testing.postgres import free_port
from htapkit_cassandra.jars import JAVA_FOLDER, classpath, missing
from htapkit_cassandra.node import Addresses, CassandraNode
from tests.fix_cassandra import wait_for

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
MEMORY_BYTES_MIN = 5 * 2**30


@dataclass(frozen=True, slots=True)
class CassandraRing:
    """Its nodes, in the order of HOSTS."""

    nodes: Sequence[CassandraNode]

    def settings(self, **more: object) -> dict[str, object]:
        """For the configuration of a source."""
        nodes = [
            {"address": node.host, "cdc_raw": str(node.cdc_raw), "jmx_port": node.jmx_port}
            for node in self.nodes
        ]
        return {"port": self.nodes[0].port, "nodes": nodes, **more}

    def wait_whole(self) -> None:
        """Until every node knows that all are up: then each replica is written and read."""
        wait_for(lambda: all(self._sees_all(node) for node in self.nodes) or None)

    def _sees_all(self, node: CassandraNode) -> bool:
        """A table of its own with three replicas is read at ALL only where it does."""
        cql = "SELECT * FROM system_distributed.view_build_status"
        statement = SimpleStatement(cql, consistency_level=ConsistencyLevel.ALL)
        try:
            with node.session() as session:
                peers = list(session.execute("SELECT peer FROM system.peers_v2"))
                session.execute(statement)
        except (DriverException, NoHostAvailable, SourceUnavailable):
            return False
        return len(peers) == len(self.nodes) - 1


def tool(node: CassandraNode, *arguments: str) -> str:
    """What nodetool says."""
    command = ["java", "-Xmx96m", f"@{JAVA_FOLDER / 'jvm.options'}"]
    command += [f"@{JAVA_FOLDER / 'opens.options'}", f"-Duser.home={node.folder}"]
    command += ["-cp", classpath(), "org.apache.cassandra.tools.NodeTool"]
    command += ["-h", "127.0.0.1", "-p", str(node.jmx_port), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _too_small() -> str:
    """Why three nodes and their readers cannot run here, "" = they can."""
    free = psutil.virtual_memory().available
    if free < MEMORY_BYTES_MIN:
        return f"a ring of three nodes wants 5 GiB of memory, and {free / 2**30:.1f} are free"
    return ""


@pytest.fixture(scope="module")
def cassandra_ring() -> Iterator[CassandraRing]:
    """Started once for a module."""
    reason = missing() or _too_small()
    if reason:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="htapkit-ring-") as folder:
        guard = Guard(Path(folder))
        port, storage_port = free_port(), free_port()
        nodes = []
        for host in HOSTS:
            own = Path(folder) / host
            own.mkdir()
            nodes.append(CassandraNode(own, free_port, Addresses(host, port, storage_port, HOSTS)))
        ring = CassandraRing(nodes)
        try:
            nodes[0].start()  # the others then find it at once
            for node in nodes[1:]:
                node.spawn()
            for node in nodes[1:]:
                node.wait_started()
            ring.wait_whole()
            yield ring
        finally:
            for node in nodes:
                node.stop()
            guard.release()
