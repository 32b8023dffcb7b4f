"""Random values of every type: our DataRow bytes must be the ones that PostgreSQL itself sends."""

from __future__ import annotations

import math
import random
import struct
import uuid
from collections.abc import Iterator
from decimal import Context, Decimal

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from htapkit.serve.pgwire import rows
from htapkit.testing.postgres import PostgresServer
from tests.rows_oracle import both, check, nulled, round_trip, through_text

pytestmark = pytest.mark.integration

CONTEXT = Context(prec=60)
_TEXT, _NUMERIC = 25, 1700


@pytest.fixture(scope="module")
def rng() -> random.Random:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
def link(pg: PostgresServer) -> Iterator[psycopg.Connection]:
    with psycopg.connect(pg.dsn(), autocommit=True) as connection:
        connection.execute("set client_encoding to 'UTF8'; set timezone to 'UTC'")
        yield connection


_INTEGERS = {
    "int2": (2**15, [pa.int16(), pa.int32(), pa.int64(), pa.decimal128(38, 0)]),
    "int4": (2**31, [pa.int32(), pa.int64(), pa.decimal128(38, 0), pa.decimal128(10, 0)]),
    "int8": (2**63, [pa.int64(), pa.decimal128(38, 0), pa.decimal128(19, 0)]),
}


@pytest.mark.parametrize("type_", _INTEGERS)
def test_integers(link: psycopg.Connection, rng: random.Random, type_: str) -> None:
    limit, arrows = _INTEGERS[type_]
    values = [rng.randrange(-limit, limit) >> rng.randrange(64) for _ in range(700)]
    some = nulled(rng, [0, -limit, limit - 1, 9, 10, -10, 99, 100, *values])
    found = through_text(link, some, type_)
    for arrow in arrows:
        exact = [None if v is None else Decimal(v) for v in some]
        array = pa.array(exact if pa.types.is_decimal(arrow) else some, arrow)
        both(array, found)
    round_trip(link, array, found[1][0].oid, type_)


def test_unsigned_integers(link: psycopg.Connection, rng: random.Random) -> None:
    for arrow, bits, type_ in (
        (pa.uint8(), 8, "int2"),
        (pa.uint16(), 16, "int4"),
        (pa.uint32(), 32, "oid"),
        (pa.uint32(), 32, "int8"),
        (pa.uint64(), 64, "numeric"),
        (pa.uint64(), 63, "int8"),
        (pa.int8(), 7, "int2"),
        (pa.int64(), 63, "numeric"),
    ):
        values = nulled(rng, [0, 2**bits - 1, *(rng.randrange(2**bits) for _ in range(500))])
        both(pa.array(values, arrow), through_text(link, values, type_))


@pytest.mark.parametrize(
    ("precision", "scale"),
    [
        *[(1, 0), (5, 2), (12, 2), (9, 9), (18, 4), (18, 18), (19, 1), (19, 19), (20, 17)],
        *[(22, 20), (38, 0), (38, 1), (38, 10), (38, 37), (38, 38)],
    ],
)
def test_numerics(link: psycopg.Connection, rng: random.Random, precision: int, scale: int) -> None:
    units = [0, 1, -1, 10**precision - 1, 1 - 10**precision]
    units += [min(10**k, 10**precision - 1) for k in range(precision + 1)]
    for _ in range(700):
        unit = rng.randrange(10 ** rng.randrange(1, precision + 1))
        unit -= unit % 10 ** rng.randrange(precision) if rng.random() < 0.3 else 0
        units.append(rng.choice([-1, 1]) * unit)
    texts = [f"{Decimal(unit).scaleb(-scale, CONTEXT):f}" for unit in units]
    values = nulled(rng, texts)
    arrow = pa.decimal128(precision, scale)
    array = pa.array([None if v is None else Decimal(v) for v in values], arrow)
    both(array, through_text(link, values, "numeric"))
    both(array, through_text(link, values, f"numeric({precision},{scale})"))
    both(array, through_text(link, values, f"numeric({precision + 45},{scale + 5})"))
    round_trip(link, array, _NUMERIC, "numeric")


def floats(rng: random.Random, count: int) -> list[float]:
    found = [0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1e23, 1.7976931348623157e308]
    found += [float(f"1e{k}") for k in range(-30, 41)] + [float(f"123456789e{k}") for k in range(9)]
    for power in range(-80, 140):
        two = 2.0**power
        found += [two, math.nextafter(two, 0), math.nextafter(two, math.inf), -two]
    for _ in range(count):
        found += [
            struct.unpack("<d", rng.randbytes(8))[0],
            round(rng.uniform(-1000, 1000), rng.randrange(6)),
            float(rng.randrange(2**63) * 10 ** rng.randrange(20) >> rng.randrange(60)),
            rng.random() * 10 ** rng.randrange(-8, 8),
            float(f"{rng.randrange(1, 2000)}e{rng.randrange(14, 40)}"),
        ]
    return found


def test_floats(link: psycopg.Connection, rng: random.Random) -> None:
    plain = [math.nan if math.isnan(value) else value for value in floats(rng, 1500)]
    values = nulled(rng, plain)
    array = pa.array(values, pa.float64())
    both(array, through_text(link, values, "float8"))
    round_trip(link, array, 701, "float8")


