"""Rows as the node gives them: each value in its own bytes, which `cql` reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cassandra.protocol import ResultMessage, _ProtocolHandler, read_int


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
