"""Values of parameters as constants of Spark's."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from htapkit.model import SqlType
from htapkit.plan import Parameter, UnprovenError, bound


def _of(*types: str) -> list[Parameter]:
    return [Parameter(number, SqlType(name, 0)) for number, name in enumerate(types, 1)]


@pytest.mark.parametrize(
    ("type_", "value", "text"),
    [
        ("int4", -5, "-5"),
        ("numeric", Decimal("1E+3"), "'1000'"),
        ("bool", True, "TRUE"),
        ("text", "a", "'a'"),
        ("text", "$1 it's", "CAST(X'243120697427" + "73' AS STRING)"),
        ("date", date(1970, 1, 2), "date_from_unix_date(1)"),
        ("timestamptz", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), "timestamp_micros(1000000)"),
        (
            "timestamp",
            datetime(1969, 12, 31),  # noqa: DTZ001 - it has no zone
            "CAST(timestamp_micros(-86400000000) AS TIMESTAMP_NTZ)",
        ),
        ("int8", None, "NULL"),
    ],
)
def test_constants(type_: str, value: object, text: str) -> None:
    assert bound("CAST($1 AS X)", _of(type_), [value]) == f"CAST({text} AS X)"


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("int4", True),
        ("numeric", Decimal("NaN")),
        ("float8", 1.5),
        ("date", "infinity"),
        ("timestamp", datetime(1970, 1, 1, tzinfo=UTC)),
        ("timestamptz", date(1970, 1, 1)),
    ],
)
def test_what_is_no_constant(type_: str, value: object) -> None:
    with pytest.raises(UnprovenError, match=f"a parameter of type {type_}"):
        bound("$1", _of(type_), [value])


def test_only_placeholders_are_exchanged() -> None:
    """Neither names nor texts have any."""
    sql = "SELECT `a$1``b`, '$2', $2, $10 FROM `$1`"
    values = list(range(10))
    assert bound(sql, _of(*["int4"] * 10), values) == "SELECT `a$1``b`, '$2', 1, 9 FROM `$1`"
