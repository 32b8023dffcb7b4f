"""Random dates and times, sent in binary: PostgreSQL prints them, and so must we, byte by byte."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from zoneinfo import ZoneInfo

import psycopg
import pyarrow as pa
import pytest

from htapkit.model import DATE_INFINITY, TIMESTAMP_INFINITY
from htapkit.serve.pgwire.zone_offsets import ZONE_DIGEST_SQL, zone_digest
from htapkit.testing.postgres import PostgresServer
from tests.rows_oracle import Answers, ask, both, nulled, round_trip

pytestmark = pytest.mark.integration

_DAY_US = 86_400_000_000
_TIMESTAMP_MIN = -2_440_588 * _DAY_US
_BITS = {"date": 32, "time": 64, "timestamp": 64, "timestamptz": 64}
_OIDS = {"date": 1082, "time": 1083, "timestamp": 1114, "timestamptz": 1184}
_ARRAYS = {"date": 1182, "time": 1183, "timestamp": 1115, "timestamptz": 1185}


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


def binary_array(values: Sequence[int | None], type_: str) -> bytes:
    """Dates and times as a binary array: no text of ours is involved."""
    width, letter = (4, "i") if type_ == "date" else (8, "q")
    out = struct.pack("!iiiii", 1, 1, _OIDS[type_], len(values), 1)
    for value in values:
        out += struct.pack("!i", -1) if value is None else struct.pack(f"!i{letter}", width, value)
    return out


def instants(rng: random.Random, count: int) -> list[int]:
    found = [0, -1, 1, 999_999, _TIMESTAMP_MIN, TIMESTAMP_INFINITY - 1, -62135596800 * 10**6]
    found += [-62135596800 * 10**6 - 1, 253402300800 * 10**6, 253402300800 * 10**6 - 1]
    for _ in range(count):
        found += [
            rng.randrange(_TIMESTAMP_MIN, 2**63 - 1),
            rng.randrange(-63 * 10**15, 254 * 10**15) // 10**6 * 10**6,
            rng.randrange(-4 * 10**15, 5 * 10**15),
            rng.randrange(10**15, 2 * 10**15) // 10**4 * 10**4,
            rng.randrange(10**9) * 1_800_000_000 % (3 * 10**15),  # on the half hour
        ]
    return [*found, TIMESTAMP_INFINITY, -TIMESTAMP_INFINITY]


def wire(values: Sequence[int | None], type_: str) -> list[int | None]:
    """As PostgreSQL counts: since 2000, with its own infinities."""
    top = 2 ** (_BITS[type_] - 1) - 1
    shift = {"date": 10_957, "time": 0}.get(type_, 10_957 * _DAY_US)
    own = {top: top, -top: -top - 1}
    return [None if v is None else own[v] if v in own else v - shift for v in values]


def temporal(link: psycopg.Connection, values: Sequence[int | None], type_: str) -> Answers:
    sql = f"select u from unnest($1::{type_}[]) with ordinality w(u, n) order by n"
    return ask(link, sql, binary_array(wire(values, type_), type_), _ARRAYS[type_], 1)


def test_dates(link: psycopg.Connection, rng: random.Random) -> None:
    days = [0, -1, -719162, -719163, 2932896, 2932897, -2_440_588, 2_147_483_493 - 2_440_588]
    days += [DATE_INFINITY, -DATE_INFINITY, -719528, -719529, 11_016, 11_017]
    for _ in range(400):
        days += [rng.randrange(-2_440_588, 2_145_042_000), rng.randrange(-30_000, 40_000)]
        days += [rng.randrange(-800_000, 3_000_000)]
    values = nulled(rng, days)
    array = pa.array(values, pa.date32())
    both(array, temporal(link, values, "date"))
    round_trip(link, array, 1082, "date")
    near = nulled(rng, [rng.randrange(18_000, 18_100) for _ in range(300)])
    both(pa.array(near, pa.date32()), temporal(link, near, "date"))


def test_times(link: psycopg.Connection, rng: random.Random) -> None:
    times = [0, _DAY_US, _DAY_US - 1, 1, 100, 123_000, 10**6]
    for _ in range(300):
        times += [rng.randrange(_DAY_US), rng.randrange(864) * 10**8, rng.randrange(86400) * 10**6]
    values = nulled(rng, times)
    array = pa.array(values, pa.time64("us"))
    both(array, temporal(link, values, "time"))
    round_trip(link, array, 1083, "time")


def test_timestamps(link: psycopg.Connection, rng: random.Random) -> None:
    values = nulled(rng, instants(rng, 300))
    array = pa.array(values, pa.timestamp("us"))
    both(array, temporal(link, values, "timestamp"))
    round_trip(link, array, 1114, "timestamp")


@pytest.mark.parametrize(
    "name",
    [
        *["UTC", "Europe/Brussels", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"],
        *["Pacific/Apia", "America/St_Johns", "Africa/Monrovia", "Europe/Dublin", "Etc/GMT+12"],
        *["Pacific/Kiritimati", "Asia/Manila", "America/Juneau", "Antarctica/Troll"],
    ],
)
def test_zones(link: psycopg.Connection, rng: random.Random, name: str) -> None:
    link.execute(f"set timezone to '{name}'")
    values = nulled(rng, instants(rng, 150))
    for tz in ("UTC", "Etc/UTC", name):
        array = pa.array(values, pa.timestamp("us", tz))
        both(array, temporal(link, values, "timestamptz"), ZoneInfo(name))
    row = link.execute(ZONE_DIGEST_SQL).fetchone()
    assert row == (zone_digest(ZoneInfo(name)),)
    link.execute("set timezone to 'UTC'")
    assert (link.execute(ZONE_DIGEST_SQL).fetchone() == row) == (name == "UTC")
    round_trip(link, array, 1184, "timestamptz")
