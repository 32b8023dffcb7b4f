"""A database behind which there is no PostgreSQL: what stands in for one on the wire.

It knows names and types of what is answered from the copy, because it is given statements of the
same shape; transactions that only read; and a session's settings, which are fixed. All else it
refuses. It computes nothing and never sees a row of the copy.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from htapkit.errors import HtapkitError
from htapkit.model import Access
from htapkit.serve.pgwire import messages, own
from htapkit.serve.pgwire.executes import ABORTED, AbortedTransaction
from htapkit.serve.pgwire.messages import Field
from htapkit.serve.pgwire.settings import zone_named
from htapkit.serve.pgwire.tls import SocketWire
from htapkit.serve.pgwire.zone_offsets import zone_answer, zone_question
from htapkit.spi import Credential, OriginSession, OwnRole
from htapkit.sqlfiles import sql

_TEXT = 25
_HEAD = struct.Struct("!ci")
_ROW_SETTINGS = {
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "client_encoding": "UTF8",
    "server_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "row_security": "on",
    "default_transaction_isolation": "read committed",
    "transaction_isolation": "read committed",
    "statement_timeout_ms": "0",
    "schemas": json.dumps(["pg_catalog"]),
    "temporary": "f",
}
_COMMANDS = {
    "begin": ("BEGIN", "T"),
    "begin transaction": ("BEGIN", "T"),
    "start transaction": ("START TRANSACTION", "T"),
    "commit": ("COMMIT", "I"),
    "end": ("COMMIT", "I"),
    "rollback": ("ROLLBACK", "I"),
    "abort": ("ROLLBACK", "I"),
    "discard all": ("DISCARD ALL", ""),
    "deallocate all": ("DEALLOCATE ALL", ""),
}
_HARMLESS = ("set extra_float_digits", "set application_name", "set htapkit.placeholder")


class NotAnswered(HtapkitError):
    """A command that only a PostgreSQL could carry out."""

    sqlstate = "0A000"


class NoUsers(HtapkitError):
    """Somebody wants to log in where nobody is known."""

    sqlstate = "28000"


@dataclass(frozen=True, slots=True)
class Alone:
    """The spi.Origin of a source that has none.

    `trust`: everybody may read, nobody is asked, at whatever port. `readers` are roles of whatever
    source a session is of; "*" is every one.
    """

    name: str
    trust: bool
    readers: tuple[str, ...] = ()

    @property
    def connections(self) -> int:
        """None are opened."""
        return 0

    def open(
        self,
        user: str,
        parameters: Mapping[str, str],
        credential: Credential,
    ) -> OriginSession:
        """A session with a stand-in, in this process; not for a password, which nobody checks."""
        if not isinstance(credential, OwnRole):
            raise self._no_users()  # from a port that does not trust, whatever another one does
        self._check()
        ours, theirs = socket.socketpair()
        backend = Backend(self.name, user, parameters.get("TimeZone", "UTC"))
        arguments = (theirs, backend)
        threading.Thread(target=_serve, args=arguments, name="alone", daemon=True).start()
        return OriginSession(SocketWire(ours), backend.greeting(), lambda: None)

    def verifier(self, user: str) -> str | None:  # noqa: ARG002
        """There are no users."""
        self._check()
        return None

    def denied(self, role: str, access: Sequence[Access]) -> str:  # noqa: ARG002
        """Whether the role may read, and why not."""
        if self.trust or role in self.readers or "*" in self.readers:
            return ""
        names = f"sources.{self.name}.readers"
        return f"permission denied for {self.name}: {names} does not name {role}"

    def _check(self) -> None:
        if not self.trust:
            raise self._no_users()

    def _no_users(self) -> NoUsers:
        return NoUsers(
            f"{self.name} has no users of its own: nobody can log in to it unless "
            "each port for SQL (servers.pgwire, servers.flight) has auth: trust"
        )


def _serve(wire: socket.socket, backend: Backend) -> None:
    rest = b""
    with wire, suppress(OSError):
        while data := wire.recv(65536):
            rest += data
            answers = []
            while len(rest) >= _HEAD.size:
                kind, size = _HEAD.unpack_from(rest)
                if len(rest) < size + 1:
                    break
                answers.append(backend.answer(kind, rest[_HEAD.size : size + 1]))
                rest = rest[size + 1 :]
            wire.sendall(b"".join(answers))


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a statement is to the stand-in."""

    fields: tuple[Field, ...] = ()
    parameters: tuple[int, ...] = ()
    row: tuple[str | None, ...] | None = None
    tag: str = ""
    status: str = ""  # of the transaction, behind it
    refusal: str = ""  # why it cannot be executed here


