"""The door for sinks: where changes of a source are sent on to, and how one is found.

A sink is a package that registers a factory under the entry point group `htapkit.sinks`; it is
called with `SinkOptions`. The core never names one. Each promise stands once, here, on the Protocol
that it binds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

import pyarrow as pa

from htapkit.model import Finding, Position, RowChanges, TableId, TableSchema
from htapkit.plugins import factory
from htapkit.spi import Source

SINKS = "htapkit.sinks"


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """What the configuration says of one sink. The sink checks `settings` (its own keys)."""

    name: str
    source: str
    settings: Mapping[str, object]


class Stage(StrEnum):
    """What a feed is doing with a table."""

    COPYING = "copying"  # its rows are being sent; changes meanwhile are left out
    FOLLOWING = "following"
    SET_ASIDE = "set_aside"  # cannot be followed; see why
    GONE = "gone"  # not there, or not asked for: what is known is that the sink has events of it


@dataclass(frozen=True, slots=True)
class FedTable:
    """What a sink durably knows of a table."""

    schema: TableSchema
    fingerprint: str
    stage: Stage
    copied_at: Position | None = None  # commits covered by it are in the rows that were copied
    begun: bool = False  # events of it may be in the sink: another copy begins with a truncate
    why: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sink is; None: it was never written to."""

    position: Position | None = None
    identity: str = ""  # of the source, as it was at that position
    tables: Mapping[TableId, FedTable] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction of the source."""

    position: Position  # the same for all parts of it
    time_us: int | None  # since 1970, by the source's clock


@dataclass(frozen=True, slots=True)
class Changed:
    """Consecutive changes of one table, and its schema there; `commit` counts `Part.commits`.

    `rows` None: all rows went away in the transaction `truncated`.
    """

    schema: TableSchema
    rows: RowChanges | None
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """Transactions in commit order, or a part of a single large one."""

    commits: Sequence[Commit]
    changes: Sequence[Changed]  # in order for each table; transactions may be mixed


class SinkSession(Protocol):
    """One feed's way into the sink, while nobody else has it. For one thread.

    Exactly once: what was written since the last `commit` becomes visible with the progress that is
    given to it, all at once, or never. After any error but ConfigError the session is of no use; a
    new one finds out what became of an unanswered commit.
    """

    @property
    def progress(self) -> Progress:
        """What was committed last, by whichever process."""

    def write(self, part: Part) -> None:
        """Send changes. Blocks while the sink is slow. Raises SinkFailed, SinkRefused."""

    def copy(self, schema: TableSchema, rows: pa.RecordBatch, at: Position) -> None:
        """Send rows as they were at a position. Raises as `write`."""

    def truncate(self, schema: TableSchema, at: Position) -> None:
        """Say that a table has no rows: those that follow are all. Raises as `write`."""

    def commit(self, progress: Progress) -> None:
        """Make all that was written visible.

        Raises as `write`; whether it happened, only the next session knows then.
        """

    def close(self) -> None:
        """Give up what was not committed, and let go. Safe to call twice."""


class Sink(Protocol):
    """Where changes are sent on to."""

    def check(self) -> Sequence[Finding]:
        """The preflight: what is missing, and how to mend it. Changes nothing."""

    def open(self) -> SinkSession:
        """Take the feed over from whoever had it. Raises SinkFailed, SinkRefused."""


@runtime_checkable
class SeveralReaders(Protocol):
    """What a Source may be, too: one whose log several may follow, each at its own pace.

    The log is kept for the slowest of them.
    """

    def reader(self, name: str) -> Source:
        """The same source, with the place in its log that belongs to this name; it Retains.

        Its `let_go` and `detach` give up that place alone, never the copy's. Raises ConfigError.
        """


def load_sink(sink: str, options: SinkOptions) -> Sink:
    """The sink made by the package of that name; ConfigError lists those that are installed."""
    wanted = f"sinks.{options.name}.connector: '{sink}'"
    made: Sink = factory(SINKS, sink, wanted)(options)
    return made
