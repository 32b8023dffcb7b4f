"""DataRow messages: frames, ranges, what is encodable, and both ways to render being the same.

Expected texts are PostgreSQL 18's own; random values against a live server are in the integration
tests.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from datetime import UTC, timedelta, timezone, tzinfo
from decimal import Decimal
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from htapkit.errors import QueryFailed
from htapkit.model import DATE_INFINITY, TIMESTAMP_INFINITY
from htapkit.serve.pgwire import rows, rows_cells
from htapkit.serve.pgwire.rows import WireColumn

RENDERERS = [rows.many_rows, rows.few_rows]
AMSTERDAM = ZoneInfo("Europe/Amsterdam")


def text(oid: int, typmod: int = -1) -> WireColumn:
    return WireColumn(oid, typmod, binary=False)


def binary(oid: int, typmod: int = -1) -> WireColumn:
    return WireColumn(oid, typmod, binary=True)


def modifier(precision: int, scale: int) -> int:
    return (precision << 16 | scale & 0x7FF) + 4


def message(*cells: bytes | None) -> bytes:
    body = struct.pack("!h", len(cells))
    for cell in cells:
        body += struct.pack("!i", -1) if cell is None else struct.pack("!i", len(cell)) + cell
    return b"D" + struct.pack("!i", len(body) + 4) + body


def same(
    array: pa.Array, column: WireColumn, expected: Sequence[bytes | None], zone: tzinfo = UTC
) -> None:
    batch = pa.record_batch([array], names=["x"])
    for render in [*RENDERERS, rows.data_rows]:
        assert bytes(render(batch, [column], zone)) == b"".join(map(message, expected))


def refused(array: pa.Array, column: WireColumn, words: str) -> None:
    batch = pa.record_batch([array], names=["x"])
    for render in RENDERERS:
        with pytest.raises(QueryFailed, match=words):
            render(batch, [column], UTC)


def test_frame_without_rows_or_columns() -> None:
    batch = pa.record_batch([pa.array([1, 2])], names=["x"])
    assert rows.data_rows(batch.slice(0, 0), [text(20)], UTC) == b""
    for render in RENDERERS:
        assert bytes(render(batch.select([]), [], UTC)) == message() * 2


def test_number_of_columns_must_agree() -> None:
    batch = pa.record_batch([pa.array([1])], names=["x"])
    with pytest.raises(QueryFailed, match="has 1 columns where 2"):
        rows.data_rows(batch, [text(20), text(20)], UTC)


def test_columns_stand_in_order() -> None:
    batch = pa.record_batch(
        [pa.array([1, None]), pa.array(["é", ""]), pa.array([True, False])], names=["a", "b", "c"]
    )
    columns = [binary(23), text(25), text(16)]
    for render in RENDERERS:
        assert bytes(render(batch, columns, UTC)) == message(
            b"\0\0\0\1", "é".encode(), b"t"
        ) + message(None, b"", b"f")


def test_more_columns_than_a_byte_counts() -> None:
    batch = pa.record_batch([pa.array([7])] * 300, names=[str(n) for n in range(300)])
    for render in RENDERERS:
        assert bytes(render(batch, [text(23)] * 300, UTC)) == message(*[b"7"] * 300)


def test_long_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (rows, rows_cells):
        monkeypatch.setattr(module, "ROW_BYTES_MAX", 100)
    same(pa.array(["x" * 89]), text(25), [b"x" * 89])
    refused(pa.array(["x" * 90]), text(25), "longer than 100 bytes")


def test_long_and_short_strings_together() -> None:
    values = ["x" * size for size in (0, 1, 511, 512, 513, 514, 70_000, 3)] * 3
    same(pa.array(values), text(25), [value.encode() for value in values])


@pytest.mark.parametrize("oid", [16, 20, 25, 701, 1700, 1184, 17, 2950, 3802, 99999])
def test_null_type(oid: int) -> None:
    for column in (text(oid), binary(oid)):
        assert rows.encodable(pa.null(), column)
        same(pa.nulls(3), column, [None] * 3)


def test_dictionaries_with_nulls_and_offsets() -> None:
    array = pa.array(["a", None, "bc", "a"]).dictionary_encode()
    same(array[1:], text(12345), [None, b"bc", b"a"])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1e15, b"1e+15"),
        (1e14, b"100000000000000"),
        (123456789012345.0, b"123456789012345"),
        (1234567890123456.0, b"1.234567890123456e+15"),
        (1e-4, b"0.0001"),
        (1e-5, b"1e-05"),
        (1.5e-7, b"1.5e-07"),
        (1e23, b"9.999999999999999e+22"),
        (2.0**-44, b"5.684341886080802e-14"),
        (5e-324, b"5e-324"),
        (1e300, b"1e+300"),
        (-0.0, b"-0"),
        (0.1 + 0.2, b"0.30000000000000004"),
        (math.nan, b"NaN"),
        (math.inf, b"Infinity"),
        (-math.inf, b"-Infinity"),
    ],
)
def test_float8(value: float, shown: bytes) -> None:
    same(pa.array([value, None, 1.0]), text(701), [shown, None, b"1"])


def test_float4() -> None:
    values = [1e6, 999999.0, 1234567.0, 0.1, 1e-5, 16777216.0, -0.0, None]
    shown = [b"1e+06", b"999999", b"1.234567e+06", b"0.1", b"1e-05", b"1.6777216e+07", b"-0", None]
    for arrow in (pa.float32(), pa.float64()):
        same(pa.array(values, arrow), text(700), shown)
    for lost in (1e39, 1e-60, -1e300):
        refused(pa.array([1.0, lost]), text(700), "out of range for type real")
        refused(pa.array([1.0, lost]), binary(700), "out of range for type real")


@pytest.mark.parametrize(
    ("oid", "low", "high"),
    [
        (21, -(2**15), 2**15 - 1),
        (23, -(2**31), 2**31 - 1),
        (26, 0, 2**32 - 1),
        (20, -(2**63), 2**63 - 1),
    ],
)
def test_integer_ranges(oid: int, low: int, high: int) -> None:
    wide = pa.decimal128(38, 0)
    same(pa.array([Decimal(low), Decimal(high)], wide), text(oid), [b"%d" % low, b"%d" % high])
    for value in (low - 1, high + 1, 10**30):
        for column in (text(oid), binary(oid)):
            refused(pa.array([Decimal(0), Decimal(value)], wide), column, "out of range")


def under_a_null(value: int, arrow: pa.DataType) -> pa.Array:
    """[NULL, 0], where the null's own memory holds `value`."""
    width = arrow.bit_width // 8
    raw = value.to_bytes(width, "little", signed=True) + bytes(width)
    return pa.Array.from_buffers(arrow, 2, [pa.py_buffer(b"\x02"), pa.py_buffer(raw)])


