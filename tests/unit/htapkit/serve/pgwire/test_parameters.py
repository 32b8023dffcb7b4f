"""Parameters: one meaning or none."""

from __future__ import annotations

import struct
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pytest

from htapkit.serve.pgwire.parameters import OddParameter, decode

TEXT = [
    (16, b"t", True),
    (23, b"-5", -5),
    (20, b"9223372036854775807", 2**63 - 1),
    (701, b"1e3", 1000.0),
    (1700, b"123456789012345678901234567890.5", Decimal("123456789012345678901234567890.5")),
    (25, "ä".encode(), "ä"),
    (17, b"\\x00ff", b"\0\xff"),
    (1082, b"2024-02-29", date(2024, 2, 29)),
    (1083, b"01:02:03.5", time(1, 2, 3, 500_000)),
    (1114, b"2024-02-29 01:02:03", datetime(2024, 2, 29, 1, 2, 3)),  # noqa: DTZ001
    (1022, b"{0.5,-1e3}", [0.5, -1000.0]),
    (1021, b"{}", []),
    (1184, b"2024-02-29 01:02:03+02", datetime(2024, 2, 28, 23, 2, 3, tzinfo=UTC)),
]
BINARY = [
    (16, b"\1", True),
    (21, struct.pack("!h", -2), -2),
    (701, struct.pack("!d", 0.1), 0.1),
    (1700, struct.pack("!hhHhhh", 2, 0, 0x4000, 2, 12, 3400), Decimal("-12.34")),
    (1700, struct.pack("!hhHh", 0, 0, 0, 0), Decimal(0)),
    (1700, struct.pack("!hhHhh", 1, 1, 0, 0, 5), Decimal(50000)),
    (1022, struct.pack("!iiIiiidid", 1, 0, 701, 2, 1, 8, 0.5, 8, -1e3), [0.5, -1000.0]),
    (1021, struct.pack("!iiIiiif", 1, 0, 700, 1, 1, 4, 0.5), [0.5]),
    (1021, struct.pack("!iiI", 0, 0, 700), []),
    (1082, struct.pack("!i", -1), date(1999, 12, 31)),
    (1184, struct.pack("!q", 1), datetime(2000, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
]
ODD = [
    (23, 0, b"zz"),
    (23, 0, b" 5"),
    (23, 0, b"2147483648"),
    (701, 0, b"NaN"),
    (1700, 0, b"Infinity"),
    (1082, 0, b"01/02/2024"),
    (1082, 0, b"2024-02-30"),
    (1184, 0, b"2024-02-29 01:02:03"),
    (1184, 0, b"now"),
    (16, 1, b"\2"),
    (1114, 1, struct.pack("!q", 2**63 - 1)),
    (701, 1, b"\0"),
    (3802, 0, b"{}"),
    (1022, 0, b"{1,NULL}"),
    (1022, 0, b"{{1},{2}}"),
    (1022, 1, struct.pack("!iiIiii", 1, 1, 701, 1, 1, -1)),
    (1022, 1, struct.pack("!iiIiiid", 1, 0, 701, 2, 1, 8, 0.5)),
    (23, 7, b"5"),
    (25, 0, b"\xff"),
]


@pytest.mark.parametrize(("oid", "raw", "value"), TEXT)
def test_text(oid: int, raw: bytes, value: object) -> None:
    assert decode(raw, oid, 0) == value


@pytest.mark.parametrize(("oid", "raw", "value"), BINARY)
def test_binary(oid: int, raw: bytes, value: object) -> None:
    assert decode(raw, oid, 1) == value


@pytest.mark.parametrize(("oid", "code", "raw"), ODD)
def test_odd_ones_are_left_to_postgresql(oid: int, code: int, raw: bytes) -> None:
    with pytest.raises(OddParameter):
        decode(raw, oid, code)


def test_null() -> None:
    assert decode(None, 3802, 0) is None
