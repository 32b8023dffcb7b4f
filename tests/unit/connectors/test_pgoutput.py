"""Messages byte by byte, as the protocol's documentation lays them out."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from htapkit.errors import SourceError
from htapkit_postgres import pgoutput as p

RELATION = (
    b"R" + struct.pack(">I", 4_000_000_000) + b"shop\0" + "bestellung€\0".encode() + b"d\0\2"
    b"\1id\0" + struct.pack(">Ii", 20, -1) + b"\0amount\0" + struct.pack(">Ii", 1700, 786438)
)  # fmt: skip


def test_relation() -> None:
    parsed = p.parse_relation(RELATION)
    assert (parsed.oid, parsed.schema, parsed.name) == (4_000_000_000, "shop", "bestellung€")
    assert parsed.identity == "d"
    assert parsed.columns == (
        p.RelationColumn("id", 20, -1, key=True),
        p.RelationColumn("amount", 1700, 786438, key=False),
    )


def test_relation_of_the_catalog_has_an_empty_schema() -> None:
    raw = b"R" + struct.pack(">I", 1) + b"\0t\0n\0\0"
    assert p.parse_relation(raw) == p.Relation(1, "pg_catalog", "t", "n", ())


def test_begin_and_commit() -> None:
    begin = p.parse_begin(b"B" + struct.pack(">QqI", 0x1_0000_0010, 5, 77))
    assert begin == p.Begin(0x1_0000_0010, 5, 77)
    raw = b"C\0" + struct.pack(">QQq", 0x10, 0x40, 6)
    assert p.parse_commit(raw) == p.Commit(0x10, 0x40, 6)
    assert int.from_bytes(raw[p.COMMIT_END_LSN], "big") == 0x40
    assert int.from_bytes(raw[p.COMMIT_TIME], "big") == 6


def test_truncate() -> None:
    raw = b"T" + struct.pack(">IBII", 2, 3, 16384, 4_000_000_000)
    assert p.parse_truncate(raw) == p.Truncated((16384, 4_000_000_000), True, True)
    raw = b"T" + struct.pack(">IBI", 1, 2, 16384)
    assert p.parse_truncate(raw) == p.Truncated((16384,), False, True)


def test_message() -> None:
    raw = b"M\1" + struct.pack(">Q", 9) + b"htapkit\0" + struct.pack(">I", 3) + b"a\0b"
    assert p.parse_message(raw) == p.Message(True, 9, "htapkit", b"a\0b")


def test_keepalive_and_status() -> None:
    assert p.parse_keepalive(b"k" + struct.pack(">QqB", 7, 8, 1)) == p.Keepalive(7, 8, True)
    assert p.standby_status(1, 2, 3, -4, reply=True) == b"r" + struct.pack(">QQQqB", 1, 2, 3, -4, 1)


def test_xlog_data() -> None:
    framed = p.xlog_data(b"payload", 1, 2, 3)
    assert framed[: p.XLOG_DATA_HEADER_BYTES] == b"w" + struct.pack(">QQq", 1, 2, 3)
    assert framed[p.XLOG_DATA_HEADER_BYTES :] == b"payload"


@pytest.mark.parametrize(
    ("parse", "raw"),
    [
        (p.parse_relation, RELATION),
        (p.parse_begin, b"B" + bytes(20)),
        (p.parse_commit, b"C" + bytes(25)),
        (p.parse_truncate, b"T" + struct.pack(">IBI", 1, 0, 5)),
        (p.parse_message, b"M" + bytes(9) + b"x\0" + struct.pack(">I", 2) + b"ab"),
        (p.parse_keepalive, b"k" + bytes(17)),
    ],
)
def test_every_cut_is_an_error(parse: Callable[[bytes], object], raw: bytes) -> None:
    parse(raw)
    for end in range(len(raw)):
        with pytest.raises(SourceError, match="cut short"):
            parse(raw[:end])


def test_unknown_kinds() -> None:
    known = {kind for kind in range(256) if _is_known(kind)}
    assert known == set(b"BCORYIUDTM")


def _is_known(kind: int) -> bool:
    try:
        p.check_kind(kind)
    except SourceError as error:
        assert "unknown message" in str(error)  # noqa: PT017 - all 256 are tried
        return False
    return True


def test_positions() -> None:
    lsn = p.parse_lsn("16/B374D848")
    assert lsn == 0x16B374D848
    assert p.format_lsn(lsn) == "16/B374D848"
    assert p.lsn_position(lsn) == "00000016B374D848"
    assert p.position_lsn(p.lsn_position(lsn)) == lsn
    assert p.lsn_position(0x9FFFFFFFF) < p.lsn_position(0xA00000000)
    with pytest.raises(SourceError):
        p.parse_lsn("16B374D848")


def test_times() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    assert p.from_microseconds(0) == datetime(2000, 1, 1, tzinfo=UTC)
    assert p.from_microseconds(p.to_microseconds(moment)) == moment
    assert p.to_microseconds(datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)) == -1_000_000
