"""What goes into a Cassandra table: values as the driver itself writes them, or why not."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pytest
from cassandra import cqltypes, util
from hypothesis import given
from hypothesis import strategies as st

from htapkit.model import DATE_INFINITY, TIMESTAMP_INFINITY
from htapkit_cassandra import cql, encoding, spool
from htapkit_cassandra.destination import for_files
from htapkit_cassandra.fitting import Fit, LoadRefused, Target, WrongColumns, WrongType
from htapkit_cassandra.readback import Compared, normal

_PROTOCOL = 5
_TYPES = {"place": (("street", "text"), ("spots", "frozen<list<int>>"))}
_TEXTS: Sequence[tuple[str, type[cqltypes._CassandraType], st.SearchStrategy[object]]] = (
    ("decimal", cqltypes.DecimalType, st.decimals(allow_nan=False, allow_infinity=False)),
    ("varint", cqltypes.IntegerType, st.integers()),
    ("bigint", cqltypes.LongType, st.integers(-(2**63), 2**63 - 1)),
    ("double", cqltypes.DoubleType, st.floats(allow_nan=False)),
    ("float", cqltypes.FloatType, st.floats(allow_nan=False, width=32)),
    ("uuid", cqltypes.UUIDType, st.uuids()),
    ("timeuuid", cqltypes.TimeUUIDType, st.uuids(version=1)),
    ("time", cqltypes.TimeType, st.integers(0, 86_400 * 10**9 - 1).map(util.Time)),
    ("inet", cqltypes.InetAddressType, st.ip_addresses().map(str)),
    ("boolean", cqltypes.BooleanType, st.booleans()),
)


@pytest.mark.parametrize(("name", "theirs", "values"), _TEXTS, ids=[t[0] for t in _TEXTS])
def test_a_text_of_ours_is_the_drivers_bytes_again(
    name: str, theirs: type[cqltypes._CassandraType], values: st.SearchStrategy[object]
) -> None:
    """The driver is asked what the bytes are, and `cql` what the copy shows of them."""

    @given(values)
    def holds(value: object) -> None:
        raw = theirs.serialize(value, _PROTOCOL)
        try:
            text = cql.as_text(cql.Cql(name), raw)
        except ValueError:
            assert name == "decimal"  # of a large exponent, which no column holds
            return
        assert text is not None
        again = encoding.FROM_TEXT[name](text)
        if name == "decimal" and raw[:1] >= b"\x80":  # 1E+3 is shown as 1000
            assert theirs.deserialize(again, _PROTOCOL) == value
        else:
            assert again == raw

    holds()


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1),
       st.sampled_from([1, -1]))  # fmt: skip
def test_durations_are_the_drivers(months: int, days: int, nanoseconds: int, sign: int) -> None:
    """All three numbers have one sign."""
    parts = (sign * months, sign * days, sign * nanoseconds)
    raw = cqltypes.DurationType.serialize(util.Duration(*parts), _PROTOCOL)
    assert encoding.duration(*parts) == raw
    text = cql.as_text(cql.Cql("duration"), raw)
    assert text is not None
    assert encoding.FROM_TEXT["duration"](text) == raw


def _random_value(rolled: random.Random, type_: cql.Cql) -> object:  # noqa: PLR0911 - types
    """JSON's value of a type."""
    if type_.user_defined:
        pairs = zip(type_.fields, type_.arguments, strict=True)
        return {n: _random_value(rolled, t) for n, t in pairs if rolled.random() < 0.7}
    if type_.name == "map":
        keys, values = type_.arguments
        count = rolled.randrange(1, 4)
        return {
            _key(_random_value(rolled, keys)): _random_value(rolled, values) for _ in range(count)
        }
    if type_.name in {"list", "set"}:
        (inner,) = type_.arguments
        found = [_random_value(rolled, inner) for _ in range(rolled.randrange(1, 4))]
        return found if type_.name == "list" else list({repr(v): v for v in found}.values())
    if type_.name == "tuple":
        return [_random_value(rolled, t) for t in type_.arguments]
    if type_.name == "int":
        return rolled.randrange(-(2**31), 2**31)
    if type_.name == "timestamp":
        return f"20{rolled.randrange(10, 99)}-01-02 03:04:05.{rolled.randrange(1000):03}Z"
    return "".join(rolled.choices('aé"\\{}', k=rolled.randrange(4)))