class Backend:
    """The stand-in's side of one session: messages in, messages out."""

    def __init__(self, name: str, user: str, zone: str) -> None:
        """`name` is of the database."""
        self._name = name
        self._settings = {"TimeZone": zone, **_ROW_SETTINGS, "role": user}
        self._status = "I"
        self._skipping = False
        self._statements: dict[bytes, Spoken] = {}
        self._portals: dict[bytes, Spoken] = {}

    def greeting(self) -> bytes:
        """All that comes behind AuthenticationOk."""
        told = {
            "server_version": "16.0",
            "is_superuser": "off",
            "integer_datetimes": "on",
            "session_authorization": self._settings["role"],
        }
        names = ["client_encoding", "server_encoding", "DateStyle", "IntervalStyle", "TimeZone"]
        names.append("standard_conforming_strings")
        told |= {name: self._settings[name] for name in names}
        status = [messages.text(n) + messages.text(v) for n, v in told.items()]
        return b"".join(messages.message(b"S", each) for each in status) + messages.ready("I")

    def answer(self, kind: bytes, body: bytes) -> bytes:
        """The replies to one message."""
        if kind == b"S":
            self._skipping = False
            if self._status == "I":
                self._portals.clear()
            return messages.ready(self._status)
        if kind == b"Q":
            self._skipping = False
            return self._query(body[:-1].decode(errors="replace")) + messages.ready(self._status)
        if self._skipping:
            return b""
        try:
            return self._extended(kind, body)
        except HtapkitError as problem:
            self._skipping = True
            return self._failed(problem)

    def _extended(self, kind: bytes, body: bytes) -> bytes:
        if kind == b"P":
            name, text, _ = messages.read_parse(body)
            self._statements[name] = self._allowed(text.decode(errors="replace"))
            return messages.message(b"1")
        if kind == b"B":
            portal, name, _ = messages.bind_names(body)
            self._portals[portal] = self._found(self._statements, name)
            return messages.message(b"2")
        if kind == b"D":
            of_statement = body[:1] == b"S"
            known = self._statements if of_statement else self._portals
            spoken = self._found(known, body[1:-1])
            return (_parameters(spoken) if of_statement else b"") + _described(spoken)
        if kind == b"E":
            return self._executed(self._found(self._portals, messages.read_execute(body)[0]))
        if kind == b"C":
            known = self._statements if body[:1] == b"S" else self._portals
            known.pop(body[1:-1], None)
            return messages.message(b"3")
        if kind == b"H":
            return b""
        raise NotAnswered(f"{self._name} takes no message of this kind")

    def _query(self, text: str) -> bytes:
        try:
            spoken = self._allowed(text)
            described = _described(spoken) if spoken.fields else b""
            return described + self._executed(spoken)
        except HtapkitError as problem:
            return self._failed(problem)

    def _failed(self, problem: HtapkitError) -> bytes:
        self._status = "E" if self._status != "I" else "I"
        return messages.error(problem)

    def _found(self, known: Mapping[bytes, Spoken], name: bytes) -> Spoken:
        if name not in known:
            raise NotAnswered(f"there is no statement or portal named {name.decode()!r}")
        return known[name]

    def _executed(self, spoken: Spoken) -> bytes:
        if spoken.refusal:
            raise NotAnswered(spoken.refusal)
        if not spoken.tag:
            return messages.message(b"I")
        tag = spoken.tag
        if spoken.status:
            tag = "ROLLBACK" if self._status == "E" and tag == "COMMIT" else tag
            self._status = spoken.status
        if spoken.row is None:
            return messages.complete(tag)
        return messages.data_row(spoken.row) + messages.complete(tag)

    def _allowed(self, text: str) -> Spoken:
        """What the statement is. Raises NotAnswered, AbortedTransaction."""
        spoken = self._understood(text)
        if self._status == "E" and spoken.status != "I":
            raise AbortedTransaction(ABORTED)
        return spoken

    def _understood(self, text: str) -> Spoken:
        if text == sql("source/session_settings"):
            return _told(self._settings)
        zone = zone_named(self._settings["TimeZone"])
        if zone is not None and text == zone_question(zone):
            return _told({"answer": zone_answer(zone)})
        shape = own.read_shape(text)
        if shape is not None:
            why = f"{self._name} has no PostgreSQL that could answer this"
            return Spoken(messages.fields_of(shape.columns), shape.parameters, refusal=why)
        words = " ".join(text.rstrip("; \t\n").lower().split())
        if not words:
            return Spoken()
        if words in _COMMANDS:
            tag, status = _COMMANDS[words]
            return Spoken(tag=tag, status=status)
        if words.startswith(_HARMLESS):
            return Spoken(tag="SET")
        raise NotAnswered(
            f"{self._name} has no PostgreSQL behind it, which alone could carry this out; "
            "transactions here only read, and have no savepoints and no other isolation"
        )


def _told(values: Mapping[str, str | None]) -> Spoken:
    """One row of texts."""
    fields = messages.fields_of([(name, _TEXT) for name in values])
    return Spoken(fields, row=tuple(values.values()), tag="SELECT 1")


def _parameters(spoken: Spoken) -> bytes:
    oids = spoken.parameters
    return messages.message(b"t", struct.pack(f"!h{len(oids)}I", len(oids), *oids))


def _described(spoken: Spoken) -> bytes:
    return messages.row_description(spoken.fields) if spoken.fields else messages.message(b"n")