@pytest.mark.parametrize(
    ("arrow", "oid"),
    [
        (pa.int64(), 21),
        (pa.decimal128(38, 0), 23),
        (pa.decimal128(38, 3), 1700),
        (pa.timestamp("us"), 1114),
        (pa.timestamp("us", "UTC"), 1184),
        (pa.time64("us"), 1083),
        (pa.date32(), 1082),
    ],
)
def test_rubbish_under_nulls_is_not_looked_at(arrow: pa.DataType, oid: int) -> None:
    low = -(2 ** (arrow.bit_width - 1))
    for column in (text(oid, modifier(4, 3) if oid == 1700 else -1), binary(oid)):
        batch = pa.record_batch([under_a_null(low, arrow)], names=["x"])
        for render in RENDERERS:
            assert bytes(render(batch, [column], AMSTERDAM)).startswith(message(None))


def test_numeric_takes_the_announced_scale() -> None:
    array = pa.array([Decimal("1.50"), None, Decimal("-0.10")])
    same(array, text(1700), [b"1.50", None, b"-0.10"])
    same(array, text(1700, modifier(9, 4)), [b"1.5000", None, b"-0.1000"])
    same(array, text(1700, modifier(9, 1)), [b"1.5", None, b"-0.1"])
    same(array, binary(1700, modifier(9, 1)), NUMERIC_BINARY)
    refused(pa.array([Decimal("1.55")]), text(1700, modifier(9, 1)), "more than 1 digits")
    refused(pa.array([Decimal("1.55")]), binary(1700, modifier(9, 0)), "more than 0 digits")
    refused(pa.array([Decimal("10.0")]), text(1700, modifier(2, 1)), "precision 2, scale 1")
    refused(pa.array([12345]), text(1700, modifier(6, 2)), "precision 6, scale 2")
    same(pa.array([12300]), text(1700, modifier(3, -2)), [b"12300"])
    refused(pa.array([123000]), text(1700, modifier(3, -2)), "precision 3, scale -2")
    same(pa.array([7]), text(1700, modifier(40, 30)), [b"7." + b"0" * 30])
    tiny = pa.array([Decimal(10) ** -30], pa.decimal128(38, 30))
    refused(tiny, text(1700, modifier(40, 3)), "more than 3 digits")


NUMERIC_BINARY = [
    bytes.fromhex("0002 0000 0000 0001 0001 1388"),
    None,
    bytes.fromhex("0001 ffff 4000 0001 03e8"),
]


