"""An Airflow of its own: a folder, a database, and its commands as child processes."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from htapkit.testing.guard import child_environment

ROOT = Path(__file__).parents[2]
DAGS = ROOT / "dags"
MARK = "RESULT "


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a run, as it ended."""

    state: str
    tries: int
    value: Any


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a DAG: `tasks` by their id, mapped ones as `id[index]`."""

    state: str
    tasks: Mapping[str, Task]
    assets: Sequence[tuple[str, Mapping[str, Any]]]  # address and what is told of it
    log: str


class AirflowHome:
    """Nothing of the user's own Airflow is read or written."""

    def __init__(self, folder: Path, http_port: int) -> None:
        """`http_port` is that of the htapkit that the default connection leads to."""
        connection = {"conn_type": "htapkit", "host": "127.0.0.1", "port": http_port}
        own = {k: v for k, v in child_environment().items() if not k.startswith("AIRFLOW")}
        self.folder = folder
        self.database = folder / "airflow.db"
        self.environment = {
            **own,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{own.get('PATH', '')}",
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.database}?timeout=60",
            "AIRFLOW_CONN_HTAPKIT_DEFAULT": json.dumps(connection),
        }

    def migrate(self) -> None:
        """Make the database; in it, who reads does not hold up who writes."""
        self.command("db", "migrate")
        with closing(sqlite3.connect(self.database)) as database:
            database.execute("PRAGMA journal_mode = WAL")

    def command(self, *arguments: str, timeout_seconds: float = 120) -> str:
        """`airflow …`; what it printed. Fails the test where it fails."""
        return self._child("airflow", *arguments, timeout_seconds=timeout_seconds)

    def run_dag(
        self,
        dag_id: str,
        when: str,
        configuration: Mapping[str, Any] | None = None,
        *,
        retry_seconds: float = 60.0,
    ) -> Run:
        """`dag.test()` for the data interval that ends at `when`, in a process of its own."""
        given = {"dag_id": dag_id, "when": when, "configuration": dict(configuration or {})}
        text = self._child(
            "tests.airflow.run_dag", json.dumps({**given, "retry_seconds": retry_seconds})
        )
        return read_run(text)

    def start_dag(self, given: Mapping[str, Any], log: Path) -> subprocess.Popen[bytes]:
        """As `run_dag`, but goes on beside the test; what it prints goes to `log`."""
        with log.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.airflow.run_dag", json.dumps(given)],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def _child(self, module: str, *arguments: str, timeout_seconds: float = 180) -> str:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        assert done.returncode == 0, f"{module} {arguments}\n{done.stdout}\n{done.stderr}"
        return f"{done.stdout}\n{done.stderr}"


def read_run(text: str) -> Run:
    """The run that a child process printed."""
    lines = [line for line in text.splitlines() if line.startswith(MARK)]
    assert len(lines) == 1, text
    found = json.loads(lines[0].removeprefix(MARK))
    tasks = {name: Task(**task) for name, task in found["tasks"].items()}
    return Run(found["state"], tasks, [tuple(a) for a in found["assets"]], text)
