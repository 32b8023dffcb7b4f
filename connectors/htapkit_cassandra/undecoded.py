"""Rows as the node gives them, each value in its own bytes, which `cql` reads; sessions that do."""

from __future__ import annotations

import io
import struct
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from copy import copy
from typing import Any, BinaryIO, Final

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable, Session
from cassandra.protocol import ExecuteMessage, ResultMessage, _ProtocolHandler, read_int
from cassandra.query import PreparedStatement

from htapkit.errors import SourceUnavailable
from htapkit_cassandra.cluster import session
from htapkit_cassandra.settings import Settings

_PREPARED_MAX: Final = 500
_NOW_IN_SECONDS: Final = 0x0100


class _Bytes(ResultMessage):  # type: ignore[misc]  # the driver has no types
    """Rows of undecoded values."""

    def recv_results_rows(
        self, f: object, _: int, user_types: object, known: Sequence[Any], __: object
    ) -> None:
        """As the driver's own, which decodes."""
        self.recv_results_metadata(f, user_types)
        columns = self.column_metadata or known
        self.column_names = [column[2] for column in columns]
        self.column_types = [column[3] for column in columns]
        self.parsed_rows = [self.recv_row(f, len(columns)) for _ in range(read_int(f))]


class AsBytes(_ProtocolHandler):  # type: ignore[misc]  # the driver has no types
    """For `Session.client_protocol_handler`."""

    message_types_by_opcode: Mapping[int, Any] = {
        **_ProtocolHandler.message_types_by_opcode,
        ResultMessage.opcode: _Bytes,
    }


class AtMoment:
    """As `AsBytes`, and the node is told when statements are run, in seconds since 1970.

    What TTL() says is then exact: the end less that moment. For `Session.client_protocol_handler`.
    """

    decode_message = AsBytes.decode_message

    def __init__(self, seconds: int = 0) -> None:
        """`seconds` may be set between statements."""
        self.seconds = seconds

    def encode_message(self, msg: object, *more: object, **named: object) -> bytes:
        """As the driver's own, which cannot say the moment."""
        message: Any = msg
        if isinstance(message, ExecuteMessage):
            message = copy(message)
            message.__class__ = _ExecuteAt
            message.moment = self.seconds
        made: bytes = AsBytes.encode_message(message, *more, **named)
        return made


class _ExecuteAt(ExecuteMessage):  # type: ignore[misc]  # the driver has no types
    """EXECUTE with `now_in_seconds`, the last of protocol 5's query parameters (4.1.4)."""

    moment: int

    def _write_query_params(self, f: BinaryIO, protocol_version: int) -> None:
        own = io.BytesIO()
        super()._write_query_params(own, protocol_version)
        consistency, flags = struct.unpack_from(">HI", own.getvalue())
        f.write(struct.pack(">HI", consistency, flags | _NOW_IN_SECONDS))
        f.write(own.getvalue()[6:] + struct.pack(">i", self.moment))


class KeptSession:
    """A session that gives rows as bytes, kept with what it has prepared. Thread-safe."""

    def __init__(self, settings: Settings, handler: type[AsBytes] | AtMoment = AsBytes) -> None:
        """Nothing is connected before it is asked for."""
        self._settings = settings
        self._handler = handler
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._session: Session | None = None
        self._prepared: dict[str, PreparedStatement] = {}

    def opened(self) -> Session:
        """Connected, if it is not yet. Raises SourceError."""
        with self._lock:
            if self._session is None:
                self._session = self._stack.enter_context(session(self._settings))
                self._session.client_protocol_handler = self._handler
            return self._session

    def statement(self, opened: Session, text: str) -> PreparedStatement:
        """Prepared once for each session. Raises the driver's errors."""
        found = self._prepared.get(text)
        if found is None:
            found = opened.prepare(text)
            found.is_idempotent = True
            with self._lock:
                if opened is self._session:
                    if len(self._prepared) >= _PREPARED_MAX:
                        self._prepared.clear()
                    self._prepared[text] = found
        return found

    def gone(self, opened: Session) -> None:
        """That one does not answer: whoever asks next connects anew."""
        with self._lock:
            if opened is self._session:
                self._let_go()

    def close(self) -> None:
        """Let go of the connection. Safe to call twice."""
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        self._session = None
        self._prepared.clear()
        with suppress(SourceUnavailable, DriverException, NoHostAvailable):
            self._stack.close()
