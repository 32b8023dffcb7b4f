"""The only door for connectors: what a source must do, and how one is found.

A connector is a package that registers a factory under the entry point group `htapkit.sources`;
`load_source` calls it with the source's name and options. It may import this module, `model`,
`errors`, `sqlfiles` and `scram`, and nothing else of the core. Each promise stands once, here, on
the Protocol that it binds; `htapkit.testing` has the suite that every connector must pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyarrow as pa

from htapkit.model import (
    Access,
    Broken,
    ChangeBatch,
    Finding,
    Position,
    SchemaChange,
    Split,
    TableId,
    TableSchema,
)
from htapkit.plugins import factory

SOURCES = "htapkit.sources"
COMMANDS = "htapkit.commands"


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What the configuration says of one source. The connector checks `settings` (its own keys)."""

    name: str
    settings: Mapping[str, object]  # dsn, tables and the connector's own keys
    connections_max: int
    slot_lag_bytes_max: int
    batch_rows_max: int
    batch_bytes_max: int
    queue_batches_max: int
    snapshot_rows_per_second_max: int | None  # None: not throttled
    snapshot_careful: bool = True  # read slower while the source's answers slow down
    folder: Path | None = None  # for files of its own, of one server at a time; may not be there
    readers: tuple[str, ...] = ()  # the names of its other readers, see sinks.SeveralReaders


@dataclass(frozen=True, slots=True)
class Discovered:
    """A table that the configuration asks for, as it is at the source now."""

    schema: TableSchema
    fingerprint: str  # changes whenever rows may have changed without events (a rewrite, a default)
    rows_estimate: int = 0
    problem: str = ""  # why it cannot be followed now, and the SQL that mends it; "" = it can


class PositionOrder(Protocol):
    """Compares positions of one source."""

    def covers(self, have: Position, want: Position) -> bool:
        """Whether `have` has all commits up to `want`. ValueError: one is no position."""


HEAD_SECONDS = 30.0  # for which a source may be asked where its stream ends


class Head(Protocol):
    """Where the source's own stream of commits ends now. Thread-safe.

    A source that does not answer within about `timeout_seconds` is SourceUnavailable.
    """

    def head(self, timeout_seconds: float = HEAD_SECONDS) -> Position:
        """A position that covers every commit acknowledged before this call.

        The stream may stop short of it while nothing commits (see `mark`). Raises
        SourceUnavailable, SourceRefused (nothing is attached, see `Source.follow`).
        """

    def mark(self, token: str, timeout_seconds: float = HEAD_SECONDS) -> None:
        """Write `token` into the stream behind every commit acknowledged before this call.

        It comes back in ChangeBatch.marks. Costs the source a few bytes of log. Does nothing where
        the stream always reaches the head. Raises SourceUnavailable.
        """


class ChangeStream(Protocol):
    """The changes of one source from a position on. Thread-safe, but for `next` in one thread.

    Order: batches come in commit order, whole transactions only (ChangeBatch.complete). Duplicates:
    none within a stream; a new stream starts right after the position it was given. Back-pressure:
    the stream reads ahead by `queue_batches_max` batches at most, and keeps the connection alive
    while it waits.
    """

    def next(self, timeout_seconds: float) -> ChangeBatch | None:
        """The next batch, or None when none came in time.

        A batch without changes only moves the position; the end of any other is one that no batch
        before it covers, or its changes are taken for known. Raises SourceUnavailable (open a new
        stream), PositionLost, SourceRefused, UnfaithfulValue (keep that column as text).
        """

    def confirm(self, position: Position) -> None:
        """Tell the source that it may forget all up to `position`, which is durable here."""

    def nudge(self) -> None:
        """Ask the source for its newest position now; even a quiet one answers, with a batch."""

    def expect(self, tables: Sequence[TableSchema]) -> None:
        """Decode only these tables, in these schemas, from now on. In the thread of `next`."""

    def lag_bytes(self) -> int:
        """Bytes of log between what was received and the source's newest known position."""

    def close(self) -> None:
        """Let go of the connection. Safe to call twice and from any thread."""


