"""A conversation with the source for one client: statements in, Arrow out.

It speaks the PostgreSQL wire over a logged-in `OriginSession`, one statement at a time, each in a
transaction of its own. After an error in the middle it is broken and must be closed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import pyarrow as pa

from htapkit.errors import HtapkitError, SourceRefused, SourceUnavailable
from htapkit.serve.flight import source_rows
from htapkit.serve.flight.commands import NeedsSession
from htapkit.serve.flight.types import rows_schema
from htapkit.serve.pgwire import messages
from htapkit.serve.pgwire.database import Described
from htapkit.serve.pgwire.messages import Field
from htapkit.serve.pgwire.settings import SourceSettings, read_settings
from htapkit.spi import OriginSession
from htapkit.sqlfiles import sql

_HEAD = struct.Struct("!ci")
_READ_BYTES = 262_144
_BATCH_ROWS = 16_384
_BATCH_BYTES = 8 << 20
_TOGETHER = 500
"""Executions sent before their answers are read: too few to fill both ends' buffers."""

Message = tuple[bytes, bytes]
_CHANGED = "the statement's columns have changed at the source; ask, or prepare, again"
_OTHER_FORMATS = "08P01"  # as many result formats as columns were promised, and not as there are
_COPIES = frozenset({b"G", b"H", b"W"})


class ColumnsChanged(HtapkitError):
    """A statement gives other columns now than when it was described."""

    sqlstate = "0A000"
    retry = True


