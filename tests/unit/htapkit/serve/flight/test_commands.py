"""Commands from their bytes."""

from __future__ import annotations

import pytest

from htapkit.errors import ProtocolError
from htapkit.serve.flight import commands
from htapkit.serve.flight.commands import NotOffered, read, wrapped
from htapkit.serve.flight.protobuf import make_number, make_octets, parse


@pytest.mark.parametrize(
    ("name", "body", "command"),
    [
        ("CommandStatementQuery", make_octets(1, "select 1"), commands.StatementQuery("select 1")),
        ("CommandStatementUpdate", make_octets(1, "é"), commands.StatementUpdate("é")),
        ("CommandPreparedStatementQuery", make_octets(1, b"h"), commands.PreparedQuery(b"h")),
        ("CommandPreparedStatementUpdate", make_octets(1, b"h"), commands.PreparedUpdate(b"h")),
        (
            "ActionCreatePreparedStatementRequest",
            make_octets(1, "select $1"),
            commands.CreatePrepared("select $1"),
        ),
        ("ActionClosePreparedStatementRequest", b"", commands.ClosePrepared(b"")),
        ("CommandGetCatalogs", b"", commands.GetCatalogs()),
        ("CommandGetDbSchemas", make_octets(2, "p%"), commands.GetDbSchemas(None, "p%")),
        (
            "CommandGetTables",
            make_octets(1, "")
            + make_octets(3, "t")
            + make_octets(4, "TABLE")
            + make_octets(4, "VIEW")
            + make_number(5, 1),
            commands.GetTables("", None, "t", ("TABLE", "VIEW"), include_schema=True),
        ),
        ("CommandGetTableTypes", b"", commands.GetTableTypes()),
        ("CommandGetSqlInfo", make_number(1, 3) + make_number(1, 4), commands.GetSqlInfo((3, 4))),
        (
            "CommandGetPrimaryKeys",
            make_octets(2, "s") + make_octets(3, "t"),
            commands.GetPrimaryKeys(None, "s", "t"),
        ),
    ],
)
def test_commands(name: str, body: bytes, command: commands.Command) -> None:
    assert read(wrapped(name, body)) == command


def test_a_ticket_comes_back() -> None:
    assert read(commands.statement_ticket(b"\x00\xff")) == commands.StatementTicket(b"\x00\xff")


def test_what_is_not_offered() -> None:
    with pytest.raises(NotOffered, match="CommandGetExportedKeys"):
        read(wrapped("CommandGetExportedKeys", b""))
    with pytest.raises(NotOffered, match="transactions"):
        read(wrapped("CommandStatementQuery", make_octets(1, "x") + make_octets(2, b"t")))


@pytest.mark.parametrize("data", [b"", b"select 1", b"\x0a\x00", make_octets(2, b"x")])
def test_what_is_no_command(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(data)


def test_results() -> None:
    assert parse(commands.update_result(-1)) == {1: [2**64 - 1]}
    assert parse(commands.bound_result(b"h")) == {1: [b"h"]}
    inside = parse(parse(commands.prepared_result(b"h", b"", b"p"))[2][0])  # type: ignore[arg-type]
    assert inside == {1: [b"h"], 3: [b"p"]}