class Snapshot(Protocol):
    """The rows of some tables at one position, all under one snapshot of the source."""

    @property
    def position(self) -> Position:
        """Covers the rows, and no later commit is in them; asked anew, those read till then."""

    @property
    def tables(self) -> Mapping[TableId, Discovered]:
        """The tables as they are inside the snapshot: the schemas that `read` gives."""

    def splits(self, table: TableId) -> Sequence[Split]:
        """The parts of a table. Together they are each row once."""

    def read(self, split: Split) -> Iterator[pa.RecordBatch]:
        """The rows of one part, in the table's Arrow schema. Several threads may read at once.

        Of a reconciled table: `cells_arrow` and DELETIONS. Raises UnfaithfulValue, CatalogChanged
        (the table changed under the snapshot: take another), SourceUnavailable, TableSetAside.
        """

    def close(self) -> None:
        """End the snapshot at the source. Safe to call twice."""


@runtime_checkable
class Source(Protocol):
    """A database that is mirrored; only what attaching needs is made there: slot, publication."""

    @property
    def positions(self) -> PositionOrder:
        """Compares this source's positions."""

    @property
    def head(self) -> Head:
        """Where its stream ends now."""

    @property
    def origin(self) -> Origin | None:
        """The source as a PostgreSQL server; None: there is none to relay to."""

    def identity(self, known: str = "", position: Position | None = None, /) -> str:
        """Which server, database and history this is: what is stored beside the position.

        `known`: what it was when all up to `position` was copied. Raises SourceRefused where this
        is another server, or its history is another one before `position`; SourceUnavailable.
        """

    def check(self) -> Sequence[Finding]:
        """The preflight: everything that is missing, and how to mend it. Changes nothing."""

    def discover(self) -> Sequence[Discovered]:
        """The tables that the configuration's patterns match now."""

    def compare(
        self, schema: TableSchema, fingerprint: str, now: Discovered
    ) -> SchemaChange | Broken | None:
        """What became of a table since it was copied as (`schema`, `fingerprint`).

        Pure; None = nothing. A faithful SchemaChange may be applied at any moment, before or after
        the stream shows it.
        """

    def follow(self, start: Position | None, tables: Sequence[TableSchema]) -> ChangeStream:
        """Attach (create what is missing: slot, publication, added tables) and stream from `start`.

        `start` None: from now on. Raises PositionLost, SourceRefused (another server behind the
        address, or something that `check` names), SourceUnavailable.
        """

    def snapshot(
        self, tables: Sequence[TableId], as_text: Mapping[TableId, frozenset[str]]
    ) -> Snapshot:
        """Open a snapshot of these tables. A stream that began before sees every later commit.

        `as_text`: columns that are kept as text (Storage.TEXT in the schemas that come out).
        """

    def detach(self) -> None:
        """Remove what attaching created. Safe to call when it is already gone."""

    def close(self) -> None:
        """Let go of every connection that is kept between calls. Safe to call twice."""


@runtime_checkable
class Ranged(Protocol):
    """What a Source may be, too: one whose very large tables can be read range by range.

    Each range is read under a snapshot of its own, so that none is held for long. A snapshot that
    is opened after a batch was delivered covers that batch.
    """

    def ranges(self, tables: Sequence[TableId], rows: int) -> Mapping[TableId, Sequence[Split]]:
        """Cut the tables that have more than about `rows` rows into ranges of about as many.

        In a table's order: every key that there can ever be is in exactly one range. A range is
        for `read` of any later snapshot of the table, also after a restart. What is smaller or
        cannot be cut is left out. Raises SourceError.
        """

    def place(self, ranges: Sequence[Split], keys: pa.RecordBatch) -> pa.Array:
        """The index in `ranges` (all of a table's, in order) of the range that each key is in.

        `keys` has the columns of the table's key, in the key's order. Pure. A row's range changes
        only with its key.
        """


@runtime_checkable
class Retains(Protocol):
    """What a Source may be, too: it keeps its log until we confirm it. Raises SourceError."""

    def retained_bytes(self) -> int:
        """The log that it keeps because we have not confirmed it."""

    def spilled_bytes(self) -> int:
        """What it wrote to files for transactions that did not fit its memory."""

    def let_go(self) -> None:
        """Forget that log, while nothing streams; safe to repeat. `follow` is then PositionLost."""


@runtime_checkable
class Paced(Protocol):
    """What a Source may be, too: one whose copies read slower where the source suffers."""

    def pace(self) -> tuple[float, str]:
        """How many readers may read, and why so few; "" = not slowed. Thread-safe."""


