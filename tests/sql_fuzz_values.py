"""Constants by type for random statements, and the parameters that stand for some of them."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

RUNS = 3
"""How often a prepared statement is executed, with other values each time."""
OIDS = {
    "bool": 16,
    "int8": 20,
    "int2": 21,
    "int4": 23,
    "text": 25,
    "float4": 700,
    "float8": 701,
    "bpchar": 1042,
    "varchar": 1043,
    "date": 1082,
    "timestamp": 1114,
    "timestamptz": 1184,
    "numeric": 1700,
    "uuid": 2950,
    "int2[]": 1005,
    "int4[]": 1007,
    "int8[]": 1016,
    "text[]": 1009,
    "varchar[]": 1015,
    "date[]": 1182,
    "timestamp[]": 1115,
    "timestamptz[]": 1185,
    "numeric[]": 1231,
}

LITERALS: dict[str, tuple[str, ...]] = {
    "int2": ("0", "1", "-1", "7", "32767"),
    "int4": ("0", "1", "2", "3", "5", "10", "42", "-1", "100", "2147483647"),
    "int8": ("0", "1", "10", "-5", "123456789012", "9223372036854775807"),
    "numeric": (
        *("0", "0.05", "1.5", "2.50", "100", "-3.25", "0.1", "1000.001", "12345678901234.5"),
        *("3.3333333333333", "12345678901234567890123456.5"),
    ),
    "float4": ("0", "1.5", "0.3", "-0", "16777217", "0.1", "2.7", "3.4e38"),
    "float8": ("0", "1.5", "2.5", "-0", "1e10", "0.1", "NaN", "Infinity", "0.30000000000000004"),
    "text": ("", "a", "ab", "north", "East", "note 3", "a  ", "O'Neil", "12", "Customer 07", "Ulm"),
    "varchar": ("", "x", "retail", "note 5", "x "),
    "bpchar": ("a", "A", "N", "ab", ""),
    "bool": ("true", "false"),
    "date": ("2024-02-29", "2024-01-01", "1970-01-01", "2024-03-15", "0001-01-01", "infinity"),
    "timestamp": ("2024-02-29 12:00:00", "2024-01-15", "1969-12-31 23:59:59.999999"),
    "timestamptz": ("2024-03-31 01:30:00+00", "2024-03-10 08:00:00-05", "1970-01-01 00:00:00+00"),
    "uuid": ("c4ca4238-a0b9-2382-0dcc-509a6f75849b", "00000000-0000-0000-0000-000000000000"),
}

CLOCKS: dict[str, tuple[str, ...]] = {
    "date": ("date_trunc('year', now())::date", "date_trunc('year', current_date)::date - 400"),
    "timestamp": (
        "date_trunc('year', localtimestamp)",
        "(date_trunc('year', localtimestamp) - interval '17 months')",
    ),
    "timestamptz": (
        "date_trunc('year', now())",
        "(date_trunc('year', current_timestamp) - 900 * interval '1 day')",
        "(date_trunc('year', current_date) - '26 months'::interval)",
    ),
}
"""Times of the source's own clock that stay the same while a run lasts."""


@dataclass(slots=True)
class Values:
    """The parameters of one statement, as libpq takes them, for each of its executions."""

    oids: list[int] = field(default_factory=list)
    formats: list[int] = field(default_factory=list)
    runs: list[list[bytes | None]] = field(default_factory=lambda: [[] for _ in range(RUNS)])

    def add(self, type_: str, texts: Sequence[str | None], form: str) -> str:
        """Its placeholder; `form` is text, binary, or untyped (PostgreSQL finds the type)."""
        binary = form == "binary" and type_ in _PACKED and "infinity" not in texts
        self.oids.append(0 if form == "untyped" else OIDS[type_])
        self.formats.append(int(binary))
        for run, text in zip(self.runs, texts, strict=True):
            packed = text is not None and (_PACKED[type_](text) if binary else text.encode())
            run.append(None if packed is False else packed)
        return f"${len(self.oids)}"


def _layout(layout: str, make: Callable[[str], float]) -> Callable[[str], bytes]:
    return lambda text: struct.pack(layout, make(text))


def _microseconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = zoned - datetime(2000, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


_PACKED: Mapping[str, Callable[[str], bytes]] = {
    "int2": _layout("!h", int),
    "int4": _layout("!i", int),
    "int8": _layout("!q", int),
    "float4": _layout("!f", float),
    "float8": _layout("!d", float),
    "bool": lambda text: bytes([text == "true"]),
    "text": str.encode,
    "varchar": str.encode,
    "date": _layout("!i", lambda text: (date.fromisoformat(text) - date(2000, 1, 1)).days),
    "timestamp": _layout("!q", _microseconds),
    "timestamptz": _layout("!q", _microseconds),
    "uuid": lambda text: uuid.UUID(text).bytes,
}
