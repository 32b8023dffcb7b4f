"""What Spark needs beside pyspark: Java, and a few jars that Maven fetches once into ~/.m2."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_FETCH_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Jar:
    """An artifact, by Maven's coordinates."""

    group: str
    name: str
    version: str

    @property
    def path(self) -> Path:
        """Where Maven keeps it."""
        folder = Path.home() / ".m2" / "repository" / self.group.replace(".", "/")
        return folder / self.name / self.version / f"{self.name}-{self.version}.jar"

    @property
    def coordinates(self) -> str:
        """As Maven and `spark.jars.packages` want them."""
        return f"{self.group}:{self.name}:{self.version}"


ICEBERG = Jar("org.apache.iceberg", "iceberg-spark-runtime-4.1_2.13", "1.12.0")
JARS = (ICEBERG, Jar("org.xerial", "sqlite-jdbc", "3.53.4.0"))
"""For a lake whose catalog and files are on this machine."""
SERVER_JARS = (
    ICEBERG,
    Jar("org.apache.iceberg", "iceberg-aws-bundle", "1.12.0"),
    Jar("org.postgresql", "postgresql", "42.7.7"),
)
"""For one whose catalog is in PostgreSQL and whose files are on S3."""


def missing(jars: Sequence[Jar] = JARS) -> str:
    """Why Spark cannot run here; "" where it can. Fetches the jars if they are not there yet."""
    if importlib.util.find_spec("pyspark") is None:
        return "pyspark (extra `spark`) is not installed"
    if shutil.which("java") is None:
        return "Java is not installed"
    for jar in jars:
        reason = "" if jar.path.exists() else _fetch(jar)
        if reason:
            return reason
    return ""


def _fetch(jar: Jar) -> str:
    """Fetch it; "" or why not."""
    if shutil.which("mvn") is None:
        return f"{jar.coordinates} is not in ~/.m2, and Maven is not installed"
    command = ["mvn", "-q", "-B", "dependency:get", "-Dtransitive=false"]
    try:
        done = subprocess.run(
            [*command, f"-Dartifact={jar.coordinates}"],
            capture_output=True,
            text=True,
            timeout=_FETCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"Maven did not fetch {jar.coordinates} within {_FETCH_SECONDS} s"
    return "" if jar.path.exists() else f"Maven: {done.stdout[-300:]}{done.stderr[-300:]}"
