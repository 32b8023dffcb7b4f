"""Statements and portals as this session knows them, and the rows of local answers in pieces.

Names, parameters and life cycles are the source's: every Parse, Bind and Close reaches it. What
is kept here is what a local answer needs, and it counts only once the source has said yes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from itertools import chain

import pyarrow as pa

from htapkit.errors import HtapkitError, LimitReached
from htapkit.plan.expr import MADE_ERROR
from htapkit.plan.plan import Effect, LocalQuery, Plan, Relay, SessionView
from htapkit.serve.pgwire import messages, protocol
from htapkit.serve.pgwire.copying import Copy
from htapkit.serve.pgwire.database import Described, Read
from htapkit.serve.pgwire.protocol import Owed
from htapkit.serve.pgwire.rows import WireColumn, data_rows, encodable

CHUNK_ROWS = 16384
CHUNK_BYTES = 4 << 20
AHEAD_BYTES_MAX = 16 << 20


class Cancelled(HtapkitError):
    """The client asked to stop."""

    sqlstate = "57014"


class AtSource(HtapkitError):
    """The statement is for the source after all; the message says why."""

    @property
    def told(self) -> str:
        """The message; of one that quotes another engine, which may quote values, the beginning."""
        ours = self.__cause__ is None or isinstance(self.__cause__, LimitReached)
        return str(self) if ours else str(self).partition(":")[0]


@dataclass(slots=True, eq=False)
class Statement:
    """A prepared statement."""

    sql: bytes
    types: bytes  # as Parse declared them
    plan: Plan
    seen: tuple[SessionView, int] | None = None  # the plan was made under this view and catalog
    owed: Owed | None = None  # its Parse, as long as that is under way
    confirmed: bool = False  # the source has parsed it
    columns: bytes | None = None  # as the source has told the client
    parameters: bytes | None = None  # the same
    shape: bytes = b""  # what the source is given in its place; b"": the statement itself
    why: str = ""  # what sent it to the source after all, when it was last to be answered here

    @property
    def asked(self) -> bytes:
        """What the source parses and describes."""
        return self.shape or self.sql

    def told(self, kind: int, body: bytes) -> None:
        """A reply to Describe."""
        if kind == protocol.ROWS:
            self.columns = body
        elif kind == protocol.PARAMETERS:
            self.parameters = body

    def differs(self, described: Described) -> bool:
        """Whether the client was told anything else."""
        columns, parameters = self.columns, self.parameters
        return (columns is not None and messages.read_fields(columns) != described.fields) or (
            parameters is not None and messages.read_oids(parameters) != described.parameters
        )

    @property
    def effect(self) -> Effect:
        """What it does when the source executes it."""
        if isinstance(self.plan, Relay):
            return self.plan.effect
        return Effect.READ if isinstance(self.plan, LocalQuery) else Effect.OTHER


@dataclass(slots=True, eq=False)
class Portal:
    """A bound statement."""

    statement: Statement
    message: bytes  # the Bind as it came
    rest: int  # where its contents begin, behind the names
    confirmed: bool = False
    at_source: bool = False  # the source executes it
    dropped: bool = False  # closed, replaced, or ended with its transaction
    answer: Answer | None = None

    @property
    def name(self) -> str:
        """As the client calls it."""
        return self.message[5 : self.message.index(b"\0", 5)].decode(errors="replace")

    @property
    def bound(self) -> bool:
        """Whether the source has parsed and bound it, so that it is what we think."""
        return self.confirmed and self.statement.confirmed

    @property
    def usable(self) -> bool:
        """Whether the source still has it."""
        return self.bound and not self.dropped


@dataclass(frozen=True, slots=True)
class Chunk:
    """Complete messages, one for each row."""

    data: bytes | memoryview
    rows: int
    last: bool


@dataclass(slots=True, eq=False)
class Answer:
    """The rows of one local statement, taken in pieces."""

    tag: str = "SELECT"
    finished: bool = False
    copied: Copy | None = None  # its rows are CopyData; None: DataRow

    def take(self, rows_max: int) -> Chunk:
        """At most `rows_max` rows (0: any number, but a bounded piece). `last`: nothing is left."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what it holds."""


