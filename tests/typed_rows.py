"""Random rows of every type, with PostgreSQL as the oracle of what each value is.

Values are made as PostgreSQL reads them, so that the server decides what they mean; `oracle` is the
SQL that tells a stored value apart from every other one, and `told` says the same of an Arrow
array.
"""

from __future__ import annotations

import json
import random
import struct
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import pyarrow as pa

Make = Callable[[random.Random], str]

SETUP: Final = """
create schema odd;
create type odd.int4 as enum ('x', 'y', '7');
create type mood as enum ('sad', 'it''s "ok"', 'ünïcode');
create type comp as (a int, b text, c numeric(6, 2));
create domain positive as int check (value > 0);
create domain price as numeric(10, 2);
create domain special_price as price;
create domain short as varchar(8);
create domain moods as mood[];
create domain feeling as mood;
"""


def _of(*values: str) -> Make:
    return lambda rng: rng.choice(values)


def _mixed(common: Make, *rare: str) -> Make:
    return lambda rng: rng.choice(rare) if rng.random() < 0.2 else common(rng)


def _integer(bits: int) -> Make:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    wide = lambda rng: str(rng.randint(low, high) >> rng.randint(0, bits - 2))  # noqa: E731
    return _mixed(wide, "0", "-1", str(low), str(high))


def _numeric(before: int, after: int) -> Make:
    def make(rng: random.Random) -> str:
        whole = "".join(rng.choice("0123456789") for _ in range(rng.randint(0, before)))
        part = "".join(rng.choice("0123456789") for _ in range(rng.randint(0, after)))
        return rng.choice(["", "-"]) + (whole or "0") + ("." + part if part else "")

    most = "9" * before if before else "0." + "9" * after
    return _mixed(make, "0", "-0", "0.1", most, "-" + most)


def _float(code: str) -> Make:
    def make(rng: random.Random) -> str:
        raw = rng.randbytes(struct.calcsize(code))
        (value,) = struct.unpack(code, raw)
        return repr(value) if value == value and abs(value) != float("inf") else "1.5"  # noqa: PLR0124

    tiny = "1e-45" if code == ">f" else "5e-324"
    return _mixed(make, "NaN", "Infinity", "-Infinity", "-0", "0", tiny, "0.1", "1e22", "123456.7")


def _date(rng: random.Random) -> str:
    year = rng.choice([rng.randint(1, 9999), rng.randint(1990, 2030), rng.randint(10000, 290000)])
    return f"{year:04}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}" + _era(rng, year)


def _era(rng: random.Random, year: int) -> str:
    return " BC" if year < 4713 and rng.random() < 0.2 else ""


def _time(rng: random.Random) -> str:
    whole = f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}"
    digits = rng.randint(0, 6)
    return whole + (f".{rng.randint(0, 10**digits - 1):0{digits}}" if digits else "")


def _timestamp(rng: random.Random) -> str:
    date = _date(rng)
    zone = rng.choice(["", "+05:30", "-11", "+00"])
    return (
        f"{date[:-3]} {_time(rng)}{zone} BC"
        if date.endswith("BC")
        else f"{date} {_time(rng)}{zone}"
    )


_EDGES: Final = (
    "infinity",
    "-infinity",
    "4713-01-01 BC",
    "0001-12-31 BC",
    "0001-01-01",
    "9999-12-31",
)
_TIMES: Final = (
    "10000-01-01 00:00:00",
    "294246-12-31 23:59:59.999999",
    "1969-12-31 23:59:59.999999",
)


def _text(most: int) -> Make:
    def make(rng: random.Random) -> str:
        letters = "abc XYZ 09 \t\n\\'\",{}()é漢😀\x01"
        return "".join(rng.choice(letters) for _ in range(rng.randint(0, most)))

    return _mixed(make, "", " ", "NULL", "t", "x" * most)


def _array(make: Make) -> Make:
    def element(rng: random.Random) -> str:
        if rng.random() < 0.2:
            return "NULL"
        return '"' + make(rng).replace("\\", "\\\\").replace('"', '\\"') + '"'

    def row(rng: random.Random, count: int) -> str:
        return "{" + ",".join(element(rng) for _ in range(count)) + "}"

    def any_shape(rng: random.Random) -> str:
        count = rng.randint(1, 3)
        if rng.random() < 0.3:
            return "{" + ",".join(row(rng, count) for _ in range(rng.randint(1, 3))) + "}"
        return "{}" if rng.random() < 0.2 else row(rng, count)

    return any_shape


