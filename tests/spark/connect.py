"""A Spark Connect server as a child process, and a client of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from htapkit.testing.guard import child_environment
from tests.process_group import ProcessGroup
from tests.spark.jars import SERVER_JARS

START_SECONDS_MAX = 120.0
ROWS_SECONDS_MAX = 240.0

# A process that has a Spark of its own cannot be the client of another one.
_CLIENT = """
import json, sys
from pyspark.sql import SparkSession
session = SparkSession.builder.remote(sys.argv[1]).getOrCreate()
rows = session.sql(sys.argv[2]).collect()
print(json.dumps([list(row) for row in rows], default=str))
"""


def spark_home() -> Path:
    """Where pip put Spark. It has to be installed."""
    found = find_spec("pyspark")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


class ConnectServer(ProcessGroup):
    """Runs while it is a context, in a folder of its own."""

    def __init__(
        self,
        folder: Path,
        command: Sequence[str],
        settings: str,
        environment: Mapping[str, str],
        check: Sequence[str],
    ) -> None:
        """`settings` is a spark-defaults.conf; `check` is a command that ends well when it runs."""
        folder.mkdir(parents=True)
        jars = ":".join(str(jar.path) for jar in SERVER_JARS)
        own = f"spark.driver.extraClassPath {jars}\nspark.local.dir {folder / 'local'}\n"
        (folder / "spark-defaults.conf").write_text(f"{settings}\n{own}")
        self._check = check
        given = {
            **child_environment(),
            "SPARK_HOME": str(spark_home()),
            "SPARK_CONF_DIR": str(folder),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "PYSPARK_PYTHON": sys.executable,
            **environment,
        }
        super().__init__(command, given, folder / "spark.log", START_SECONDS_MAX)

    def healthy(self) -> bool:
        """Whether its check passes now."""
        done = subprocess.run(self._check, capture_output=True, timeout=10, check=False)
        return done.returncode == 0


def rows_of(address: str, sql: str) -> list[list[Any]]:
    """What a statement gives, with whatever JSON does not have as text."""
    done = subprocess.run(
        [sys.executable, "-c", _CLIENT, address, sql],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=ROWS_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[list[Any]] = json.loads(done.stdout.splitlines()[-1])
    return found
