"""Iceberg's Spark procedures on the lake's tables, for `--engine spark` of compact and expire.

Spark runs in a process of its own, which ends with the call: no Java stays in the server, and a
call that takes too long can be ended.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from htapkit.errors import ConfigError, LakeFailed

_SECONDS_MAX = 3600.0
_MODULE = "htapkit_spark.procedure"


def check(settings: Mapping[str, str]) -> None:
    """Raise ConfigError where a key is wrong; values are never shown."""
    other = sorted(
        name
        for name in settings
        if name not in {"remote", "master", "timeout"} and not name.startswith("spark.")
    )
    if other:
        raise ConfigError(
            f"engines.spark: unknown key {', '.join(other)}; "
            "allowed: remote, master, timeout, spark.…"
        )
    if ("remote" in settings) == ("master" in settings):
        raise ConfigError(
            "engines.spark: give either remote (such as sc://host:15002) or master (local[2])"
        )


class SparkEngine:
    """A Spark, by its settings: `remote` (Spark Connect) or `master`, `timeout`, and `spark.…`."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        """Raises ConfigError; values are never shown."""
        check(settings)
        try:
            self._seconds = float(settings.get("timeout", _SECONDS_MAX))
        except ValueError:
            raise ConfigError("engines.spark.timeout: expected seconds") from None
        self._settings = {name: text for name, text in settings.items() if name != "timeout"}

    def compact(self, identifier: Sequence[str]) -> None:
        """Write the files of a table anew, in its order. Raises LakeFailed."""
        self._call(rewrite_call(identifier))

    def expire(self, identifier: Sequence[str], older_than: datetime) -> int:
        """Remove versions that no tag and no branch holds; how many files. Raises LakeFailed."""
        counts = self._call(expire_call(identifier, older_than))
        return sum(count for name, count in counts.items() if name.startswith("deleted_") and count)

    def _call(self, sql: str) -> Mapping[str, int]:
        """Run a procedure; its counts by their names. Raises LakeFailed."""
        asked = json.dumps({"settings": self._settings, "sql": sql})
        try:
            done = subprocess.run(
                [sys.executable, "-m", _MODULE],
                input=asked,
                capture_output=True,
                text=True,
                timeout=self._seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise LakeFailed(
                f"Spark did not end within {self._seconds:g} s (engines.spark.timeout)"
            ) from None
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise LakeFailed(f"Spark: {lines[-1] if lines else 'it ended without a word'}")
        return _counts(done.stdout)


def _counts(output: str) -> Mapping[str, int]:
    """What the procedure told, in the last line of its program."""
    last = output.rstrip().rpartition("\n")[2]
    try:
        found: Mapping[str, int] = json.loads(last)
    except ValueError:
        raise LakeFailed("Spark ended, and did not tell what it did") from None
    return found


def rewrite_call(identifier: Sequence[str]) -> str:
    """The procedure that joins the files of each partition, two and more, in the table's order."""
    return (
        f"CALL htapkit.system.rewrite_data_files(table => '{_literal(identifier)}', "
        "strategy => 'sort', options => map('min-input-files', '2'))"
    )


def expire_call(identifier: Sequence[str], older_than: datetime) -> str:
    """The procedure that removes versions; Iceberg keeps what a tag or a branch holds."""
    moment = older_than.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00:00")
    return (
        f"CALL htapkit.system.expire_snapshots(table => '{_literal(identifier)}', "
        f"older_than => TIMESTAMP '{moment}', retain_last => 1)"
    )


def _literal(identifier: Sequence[str]) -> str:
    """A table's name as the inside of a text of Spark's."""
    name = ".".join("`" + level.replace("`", "``") + "`" for level in identifier)
    return name.replace("\\", "\\\\").replace("'", "\\'")
