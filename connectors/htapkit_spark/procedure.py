"""One statement in a Spark of its own, as a program: settings and SQL come on standard input.

Its end is the statement's: 0 with the whole numbers of its first row as the last line of standard
output, or 1 with the reason as the last line of standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession


def run(settings: Mapping[str, str], sql: str) -> Mapping[str, int]:
    """Run it, and end the session; the whole numbers of its first row, by their names."""
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
        rows = session.sql(sql).collect()
        told = rows[0].asDict() if rows else {}
        return {name: value for name, value in told.items() if isinstance(value, int)}
    finally:
        session.stop()


def main() -> int:
    """The program."""
    asked = json.load(sys.stdin)
    try:
        told = run(asked["settings"], asked["sql"])
    except PySparkException as problem:
        reason = " ".join(str(problem).split("\n\nJVM stacktrace", 1)[0].split())
        sys.stderr.write(f"\n{type(problem).__name__}: {reason[:2000]}\n")
        return 1
    sys.stdout.write(f"\n{json.dumps(told)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
