"""The wire format of logical replication, byte by byte, so that it can be tested without a server.

It knows the framing of the COPY_BOTH stream (XLogData, keepalive, standby status) and the messages
of `pgoutput` protocol 1. It never does I/O, never looks at a clock, and never guesses: an unknown
kind is an error, because skipping it could lose a change. The rows in I, U and D are decoded in
`decode`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from struct import Struct
from struct import error as struct_error
from typing import Final

from htapkit.errors import SourceError
from htapkit.model import Position

Bytes = bytes | bytearray | memoryview

XLOG_DATA: Final = ord("w")
KEEPALIVE: Final = ord("k")

BEGIN: Final = ord("B")
COMMIT: Final = ord("C")
ORIGIN: Final = ord("O")
RELATION: Final = ord("R")
TYPE: Final = ord("Y")
INSERT: Final = ord("I")
UPDATE: Final = ord("U")
DELETE: Final = ord("D")
TRUNCATE: Final = ord("T")
MESSAGE: Final = ord("M")

ROW_KINDS: Final = frozenset({INSERT, UPDATE, DELETE})
KINDS: Final = frozenset({BEGIN, COMMIT, ORIGIN, RELATION, TYPE, TRUNCATE, MESSAGE}) | ROW_KINDS

OLD_KEY: Final = ord("K")
OLD_ROW: Final = ord("O")
NEW_ROW: Final = ord("N")

VALUE_NULL: Final = ord("n")
VALUE_UNCHANGED: Final = ord("u")
VALUE_TEXT: Final = ord("t")
VALUE_BINARY: Final = ord("b")

XLOG_DATA_HEADER_BYTES: Final = 25
"""Kind, start of the WAL data, end of WAL, clock: what stands before the pgoutput message."""

COMMIT_END_LSN: Final = slice(10, 18)
"""Where a Commit message holds the end LSN of its transaction (XLogData header not counted)."""

COMMIT_TIME: Final = slice(18, 26)
"""Where a Commit message holds its time, in microseconds since 2000."""

EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
UNIX_MICROSECONDS: Final = 946_684_800_000_000  # of EPOCH, since 1970
"""PostgreSQL's zero of time."""

_XLOG_DATA = Struct(">cQQq")
_KEEPALIVE = Struct(">cQqB")
_STATUS = Struct(">cQQQqB")
_BEGIN = Struct(">cQqI")
_COMMIT = Struct(">cBQQq")
_RELATION_COLUMN = Struct(">Ii")
_UINT32 = Struct(">I")
_INT16 = Struct(">h")
_TRUNCATE = Struct(">cIB")
_MESSAGE = Struct(">cBQ")


@dataclass(frozen=True, slots=True)
class Keepalive:
    """The server's sign of life."""

    wal_end: int
    clock_us: int
    reply_wanted: bool


@dataclass(frozen=True, slots=True)
class Begin:
    """The start of a transaction; `final_lsn` is where its commit record begins."""

    final_lsn: int
    committed_us: int
    xid: int


@dataclass(frozen=True, slots=True)
class Commit:
    """The end of a transaction; `end_lsn` is the position after it."""

    commit_lsn: int
    end_lsn: int
    committed_us: int


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """A column as a relation message tells it. No nullability, no default: ask the catalog."""

    name: str
    type_oid: int
    typmod: int
    key: bool  # part of the replica identity


@dataclass(frozen=True, slots=True)
class Relation:
    """The layout of the row messages that follow for `oid`."""

    oid: int
    schema: str
    name: str
    identity: str  # pg_class.relreplident: d(efault), f(ull), i(ndex), n(othing)
    columns: tuple[RelationColumn, ...]


@dataclass(frozen=True, slots=True)
class Truncated:
    """All rows of these relations went away."""

    oids: tuple[int, ...]
    cascade: bool
    restart_identity: bool


@dataclass(frozen=True, slots=True)
class Message:
    """What somebody wrote with pg_logical_emit_message."""

    transactional: bool
    lsn: int
    prefix: str
    content: bytes


def malformed(what: str) -> SourceError:
    """The error for bytes that no server of protocol 1 sends."""
    return SourceError(
        f"the replication stream is not pgoutput protocol 1: {what}; "
        "check that no proxy stands between, and report the server's version"
    )


def kind_name(kind: int) -> str:
    """A kind byte for an error message."""
    return repr(chr(kind)) if 32 <= kind < 127 else f"0x{kind:02x}"


def check_kind(kind: int) -> None:
    """Raise SourceError unless `kind` is a message of protocol 1."""
    if kind not in KINDS:
        raise malformed(f"unknown message {kind_name(kind)}")