def _json(rng: random.Random) -> str:
    value = {"k": [1, None, {"é": _text(5)(rng)}], "n": rng.random(), " s": "\\"}
    return json.dumps(rng.choice([value, 1, "s", None, [], {}]))


def _bytes(rng: random.Random) -> str:
    return "\\x" + rng.randbytes(rng.choice([0, 1, 2, 40])).hex()


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(bytes=rng.randbytes(16))).upper()


_MOOD: Final = _of("sad", 'it\'s "ok"', "ünïcode")

PRINTED_THERE = ("reg", "money")
"""How the types begin whose text depends on more than the value: what the source alone prints."""

TYPES: Final[Mapping[str, Make]] = {
    "bool": _of("t", "f"),
    "int2": _integer(16),
    "int4": _integer(32),
    "int8": _integer(64),
    "float4": _float(">f"),
    "float8": _float(">d"),
    "numeric": _mixed(_numeric(100, 40), "NaN", "Infinity", "-Infinity", "1.500", "1e-20"),
    "numeric(12,2)": _numeric(10, 2),
    "numeric(18,18)": _numeric(0, 18),
    "numeric(38,10)": _numeric(28, 10),
    "numeric(38,0)": _numeric(38, 0),
    "numeric(60,5)": _mixed(_numeric(55, 5), "NaN"),
    "numeric(5,-2)": _of("12345", "-100", "0", "NaN"),
    "text": _text(30),
    "varchar": _text(30),
    "varchar(10)": _text(10),
    "char(5)": _text(5),
    "char": _of(" ", "x", "é"),
    "bpchar": _mixed(_text(9), "a  "),
    "name": _text(30),
    '"char"': _of("", "a", " ", "\\200", "\\\\"),
    'text collate "C"': _text(9),
    "bytea": _bytes,
    "date": _mixed(_date, *_EDGES, "5874897-12-31", "4714-11-24 BC"),
    "time": _mixed(_time, "24:00:00", "00:00:00"),
    "time(3)": _mixed(_time, "24:00:00"),
    "timetz": _mixed(lambda rng: _time(rng) + "+05:30", "24:00:00-01"),
    "timestamp": _mixed(_timestamp, *_EDGES, *_TIMES),
    "timestamp(3)": _timestamp,
    "timestamptz": _mixed(_timestamp, *_EDGES, *_TIMES),
    "interval": _of("1 mon -2 days 03:00:00.5", "-1 year", "0", "178000000 years", "1.000001 s"),
    "uuid": _uuid,
    "json": _json,
    "jsonb": _json,
    "inet": _of("10.0.0.1", "10.0.0.1/8", "::1", "2001:db8::/32", "0.0.0.0/0"),
    "cidr": _of("10.0.0.0/8", "192.168.1.7", "2001:db8::/32"),
    "macaddr": _of("08:00:2b:01:02:03"),
    "macaddr8": _of("08:00:2b:01:02:03:04:05"),
    "bit(4)": _of("1010", "0000"),
    "varbit": _of("", "101", "1" * 70),
    "money": _of("12.5", "-1234567.89", "0"),
    "oid": _of("1", "4294967295"),
    "xid8": _of("18446744073709551615"),
    "regclass": _of("pg_class", "information_schema.tables"),
    "regtype": _of("int4", "public.mood[]"),
    "pg_lsn": _of("0/16B3748", "FFFFFFFF/FFFFFFFF"),
    "point": _of("(1,2)", "(-0.1,1e300)"),
    "box": _of("(1,2),(3,4)"),
    "lseg": _of("[(1,2),(3,4)]"),
    "line": _of("{1,2,3}"),
    "path": _of("((1,2),(3,4))", "[(1,2)]"),
    "polygon": _of("((1,2),(3,4),(5,6))"),
    "circle": _of("<(1,2),3>"),
    "tsvector": _of("'a':1A 'b c'", "", "'it''s'"),
    "tsquery": _of("'a' & !'b'", "'x' <-> 'y'"),
    "int4range": _of("[1,5)", "empty", "(,)", "[7,]"),
    "numrange": _of("[1.50,2.5)", "(,1)"),
    "tstzrange": _of("[2026-01-01 00:00+02, infinity)", "(-infinity,2000-01-01]"),
    "int4multirange": _of("{[1,3),[5,7)}", "{}"),
    "mood": _MOOD,
    "comp": _of('(1,"a b",2.5)', '(,"",)', "(,,)", '(7,"q""u,o\\\\te",1)'),
    "positive": _of("1", "2147483647"),
    "price": _numeric(8, 2),
    "special_price": _numeric(8, 2),
    "short": _text(8),
    "moods": _array(_MOOD),
    "feeling": _MOOD,
    "odd.int4": _of("x", "y", "7"),
    "odd.int4[]": _array(_of("x", "7")),
    "bool[]": _array(_of("t", "f")),
    "int4[]": _array(_integer(32)),
    "float8[]": _array(_float(">d")),
    "text[]": _array(_text(6)),
    "bytea[]": _array(_bytes),
    "numeric[]": _array(_mixed(_numeric(30, 9), "NaN")),
    "timestamptz[]": _array(_mixed(_timestamp, "infinity")),
    "inet[]": _array(_of("10.0.0.1", "10.0.0.1/8")),
    "mood[]": _array(_MOOD),
    "comp[]": _array(_of('(1,"a b",2.5)', "(,,)")),
}
"""A column declaration and how to make one of its values."""


