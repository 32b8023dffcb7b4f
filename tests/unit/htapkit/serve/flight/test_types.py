"""PostgreSQL's types as Arrow's, and parameters as PostgreSQL's text."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest

from htapkit.plan.types import numeric_typmod
from htapkit.serve.flight.types import WrongParameter, arrow_type, parameter_rows


@pytest.mark.parametrize(
    ("oid", "typmod", "arrow"),
    [
        (16, -1, pa.bool_()),
        (20, -1, pa.int64()),
        (1700, -1, pa.string()),
        (1700, numeric_typmod(12, 2), pa.decimal128(12, 2)),
        (1700, numeric_typmod(60, 2), pa.string()),
        (1184, -1, pa.timestamp("us", "UTC")),
        (3802, -1, pa.string()),
        (1007, -1, pa.string()),
        (999_999, -1, pa.string()),
    ],
)
def test_types(oid: int, typmod: int, arrow: pa.DataType) -> None:
    assert arrow_type(oid, typmod) == arrow


def test_parameters() -> None:
    values = {
        "a": [True, None],
        "b": [b"\x00\xff", b""],
        "c": [Decimal("1E+3"), Decimal("-0.10")],
        "d": [datetime(2026, 1, 2, 3, 4, 5, 6, UTC), None],
        "e": [date(1, 1, 1), date(9999, 12, 31)],
        "f": [time(1, 2, 3), None],
        "g": [0.1, float("-inf")],
        "h": [-(2**63), 7],
        "i": ["it's", ""],
        "j": [timedelta(days=-1, microseconds=1), None],
        "k": [datetime(2026, 1, 2), None],  # noqa: DTZ001 - a timestamp without time zone
    }
    first, second = parameter_rows(pa.RecordBatch.from_pydict(values))
    assert first == (
        b"t",
        b"\\x00ff",
        b"1000.00",
        b"2026-01-02 03:04:05.000006+00:00",
        b"0001-01-01",
        b"01:02:03",
        b"0.1",
        b"-9223372036854775808",
        b"it's",
        b"-86399999999 microseconds",
        b"2026-01-02 00:00:00.000000",
    )
    assert second[:7] == (None, b"\\x", b"-0.10", None, b"9999-12-31", None, b"-inf")


def test_parameters_that_have_no_text() -> None:
    with pytest.raises(WrongParameter, match="list"):
        parameter_rows(pa.RecordBatch.from_pydict({"a": [[1, 2]]}))
    assert parameter_rows(pa.RecordBatch.from_pylist([])) == []
