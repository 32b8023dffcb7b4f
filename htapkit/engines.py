"""Other engines that work on the lake, and how one is found.

An engine is a package that registers a factory under the entry point group `htapkit.engines`; it is
called with its settings from the configuration (`engines`). The core never names one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib.metadata import entry_points
from typing import Protocol

from htapkit.errors import ConfigError

ENGINES = "htapkit.engines"


class LakeEngine(Protocol):
    """Another engine that looks after tables of the lake, by the lake's own catalog."""

    def compact(self, identifier: Sequence[str]) -> None:
        """Write the files of a table anew, fewer and sorted. No row changes. Raises LakeFailed."""
        ...

    def expire(self, identifier: Sequence[str], older_than: datetime) -> int:
        """Remove versions from before a moment that neither tag nor branch holds, and their files.

        How many files. Raises LakeFailed.
        """
        ...


def load_engine(name: str, settings: Mapping[str, str]) -> LakeEngine:
    """The engine of that name, which checks its settings. Raises ConfigError."""
    found = {entry.name: entry for entry in entry_points(group=ENGINES)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise ConfigError(f"engine '{name}' is not installed; installed: {known}")
    factory: Callable[[Mapping[str, str]], LakeEngine] = found[name].load()
    return factory(settings)