def parse_keepalive(data: Bytes) -> Keepalive:
    """A whole `k` message of COPY_BOTH."""
    try:
        _, wal_end, clock, reply = _KEEPALIVE.unpack_from(data)
    except struct_error as error:
        raise malformed("a keepalive is cut short") from error
    return Keepalive(wal_end=wal_end, clock_us=clock, reply_wanted=reply != 0)


def standby_status(
    written: int, flushed: int, applied: int, clock_us: int, *, reply: bool = False
) -> bytes:
    """The status message that confirms positions to the server."""
    return _STATUS.pack(b"r", written, flushed, applied, clock_us, reply)


def xlog_data(payload: bytes, start: int = 0, end: int = 0, clock_us: int = 0) -> bytes:
    """A message as the server frames it: for recorded streams and fakes."""
    return _XLOG_DATA.pack(b"w", start, end, clock_us) + payload


def parse_begin(data: Bytes) -> Begin:
    """A `B` message."""
    try:
        _, final_lsn, committed, xid = _BEGIN.unpack_from(data)
    except struct_error as error:
        raise malformed("a Begin is cut short") from error
    return Begin(final_lsn=final_lsn, committed_us=committed, xid=xid)


def parse_commit(data: Bytes) -> Commit:
    """A `C` message."""
    try:
        _, _, commit_lsn, end_lsn, committed = _COMMIT.unpack_from(data)
    except struct_error as error:
        raise malformed("a Commit is cut short") from error
    return Commit(commit_lsn=commit_lsn, end_lsn=end_lsn, committed_us=committed)


def parse_relation(data: Bytes) -> Relation:
    """An `R` message."""
    raw = bytes(data)
    try:
        (oid,) = _UINT32.unpack_from(raw, 1)
        schema, at = _string(raw, 5)
        name, at = _string(raw, at)
        identity = chr(raw[at])
        (count,) = _INT16.unpack_from(raw, at + 1)
        at += 3
        columns = []
        for _ in range(count):
            key = raw[at] & 1 == 1
            column, at = _string(raw, at + 1)
            type_oid, typmod = _RELATION_COLUMN.unpack_from(raw, at)
            at += _RELATION_COLUMN.size
            columns.append(RelationColumn(column, type_oid, typmod, key))
    except (struct_error, IndexError) as error:
        raise malformed("a Relation is cut short") from error
    # An empty namespace is how pgoutput spells pg_catalog.
    return Relation(oid, schema or "pg_catalog", name, identity, tuple(columns))


def parse_truncate(data: Bytes) -> Truncated:
    """A `T` message."""
    try:
        _, count, options = _TRUNCATE.unpack_from(data)
        oids = Struct(f">{count}I").unpack_from(data, _TRUNCATE.size)
    except struct_error as error:
        raise malformed("a Truncate is cut short") from error
    return Truncated(oids, cascade=options & 1 == 1, restart_identity=options & 2 == 2)


def parse_message(data: Bytes) -> Message:
    """An `M` message."""
    raw = bytes(data)
    try:
        _, flags, lsn = _MESSAGE.unpack_from(raw)
        prefix, at = _string(raw, _MESSAGE.size)
        (length,) = _UINT32.unpack_from(raw, at)
    except (struct_error, IndexError) as error:
        raise malformed("a Message is cut short") from error
    content = raw[at + 4 : at + 4 + length]
    if len(content) != length:
        raise malformed("a Message is cut short")
    return Message(transactional=flags & 1 == 1, lsn=lsn, prefix=prefix, content=content)


def lsn_position(lsn: int) -> Position:
    """An LSN as a Position: 16 upper-case hexadecimal digits, so that text order is order."""
    return Position(f"{lsn:016X}")


def position_lsn(position: Position) -> int:
    """The LSN of one of our Positions."""
    return int(position, 16)


def parse_lsn(text: str) -> int:
    """PostgreSQL's `16/B374D848` as a number."""
    high, slash, low = text.partition("/")
    if not slash:
        raise malformed(f"'{text}' is no LSN")
    return (int(high, 16) << 32) | int(low, 16)


def format_lsn(lsn: int) -> str:
    """A number as PostgreSQL's `16/B374D848`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def from_microseconds(microseconds: int) -> datetime:
    """A time of the stream (microseconds since 2000) as a datetime in UTC."""
    return EPOCH + timedelta(microseconds=microseconds)


def to_microseconds(moment: datetime) -> int:
    """A datetime as the stream's microseconds since 2000."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def _string(raw: bytes, at: int) -> tuple[str, int]:
    end = raw.find(b"\0", at)
    if end < 0:
        raise IndexError
    return raw[at:end].decode(), end + 1
