"""The wire format, by the examples of its own documentation, and against broken input."""

from __future__ import annotations

import random

import pytest

from htapkit.errors import ProtocolError
from htapkit.serve.flight import protobuf


def test_the_documentations_examples() -> None:
    assert protobuf.make_number(1, 150) == bytes.fromhex("089601")
    assert protobuf.make_octets(2, "testing") == bytes.fromhex("120774657374696e67")
    packed = protobuf.parse(bytes.fromhex("3206038e029ea705"))
    assert protobuf.numbers(packed, 6) == (3, 270, 86942)
    assert protobuf.make_varint(-2) == bytes.fromhex("feffffffffffffffff01")


def test_repeated_absent_and_unknown_fields() -> None:
    data = (
        protobuf.make_octets(4, "a")
        + bytes.fromhex("0d00000001")  # field 1, 32 bits
        + bytes.fromhex("110000000000000001")  # field 2, 64 bits
        + protobuf.make_octets(4, "")
        + protobuf.make_number(5, 1)
    )
    fields = protobuf.parse(data)
    assert protobuf.texts(fields, 4) == ("a", "")
    assert protobuf.text(fields, 4) == ""
    assert protobuf.flag(fields, 5)
    assert not protobuf.flag(fields, 6)
    assert protobuf.text(fields, 7) is None
    assert protobuf.octets(fields, 7) is None
    assert protobuf.numbers(fields, 5) == (1,)


@pytest.mark.parametrize(
    "data", ["0a05616263", "08", "0880808080808080808080808001", "0b", "0d0000", "ff", "12ff"]
)
def test_broken_messages(data: str) -> None:
    with pytest.raises(ProtocolError):
        protobuf.parse(bytes.fromhex(data))


def test_text_that_is_none() -> None:
    with pytest.raises(ProtocolError, match="UTF-8"):
        protobuf.text(protobuf.parse(protobuf.make_octets(1, b"\xff")), 1)
    with pytest.raises(ProtocolError, match="not text"):
        protobuf.text(protobuf.parse(protobuf.make_number(1, 1)), 1)


def test_any_bytes_are_read_or_refused() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    read = 0
    for _ in range(5000):
        data = rng.randbytes(rng.randrange(12))
        try:
            protobuf.parse(data)
        except ProtocolError:
            continue
        read += 1
    assert read
    for _ in range(500):
        wanted = [(rng.randrange(1, 2**29), rng.randbytes(rng.randrange(300))) for _ in range(5)]
        fields = protobuf.parse(b"".join(protobuf.make_octets(n, v) for n, v in wanted))
        assert [(n, v) for n, values in fields.items() for v in values] == sorted(
            wanted, key=lambda each: list(fields).index(each[0])
        )
