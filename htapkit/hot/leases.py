"""Leases: several reads of one moment, kept for a client that fetches each of them when it likes.

Their DuckDB transactions are begun under the writer lock, so that they see the same rows at the
same positions. Until the lease ends each part can be read again and again: an engine that lost a
task, or that looks at its rows twice, gets the same ones. A transaction that is kept holds back the
tidying of the file, so a lease ends some time after its last use; then its parts are refused.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa

from htapkit.errors import HtapkitError, LimitReached, MomentGone, PartInUse, QueryCancelled
from htapkit.hot.core import Core
from htapkit.hot.lakearms import LakeArm
from htapkit.hot.parts import HotPart, TablePart, divided, last_row, numbered
from htapkit.hot.reads import Asked, Read, Reads
from htapkit.model import Position

_POLL_SECONDS = 0.25
_BUSY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Parted:
    """A statement that is read in parts, and the whole of what it reads."""

    sql: str
    parameters: Sequence[object]
    sources: Sequence[str]
    catalog_version: int
    hot: HotPart
    lake: Sequence[LakeArm] = ()

    def of(self, part: TablePart) -> Asked:
        """The statement on a part."""
        return Asked(self.sql, self.parameters, part.lake, hot=(part.hot,))


@dataclass(slots=True)
class _Part:
    read: Read
    table: TablePart
    busy: bool = False


class PartRead:
    """The rows of one part, as of any read. One thread; `cancel` may come from another.

    It stops between batches only: an interrupted transaction would be lost, and with it the part.
    """

    def __init__(self, lease: Lease, part: _Part) -> None:
        """Use `Lease.read`."""
        self._lease = lease
        self._part = part
        self._stopped = ""
        self._closed = False

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self._part.read.schema

    @property
    def positions(self) -> Mapping[str, Position]:
        """Of all parts."""
        return self._lease.positions

    @property
    def committed_at(self) -> Mapping[str, datetime | None]:
        """Of all parts."""
        return self._lease.committed_at

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows. Raises QueryFailed, QueryCancelled, StoreFailed, LimitReached, LakeFailed."""
        with self._lease.failing():
            for batch in self._part.read.batches():
                if self._stopped:
                    break
                yield batch
        if self._stopped:
            raise QueryCancelled(self._stopped)

    def cancel(self, why: str = "the statement was cancelled") -> None:
        """Stop after the batch that is being made."""
        self._stopped = why

    def close(self) -> None:
        """The part can be read again, from its beginning, until the lease ends. Safe twice."""
        if not self._closed:
            self._closed = True
            self._lease.give_back(self._part)


class Lease:
    """Several reads of one moment. Thread-safe."""

    def __init__(
        self, statement: Parted, parts: Sequence[_Part], schema: pa.Schema, seconds: float
    ) -> None:
        """Use `Leases.open`. `seconds`: how long it is kept after its last use."""
        self.schema = schema
        self.seconds = seconds
        self.positions = parts[0].read.positions
        self.committed_at = parts[0].read.committed_at
        self._statement = statement
        self._parts = parts
        self._lock = threading.Condition()
        self._used = time.monotonic()
        self._ended = ""

    @property
    def parts(self) -> int:
        """How many there are."""
        return len(self._parts)

    @property
    def ended(self) -> bool:
        """Whether its moment is over, and nothing of it is being read."""
        with self._lock:
            return bool(self._ended) and not any(part.busy for part in self._parts)

    def read(self, number: int) -> PartRead:
        """Begin to read a part. Raises MomentGone, PartInUse, and what a read raises."""
        part = self._parts[number]
        with self._lock:
            if not self._lock.wait_for(lambda: self._ended or not part.busy, _BUSY_SECONDS):
                raise PartInUse(
                    "this part of the rows is being read by another call, "
                    f"for {_BUSY_SECONDS:g} s already"
                )
            if self._ended:
                raise MomentGone(f"{self._ended}; ask for the statement again")
            part.busy = True
        asked = self._statement
        try:
            with self.failing():
                part.read.run(asked.of(part.table))
        except BaseException:
            self.give_back(part)
            raise
        return PartRead(self, part)

    def give_back(self, part: _Part) -> None:
        """A part is not being read any more."""
        with self._lock:
            if self._ended:
                part.read.close()
            else:
                part.read.end_statement()
            part.busy = False
            self._used = time.monotonic()
            self._lock.notify_all()

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """A part that fails cannot be read again, so the rows of the lease are not whole."""
        try:
            yield
        except HtapkitError as problem:
            self.end(f"a part of the rows failed ({problem})")
            raise

    def expire(self, now: float) -> None:
        """End it, if it was not used for too long. `now` is of time.monotonic."""
        with self._lock:
            busy = any(part.busy for part in self._parts)
            late = now - self._used > self.seconds
        if late and not busy:
            self.end(
                f"the moment of these rows is over: it is kept for {self.seconds:g} s after its "
                "last use (limits.lease_time)"
            )

    def end(self, why: str) -> None:
        """Let go of what is not being read now. Safe to call twice."""
        with self._lock:
            self._ended = self._ended or why
            self._lock.notify_all()
            for part in self._parts:
                if not part.busy:
                    part.read.close()