@dataclass(slots=True, eq=False)
class Rows(Answer):
    """Rows that are at hand: of Finish, SHOW, EXPLAIN."""

    rows: Sequence[bytes] = ()
    position: int = 0

    def take(self, rows_max: int) -> Chunk:
        """The next rows."""
        end = min(len(self.rows), self.position + (rows_max or CHUNK_ROWS))
        taken = self.rows[self.position : end]
        self.position = end
        return Chunk(b"".join(taken), len(taken), end == len(self.rows))

    def as_copied(self, copy: Copy | None) -> Rows:
        """The same rows for a client that copies them; None: it does not."""
        if copy is None:
            return self
        return replace(self, copied=copy, rows=[copy.row(row) for row in self.rows])


@dataclass(slots=True, eq=False)
class LocalRows(Answer):
    """Rows of the hot store, encoded as they are taken. `take` runs on the worker's thread."""

    read: Read | None = None
    columns: Sequence[WireColumn] = ()
    zone: tzinfo = UTC
    batches: Iterator[pa.RecordBatch] = field(default_factory=lambda: iter(()))
    rest: pa.RecordBatch | None = None

    def take(self, rows_max: int) -> Chunk:
        """The next rows. Looks one batch ahead, so that `last` is true with the last rows."""
        batch = self._next()
        if batch is None:
            return Chunk(b"", 0, last=True)
        wanted = min(rows_max or CHUNK_ROWS, CHUNK_ROWS, _rows_that_fit(batch))
        self.rest = batch.slice(wanted) if batch.num_rows > wanted else None
        taken = batch.slice(0, wanted)
        if self.copied is not None:
            data = self.copied.rows(taken, self.zone)
        else:
            data = data_rows(taken, self.columns, self.zone)
        return Chunk(data, taken.num_rows, last=False)

    def _next(self) -> pa.RecordBatch | None:
        batch, self.rest = self.rest, None
        while batch is None or batch.num_rows == 0:
            batch = next(self.batches, None)
            if batch is None:
                return None
        return batch

    def close(self) -> None:
        """End the read."""
        if self.read is not None:
            self.read.close()


def computed_ahead(
    sql: str, batches: Iterable[pa.RecordBatch], bytes_max: int = AHEAD_BYTES_MAX
) -> Iterator[pa.RecordBatch]:
    """The batches of a statement, so many of them computed now that most errors come now.

    Behind the first row that is shown, the source cannot be asked any more. Statements that make
    no errors of values are not kept waiting.
    """
    rest = iter(batches)
    if MADE_ERROR not in sql:
        return rest
    held, size = [], 0
    for batch in rest:
        held.append(batch)
        size += batch.nbytes
        if size > bytes_max:
            break
    return chain(held, rest)


def _rows_that_fit(batch: pa.RecordBatch) -> int:
    if batch.nbytes <= CHUNK_BYTES:
        return batch.num_rows
    return max(1, batch.num_rows * CHUNK_BYTES // batch.nbytes)


def check_encodable(schema: pa.Schema, columns: Sequence[WireColumn], zone: tzinfo) -> None:
    """Raise AtSource where these columns cannot be sent as the source announced them."""
    if len(schema) != len(columns):
        raise AtSource(f"{len(schema)} columns here, {len(columns)} at the source")
    for each, column in zip(schema, columns, strict=True):
        if not encodable(each.type, column, zone):
            raise AtSource(
                f"column {each.name} has no wire form of type {column.oid} from {each.type}"
            )


def all_rows(read: Read, rows_max: int) -> pa.Table:
    """The whole result. Raises AtSource when it is larger than `rows_max`."""
    batches: list[pa.RecordBatch] = []
    count = 0
    for batch in read.batches():
        count += batch.num_rows
        if count > rows_max:
            raise AtSource(f"more than {rows_max} rows to finish at the source")
        batches.append(batch)
    return pa.Table.from_batches(batches, schema=read.schema)


class Running:
    """What a cancel request can stop: set by the session, stopped from any thread."""

    def __init__(self) -> None:
        """Nothing runs."""
        self._lock = threading.Lock()
        self._read: Read | None = None
        self.cancelled = False

    def start(self, read: Read) -> None:
        """Note the read that runs now. Raises Cancelled where the cancel was first."""
        with self._lock:
            self._read = read
            stopped = self.cancelled
        if stopped:
            raise Cancelled("canceling statement due to user request")

    def cancel(self) -> None:
        """Stop it."""
        with self._lock:
            self.cancelled = True
            read = self._read
        if read is not None:
            read.cancel()
