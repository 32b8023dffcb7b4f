"""`airflow standalone` as a child process, on ports of its own."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import httpx

from htapkit.testing.postgres import free_port
from tests.airflow.home import AirflowHome
from tests.process_group import ProcessGroup

START_SECONDS_MAX = 180.0


class Standalone(ProcessGroup):
    """Runs while it is a context; then every process of it is gone."""

    def __init__(self, home: AirflowHome) -> None:
        """Small: two tasks at a time, one API process."""
        self.home = home
        self.port = free_port()
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
        command = [sys.executable, "-m", "airflow", "standalone"]
        super().__init__(
            command, home.environment, home.folder / "standalone.log", START_SECONDS_MAX
        )

    @property
    def address(self) -> str:
        """Of its API and its pages."""
        return f"http://127.0.0.1:{self.port}"

    def healthy(self) -> bool:
        """Whether its API and its scheduler work."""
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
