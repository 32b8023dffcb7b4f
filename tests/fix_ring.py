"""Three real Cassandra nodes, a ring on 127.0.0.1 to 3, started when first asked for."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from htapkit.testing.guard import Guard
from htapkit.testing.postgres import free_port
from htapkit_cassandra.jars import JAVA_FOLDER, classpath, missing
from htapkit_cassandra.node import Addresses, CassandraNode
from tests.fix_cassandra import wait_for

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


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
        with node.session() as session:
            peers = list(session.execute("SELECT peer FROM system.peers_v2"))
            states = tool(node, "status")
        return len(peers) == len(self.nodes) - 1 and states.count("\nUN ") == len(self.nodes)


def tool(node: CassandraNode, *arguments: str) -> str:
    """What nodetool says."""
    command = ["java", "-Xmx96m", f"@{JAVA_FOLDER / 'jvm.options'}"]
    command += [f"@{JAVA_FOLDER / 'opens.options'}", f"-Duser.home={node.folder}"]
    command += ["-cp", classpath(), "org.apache.cassandra.tools.NodeTool"]
    command += ["-h", "127.0.0.1", "-p", str(node.jmx_port), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def cassandra_ring() -> Iterator[CassandraRing]:
    """Started once for a module."""
    reason = missing() if os.environ.get("HTAPKIT_RING") else "three nodes: `make test-ring`"
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
