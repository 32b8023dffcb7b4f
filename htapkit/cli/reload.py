"""Reading the configuration file again while a server runs: what a table's history is, may change.

All else was handed to parts that have started, and waits for the next start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from htapkit.config import Config, TableConfig

Tables = Mapping[str, TableConfig]


class Reload:
    """The server's file, and what was last taken from it."""

    def __init__(
        self, config: Config, read: Callable[[], Config], take: Callable[[Tables], None]
    ) -> None:
        """`read` raises ConfigError; `take` is given all tables, changed or not."""
        self._started = config
        self._tables: Tables = config.tables
        self._read = read
        self._take = take

    def __call__(self) -> Mapping[str, Any]:
        """Which tables have changed, and which keys wait for a restart.

        Raises ConfigError, and nothing has changed then.
        """
        found = self._read()
        before, self._tables = self._tables, found.tables
        self._take(found.tables)
        return {"tables": _changed(before, found.tables), "restart_for": self._waiting(found)}

    def _waiting(self, found: Config) -> list[str]:
        keys = sorted(Config.model_fields.keys() - {"tables"})
        started = self._started
        waiting = [key for key in keys if getattr(started, key) != getattr(found, key)]
        # What a source sends is agreed on when its stream begins.
        changed = _changed(started.tables, found.tables, attrgetter("append_only"))
        return waiting + [f"tables.{name}.append_only" for name in changed]


def _changed(
    before: Tables, now: Tables, what: Callable[[TableConfig], object] = lambda table: table
) -> list[str]:
    """Names of the tables of which this is another; a table without an entry has the defaults."""
    plain = TableConfig()
    names = sorted(before.keys() | now.keys())
    return [n for n in names if what(before.get(n, plain)) != what(now.get(n, plain))]
