"""Messages of the PostgreSQL wire protocol as bytes.

Builders, and readers of what we must look into.

Pure functions. Nothing here knows a session; lengths are checked by whoever cuts the stream into
messages.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from htapkit.errors import HtapkitError, ProtocolError, SourceRefused

_INT32 = struct.Struct("!i")
_INT16 = struct.Struct("!h")
_FIELD = struct.Struct("!IhIhih")  # table, column, type, size, modifier, format

PROTOCOL_3_0 = 196608
SSL_REQUEST = 80877103
GSS_REQUEST = 80877104
CANCEL_REQUEST = 80877102


def message(kind: bytes, body: bytes = b"") -> bytes:
    """One message with its length."""
    return kind + _INT32.pack(len(body) + 4) + body


def text(value: str) -> bytes:
    """A zero-terminated string."""
    return value.encode() + b"\0"


def error_body(sqlstate: str, what: str, *, severity: str = "ERROR", hint: str = "") -> bytes:
    """The fields of an ErrorResponse."""
    fields = [("S", severity), ("V", severity), ("C", sqlstate), ("M", what.replace("\0", ""))]
    if hint:
        fields.append(("H", hint))
    return b"".join(code.encode() + text(value) for code, value in fields) + b"\0"


def error(problem: HtapkitError, severity: str = "ERROR") -> bytes:
    """An ErrorResponse; the source's own words where it had some."""
    if isinstance(problem, SourceRefused) and problem.diagnostic:
        return message(b"E", problem.diagnostic)
    return message(b"E", error_body(problem.sqlstate, str(problem), severity=severity))


