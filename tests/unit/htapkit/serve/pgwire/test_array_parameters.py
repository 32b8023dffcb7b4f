"""Arrays of Bind, in both formats."""

from __future__ import annotations

import struct

import pytest

from htapkit.serve.pgwire.parameters import OddParameter, decode_array

INT4, TEXT, DATE = 23, 25, 1082


def _packed(oid: int, *parts: bytes | None) -> bytes:
    head = struct.pack("!iiiii", 1, int(None in parts), oid, len(parts), 1)
    cells = (struct.pack("!i", -1) if p is None else struct.pack("!i", len(p)) + p for p in parts)
    return head + b"".join(cells)


@pytest.mark.parametrize(
    ("raw", "oid", "format_code", "values"),
    [
        (b"{}", INT4, 0, []),
        (b"{1,NULL,-3}", INT4, 0, [1, None, -3]),
        (b'{ a , "NULL", "x,\\"y" ,null}', TEXT, 0, ["a", "NULL", 'x,"y', None]),
        (struct.pack("!iii", 0, 0, INT4), INT4, 1, []),
        (_packed(INT4, struct.pack("!i", 7), None), INT4, 1, [7, None]),
        (_packed(TEXT, b"", "ä".encode()), TEXT, 1, ["", "ä"]),
    ],
)
def test_elements(raw: bytes, oid: int, format_code: int, values: list[object]) -> None:
    assert decode_array(raw, oid, format_code) == values


@pytest.mark.parametrize(
    ("raw", "oid", "format_code"),
    [
        (None, INT4, 0),
        (b"{{1,2},{3,4}}", INT4, 0),
        (b"[2:3]={1,2}", INT4, 0),
        (b"{1,x}", INT4, 0),
        (b"{1,", INT4, 0),
        (b"{infinity}", DATE, 0),
        (_packed(TEXT, b"a"), INT4, 1),
        (_packed(INT4, struct.pack("!i", 7))[:-1], INT4, 1),
        (_packed(INT4, struct.pack("!i", 7)) + b"x", INT4, 1),
        (struct.pack("!iiiiiii", 2, 0, INT4, 1, 1, 1, 1), INT4, 1),
        (b"", INT4, 1),
    ],
)
def test_what_has_another_meaning_is_left_to_the_source(
    raw: bytes | None, oid: int, format_code: int
) -> None:
    with pytest.raises(OddParameter):
        decode_array(raw, oid, format_code)
