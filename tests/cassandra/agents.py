"""An agent's process beside a node, as it is run on a node's machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from htapkit.testing.guard import child_environment
from htapkit.testing.postgres import free_port
from htapkit_cassandra.node import CassandraNode
from htapkit_cassandra.remote import Address, Remote
from tests.fault_proxy import FaultProxy
from tests.fix_agent import TOKEN
from tests.fix_cassandra import SECONDS


class AgentProcess:
    """`htapkit cassandra-agent start` beside a node, behind a network that fails."""

    def __init__(self, node: CassandraNode, folder: Path, *, deletes: bool = False) -> None:
        """Not started."""
        self.port = free_port()
        self.proxy = FaultProxy(self.port)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        (folder / "cassandra-agent.yaml").write_text(
            f"listen: 127.0.0.1:{self.port}\ncdc_raw: {node.cdc_raw}\njmx_port: {node.jmx_port}\n"
            f"delete_cdc_raw: {json.dumps(deletes)}\n"
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

    def readers(self) -> Sequence[object]:
        """Those that it has started."""
        found = Remote(Address("127.0.0.1", self.port, TOKEN), "").ask({"ask": "status"})
        return list(found["readers"])

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