def test_hugeint_beyond_38_digits() -> None:
    raw = (2**127 - 1).to_bytes(16, "little") + (-(2**127)).to_bytes(16, "little", signed=True)
    array = pa.Array.from_buffers(pa.decimal128(38, 0), 2, [None, pa.py_buffer(raw)])
    same(array, text(1700), [b"%d" % (2**127 - 1), b"%d" % -(2**127)])


def test_times_out_of_range() -> None:
    refused(pa.array([-2_440_589], pa.date32()), text(1082), "date out of range")
    refused(pa.array([2**31 - 2], pa.date32()), binary(1082), "date out of range")
    refused(pa.array([86_400_000_001], pa.time64("us")), text(1083), "time out of range")
    refused(pa.array([-1], pa.time64("us")), binary(1083), "time out of range")
    early = pa.array([-210_866_803_200_000_001], pa.timestamp("us"))
    refused(early, text(1114), "timestamp out of range")
    refused(early.cast(pa.timestamp("us", "UTC")), binary(1184), "timestamp out of range")


def test_times() -> None:
    dates = pa.array([0, DATE_INFINITY, -DATE_INFINITY, -719_163, 2_932_897, None], pa.date32())
    shown = [b"1970-01-01", b"infinity", b"-infinity", b"0001-12-31 BC", b"10000-01-01", None]
    same(dates, text(1082), shown)
    same(
        pa.array([0, 86_400_000_000, 1, 120_000], pa.time64("us")),
        text(1083),
        [b"00:00:00", b"24:00:00", b"00:00:00.000001", b"00:00:00.12"],
    )
    stamps = [0, 1_500_000, -1, TIMESTAMP_INFINITY, -TIMESTAMP_INFINITY, -62_135_596_800_000_001]
    same(
        pa.array(stamps, pa.timestamp("us")),
        text(1114),
        [
            b"1970-01-01 00:00:00",
            b"1970-01-01 00:00:01.5",
            b"1969-12-31 23:59:59.999999",
            b"infinity",
            b"-infinity",
            b"0001-12-31 23:59:59.999999 BC",
        ],
    )
    same(
        pa.array(stamps[3:5], pa.timestamp("us", "UTC")),
        binary(1184),
        [b"\x7f" + b"\xff" * 7, b"\x80" + b"\0" * 7],
    )


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        (UTC, b"1970-01-01 00:00:00+00"),
        (ZoneInfo("UTC"), b"1970-01-01 00:00:00+00"),
        (ZoneInfo("Asia/Kathmandu"), b"1970-01-01 05:30:00+05:30"),
        (ZoneInfo("America/New_York"), b"1969-12-31 19:00:00-05"),
        (timezone(timedelta(minutes=19, seconds=32)), b"1970-01-01 00:19:32+00:19:32"),
        (timezone(timedelta(hours=-3, minutes=-30)), b"1969-12-31 20:30:00-03:30"),
    ],
)
def test_zones(zone: tzinfo, shown: bytes) -> None:
    same(pa.array([0, None], pa.timestamp("us", "UTC")), text(1184), [shown, None], zone)


def test_both_sides_of_a_change_of_the_clock() -> None:
    change = 1_711_846_800  # 2024-03-31 01:00 UTC
    array = pa.array([(change - 1) * 10**6, change * 10**6], pa.timestamp("us", "UTC"))
    shown = [b"2024-03-31 01:59:59+01", b"2024-03-31 03:00:00+02"]
    same(array, text(1184), shown, AMSTERDAM)


def test_bytes_and_uuids() -> None:
    same(pa.array([b"\x00\xff", b"", None]), text(17), [b"\\x00ff", b"\\x", None])
    one = "12345678-9abc-def0-1234-56789abcdef0"
    raw = bytes.fromhex(one.replace("-", ""))
    same(pa.array([one, None]), binary(2950), [raw, None])
    same(pa.array([raw, None], pa.binary(16)), text(2950), [one.encode(), None])
    for wrong in (one.upper(), one[:-1], one.replace("-", ":"), "g" + one[1:], ""):
        refused(pa.array([None, wrong]), binary(2950), "not a uuid")


def test_char_and_jsonb() -> None:
    same(pa.array(["", "a", "\\303", None]), binary(18), [b"\0", b"a", b"\xc3", None])
    refused(pa.array(["ab"]), binary(18), "too long")
    same(pa.array(['{"a": 1}', None]), binary(3802), [b'\x01{"a": 1}', None])
    same(pa.array(['{"a": 1}']), binary(114), [b'{"a": 1}'])