def _key(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize(
    "name",
    ["list<int>", "set<text>", "map<int, text>", "map<timestamp, frozen<list<int>>>", "place",
     "tuple<int, text>", "frozen<map<frozen<list<int>>, place>>",
     "list<frozen<tuple<int, place>>>"],
)  # fmt: skip
def test_json_of_ours_is_the_same_bytes_again(name: str) -> None:
    """What is shown of made bytes makes them again, and it says what was given."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rolled, type_ = random.Random(seed), cql.parse(name, _TYPES)
    for _ in range(200):
        value = _random_value(rolled, type_)
        raw = encoding.from_json(type_, json.dumps(value))
        if raw is None:
            assert not value
            continue
        shown = cql.as_text(type_, raw)
        assert shown is not None
        assert json.loads(shown) == value
        assert encoding.from_json(type_, shown) == raw


def _target(name: str, kind: str = "regular") -> Target:
    return Target("c", cql.parse(name, _TYPES), name, kind)


_MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)
_MS = (_MOMENT - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
_TAKEN: Sequence[tuple[str, pa.Array, bytes | str | None]] = (
    ("int", pa.array([7], pa.int64()), b"\0\0\0\7"),
    ("int", pa.array([2**31], pa.int64()), "beyond its range"),
    ("tinyint", pa.array([200], pa.uint8()), "beyond its range"),
    ("varint", pa.array([Decimal("128.00")], pa.decimal128(9, 2)), b"\x00\x80"),
    ("varint", pa.array([Decimal("1.5")], pa.decimal128(9, 1)), "not a whole number"),
    ("varint", pa.array(["-129"]), b"\xff\x7f"),
    ("decimal", pa.array([Decimal("1.50")], pa.decimal128(9, 2)), b"\0\0\0\2\0\x96"),
    ("decimal", pa.array(["1e3"]), b"\xff\xff\xff\xfd\1"),
    ("decimal", pa.array(["NaN"]), "not a number"),
    ("decimal", pa.array([5], pa.int32()), b"\0\0\0\0\5"),
    ("timestamp", pa.array([_MOMENT], pa.timestamp("us", "UTC")), _MS.to_bytes(8, "big")),
    ("timestamp", pa.array([_MS], pa.timestamp("ms", "Europe/Berlin")), _MS.to_bytes(8, "big")),
    ("timestamp", pa.array([1_001], pa.timestamp("us", "UTC")), "microseconds"),
    ("timestamp", pa.array([TIMESTAMP_INFINITY], pa.timestamp("us", "UTC")), "infinite"),
    ("timestamp", pa.array([2**62], pa.timestamp("s", "UTC")), "beyond its range"),
    ("date", pa.array([date(1969, 12, 31)], pa.date32()), b"\x7f\xff\xff\xff"),
    ("date", pa.array([DATE_INFINITY], pa.date32()), "infinite"),
    ("time", pa.array([5], pa.time64("us")), (5_000).to_bytes(8, "big")),
    ("time", pa.array(["24:00:00"]), "not a time of a day"),
    ("time", pa.array(["01:02"]), "not a time such as"),
    ("uuid", pa.array([UUID(int=5).bytes], pa.binary(16)), UUID(int=5).bytes),
    ("uuid", pa.array([UUID(int=5).bytes], pa.uuid()), UUID(int=5).bytes),
    ("timeuuid", pa.array([str(UUID(int=5))]), "not a timeuuid"),
    ("uuid", pa.array(["{00000000-0000-0000-0000-000000000005}"]), "not a uuid"),
    ("inet", pa.array(["10.0.0.1"]), b"\x0a\0\0\1"),
    ("inet", pa.array(["10.0.0.0/8"]), "without a mask"),
    ("ascii", pa.array(["é"]), "ascii"),
    ("text", pa.array(["é"]).dictionary_encode(), "é".encode()),
    ("float", pa.array([0.1], pa.float32()), struct.pack(">f", 0.1)),
    ("double", pa.array([0.5], pa.float32()), struct.pack(">d", 0.5)),
    ("duration", pa.array([pa.scalar((1, 2, 3), pa.month_day_nano_interval()).as_py()]), b"\2\4\6"),
    ("duration", pa.array(["1mo-2d3ns"]), "different signs"),
    ("vector<float, 2>", pa.array([[1, 2]], pa.large_list(pa.float32())), struct.pack(">2f", 1, 2)),
    ("vector<float, 2>", pa.array([[1.0]], pa.list_(pa.float32())), "not 2 elements"),
    ("vector<float, 2>", pa.array([[1.0, None]], pa.list_(pa.float32())), "NULL within"),
    ("vector<double, 1>", pa.array([[0.1]], pa.list_(pa.float64())), struct.pack(">d", 0.1)),
    ("vector<int, 1>", pa.array([[7]], pa.list_(pa.int64(), 1)), b"\0\0\0\7"),
    ("vector<int, 1>", pa.array([[2**31]], pa.list_(pa.int64())), "beyond its range"),
    ("vector<float, 2>", pa.array(["[1, 2]"]), struct.pack(">2f", 1, 2)),
    ("list<int>", pa.array(["[]"]), None),
    ("frozen<list<int>>", pa.array(["[]"]), b"\0\0\0\0"),
    ("set<int>", pa.array(["[1, 1]"]), "twice"),
    ("map<text, int>", pa.array(['{"a": 1, "a": 2}']), "twice"),
    ("list<int>", pa.array(["[null]"]), "null within"),
    ("list<int>", pa.array(["[1"]), "not JSON"),
    ("list<double>", pa.array(["[1e400]"]), "beyond its range"),
    ("list<float>", pa.array(["[1e39]"]), "beyond its range"),
    ("list<decimal>", pa.array(["[1e9999999999999999999999]"]), "beyond any range"),
    ("list<text>", pa.array(["[true]"]), "no value of text"),
    ("list<int>", pa.array(["[true]"]), "no value of int"),
    ("list<boolean>", pa.array(["[1]"]), "no value of boolean"),
    ("list<date>", pa.array(["[20200101]"]), "no value of date"),
    ("list<date>", pa.array(['["2020-W01-1"]']), "not a date such as"),
    ("list<date>", pa.array(['["2020-01-01"]']), b"\0\0\0\1\0\0\0\4\x80\0\x47\x56"),
    ("list<timestamp>", pa.array(['["20200101T000000Z"]']), "not a timestamp such as"),
    ("list<text>", pa.array([r'["\ud800"]']), "not UTF-8"),
    ("place", pa.array(['{"town": "x"}']), "a field that its type has not"),
    ("boolean", pa.nulls(1), None),
)  # fmt: skip


@pytest.mark.parametrize(("name", "values", "expected"), _TAKEN)
def test_a_value_is_taken_exactly_or_rejected(
    name: str, values: pa.Array, expected: bytes | str | None
) -> None:
    """A text here is a part of the reason."""
    batch = pa.record_batch([values], names=["c"])
    found = Fit("s.k.t", [_target(name)], batch.schema).encoded(batch)
    if isinstance(expected, str):
        ((row, why),) = found.rejected
        assert (row, found.lines, found.columns) == (0, (), ([],))
        assert why.startswith("c: ")
        assert expected in why
    else:
        assert found.columns == ([expected],)


@pytest.mark.parametrize(
    ("name", "given_type", "why"),
    [
        ("timestamp", pa.timestamp("ms"), "AT TIME ZONE"),
        ("float", pa.float64(), "takes float"),
        ("int", pa.string(), "takes integer"),
        ("decimal", pa.float64(), "takes decimal or integer or text"),
        ("list<int>", pa.list_(pa.int32()), "text with JSON"),
        ("vector<float, 1>", pa.list_(pa.float64()), "text with JSON or a list of float"),
        ("vector<float, 1>", pa.list_(pa.int64()), "text with JSON or a list of float"),
        ("vector<double, 1>", pa.list_(pa.int64()), "a list of double or float"),
    ],
)
def test_a_column_of_another_type_is_refused_as_a_whole(
    name: str, given_type: pa.DataType, why: str
) -> None:
    """Before a row is read."""
    with pytest.raises(WrongType, match=f"s.k.t, column c: .*{why}") as refused:
        Fit("s.k.t", [_target(name)], pa.schema([("c", given_type)]))
    assert refused.value.sqlstate == "42804"


def test_a_text_that_is_not_utf8_is_rejected() -> None:
    """By itself; the others of its column are taken."""
    buffers = [None, pa.array([0, 1, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xffa")]
    values = pa.Array.from_buffers(pa.string(), 2, buffers)
    for column in (values, values.dictionary_encode()):
        batch = pa.record_batch([column], names=["c"])
        found = Fit("s.k.t", [_target("text")], batch.schema).encoded(batch)
        assert found.rejected == ((0, "c: not UTF-8"),)
        assert found.columns == ([b"a"],)


def test_columns_are_found_by_name() -> None:
    """Those of the key are needed, others may be left out, and none may be strange."""
    key, value = Target("k", cql.Cql("int"), "int", "partition_key"), _target("int")
    with pytest.raises(WrongColumns, match="no column k, which its key needs"):
        Fit("s.k.t", [key, value], pa.schema([("c", pa.int32())]))
    with pytest.raises(WrongColumns, match="no column x; it has k, c"):
        Fit("s.k.t", [key, value], pa.schema([("k", pa.int32()), ("x", pa.int32())]))
    with pytest.raises(LoadRefused, match="counters"):
        Fit("s.k.t", [key, _target("counter")], pa.schema([("k", pa.int32())]))
    batch = pa.record_batch([pa.array([1, None]), pa.array([2, 3])], names=["c", "k"])
    found = Fit("s.k.t", [key, value], batch.schema).encoded(batch)
    assert found.columns == ([b"\0\0\0\2", b"\0\0\0\3"], [b"\0\0\0\1", None])
    swapped = batch.rename_columns(["k", "c"])
    ((row, why),) = Fit("s.k.t", [key, value], swapped.schema).encoded(swapped).rejected
    assert (row, why) == (1, "k: NULL, in a column of the key")


def test_a_spool_gives_back_what_was_written(tmp_path: Path) -> None:
    """Of the rows that were counted; what a killed writer left behind them is not read."""
    rolled = random.Random(5)
    rows = [
        tuple(rolled.choice([None, b"", rolled.randbytes(rolled.randrange(9))]) for _ in range(3))
        for _ in range(500)
    ]
    path = tmp_path / "rows"
    with spool.SpoolWriter(path) as writer:
        for begin in range(0, 500, 90):
            writer.write([list(column) for column in zip(*rows[begin : begin + 90], strict=True)])
    assert writer.rows == 500
    with path.open("ab") as file:
        file.write(b"\0\0\0\1\0\0")
    assert [row for chunk in spool.chunks(path, 3, 500) for row in chunk] == rows


def test_keys_that_stand_twice_are_counted(tmp_path: Path) -> None:
    """NULL, an empty value and how values are cut into columns make other keys."""
    with spool.Keys(tmp_path / "keys") as keys:
        keys.add([(b"a", b"b"), (b"ab", b""), (b"ab", None), (b"", b"ab")])
        keys.add([(n.to_bytes(4, "big"), b"") for n in range(5_000)])
        keys.add([(b"ab", b""), (b"ab", b"")])
        assert keys.repeated() == 2
    assert not (tmp_path / "keys").exists()


def test_sets_and_maps_are_compared_without_their_order() -> None:
    """And lists with it; a user-defined type may have fewer fields than are known."""
    of = {name: cql.parse(name, _TYPES) for name in ("set<int>", "map<int, text>", "list<int>")}
    a, b = (encoding.from_json(of["set<int>"], text) for text in ("[1, 2]", "[2, 1]"))
    assert a != b
    assert normal(of["set<int>"], a) == normal(of["set<int>"], b)
    assert normal(of["list<int>"], a) != normal(of["list<int>"], b)
    place = cql.parse("place", _TYPES)
    whole = encoding.from_json(place, '{"street": "x"}')
    assert whole is not None
    assert normal(place, whole) == normal(place, whole[:5])
    compared = Compared()
    target = Target("s", of["set<int>"], "set<int>", "regular")
    compared.take(1, [target], (a,), (b,))
    compared.take(2, [target], (a,), None)
    compared.take(3, [target], (a,), (None,))
    assert (compared.compared, compared.equal, compared.missing) == (3, 1, 1)
    assert dict(compared.columns) == {"s": 1}


def test_a_program_that_makes_files_needs_no_cdc() -> None:
    """Of the table's options that stays of which its files depend."""
    create = "CREATE TABLE k.t (\n    a int,\n    cdc int\n) WITH ID = 5\n    AND cdc = true"
    create += "\n    AND CLUSTERING ORDER BY (b DESC, c ASC)"
    create += "\n    AND comment = 'once it had default_time_to_live = 60'"
    create += "\n    AND default_time_to_live = 9;"
    assert for_files(create, 9) == (
        "CREATE TABLE k.t (\n    a int,\n    cdc int\n) WITH ID = 5"
        " AND CLUSTERING ORDER BY (b DESC, c ASC) AND default_time_to_live = 9"
    )
