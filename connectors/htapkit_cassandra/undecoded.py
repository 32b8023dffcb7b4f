"""Rows as the node gives them, each value in its own bytes, which `cql` reads; sessions that do."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Final

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable, Session
from cassandra.protocol import ResultMessage, _ProtocolHandler, read_int
from cassandra.query import PreparedStatement

from htapkit.errors import SourceUnavailable
from htapkit_cassandra.cluster import session
from htapkit_cassandra.settings import Settings

_PREPARED_MAX: Final = 500


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


class KeptSession:
    """A session that gives rows as bytes, kept with what it has prepared. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is connected before it is asked for."""
        self._settings = settings
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._session: Session | None = None
        self._prepared: dict[str, PreparedStatement] = {}

    def opened(self) -> Session:
        """Connected, if it is not yet. Raises SourceError."""
        with self._lock:
            if self._session is None:
                self._session = self._stack.enter_context(session(self._settings))
                self._session.client_protocol_handler = AsBytes
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
