"""DataRow messages as Arrow, by the bytes of PostgreSQL's documented formats."""

from __future__ import annotations

import struct
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pyarrow as pa
import pytest

from htapkit.model import DATE_INFINITY, TIMESTAMP_INFINITY
from htapkit.serve.flight.source_rows import NotRepresentable, batch, formats


def body(*cells: bytes | None) -> bytes:
    parts = [struct.pack("!h", len(cells))]
    for cell in cells:
        parts.append(struct.pack("!i", -1) if cell is None else struct.pack("!i", len(cell)) + cell)
    return b"".join(parts)


def column(type_: pa.DataType, *cells: bytes | None) -> pa.Array:
    schema = pa.schema({"c": type_})
    return batch([body(cell) for cell in cells], schema).column(0)


def test_which_columns_are_binary() -> None:
    schema = pa.schema(
        {"a": pa.int64(), "b": pa.string(), "c": pa.decimal128(9, 2), "d": pa.bool_()}
    )
    assert formats(schema) == (1, 0, 0, 1)


def test_values() -> None:
    big = struct.Struct("!q")
    moment = (datetime(2026, 1, 2, 3, 4, 5, 6, UTC) - datetime(2000, 1, 1, tzinfo=UTC)) // (
        datetime.resolution
    )
    assert column(pa.int16(), b"\xff\xfe", None).to_pylist() == [-2, None]
    assert column(pa.int32(), b"\x7f\xff\xff\xff").to_pylist() == [2**31 - 1]
    assert column(pa.int64(), big.pack(-(2**63)), None).to_pylist() == [-(2**63), None]
    assert column(pa.float64(), struct.pack("!d", 0.1)).to_pylist() == [0.1]
    assert column(pa.float32(), struct.pack("!f", 0.5), None).to_pylist() == [0.5, None]
    assert column(pa.bool_(), b"\1", b"\0", None).to_pylist() == [True, False, None]
    assert column(pa.date32(), struct.pack("!i", 1)).to_pylist() == [date(2000, 1, 2)]
    assert column(pa.time64("us"), big.pack(1)).to_pylist() == [time(0, 0, 0, 1)]
    zoned = column(pa.timestamp("us", "UTC"), big.pack(moment), None).to_pylist()
    assert zoned == [datetime(2026, 1, 2, 3, 4, 5, 6, UTC), None]
    assert column(pa.binary(), b"\0\xff", b"").to_pylist() == [b"\0\xff", b""]
    assert column(pa.string(), "é".encode(), b"", None).to_pylist() == ["é", "", None]
    assert column(pa.decimal128(5, 2), b"-1.50", None).to_pylist() == [Decimal("-1.50"), None]


def test_infinities_are_as_in_the_copy() -> None:
    big = struct.Struct("!q")
    moments = column(pa.timestamp("us"), big.pack(2**63 - 1), big.pack(-(2**63)), big.pack(0))
    assert moments.view(pa.int64()).to_pylist() == [
        TIMESTAMP_INFINITY,
        -TIMESTAMP_INFINITY,
        946_684_800_000_000,
    ]
    small = struct.Struct("!i")
    days = column(pa.date32(), small.pack(2**31 - 1), small.pack(-(2**31)), small.pack(-10_957))
    assert days.view(pa.int32()).to_pylist() == [DATE_INFINITY, -DATE_INFINITY, 0]


def test_what_arrow_cannot_hold_names_its_column() -> None:
    for wrong in (b"NaN", b"123456.00", b"1.234"):
        with pytest.raises(NotRepresentable, match="column c"):
            column(pa.decimal128(5, 2), wrong)


def test_no_columns_and_no_rows() -> None:
    assert batch([body(), body()], pa.schema([])).num_rows == 2
    assert batch([], pa.schema({"a": pa.int32()})).num_rows == 0
