"""Other engines that work on the lake, and how one is found.

An engine is a package that registers a factory under the entry point group `htapkit.engines` (for
upkeep) or `htapkit.readers` (for statements); it is called with its settings from the configuration
(`engines`). The core never names one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import pyarrow as pa

from htapkit.plugins import factory

ENGINES = "htapkit.engines"
READERS = "htapkit.readers"


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


class EngineRows(Protocol):
    """The rows of one statement that an engine runs."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """They, in pieces of a bounded size, as they come. Raises EngineFailed, QueryCancelled."""
        ...

    def cancel(self, why: str, /) -> None:
        """Stop the work there; `batches` raises QueryCancelled. Any thread."""
        ...

    def close(self) -> None:
        """Let go of it: what still runs there is stopped. Safe to call twice."""
        ...


class ReadingEngine(Protocol):
    """Another engine that runs statements in its own SQL on the lake. Thread-safe."""

    def run(self, sql: str) -> EngineRows:
        """Begin a statement; nothing is waited for. Raises EngineFailed."""
        ...

    def close(self) -> None:
        """End it, and what runs there."""
        ...


def load_engine(name: str, settings: Mapping[str, str]) -> LakeEngine:
    """The engine for upkeep of that name, which checks its settings. Raises ConfigError."""
    engine: LakeEngine = factory(ENGINES, name, f"engine '{name}'")(settings)
    return engine


def load_reader(name: str, settings: Mapping[str, str]) -> ReadingEngine:
    """The engine for statements of that name, which checks its settings. Raises ConfigError."""
    reader: ReadingEngine = factory(READERS, name, f"engine '{name}'")(settings)
    return reader
