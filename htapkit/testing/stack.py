"""A whole htapkit as a child process: started, waited for, killed, started again.

It runs the same `htapkit serve` as anybody; nothing is stubbed.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
import yaml

from htapkit.client import Client
from htapkit.errors import HtapkitError
from htapkit.testing.guard import child_environment
from htapkit.testing.preloaded import PreloadedServer

_START_SECONDS = 120.0
_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.02


class StackFailed(HtapkitError):
    """The server ended, or did not become what was waited for; the message ends with its log."""


def wait_until(
    condition: Callable[[], bool], timeout_seconds: float, what: Callable[[], str] = lambda: "it"
) -> None:
    """Poll until true. Raises StackFailed with `what()` at the deadline."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise StackFailed(f"not within {timeout_seconds:g} s: {what()}")
        time.sleep(_POLL_SECONDS)


class Stack:
    """One `htapkit serve` over a folder. A context manager that stops it."""

    def __init__(
        self,
        folder: Path,
        sources: Mapping[str, Mapping[str, Any]],
        *,
        auth: str = "trust",
        configuration: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        preloaded: bool = False,
    ) -> None:
        """`sources` as in the configuration file (`connector` defaults to postgres).

        `preloaded`: start in a fraction of the time, for tests that start hundreds of times.
        """
        self._preloaded = preloaded
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder = folder.resolve()
        self.config_path = folder / "htapkit.yaml"
        self.log_path = folder / "htapkit.log"
        self._environment = dict(environment or {})
        document: dict[str, Any] = {
            "data_dir": "./data",
            "sources": {n: {"connector": "postgres", **dict(s)} for n, s in sources.items()},
            "servers": {
                "pgwire": {"listen": "127.0.0.1:0", "auth": auth},
                "http": {"listen": "127.0.0.1:0"},
            },
            "watch_interval": "500 ms",
        }
        for key, value in (configuration or {}).items():
            if isinstance(document.get(key), dict) and isinstance(value, Mapping):
                document[key] = {**document[key], **value}
            else:
                document[key] = value
        self.config_path.write_text(yaml.safe_dump(document))
        self._process: subprocess.Popen[bytes] | PreloadedServer | None = None
        self.port = 0
        self.http_port = 0

    def __enter__(self) -> Stack:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start the process and wait until its ports listen (not until tables are copied)."""
        self.log_path.touch()
        offset = self.log_path.stat().st_size
        chosen = {**self._environment, **dict(environment or {})}
        if self._preloaded:
            self._process = PreloadedServer(self.config_path, self.folder, self.log_path, chosen)
        else:
            self._process = self._spawn(chosen)
        wait_until(lambda: self._ports(offset) or not self.running, _START_SECONDS, self.log_end)
        if not self._ports(offset):
            raise StackFailed(f"htapkit serve ended: {self.log_end()}")

    def _spawn(self, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "htapkit", "serve", "--config", str(self.config_path)]
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env={**child_environment(), **environment},
                start_new_session=True,  # Ctrl-C is for the owner, who then stops it
            )

    def _ports(self, offset: int) -> bool:
        text = self.log_path.read_bytes()[offset:].decode(errors="replace")
        found = re.search(r"event=serving .*?http=(\d+).*?pgwire=(\d+)", text)
        if found is None:
            return False
        self.http_port, self.port = int(found[1]), int(found[2])
        return True

    def stop(self) -> None:
        """End it as a signal from a service manager does."""
        if self._process is None:
            return
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise StackFailed(
                    f"did not stop within {_STOP_SECONDS} s: {self.log_end()}"
                ) from None
        self._process = None

    def kill(self) -> None:
        """Kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def wait_ended(self, timeout_seconds: float, *, kill: bool = False) -> int:
        """Wait until the process ended; its exit status. `kill`: end it at the timeout."""
        assert self._process is not None
        try:
            code = self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            if not kill:
                raise StackFailed(f"still runs: {self.log_end()}") from None
            self._process.kill()
            code = self._process.wait()
        self._process = None
        return code

    def wait_ready(self, timeout_seconds: float = 120.0) -> None:
        """Wait until every table is copied and followed."""
        with self.client() as client:
            wait_until(
                lambda: client.ready() or not self.running,
                timeout_seconds,
                lambda: f"{self._states()}\n{self.log_end()}",
            )
        if not self.running:
            raise StackFailed(f"htapkit serve ended: {self.log_end()}")

    def _states(self) -> str:
        with self.client() as client:
            return str(client.status()) if self.running else "ended"

    def client(self, token: str | None = None) -> Client:
        """Of its HTTP API."""
        return Client(f"http://127.0.0.1:{self.http_port}", token)

    def dsn(self, source: str = "shop", user: str = "postgres") -> str:
        """To connect to the port; what waits for the copy waits as long as a slow machine needs."""
        where = f"host=127.0.0.1 port={self.port} dbname={source} user={user}"
        return f"{where} options='-c htapkit.wait_timeout=120s'"

    def connect(self, source: str = "shop") -> psycopg.Connection:
        """A connection to the port, autocommit."""
        return psycopg.connect(self.dsn(source), autocommit=True)

    def log_end(self, size: int = 4000) -> str:
        """The end of the log."""
        return self.log_path.read_text(errors="replace")[-size:] if self.log_path.exists() else ""
