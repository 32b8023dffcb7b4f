"""Iceberg's Spark procedures on the lake's tables, for `htapkit compact --engine spark`.

Spark runs in a process of its own, which ends with the call: no Java stays in the server, and a
call that takes too long can be ended.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence

from htapkit.errors import ConfigError, LakeFailed

_SECONDS_MAX = 3600.0
_MODULE = "htapkit_spark.procedure"


class SparkEngine:
    """A Spark, by its settings: `remote` (Spark Connect) or `master`, `timeout`, and `spark.…`."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        """Raises ConfigError; values are never shown."""
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
        try:
            self._seconds = float(settings.get("timeout", _SECONDS_MAX))
        except ValueError:
            raise ConfigError("engines.spark.timeout: expected seconds") from None
        self._settings = {name: text for name, text in settings.items() if name != "timeout"}

    def compact(self, identifier: Sequence[str]) -> None:
        """Write the files of a table anew, in its order. Raises LakeFailed."""
        self._call(rewrite_call(identifier))

    def _call(self, sql: str) -> None:
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


def rewrite_call(identifier: Sequence[str]) -> str:
    """The procedure that joins the files of each partition, two and more, in the table's order."""
    name = ".".join("`" + level.replace("`", "``") + "`" for level in identifier)
    literal = name.replace("\\", "\\\\").replace("'", "\\'")
    return (
        f"CALL htapkit.system.rewrite_data_files(table => '{literal}', strategy => 'sort', "
        "options => map('min-input-files', '2'))"
    )
