"""The machine that has a node's files, and runs their readers: this one, or one with an agent.

All that htapkit does beside a node goes through here; what a reader prints is the same bytes from
either, so whoever takes them does not know where it runs.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from htapkit_cassandra.mutations import LogPosition
from htapkit_cassandra.segments import Segments

LOST = -1  # the exit code of a reader of which nothing is known any more


@dataclass(frozen=True, slots=True)
class Copied:
    """A table whose files are read, and the tag of the snapshot that is made for it."""

    keyspace: str
    table: str
    tag: str
    after: int | None = None  # only partitions behind this token, in parts; None: all as one


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at the machine found. The preflight judges it."""

    java: str  # why a reader cannot run there, "" = it can
    jars: str  # what it runs with
    cdc_raw: str  # "" = none is configured
    readable: bool
    used_bytes: int  # of files in it
    segments: Segments = field(default_factory=Segments)
    deletes: bool = True  # whether files may be deleted there
    jmx: str = ""  # host:port
    jmx_problem: str = ""
    data_folders: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()  # those of them that cannot be read
    agent: str = ""  # its version, "" = it is this machine


class Child(Protocol):
    """A reader that runs (java/CommitLogTail.java). It ends when whoever started it does."""

    @property
    def pid(self) -> int:
        """Its process id, on its machine."""

    @property
    def said(self) -> str:
        """The last line of its standard error."""

    def lines(self) -> Generator[bytes, None, None]:
        """Its standard output, to be called once; the last may lack its end. Waits for it."""

    def wait(self) -> int:
        """Its exit code, once there are no more lines; LOST: it is not known."""

    def end(self) -> None:
        """End it, from any thread. Safe to call twice."""


class Machine(Protocol):
    """Where a node's files are."""

    @property
    def name(self) -> str:
        """Which log that is, for people."""

    def look(self, data_folders: Sequence[str] | None = None) -> Seen:
        """What is there now. Raises SourceUnavailable, SourceRefused: there is no way to it.

        With `data_folders`, the folders that the node names, also what a copy needs.
        """

    def read_log(self, schema: str, start: LogPosition | None) -> Child:
        """Start the reader of the log; `start` None: from the oldest. Raises SourceError."""

    def read_table(self, schema: str, copied: Copied) -> Child:
        """Start the reader of a table's files. Raises SourceError."""

    def segments(self) -> Segments:
        """The log's files, as last heard of; asks nobody else. Raises SourceRefused."""

    def forget(self, position: LogPosition) -> None:
        """Delete what lies wholly before a position, now or at a later call."""