class SourceConnection:
    """One connection. One thread at a time, but for `cancel`."""

    def __init__(self, session: OriginSession) -> None:
        """It is logged in; nothing was sent yet."""
        self._session = session
        self._wire = session.wire
        self._data = b""
        self._position = 0
        self.broken = False
        self.in_transaction = False  # a statement has opened one and left it so
        self.settings = self._settings()

    def cancel(self) -> None:
        """Stop the statement that runs. Any thread."""
        self._session.cancel()

    def close(self) -> None:
        """Let go of the connection; what runs there is undone."""
        self.broken = True
        self._wire.close()

    def reset(self) -> None:
        """Take back whatever a statement left in the session."""
        self.update("discard all")

    def describe(self, text: str, types: Sequence[int] = ()) -> Described:
        """A statement's parameters and columns. Raises SourceRefused."""
        self._send(messages.parse(b"", text, types), messages.describe(b"S", b""), messages.SYNC)
        parameters: tuple[int, ...] = ()
        fields: tuple[Field, ...] | None = None
        for kind, body in self._until_ready():
            if kind == b"t":
                parameters = messages.read_oids(body)
            elif kind == b"T":
                fields = messages.read_fields(body)
        return Described(parameters, fields)

    def rows(
        self,
        text: str,
        values: Sequence[bytes | None],
        schema: pa.Schema,
        types: Sequence[int] = (),
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a statement. Raises SourceRefused, ColumnsChanged.

        It must be read to its end; otherwise the connection is broken.
        """
        self._send(
            messages.parse(b"", text, types),
            messages.bind(b"", b"", values, source_rows.formats(schema)),
            messages.describe(b"P", b""),
            messages.execute(b""),
            messages.SYNC,
        )
        self.broken = True
        gathered: list[bytes] = []
        size = 0
        for kind, body in self._until_ready():
            if kind == b"T":
                _check_columns(rows_schema(messages.read_fields(body)), schema)
            if kind != b"D":
                continue
            gathered.append(body)
            size += len(body)
            if len(gathered) >= _BATCH_ROWS or size >= _BATCH_BYTES:
                yield source_rows.batch(gathered, schema)
                gathered, size = [], 0
        if gathered:
            yield source_rows.batch(gathered, schema)

    def update(
        self, text: str, rows: Iterable[Sequence[bytes | None]] = ((),), types: Sequence[int] = ()
    ) -> tuple[int, str]:
        """Execute it once for each row of parameters, all or none: (rows changed, last tag)."""
        self._send(messages.parse(b"", text, types))
        changed, tag = 0, ""
        waiting = iter(rows)
        while some := list(islice(waiting, _TOGETHER)):
            sent = []
            for values in some:
                sent += [messages.bind(b"", b"", values), messages.execute(b"")]
            self._send(*sent, messages.FLUSH)
            for _ in some:
                tag = self._completed()
                changed += _changed(tag)
        self._send(messages.SYNC)
        for _ in self._until_ready():
            pass
        return changed, tag

    def _completed(self) -> str:
        """The tag of one execution. Raises SourceRefused, with all of them undone."""
        while True:
            kind, body = self._receive()
            if kind == b"E":
                self._send(messages.SYNC)
                self._fail(body)
            if kind in _COPIES:
                self._refuse_copy()
            if kind in {b"C", b"I"}:
                return body.rstrip(b"\0").decode(errors="replace")

    def _settings(self) -> SourceSettings:
        self._send(
            messages.parse(b"", sql("source/session_settings")),
            messages.bind(b"", b""),
            messages.describe(b"P", b""),
            messages.execute(b""),
            messages.SYNC,
        )
        found = dict(self._until_ready())
        names = [each.name for each in messages.read_fields(found[b"T"])]
        return read_settings(names, messages.read_row(found[b"D"]))

    # -- messages ------------------------------------------------------------------------------

    def _send(self, *parts: bytes) -> None:
        try:
            self._wire.sendall(b"".join(parts))
        except OSError as error:
            self.broken = True
            raise SourceUnavailable(f"the source closed the connection: {error}") from error

    def _until_ready(self) -> Iterator[Message]:
        """All messages up to ReadyForQuery. Raises SourceRefused behind it."""
        while True:
            kind, body = self._receive()
            if kind == b"E":
                self._fail(body)
            if kind in _COPIES:
                self._refuse_copy()
            if kind == b"Z":
                self._ready(body)
                return
            yield kind, body

    def _ready(self, status: bytes) -> None:
        self.broken = False
        self.in_transaction = status != b"I"

    def _fail(self, body: bytes) -> None:
        """The source has refused a statement: read to ReadyForQuery, then say why."""
        kind, last = b"E", body
        while kind != b"Z":
            kind, last = self._receive()
        self._ready(last)
        fields = messages.error_fields(body)
        if fields.get("C") == _OTHER_FORMATS:
            raise ColumnsChanged(_CHANGED)
        raise SourceRefused(fields.get("M", "the source refused the statement"), body)

    def _refuse_copy(self) -> None:
        self.close()
        raise NeedsSession("COPY is not offered over Flight SQL; use the PostgreSQL port")

    def _receive(self) -> Message:
        """The next message but notices and the like. Raises SourceUnavailable."""
        while True:
            self._fill(5)
            kind, size = _HEAD.unpack_from(self._data, self._position)
            self._fill(size + 1)
            begin = self._position + 5
            self._position = end = begin + size - 4
            if kind not in {b"N", b"S", b"A"}:
                return kind, self._data[begin:end]

    def _fill(self, size: int) -> None:
        """Have at least `size` bytes from the position on."""
        if len(self._data) - self._position >= size:
            return
        parts = [self._data[self._position :]]
        have = len(parts[0])
        while have < size:
            try:
                more = self._wire.recv(_READ_BYTES)
            except OSError as error:
                self.broken = True
                raise SourceUnavailable(f"the source closed the connection: {error}") from error
            if not more:
                self.broken = True
                raise SourceUnavailable("the source closed the connection")
            parts.append(more)
            have += len(more)
        self._data, self._position = b"".join(parts), 0


def _check_columns(found: pa.Schema, promised: pa.Schema) -> None:
    if found.types != promised.types:
        raise ColumnsChanged(_CHANGED)


def _changed(tag: str) -> int:
    """The rows that a command tag counts."""
    last = tag.rpartition(" ")[2]
    return int(last) if last.isdigit() else 0
