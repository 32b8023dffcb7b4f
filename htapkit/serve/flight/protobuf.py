"""Protocol Buffers' wire format, as far as Flight SQL needs it: no I/O, no generated code.

A message is a run of fields: a number, a wire type, a value. Numbers, flags and enums are varints;
text, bytes and messages are counted octets. Fields that we do not know are skipped, as the format
asks of every reader.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from htapkit.errors import ProtocolError

Value = int | bytes
Fields = Mapping[int, list[Value]]

_VARINT, _FIXED64, _COUNTED, _FIXED32 = 0, 1, 2, 5
_VARINT_BYTES_MAX = 10


def parse(data: bytes) -> Fields:
    """The fields of one message by their number, repeated ones in order. Raises ProtocolError."""
    found: dict[int, list[Value]] = {}
    for number, value in _fields(data):
        found.setdefault(number, []).append(value)
    return found


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        kind, value = tag & 7, 0
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield tag >> 3, value
        elif kind in {_FIXED32, _FIXED64}:
            _, position = _octets(data, position, 4 if kind == _FIXED32 else 8)
        elif kind == _COUNTED:
            size, position = _varint(data, position)
            octets, position = _octets(data, position, size)
            yield tag >> 3, octets
        else:
            raise ProtocolError(f"a command has a field of unknown wire type {kind}")


def _octets(data: bytes, position: int, size: int) -> tuple[bytes, int]:
    if position + size > len(data):
        raise ProtocolError("a command ends inside one of its fields")
    return data[position : position + size], position + size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index in range(_VARINT_BYTES_MAX):
        if position + index >= len(data):
            raise ProtocolError("a command ends inside a number")
        octet = data[position + index]
        value |= (octet & 0x7F) << (7 * index)
        if octet < 0x80:
            return value, position + index + 1
    raise ProtocolError("a command has a number of more than 64 bits")


def octets(fields: Fields, number: int) -> bytes | None:
    """The last value of a field of text, bytes or a message; None where it is absent."""
    values = fields.get(number, ())
    if not values:
        return None
    if not isinstance(values[-1], bytes):
        raise ProtocolError(f"field {number} of a command is not text")
    return values[-1]


def text(fields: Fields, number: int) -> str | None:
    """The same, as text."""
    return _decoded(octets(fields, number))


def texts(fields: Fields, number: int) -> tuple[str, ...]:
    """All values of a repeated text field."""
    found = (octets({number: [value]}, number) for value in fields.get(number, ()))
    return tuple(word for word in map(_decoded, found) if word is not None)


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError("a text in a command is not UTF-8") from error


def flag(fields: Fields, number: int) -> bool:
    """The last value of a boolean field; absent is false."""
    values = fields.get(number, ())
    return bool(values and values[-1])


def numbers(fields: Fields, number: int) -> tuple[int, ...]:
    """All values of a repeated number, packed or not."""
    found: list[int] = []
    for value in fields.get(number, ()):
        if isinstance(value, int):
            found.append(value)
            continue
        position = 0
        while position < len(value):
            each, position = _varint(value, position)
            found.append(each)
    return tuple(found)


def make_varint(value: int) -> bytes:
    """A number of up to 64 bits; negative ones take ten bytes, as int64 does."""
    value &= 2**64 - 1
    octets_made = bytearray()
    while value >= 0x80:
        octets_made.append(value & 0x7F | 0x80)
        value >>= 7
    octets_made.append(value)
    return bytes(octets_made)


def make_number(number: int, value: int) -> bytes:
    """A field that holds a number, a flag or an enum."""
    return make_varint(number << 3 | _VARINT) + make_varint(value)


def make_octets(number: int, value: bytes | str) -> bytes:
    """A field that holds text, bytes or a message."""
    raw = value.encode() if isinstance(value, str) else value
    return make_varint(number << 3 | _COUNTED) + make_varint(len(raw)) + raw
