"""Constants by type for random statements, and the parameters that stand for some of them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

OIDS = {
    "bool": 16,
    "int8": 20,
    "int2": 21,
    "int4": 23,
    "text": 25,
    "float8": 701,
    "varchar": 1043,
    "date": 1082,
    "numeric": 1700,
    "uuid": 2950,
}
_PACKED = {"int2": "!h", "int4": "!i", "int8": "!q", "float8": "!d"}

LITERALS: dict[str, tuple[str, ...]] = {
    "int2": ("0", "1", "-1", "7", "32767"),
    "int4": ("0", "1", "2", "3", "5", "10", "42", "-1", "100", "2147483647"),
    "int8": ("0", "1", "10", "-5", "123456789012", "9223372036854775807"),
    "numeric": ("0", "0.05", "1.5", "2.50", "100", "-3.25", "0.1", "1000.001", "12345678901234.5"),
    "float8": ("0", "1.5", "2.5", "-0", "1e10", "0.1", "NaN", "Infinity"),
    "text": ("", "a", "ab", "north", "East", "note 3", "a  ", "O'Neil", "12", "Customer 07"),
    "varchar": ("", "x", "retail", "note 5", "x "),
    "bpchar": ("a", "A", "N", "ab", ""),
    "bool": ("true", "false"),
    "date": ("2024-02-29", "2024-01-01", "1970-01-01", "2024-03-15", "0001-01-01", "infinity"),
    "timestamp": ("2024-02-29 12:00:00", "2024-01-15", "1969-12-31 23:59:59.999999"),
    "timestamptz": ("2024-03-31 01:30:00+00", "2024-03-10 08:00:00-05", "1970-01-01 00:00:00+00"),
    "uuid": ("c4ca4238-a0b9-2382-0dcc-509a6f75849b", "00000000-0000-0000-0000-000000000000"),
}


@dataclass(slots=True)
class Values:
    """The parameters of one statement, as libpq takes them."""

    oids: list[int] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    formats: list[int] = field(default_factory=list)

    def add(self, type_: str, text: str, *, binary: bool) -> str:
        """Its placeholder."""
        binary = binary and type_ in _PACKED
        value = _packed(type_, text) if binary else text.encode()
        self.oids.append(OIDS[type_])
        self.values.append(value)
        self.formats.append(int(binary))
        return f"${len(self.oids)}"


def _packed(type_: str, text: str) -> bytes:
    return struct.pack(_PACKED[type_], float(text) if type_ == "float8" else int(text))
