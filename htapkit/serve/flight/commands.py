"""Flight SQL's commands as values: from the bytes of a descriptor, a ticket or an action, and back.

Every message travels inside an `Any`, which names its type. Only what this server understands is
here; the field numbers are those of Flight SQL's own definition. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from htapkit.errors import HtapkitError, ProtocolError
from htapkit.serve.flight import protobuf
from htapkit.serve.flight.protobuf import Fields, make_number, make_octets

_PACKAGE = "type.googleapis.com/arrow.flight.protocol.sql."


class NotOffered(HtapkitError):
    """A part of Flight SQL that this server does not have."""

    sqlstate = "0A000"


class NeedsSession(HtapkitError):
    """A statement that means something only to the statements after it."""

    sqlstate = "0A000"


@dataclass(frozen=True, slots=True)
class StatementQuery:
    """A statement, for its rows."""

    query: str


@dataclass(frozen=True, slots=True)
class StatementUpdate:
    """A statement, for the number of rows that it changes."""

    query: str


@dataclass(frozen=True, slots=True)
class StatementTicket:
    """What `get_flight_info` gave out for a statement."""

    handle: bytes


@dataclass(frozen=True, slots=True)
class PreparedQuery:
    """A prepared statement, for its rows; in a put: its parameters."""

    handle: bytes


@dataclass(frozen=True, slots=True)
class PreparedUpdate:
    """A prepared statement with parameters, for the number of rows that it changes."""

    handle: bytes


@dataclass(frozen=True, slots=True)
class CreatePrepared:
    """Prepare a statement."""

    query: str


@dataclass(frozen=True, slots=True)
class ClosePrepared:
    """Forget a prepared statement."""

    handle: bytes


@dataclass(frozen=True, slots=True)
class GetCatalogs:
    """The databases."""


@dataclass(frozen=True, slots=True)
class GetDbSchemas:
    """The schemas of a database; None means any."""

    catalog: str | None
    pattern: str | None


@dataclass(frozen=True, slots=True)
class GetTables:
    """The tables of a database; None means any, and so does an empty list of types."""

    catalog: str | None
    schema_pattern: str | None
    name_pattern: str | None
    types: tuple[str, ...]
    include_schema: bool


@dataclass(frozen=True, slots=True)
class GetTableTypes:
    """The kinds of tables."""


@dataclass(frozen=True, slots=True)
class GetSqlInfo:
    """Facts about the server; no numbers mean all."""

    infos: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GetPrimaryKeys:
    """The key columns of one table."""

    catalog: str | None
    schema: str | None
    table: str


Metadata = GetCatalogs | GetDbSchemas | GetTables | GetTableTypes | GetSqlInfo | GetPrimaryKeys
Command = (
    StatementQuery
    | StatementUpdate
    | StatementTicket
    | PreparedQuery
    | PreparedUpdate
    | CreatePrepared
    | ClosePrepared
    | Metadata
)


def _query(fields: Fields) -> str:
    if protobuf.octets(fields, 2):
        raise NotOffered(
            "there are no transactions over Flight SQL; each statement is one of its own, "
            "and the PostgreSQL port has transactions"
        )
    return protobuf.text(fields, 1) or ""


def _handle(fields: Fields) -> bytes:
    return protobuf.octets(fields, 1) or b""


_READERS: Mapping[str, Callable[[Fields], Command]] = {
    "CommandStatementQuery": lambda f: StatementQuery(_query(f)),
    "CommandStatementUpdate": lambda f: StatementUpdate(_query(f)),
    "TicketStatementQuery": lambda f: StatementTicket(_handle(f)),
    "CommandPreparedStatementQuery": lambda f: PreparedQuery(_handle(f)),
    "CommandPreparedStatementUpdate": lambda f: PreparedUpdate(_handle(f)),
    "ActionCreatePreparedStatementRequest": lambda f: CreatePrepared(_query(f)),
    "ActionClosePreparedStatementRequest": lambda f: ClosePrepared(_handle(f)),
    "CommandGetCatalogs": lambda _: GetCatalogs(),
    "CommandGetDbSchemas": lambda f: GetDbSchemas(protobuf.text(f, 1), protobuf.text(f, 2)),
    "CommandGetTables": lambda f: GetTables(
        protobuf.text(f, 1),
        protobuf.text(f, 2),
        protobuf.text(f, 3),
        protobuf.texts(f, 4),
        protobuf.flag(f, 5),
    ),
    "CommandGetTableTypes": lambda _: GetTableTypes(),
    "CommandGetSqlInfo": lambda f: GetSqlInfo(protobuf.numbers(f, 1)),
    "CommandGetPrimaryKeys": lambda f: GetPrimaryKeys(
        protobuf.text(f, 1), protobuf.text(f, 2), protobuf.text(f, 3) or ""
    ),
}


def read(data: bytes) -> Command:
    """The command in an `Any`. Raises ProtocolError, NotOffered."""
    fields = protobuf.parse(data)
    kind = protobuf.text(fields, 1) or ""
    name = kind.rpartition(".")[2]
    if not name:
        raise ProtocolError("expected a Flight SQL command")
    reader = _READERS.get(name)
    if reader is None:
        raise NotOffered(f"{name} is not offered over Flight SQL here")
    return reader(protobuf.parse(protobuf.octets(fields, 2) or b""))


def wrapped(name: str, body: bytes) -> bytes:
    """An `Any` with a message of that name."""
    return make_octets(1, _PACKAGE + name) + make_octets(2, body)


def statement_ticket(handle: bytes) -> bytes:
    """A ticket for a statement's rows."""
    return wrapped("TicketStatementQuery", make_octets(1, handle))


def prepared_result(handle: bytes, rows: bytes, parameters: bytes) -> bytes:
    """The answer to CreatePrepared; the schemas are Arrow IPC messages, b"" where there is none."""
    body = make_octets(1, handle)
    if rows:
        body += make_octets(2, rows)
    if parameters:
        body += make_octets(3, parameters)
    return wrapped("ActionCreatePreparedStatementResult", body)


def update_result(rows: int) -> bytes:
    """The answer to an update."""
    return make_number(1, rows)


def bound_result(handle: bytes) -> bytes:
    """The answer to a put of parameters."""
    return make_octets(1, handle)
