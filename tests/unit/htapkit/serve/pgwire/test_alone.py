"""What stands in for a PostgreSQL: shapes read back, transactions, refusals."""

from __future__ import annotations

import pytest

from htapkit.model import Route, SqlType
from htapkit.plan import SessionView
from htapkit.plan.plan import LocalQuery, OutColumn, Parameter
from htapkit.serve.pgwire import Alone, messages, own
from htapkit.serve.pgwire.alone import Backend, NoUsers
from htapkit.serve.pgwire.settings import read_settings
from htapkit.spi import OwnRole, Password
from htapkit.sqlfiles import sql


def _replies(backend: Backend, *sent: bytes) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    for each in sent:
        data = backend.answer(each[:1], each[5:])
        while data:
            size = int.from_bytes(data[1:5], "big")
            found.append((data[:1], data[5 : size + 1]))
            data = data[size + 1 :]
    return found


def _query(backend: Backend, text: str) -> list[tuple[bytes, bytes]]:
    return _replies(backend, messages.message(b"Q", text.encode() + b"\0"))


def _kinds(replies: list[tuple[bytes, bytes]]) -> str:
    return b"".join(kind for kind, _ in replies).decode()


@pytest.fixture
def backend() -> Backend:
    """Of a database named events."""
    return Backend("events", "ann", "Europe/Berlin")


def test_shapes_are_read_back() -> None:
    """Names with quotes, types that only we know, none at all."""
    columns = (
        OutColumn('a "b", c', SqlType("int4", 23)),
        OutColumn("WHERE 1 /", SqlType("inet", 869)),
        OutColumn("own", SqlType("mood", 70_000, category="e")),
    )
    asked = (Parameter(1, SqlType("_float8", 1022, 3, "v")), Parameter(2, SqlType("int8", 20)))
    query = LocalQuery(Route.HOT, "", columns, asked, (), (), None, ())
    shape = own.read_shape(own.shape(query))
    assert shape is not None
    assert shape.columns == (('a "b", c', 23), ("WHERE 1 /", 869), ("own", 25))
    assert shape.parameters == (1022, 20)
    for text in ("SELECT 1", 'SELECT NULL::pg_catalog."int4" AS "x" FROM t', "", "select"):
        assert own.read_shape(text) is None


def test_settings_are_told(backend: Backend) -> None:
    """As from a PostgreSQL: nothing keeps a session from local answers."""
    replies = _query(backend, sql("source/session_settings"))
    assert _kinds(replies) == "TDCZ"
    names = [field.name for field in messages.read_fields(replies[0][1])]
    settings = read_settings(names, messages.read_row(replies[1][1]))
    assert (settings.problem, settings.role, settings.read_committed) == ("", "ann", True)
    assert str(settings.zone) == "Europe/Berlin"
    view = settings.view("events", "auto", alone=True)
    assert view == SessionView("events", (), "Europe/Berlin", "auto", alone=True)


def test_transactions_that_only_read(backend: Backend) -> None:
    """An error puts one into error, and ROLLBACK ends it, as the protocol wants."""
    assert _query(backend, "BEGIN;")[-1] == (b"Z", b"T")
    refused = _query(backend, "INSERT INTO t VALUES (1)")
    assert messages.error_fields(refused[0][1])["C"] == "0A000"
    assert refused[-1] == (b"Z", b"E")
    aborted = _query(backend, "BEGIN")
    assert messages.error_fields(aborted[0][1])["C"] == "25P02"
    ended = _query(backend, "commit")
    assert ended == [(b"C", b"ROLLBACK\0"), (b"Z", b"I")]
    assert _kinds(_query(backend, "begin isolation level serializable")) == "EZ", "not kept"


def test_a_batch_is_skipped_behind_its_error(backend: Backend) -> None:
    """Up to Sync; what was parsed before stays."""
    good = 'select \'\'::pg_catalog."text" AS "x"'
    sent = (
        messages.parse(b"a", good),
        messages.parse(b"b", "SELECT version()"),
        messages.describe(b"S", b"a"),
        messages.message(b"S"),
        messages.describe(b"S", b"a"),
        messages.bind(b"p", b"a"),
        messages.execute(b"p"),
        messages.message(b"S"),
    )
    replies = _replies(backend, *sent)
    assert _kinds(replies) == "1EZtT2EZ"
    assert "no PostgreSQL" in messages.error_fields(replies[-2][1])["M"]


def test_nobody_logs_in_without_trust() -> None:
    """There are no users that could; and the copy is nobody's to read."""
    alone = Alone("events", trust=False)
    with pytest.raises(NoUsers, match="auth"):
        alone.open("ann", {}, OwnRole())
    with pytest.raises(NoUsers):
        alone.verifier("ann")
    assert "readers does not name ann" in alone.denied("ann", ())
    assert Alone("events", trust=True).denied("ann", ()) == ""


def test_a_password_is_not_trusted() -> None:
    """The PostgreSQL port may trust this machine while the Flight port is open to others."""
    with pytest.raises(NoUsers, match="no users of its own"):
        Alone("events", trust=True).open("ann", {}, Password("anything"))


def test_readers_are_roles_of_other_sources() -> None:
    """Those that are named, or every one; logging in stays closed."""
    some, all_ = (Alone("events", trust=False, readers=r) for r in (("ann",), ("*",)))
    assert some.denied("ann", ()) == all_.denied("bob", ()) == ""
    assert "bob" in some.denied("bob", ())
    with pytest.raises(NoUsers):
        some.verifier("ann")