def error_fields(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse by their letter."""
    parts = body.split(b"\0")
    return {chr(part[0]): part[1:].decode(errors="replace") for part in parts if part}


def without_position(body: bytes) -> bytes:
    """An ErrorResponse's fields without those that point into a statement the client never sent."""
    parts = [part for part in body.split(b"\0") if part and part[:1] not in b"PpqW"]
    return b"\0".join(parts) + b"\0\0"


def ready(status: str) -> bytes:
    """ReadyForQuery."""
    return message(b"Z", status.encode())


def complete(tag: str) -> bytes:
    """CommandComplete."""
    return message(b"C", text(tag))


def authentication(code: int, payload: bytes = b"") -> bytes:
    """An Authentication request."""
    return message(b"R", _INT32.pack(code) + payload)


@dataclass(frozen=True, slots=True)
class Field:
    """A column as RowDescription announces it."""

    name: bytes
    oid: int
    typmod: int
    fixed: bytes  # the 16 bytes between the name and the format code


def read_fields(body: bytes) -> tuple[Field, ...]:
    """The columns of a RowDescription."""
    (count,) = _INT16.unpack_from(body)
    position = 2
    found = []
    for _ in range(count):
        end = body.index(b"\0", position)
        name = body[position:end]
        fixed = body[end + 1 : end + 17]
        _, _, oid, _, typmod, _ = _FIELD.unpack_from(body, end + 1)
        found.append(Field(name, oid, typmod, fixed))
        position = end + 19
    return tuple(found)


def row_description(fields: Sequence[Field], formats: Sequence[int] = ()) -> bytes:
    """RowDescription of these columns; no `formats` means text."""
    wanted = formats or [0] * len(fields)
    parts = [_INT16.pack(len(fields))]
    for field, code in zip(fields, wanted, strict=True):
        parts.append(field.name + b"\0" + field.fixed + _INT16.pack(code))
    return message(b"T", b"".join(parts))


_BOOL, _TEXT, _FLOAT8 = 16, 25, 701
_SIZES = {_BOOL: 1, _TEXT: -1, _FLOAT8: 8}


def made_up_fields(columns: Mapping[str, int]) -> tuple[Field, ...]:
    """Columns of no table, by name and type OID, for answers that are our own."""
    return tuple(
        Field(name.encode(), oid, -1, _FIELD.pack(0, 0, oid, _SIZES[oid], -1, 0)[:16])
        for name, oid in columns.items()
    )


def fields_of(columns: Sequence[tuple[str, int]]) -> tuple[Field, ...]:
    """Columns of no table and of any type, by name and OID; a name may come twice."""
    return tuple(
        Field(name.encode(), oid, -1, _FIELD.pack(0, 0, oid, -1, -1, 0)[:16])
        for name, oid in columns
    )


def data_row(values: Sequence[str | None]) -> bytes:
    """DataRow of text values, for answers that are our own."""
    parts = [_INT16.pack(len(values))]
    for value in values:
        raw = None if value is None else value.encode()
        parts.append(_INT32.pack(-1) if raw is None else _INT32.pack(len(raw)) + raw)
    return message(b"D", b"".join(parts))


def read_oids(body: bytes, position: int = 0) -> tuple[int, ...]:
    """A counted list of type OIDs, as Parse and ParameterDescription carry it."""
    (count,) = _INT16.unpack_from(body, position)
    return struct.unpack_from(f"!{count}I", body, position + 2)


def read_parse(body: bytes) -> tuple[bytes, bytes, bytes]:
    """(statement name, SQL, declared types as they came) of Parse."""
    name, sql, types = body.split(b"\0", 2)
    return name, sql, types


@dataclass(frozen=True, slots=True)
class Bound:
    """The contents of Bind behind its two names."""

    formats: tuple[int, ...]
    values: tuple[bytes | None, ...]
    results: tuple[int, ...]

    def parameter_format(self, index: int) -> int:
        """0 text, 1 binary."""
        return _spread(self.formats, index)

    def result_formats(self, count: int) -> tuple[int, ...]:
        """One format code for each of `count` columns."""
        return tuple(_spread(self.results, index) for index in range(count))


def _spread(codes: tuple[int, ...], index: int) -> int:
    if not codes:
        return 0
    return codes[0] if len(codes) == 1 else codes[index]


def bind_names(body: bytes) -> tuple[bytes, bytes, int]:
    """(portal, statement, where the rest begins) of Bind."""
    first = body.index(b"\0")
    second = body.index(b"\0", first + 1)
    return body[:first], body[first + 1 : second], second + 1


def read_bound(body: bytes, position: int) -> Bound:
    """The contents of Bind from `position` on. Raises ProtocolError; PostgreSQL words it better."""
    try:
        formats, position = _read_codes(body, position)
        (count,) = _INT16.unpack_from(body, position)
        position += 2
        values: list[bytes | None] = []
        for _ in range(count):
            (size,) = _INT32.unpack_from(body, position)
            position += 4
            values.append(None if size < 0 else body[position : position + size])
            position += max(size, 0)
        results, position = _read_codes(body, position)
    except struct.error as problem:
        raise ProtocolError("malformed Bind message") from problem
    if position != len(body):
        raise ProtocolError("malformed Bind message")
    return Bound(formats, tuple(values), results)


def _read_codes(body: bytes, position: int) -> tuple[tuple[int, ...], int]:
    (count,) = _INT16.unpack_from(body, position)
    return struct.unpack_from(f"!{count}h", body, position + 2), position + 2 + 2 * count


def read_execute(body: bytes) -> tuple[bytes, int]:
    """(portal, row limit or 0) of Execute."""
    end = body.index(b"\0")
    (limit,) = _INT32.unpack_from(body, end + 1)
    return body[:end], max(limit, 0)


def parse(name: bytes, sql: str, types: Sequence[int] = ()) -> bytes:
    """Parse."""
    oids = struct.pack(f"!h{len(types)}I", len(types), *types)
    return message(b"P", name + b"\0" + text(sql) + oids)


def bind(
    portal: bytes,
    statement: bytes,
    values: Sequence[bytes | None] = (),
    results: Sequence[int] = (),
) -> bytes:
    """Bind of text parameters."""
    parts = [portal, b"\0", statement, b"\0", _INT16.pack(0), _INT16.pack(len(values))]
    for value in values:
        parts.append(_INT32.pack(-1) if value is None else _INT32.pack(len(value)) + value)
    parts.append(struct.pack(f"!h{len(results)}h", len(results), *results))
    return message(b"B", b"".join(parts))


def describe(of: bytes, name: bytes) -> bytes:
    """Describe of a statement (`S`) or a portal (`P`)."""
    return message(b"D", of + name + b"\0")


def close(of: bytes, name: bytes) -> bytes:
    """Close of a statement (`S`) or a portal (`P`)."""
    return message(b"C", of + name + b"\0")


def execute(portal: bytes, limit: int = 0) -> bytes:
    """Execute."""
    return message(b"E", portal + b"\0" + _INT32.pack(limit))


def read_cells(body: bytes) -> list[bytes | None]:
    """The values of a DataRow as they were sent."""
    (count,) = _INT16.unpack_from(body)
    position = 2
    values: list[bytes | None] = []
    for _ in range(count):
        (size,) = _INT32.unpack_from(body, position)
        position += 4
        values.append(None if size < 0 else body[position : position + size])
        position += max(size, 0)
    return values


def read_row(body: bytes) -> list[str | None]:
    """The text values of a DataRow."""
    return [None if value is None else value.decode() for value in read_cells(body)]


SYNC = message(b"S")
FLUSH = message(b"H")
TERMINATE = message(b"X")
SUSPENDED = message(b"s")