ARROWS = [
    *[pa.bool_(), pa.int8(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()],
    *[pa.decimal128(9, 2), pa.decimal128(38, 0), pa.decimal256(40, 0), pa.decimal64(5, 0)],
    *[pa.date32(), pa.date64(), pa.time64("us"), pa.time64("ns"), pa.time32("s")],
    *[pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.timestamp("ns"), pa.duration("us")],
    *[pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary()],
    *[pa.binary_view(), pa.binary(16), pa.binary(4), pa.null(), pa.month_day_nano_interval()],
    *[pa.list_(pa.int32()), pa.struct([("a", pa.int32())]), pa.uuid()],
    *[pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int8(), pa.int64())],
]
OIDS = [16, 17, 18, 19, 20, 21, 23, 25, 26, 114, 700, 701, 705, 1007, 1042, 1043, 1082, 1083, 1114]
OIDS += [1184, 1185, 1186, 1700, 2950, 3802, 3910, 99999]


@pytest.mark.parametrize("arrow", ARROWS, ids=str)
def test_encodable_is_what_is_rendered(arrow: pa.DataType) -> None:
    for oid in OIDS:
        for column in (text(oid), binary(oid)):
            for zone in (UTC, AMSTERDAM):
                batch = pa.record_batch([pa.nulls(2, arrow)], names=["x"])
                for render in RENDERERS:
                    if rows.encodable(arrow, column, zone):
                        assert bytes(render(batch, [column], zone)) == message(None) * 2
                    else:
                        with pytest.raises(QueryFailed, match=f"as type OID {oid} in"):
                            render(batch, [column], zone)
            if rows.encodable(arrow, column):
                assert rows.encodable(arrow, column, AMSTERDAM)


def test_zoned_text_is_for_sessions_in_utc() -> None:
    for oid in (1184, 1185, 3910):
        assert not rows.encodable(pa.string(), text(oid))
        assert rows.encodable(pa.string(), text(oid), ZoneInfo("UTC"))
    assert rows.encodable(pa.string(), text(1266))


@pytest.mark.parametrize("few", [0, rows.FEW_CELLS])
def test_array_literal(monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(rows, "FEW_CELLS", few)
    strings = pa.array(["a", "", None, "NULL", 'q"\\', "{,}", " é"])
    assert rows.array_literal(strings, 25).decode() == (
        '{"a","",NULL,"NULL","q\\"\\\\","{,}"," é"}'
    )
    assert rows.array_literal(pa.array([], pa.string()), 25) == b"{}"
    assert rows.array_literal(pa.nulls(2), 23) == b"{NULL,NULL}"
    assert rows.array_literal(pa.array([1, None, -3])[1:], 20) == b"{NULL,-3}"
    assert rows.array_literal(pa.array([b"\x01"]), 17) == b'{"\\\\x01"}'
    assert (
        rows.array_literal(pa.array(["(1,2),(0,0)"] * 2), 603) == b'{"(1,2),(0,0)";"(1,2),(0,0)"}'
    )


def test_text_values_keep_nulls_and_offsets() -> None:
    array = pa.array([0, 1, None, 3, None] * 5, pa.int32())[3:]
    texts = rows.text_values(array, 23, UTC)
    texts.validate(full=True)
    assert texts.to_pylist() == [None if v is None else str(v) for v in array.to_pylist()]


INT64 = st.integers(-(2**63), 2**63 - 1)
COLUMNS = st.sampled_from(
    [
        (INT64, pa.int64(), 20),
        (INT64, pa.int64(), 1700),
        (st.floats(), pa.float64(), 701),
        (st.floats(width=32), pa.float32(), 700),
        (st.decimals(-(10**20), 10**20, places=6), pa.decimal128(38, 6), 1700),
        (st.text(st.characters(codec="utf-8")), pa.string(), 25),
        (st.binary(), pa.binary(), 17),
        (st.booleans(), pa.bool_(), 16),
        (st.uuids().map(str), pa.string(), 2950),
        (st.integers(-2_440_588, 2_145_000_000), pa.date32(), 1082),
        (st.integers(0, 86_400_000_000), pa.time64("us"), 1083),
        (st.integers(-210_866_803_200_000_000, 2**63 - 1), pa.timestamp("us"), 1114),
        (st.integers(-210_866_803_200_000_000, 2**63 - 1), pa.timestamp("us", "UTC"), 1184),
    ]
)


@given(st.data(), st.booleans(), st.integers(0, 3))
def test_both_ways_agree(data: st.DataObject, in_binary: bool, first: int) -> None:
    values, arrow, oid = data.draw(COLUMNS)
    array = pa.array(data.draw(st.lists(st.none() | values, min_size=4, max_size=30)), arrow)
    batch = pa.record_batch([array[first:], array[first:]], names=["a", "b"])
    columns = [WireColumn(oid, -1, in_binary), text(oid)]
    many, few = (bytes(render(batch, columns, AMSTERDAM)) for render in RENDERERS)
    assert many == few
    again = b"".join(
        rows.few_rows(batch.slice(i, 1), columns, AMSTERDAM) for i in range(len(batch))
    )
    assert again == few