@runtime_checkable
class Gathers(Protocol):
    """What a ChangeStream may be, too: one that makes fewer, larger batches where that is asked."""

    def gather(self, seconds: float) -> None:
        """Give no batch sooner than so long after the one before; 0: as soon as there is one.

        Not where the batch is full, has a mark, or the stream lies behind already. Thread-safe.
        """


@runtime_checkable
class Queues(Protocol):
    """What a ChangeStream may be, too: one that says how much it has read ahead."""

    def queued_bytes(self) -> int:
        """Bytes of changes that were received and are in no batch yet. Thread-safe."""


@runtime_checkable
class Remembers(Protocol):
    """What a ChangeStream may be, too: one that looked at a table when rows of it came."""

    def fingerprint(self, table: TableId) -> str:
        """What it saw then; "" = nothing. Called between two batches."""


@dataclass(frozen=True, slots=True)
class LogLag:
    """How far one of a source's logs was read."""

    log: str  # which, for people: a node's address
    behind_bytes: int
    behind_seconds: float  # how long its newest mark took, or the one takes that has not come
    why: str  # why nothing comes from it now, "" = it is being read
    vouched: str = ""  # for what the copy is fresh without it, and how much, in words; "" = nothing


@runtime_checkable
class SeveralLogs(Protocol):
    """What a ChangeStream may be, too: one that merges logs."""

    def logs(self) -> Sequence[LogLag]:
        """How far each was read. Thread-safe."""


class Credential(Protocol):
    """How a client proved who it is, in the form that lets us log in to the source as that user."""


@dataclass(frozen=True, slots=True)
class ScramKeys(Credential):
    """Learnt from a client's SCRAM proof; as good as the password: memory only, never logged."""

    client_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        """Without the keys."""
        return "ScramKeys(…)"


@dataclass(frozen=True, slots=True)
class Password(Credential):
    """A password given in clear over TLS. Memory only, never logged."""

    password: str

    def __repr__(self) -> str:
        """Without the password."""
        return "Password(…)"


@dataclass(frozen=True, slots=True)
class OwnRole(Credential):
    """`auth: trust`: everybody is the role of the source's DSN."""


class Wire(Protocol):
    """A connected byte stream: a socket, or TLS over one."""

    def fileno(self) -> int:
        """For poll."""

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes; b"" at the end."""

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything."""

    def pending(self) -> int:
        """Decrypted bytes that poll cannot see (0 without TLS)."""

    @property
    def encrypted(self) -> bool:
        """Whether there is TLS: then `recv` may block although poll sees something."""

    def close(self) -> None:
        """Close the connection."""


@dataclass(frozen=True, slots=True)
class OriginSession:
    """A logged-in connection that speaks the PostgreSQL wire, for one client session."""

    wire: Wire
    startup: bytes  # all messages after AuthenticationOk up to and with the first ReadyForQuery
    cancel: Callable[[], None]  # sends a CancelRequest for this session; any thread


class Origin(Protocol):
    """The source as a PostgreSQL server, for relayed statements, names, types, users, rights."""

    @property
    def connections(self) -> int:
        """How many are open for clients."""

    def open(
        self, user: str, parameters: Mapping[str, str], credential: Credential
    ) -> OriginSession:
        """Log in as `user` with the client's start-up parameters (`database` is the source's own).

        Raises SourceRefused with `.diagnostic` (the server's own ErrorResponse), SourceUnavailable,
        LimitReached (`limits.source_connections`).
        """

    def verifier(self, user: str) -> str | None:
        """The role's SCRAM-SHA-256 verifier; None: none (unknown role, md5, not readable).

        Raises SourceRefused when we may not read verifiers at all (managed databases).
        """

    def denied(self, role: str, access: Sequence[Access]) -> str:
        """Why `role` may not get these columns from a copy: a privilege, row-level security.

        "" = it may. The statement then goes to the source, whose word counts. Cached for seconds.
        """


def load_source(connector: str, options: SourceOptions) -> Source:
    """The source made by the connector of that name; ConfigError lists those that are installed."""
    wanted = f"sources.{options.name}.connector: '{connector}'"
    made: Source = factory(SOURCES, connector, wanted)(options)
    return made