def create_table(name: str, key: str = "primary key") -> str:
    """The statement for a table with a column `c0`, `c1`, … of each type."""
    columns = ", ".join(f"c{number} {type_}" for number, type_ in enumerate(TYPES))
    return f"create table {name} (id int8 {key}, {columns})"


def row(rng: random.Random, number: int) -> list[object]:
    """Parameters for one row; a seventh of the values are NULL."""
    return [number, *(None if rng.random() < 1 / 7 else make(rng) for make in TYPES.values())]


def oracle(column: str, arrow: pa.DataType) -> str:
    """SQL for a text that says what value is stored, exactly."""
    if pa.types.is_floating(arrow):
        return f"encode(float{arrow.bit_width // 8}send({column}), 'hex')"
    if pa.types.is_date32(arrow):
        finite = f"({column} - date '1970-01-01')::text"
        return f"case when isfinite({column}) then {finite} else {column}::text end"
    if pa.types.is_timestamp(arrow):
        finite = f"(extract(epoch from {column}) * 1000000)::int8::text"
        return f"case when isfinite({column}) then {finite} else {column}::text end"
    if pa.types.is_time64(arrow):
        return f"(extract(epoch from {column}) * 1000000)::int8::text"
    if pa.types.is_binary(arrow):
        return f"encode({column}, 'hex')"
    return f"case when num_nonnulls({column}) = 1 then format('%s', {column}) end"


def told(array: pa.Array) -> list[str | None]:
    """The same text, of an Arrow column."""
    type_ = array.type
    if pa.types.is_date32(type_):
        return _with_infinity(array.view(pa.int32()), 2**31 - 1)
    if pa.types.is_timestamp(type_):
        return _with_infinity(array.view(pa.int64()), 2**63 - 1)
    if pa.types.is_time64(type_):
        array = array.view(pa.int64())
    tell: Callable[[Any], str] = str
    if pa.types.is_boolean(type_):
        tell = "ft".__getitem__
    elif pa.types.is_floating(type_):
        tell = _as_bytes(">f" if type_.bit_width == 32 else ">d")
    elif pa.types.is_decimal(type_):
        tell = "{:f}".format
    elif pa.types.is_binary(type_):
        tell = bytes.hex
    return [None if value is None else tell(value) for value in array.to_pylist()]


def _as_bytes(code: str) -> Callable[[float], str]:
    return lambda value: struct.pack(code, value).hex()


def _with_infinity(numbers: pa.Array, infinity: int) -> list[str | None]:
    names = {infinity: "infinity", -infinity: "-infinity", None: None}
    return [names.get(v, str(v)) for v in numbers.to_pylist()]
