"""Reading the configuration file again while a server runs: what a table's history is, may change.

All else was handed to parts that have started, and waits for the next start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from htapkit.config import Config, TableConfig


class Reload:
    """The server's file, and what was last taken from it. One call at a time."""

    def __init__(
        self,
        config: Config,
        read: Callable[[], Config],
        take: Callable[[Mapping[str, TableConfig]], None],
    ) -> None:
        """`read` raises ConfigError; `take` is given all tables, changed or not."""
        self._started = config
        self._tables = config.tables
        self._read = read
        self._take = take

    def __call__(self) -> Mapping[str, Any]:
        """Which tables have changed, and which keys wait for a restart.

        Raises ConfigError, and nothing has changed then.
        """
        found = self._read()
        names = sorted(self._tables.keys() | found.tables.keys())
        plain = TableConfig()
        changed = [
            name for name in names if self._tables.get(name, plain) != found.tables.get(name, plain)
        ]
        self._take(found.tables)
        self._tables = found.tables
        return {"tables": changed, "restart_for": self._waiting(found)}

    def _waiting(self, found: Config) -> list[str]:
        started, plain = self._started, TableConfig()
        waiting = [
            key
            for key in sorted(Config.model_fields.keys() - {"tables"})
            if getattr(started, key) != getattr(found, key)
        ]
        # What a source sends is agreed on when its stream begins.
        waiting += [
            f"tables.{name}.append_only"
            for name in sorted(started.tables.keys() | found.tables.keys())
            if started.tables.get(name, plain).append_only
            != found.tables.get(name, plain).append_only
        ]
        return waiting
