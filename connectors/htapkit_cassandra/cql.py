"""CQL's types taken apart, and the node's bytes as text: as cells hold it, and as json. Pure.

Values are read as the native protocol has them, which is also how the node stores them. What a type
says of itself decides everything; nothing is looked up.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from ipaddress import ip_address
from typing import Final

import numpy as np

Fields = tuple[tuple[str, str], ...]
"""The fields of a user-defined type: names and types."""

SCALE_MAX: Final = 1000  # a decimal's exponent beyond it would be printed as kilobytes of zeros
_EPOCH_DAYS: Final = 2**31
_DAYS: Final = range(-2_440_588, 2_145_042_906)  # PostgreSQL's, since 1970
MICROSECONDS: Final = range(-210_866_803_200_000_000, 2**63 - 1)  # PostgreSQL's, and Arrow's
_DAYS_OF_YEARS: Final = range(-719_162, 2_932_897)  # 1 to 9999, which ISO 8601 has
_MILLISECONDS_OF_YEARS: Final = range(-719_162 * 86_400_000, 2_932_897 * 86_400_000)
_UUID_DIGITS: Final = 32
_COLLECTIONS: Final = ("list", "set", "map")
_WIDTHS: Final = {"float": 4, "double": 8, "int": 4, "bigint": 8, "timestamp": 8, "boolean": 1,
                  "uuid": 16, "timeuuid": 16}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cql:
    """A type: `map` of two others, `int`, or a user's own with its fields."""

    name: str
    arguments: tuple[Cql, ...] = ()
    frozen: bool = False
    fields: tuple[str, ...] = ()  # of a user-defined type, whose arguments are their types
    length: int = 0  # of a vector

    @property
    def user_defined(self) -> bool:
        """Whether it has fields."""
        return bool(self.fields)

    @property
    def brackets(self) -> str:
        """Around the elements, of what is stored element by element; "" of all else."""
        if self.frozen:
            return ""
        if self.user_defined or self.name == "map":
            return "{}"
        return "[]" if self.name in {"list", "set"} else ""


def parse(text: str, types: Mapping[str, Fields]) -> Cql:
    """The type that `text` names; `types` are the keyspace's own. Raises ValueError."""
    text = text.strip()
    head, bracket, rest = text.partition("<")
    if not bracket:
        name = text[1:-1].replace('""', '"') if text.startswith('"') else text
        if name in types:
            found = types[name]
            arguments = tuple(parse(t, types) for _, t in found)
            return Cql(name, arguments, fields=tuple(n for n, _ in found))
        return Cql(name)
    if not rest.endswith(">"):
        raise ValueError(f"not a type: {text}")
    parts = list(_split(rest[:-1]))
    if head == "frozen":
        return replace(parse(parts[0], types), frozen=True)
    if head == "vector":
        return Cql("vector", (parse(parts[0], types),), frozen=True, length=int(parts[1]))
    arguments = tuple(parse(part, types) for part in parts)
    return Cql(head, arguments, frozen=head not in _COLLECTIONS)


def _split(text: str) -> Iterator[str]:
    depth = begun = 0
    for place, letter in enumerate(text):
        depth += (letter == "<") - (letter == ">")
        if letter == "," and not depth:
            yield text[begun:place]
            begun = place + 1
    yield text[begun:]


def as_text(type_: Cql, value: bytes) -> str | None:
    """A value as a cell of the copy holds it; None: an empty one, which CQL shows as null.

    Raises ValueError for what no column can hold.
    """
    if type_.name == "blob":
        return value.hex()
    if type_.name == "timestamp":
        return str(_within(1000 * _integer(value), MICROSECONDS, "timestamp")) if value else None
    if type_.name == "date":
        return str(_within(_unsigned(value) - _EPOCH_DAYS, _DAYS, "date")) if value else None
    if type_.name in TEXTS:
        text = value.decode()
        if "\0" in text:
            raise ValueError("a text with a NUL character, which PostgreSQL's text cannot have")
        return text
    found = _SCALARS.get(type_.name)
    if found is None:
        return as_json(type_, value)
    return found(value) if value else None