class Leases:
    """All leases of a store: their number, and their end."""

    def __init__(self, core: Core, reads: Reads) -> None:
        """None yet; the thread that ends them starts with the first."""
        self._core = core
        self._reads = reads
        self._lock = threading.Lock()
        self._open: list[Lease] = []
        self._beginning = 0
        self._guard: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def active(self) -> int:
        """How many there are."""
        with self._lock:
            return len(self._forget_ended())

    def open(self, statement: Parted, parts_max: int) -> Lease | None:
        """Reads of the parts of a statement; None: there is only one part, or room for one.

        Raises CatalogChanged, QueryFailed, StoreFailed, LakeFailed.
        """
        with self._room(parts_max) as count:
            reads = self._begun(statement, count) if count > 1 else []
            try:
                return self._divided(statement, reads) if reads else None
            except BaseException:
                _close(reads)
                raise

    def close(self) -> None:
        """No more of them."""
        self._stop.set()
        if self._guard is not None:
            self._guard.join()
        for lease in self._open:
            lease.end("the hot store is being closed")

    @contextlib.contextmanager
    def _room(self, parts_max: int) -> Iterator[int]:
        """How many parts there may be: leases have at most half of all reads."""
        with self._lock:
            held = sum(lease.parts for lease in self._forget_ended()) + self._beginning
            count = max(0, min(parts_max, self._core.database.limits.reads // 2 - held))
            self._beginning += count
        try:
            yield count
        finally:
            with self._lock:
                self._beginning -= count

    def _begun(self, statement: Parted, count: int) -> list[Read]:
        """Transactions of one moment; none where limits.reads does not allow so many now."""
        reads: list[Read] = []
        try:
            with self._core.writing():  # so that nothing is committed between them
                for _ in range(count):
                    reads.append(self._reads.begin(statement.sources, statement.catalog_version))
                    reads[-1].now = reads[0].now
        except LimitReached:
            _close(reads)
            return []
        except BaseException:
            _close(reads)
            raise
        return reads

    def _divided(self, statement: Parted, reads: Sequence[Read]) -> Lease | None:
        first, hot = reads[0], statement.hot
        rows = 0
        if numbered(hot.schema):
            first.run(Asked(last_row(hot)))
            (last,) = [row for batch in first.batches() for row in batch.column(0).to_pylist()]
            rows = 0 if last is None else last + 1
            first.end_statement()
        tables = divided(hot, statement.lake, rows, len(reads))
        if len(tables) == 1:
            _close(reads)
            return None
        # Only the columns: what is made here is seen before any ticket is given out.
        shape = f"SELECT * FROM ({statement.sql}) LIMIT 0"  # noqa: S608 - planned
        first.run(replace(statement.of(tables[0]), sql=shape))
        schema = first.schema
        first.end_statement()
        parts = [_Part(read, table) for read, table in zip(reads, tables, strict=False)]
        _close(reads[len(tables) :])
        lease = Lease(statement, parts, schema, self._core.database.limits.lease_seconds)
        with self._lock:
            self._open.append(lease)
            if self._guard is None:
                self._guard = threading.Thread(target=self._watch, name="lease-limit", daemon=True)
                self._guard.start()
        return lease

    def _watch(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            now = time.monotonic()
            with self._lock:
                leases = list(self._open)
            for lease in leases:
                lease.expire(now)
            with self._lock:
                self._forget_ended()

    def _forget_ended(self) -> Sequence[Lease]:
        """Those that have not ended. Under `_lock`."""
        self._open = [lease for lease in self._open if not lease.ended]
        return self._open


def _close(reads: Sequence[Read]) -> None:
    for read in reads:
        read.close()