def test_singles(link: psycopg.Connection, rng: random.Random) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        singles = np.array(floats(rng, 1500)).astype(np.float32)
    more = np.frombuffer(rng.randbytes(4000), np.float32)
    singles = np.concatenate([singles, more])
    array = pa.array(singles, mask=np.array([rng.random() < 0.1 for _ in singles]))
    found = through_text(
        link, [None if v is None else repr(v) for v in array.to_pylist()], "float4"
    )
    finite = pa.array([v is None or not math.isnan(v) for v in array.to_pylist()])
    keep = finite.to_pylist()  # the sign of NaN is lost in text
    chosen = [[cell for cell, k in zip(cells, keep, strict=True) if k] for cells in found[0]]
    both(array.filter(finite), (chosen, found[1]))
    double = array.filter(finite).cast(pa.float64())
    both(double, (chosen, found[1]))
    round_trip(link, array.filter(finite), 700, "float4")


def strings(rng: random.Random, count: int) -> list[str]:
    found = ["", " ", "NULL", "null", "\\", '"', "{}", ",", "a\nb", "\t", "é", "𝄞", "x" * 100_000]
    letters = "aé中𝄞\"\\,{} \n\tNULnul'x;"
    for _ in range(count):
        size = rng.choice([0, 1, 5, 20, 70, 300, 700])
        found.append("".join(rng.choice(letters) for _ in range(rng.randrange(size + 1))))
    return found


@pytest.mark.parametrize(
    "type_", ["text", "varchar", "varchar(50)", "bpchar", "char(9)", "name", '"char"']
)
def test_text(link: psycopg.Connection, rng: random.Random, type_: str) -> None:
    values = nulled(rng, strings(rng, 400))
    found = through_text(link, values, type_)
    try:
        shown = [None if cell is None else cell.decode() for cell in found[0][0]]
    except UnicodeDecodeError:  # "char" cuts a character in two
        values = [v if v is None or v.isascii() else "z" for v in values]
        found = through_text(link, values, type_)
        shown = [None if cell is None else cell.decode() for cell in found[0][0]]
    large = pa.array(shown, pa.large_string())
    for array in (pa.array(shown), large, large.cast(pa.string_view())):
        both(array, found)
    both(pa.array(shown).dictionary_encode(), found)
    round_trip(link, pa.array(values), _TEXT, "text")
    element = {"varchar(50)": "varchar", "char(9)": "bpchar"}.get(type_, type_)
    round_trip(link, pa.array(shown), found[1][0].oid, element)


def test_bytes(link: psycopg.Connection, rng: random.Random) -> None:
    random_bytes = [rng.randbytes(rng.choice([0, 1, 2, 16, 700])) for _ in range(500)]
    values = nulled(rng, [b"", bytes(range(256)), *random_bytes])
    found = through_text(link, [None if v is None else "\\x" + v.hex() for v in values], "bytea")
    large = pa.array(values, pa.large_binary())
    for array in (pa.array(values, pa.binary()), large, large.cast(pa.binary_view())):
        both(array, found)
    round_trip(link, array, 17, "bytea")
    same = pa.array([None if v is None else v.ljust(16)[:16] for v in values], pa.binary(16))
    both(
        same,
        through_text(link, ["\\x" + v.hex() if v else None for v in same.to_pylist()], "bytea"),
    )


def test_booleans(link: psycopg.Connection, rng: random.Random) -> None:
    values = nulled(rng, [rng.random() < 0.5 for _ in range(500)])
    array = pa.array(values)
    both(array, through_text(link, values, "bool"))
    round_trip(link, array, 16, "bool")


def test_uuids(link: psycopg.Connection, rng: random.Random) -> None:
    values = nulled(rng, [uuid.UUID(int=rng.getrandbits(128)) for _ in range(500)])
    found = through_text(link, values, "uuid")
    texts = pa.array([None if v is None else str(v) for v in values])
    both(texts, found)
    raw = pa.array([None if v is None else v.bytes for v in values], pa.binary(16))
    both(raw, found)
    both(pa.ExtensionArray.from_storage(pa.uuid(), raw), found)
    for array in (texts, raw):
        round_trip(link, array, 2950, "uuid")


@pytest.mark.parametrize("type_", ["json", "jsonb"])
def test_json(link: psycopg.Connection, rng: random.Random, type_: str) -> None:
    values = nulled(rng, ['{"a": [1, null, "é\\n"]}', "{}", "null", "[1.50, 2e3]"] * 60)
    found = through_text(link, values, type_)
    shown = pa.array([None if cell is None else cell.decode() for cell in found[0][0]])
    both(shown, found)
    round_trip(link, shown, found[1][0].oid, type_)


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        ("interval", ["1 day", "-1 year 2 mons 03:04:05.678", "0", "100:00:00"]),
        ("int4[]", ["{}", "{1,NULL,3}", "{{1,2},{3,4}}", "[0:1]={5,6}"]),
        ("inet", ["10.0.0.1", "::1/128", "10.0.0.0/8"]),
        ("numeric", ["NaN", "Infinity", "1e400", "0.000"]),
        ("int4range", ["empty", "[1,5)", "(,)"]),
        ("timetz", ["10:00+02", "24:00:00-03:30"]),
        ("box", ["((1,2),(3,4))", "((0,0),(0.5,0.5))"]),
        ("pg_catalog.pg_lsn", ["0/0", "FF/ABCD"]),
    ],
)
def test_opaque_text(link: psycopg.Connection, type_: str, values: list[str]) -> None:
    (text, _), (as_text, as_binary) = through_text(link, [*values, None], type_)
    array = pa.array([None if cell is None else cell.decode() for cell in text])
    check(array, as_text, text)
    assert not rows.encodable(array.type, as_binary)
    if not type_.endswith("[]"):
        round_trip(link, array, as_text.oid, type_)