def as_json(type_: Cql, value: bytes | None) -> str:  # noqa: PLR0911 - one for each kind of type
    """A value within another, or one that is put together."""
    name = type_.name
    if value is None or (not value and name not in TEXTS and name != "blob"):
        return "null"
    if name in TEXTS:
        return json.dumps(value.decode(), ensure_ascii=False)
    if name == "blob":
        return f'"0x{value.hex()}"'
    if name == "timestamp":
        milliseconds = _within(_integer(value), _MILLISECONDS_OF_YEARS, "timestamp")
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
        return json.dumps(moment.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z"))
    if name == "date":
        days = _within(_unsigned(value) - _EPOCH_DAYS, _DAYS_OF_YEARS, "date")
        return json.dumps((date(1970, 1, 1) + timedelta(days)).isoformat())
    if name in _SCALARS:
        text = _SCALARS[name](value)
        return text if name in _BARE and text not in _NO_NUMBERS else json.dumps(text)
    if name == "map":
        pairs = list(elements(value))
        keys, values = type_.arguments
        found = [pair(keys, k, values, v) for k, v in zip(pairs[::2], pairs[1::2], strict=True)]
        return "{" + ", ".join(found) + "}"
    if name in {"list", "set"}:
        return "[" + ", ".join(as_json(type_.arguments[0], e) for e in elements(value)) + "]"
    if name == "vector":
        return "[" + ", ".join(_vector(type_, value)) + "]"
    if name == "tuple" or type_.user_defined:
        return _fields(type_, value)
    raise ValueError(f"a value of type {name}, which is not known")


def pair(keys: Cql, key: bytes | None, values: Cql, value: bytes | None) -> str:
    """One entry of a map: json's keys are texts."""
    text = as_json(keys, key)
    name = text if text.startswith('"') else json.dumps(text, ensure_ascii=False)
    return f"{name}: {as_json(values, value)}"


def field_of(type_: Cql, number: int, value: bytes | None) -> str | None:
    """One field of a user-defined type; None: it is newer than what is known of the type.

    Its tables are copied again soon.
    """
    if number >= len(type_.fields):
        return None
    return f"{json.dumps(type_.fields[number])}: {as_json(type_.arguments[number], value)}"


def _fields(type_: Cql, value: bytes) -> str:
    """Of a tuple, or of a user-defined type: there, what is null is left out."""
    parts, offset, number = [], 0, 0
    while offset < len(value):
        part, offset = _sized(value, offset)
        if not type_.user_defined:
            parts.append(as_json(type_.arguments[number], part))
        elif part is not None and (field := field_of(type_, number, part)) is not None:
            parts.append(field)
        number += 1
    joined = ", ".join(parts)
    return "{" + joined + "}" if type_.user_defined else "[" + joined + "]"


def elements(value: bytes, offset: int = 4) -> Iterator[bytes | None]:
    """Those of a collection; with an `offset` of 0, the fields of a tuple."""
    while offset < len(value):
        part, offset = _sized(value, offset)
        yield part


def _sized(value: bytes, offset: int) -> tuple[bytes | None, int]:
    (size,) = struct.unpack_from(">i", value, offset)
    offset += 4
    return (None, offset) if size < 0 else (value[offset : offset + size], offset + size)


def _vector(type_: Cql, value: bytes) -> Iterator[str]:
    width = _WIDTHS.get(type_.arguments[0].name)
    if width is None:
        raise ValueError(
            f"a vector of {type_.arguments[0].name}, whose elements have no fixed size"
        )
    for place in range(0, len(value), width):
        yield as_json(type_.arguments[0], value[place : place + width])


def _within(number: int, span: range, name: str) -> int:
    if number not in span:
        raise ValueError(f"a {name} of a year that cannot be held")
    return number


def _integer(value: bytes) -> int:
    return int.from_bytes(value, "big", signed=True)


def _unsigned(value: bytes) -> int:
    return int.from_bytes(value, "big")


def _decimal(value: bytes) -> str:
    scale = _integer(value[:4])
    if abs(scale) > SCALE_MAX:
        raise ValueError(f"a decimal with an exponent of {-scale}")
    return format(Decimal(_integer(value[4:])).scaleb(-scale, _EXACT), "f")


def _float(value: bytes) -> str:
    return str(np.float32(struct.unpack(">f", value)[0])).replace("inf", "Infinity")


def _double(value: bytes) -> str:
    return repr(float(struct.unpack(">d", value)[0])).replace("inf", "Infinity")


def _uuid(value: bytes) -> str:
    digits = value.hex()
    if len(digits) != _UUID_DIGITS:
        raise ValueError(f"a uuid of {len(value)} bytes")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _time(value: bytes) -> str:
    seconds, nanoseconds = divmod(_integer(value), 10**9)
    minutes, second = divmod(seconds, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{second:02}.{nanoseconds:09}"


def _duration(value: bytes) -> str:
    months, rest = _variable(value)
    days, rest = _variable(rest)
    nanoseconds, _ = _variable(rest)
    return f"{months}mo{days}d{nanoseconds}ns"


def _variable(value: bytes) -> tuple[int, bytes]:
    """A number of one to nine bytes: as many follow as ones lead; its last bit is its sign."""
    more = 8 - (value[0] ^ 0xFF).bit_length()
    first = value[0] & (0xFF >> more) if more < 8 else 0
    number = int.from_bytes(bytes([first]) + value[1 : 1 + more], "big")
    return (number >> 1) ^ -(number & 1), value[1 + more :]


_EXACT: Final = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
TEXTS: Final = frozenset({"text", "varchar", "ascii"})
_NO_NUMBERS: Final = frozenset({"nan", "NaN", "Infinity", "-Infinity"})
_BARE: Final = frozenset({"boolean", "tinyint", "smallint", "int", "bigint", "counter", "float",
                          "double", "decimal", "varint"})  # fmt: skip
_SCALARS: Final[Mapping[str, Callable[[bytes], str]]] = {
    "bigint": lambda v: str(_integer(v)),
    "boolean": lambda v: "true" if v != b"\0" else "false",
    "counter": lambda v: str(_integer(v)),
    "decimal": _decimal,
    "double": _double,
    "duration": _duration,
    "float": _float,
    "inet": lambda v: str(ip_address(v)),
    "int": lambda v: str(_integer(v)),
    "smallint": lambda v: str(_integer(v)),
    "time": _time,
    "timeuuid": _uuid,
    "tinyint": lambda v: str(_integer(v)),
    "uuid": _uuid,
    "varint": lambda v: str(_integer(v)),
}
