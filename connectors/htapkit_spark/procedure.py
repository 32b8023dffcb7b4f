"""One statement in a Spark of its own, as a program: settings and SQL come on standard input.

Its end is the statement's: 0, or 1 with the reason as the last line of standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession


def run(settings: Mapping[str, str], sql: str) -> None:
    """Run it, and end the session."""
    builder = SparkSession.builder.appName("htapkit")
    if "remote" in settings:
        builder = builder.remote(settings["remote"])
    else:
        builder = builder.master(settings["master"])
    for name, value in settings.items():
        if name.startswith("spark."):
            builder = builder.config(name, value)
    session = builder.getOrCreate()
    try:
        session.sql(sql).collect()
    finally:
        session.stop()


def main() -> int:
    """The program."""
    asked = json.load(sys.stdin)
    try:
        run(asked["settings"], asked["sql"])
    except PySparkException as problem:
        reason = " ".join(str(problem).split("\n\nJVM stacktrace", 1)[0].split())
        sys.stderr.write(f"\n{type(problem).__name__}: {reason[:2000]}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
