"""`airflow standalone` as a child process, on ports of its own."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any

import httpx

from htapkit.testing.postgres import free_port
from htapkit.testing.stack import wait_until
from tests.airflow.home import AirflowHome

START_SECONDS_MAX = 180.0
STOP_SECONDS_MAX = 30.0


class Standalone:
    """Runs while it is a context; then every process of it is gone."""

    def __init__(self, home: AirflowHome) -> None:
        """Small: two tasks at a time, one API process."""
        self.home = home
        self.port = free_port()
        self._log = home.folder / "standalone.log"
        home.environment.update(
            {
                "AIRFLOW__API__HOST": "127.0.0.1",
                "AIRFLOW__API__PORT": str(self.port),
                "AIRFLOW__API__WORKERS": "1",
                "AIRFLOW__API__BASE_URL": self.address,
                "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.address}/execution/",
                "AIRFLOW__CORE__PARALLELISM": "2",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "true",
                "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
                "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            }
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Standalone:
        """Start, and wait until its API and its scheduler work."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "airflow", "standalone"],
                env=self.home.environment,
                cwd=self.home.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until(self._healthy, START_SECONDS_MAX, self.log_end)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    @property
    def address(self) -> str:
        """Of its API and its pages."""
        return f"http://127.0.0.1:{self.port}"

    def _healthy(self) -> bool:
        address = f"{self.address}/api/v2/monitor/health"
        try:
            answer = httpx.get(address, timeout=5, trust_env=False)
        except httpx.HTTPError:
            return False
        return answer.is_success and answer.json()["scheduler"]["status"] == "healthy"

    def rows(self, sql: str) -> Sequence[tuple[Any, ...]]:
        """What Airflow's database says now."""
        path = f"file:{self.home.database}?mode=ro"
        with closing(sqlite3.connect(path, uri=True, timeout=30)) as database:
            return database.execute(sql).fetchall()

    def log_end(self) -> str:
        """The end of what all its processes printed."""
        return self._log.read_text(errors="replace")[-6000:]

    def stop(self) -> None:
        """End the process and all its children, which are a group of their own."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS_MAX)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
