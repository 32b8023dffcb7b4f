"""Which tables can be tiered, by which column, and where their line lies."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from htapkit.config import TableConfig
from htapkit.errors import ConfigError
from htapkit.model import Column, Layout, SqlType, TableId, TableSchema
from htapkit.tier.rules import after, floor, microseconds, next_line, rule_of

ORDERS = TableId("shop", "public", "orders")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _schema(*columns: tuple[str, str, bool], key: tuple[str, ...] = ("id",)) -> TableSchema:
    made = [
        Column(name, SqlType(type_, 0), number, nullable=nullable)
        for number, (name, type_, nullable) in enumerate(columns, 1)
    ]
    return TableSchema(ORDERS, tuple(made), key)


def test_the_only_time_that_is_never_null_is_taken() -> None:
    schema = _schema(("id", "int8", False), ("at", "timestamptz", False), ("paid", "date", True))
    rule = rule_of(schema, TableConfig())
    assert rule.column.name == rule.layout.time_column == "at"
    assert rule.layout.sort == ("id", "at")
    assert rule.hot_seconds is None


def test_what_is_configured_is_taken() -> None:
    schema = _schema(("id", "int8", False), ("at", "timestamptz", False), ("paid", "date", True))
    wanted = {"time_column": "paid", "hot": "7 days", "partition": "month", "sort": ["paid"]}
    rule = rule_of(schema, TableConfig.model_validate(wanted))
    assert rule.column.name == "paid"
    assert rule.layout == Layout("paid", "month", ("paid",))
    assert rule.hot_seconds == 7 * 86_400


@pytest.mark.parametrize(
    ("schema", "config", "words"),
    [
        (_schema(("at", "date", False), key=()), {}, "has no key"),
        (_schema(("id", "int8", False), ("at", "date", True)), {}, "choose one of .*at"),
        (
            _schema(("id", "int8", False), ("a", "date", False), ("b", "date", False)),
            {},
            "choose one of .*a, b",
        ),
        (
            _schema(("id", "int8", False), ("a", "date", False)),
            {"time_column": "id"},
            "id is no date or timestamp; there is a",
        ),
        (
            _schema(("id", "int8", False), ("a", "date", False)),
            {"sort": ["nothing"]},
            "no column nothing",
        ),
    ],
)
def test_what_cannot_be_tiered_says_why(
    schema: TableSchema, config: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        rule_of(schema, TableConfig.model_validate(config))


def _cells(*more: Column, key: tuple[str, ...] = ("id", "at")) -> TableSchema:
    """A table that is kept cell by cell."""
    columns = (
        Column("id", SqlType("int8", 20), 1),
        Column("at", SqlType("timestamptz", 1184), 2, nullable=False),
        Column("seen", SqlType("timestamptz", 1184), 3, nullable=False),
    )
    return TableSchema(ORDERS, (*columns, *more), key, reconciled=True)


def test_of_cells_the_time_of_the_key_is_taken() -> None:
    """A late write may change any other."""
    assert rule_of(_cells(), TableConfig()).column.name == "at"
    with pytest.raises(ConfigError, match="seen is no date or timestamp of the key; there is at"):
        rule_of(_cells(), TableConfig.model_validate({"time_column": "seen"}))


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (_cells(key=("id",)), "no date or timestamp is in its key"),
        (_cells(Column("s", SqlType("text", 25), 4, shared=True)), "several rows share"),
        (_cells(Column("f", SqlType("float8", 701), 4), key=("f", "at")), "floating point"),
        (
            _cells(Column("d", SqlType("numeric", 1700), 4), key=("d", "at")),
            "decimals may be equal",
        ),
        (_cells(Column("htapkit_Cells", SqlType("text", 25), 4)), "a name that is ours"),
    ],
)
def test_cells_that_stay_hot_say_why(schema: TableSchema, words: str) -> None:
    with pytest.raises(ConfigError, match=f"kept cell by cell, and .*{words}.*stay in the hot"):
        rule_of(schema, TableConfig())


@pytest.mark.parametrize("unit", ["hour", "day", "month"])
def test_periods_follow_each_other(unit: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(500):
        moment = EPOCH + timedelta(seconds=chance.randrange(-(10**9), 4 * 10**9))
        start = floor(moment, unit)
        end = EPOCH + timedelta(microseconds=after(microseconds(start), unit))
        assert start <= moment < end
        assert floor(end, unit) == end
        assert floor(end - timedelta(microseconds=1), unit) == start


def test_periods_that_python_has_no_dates_for() -> None:
    hour, day = 3_600_000_000, 86_400_000_000
    cycles = 5 * 146_097 * day  # the calendar repeats every 400 years
    ides = microseconds(datetime(1957, 3, 15, tzinfo=UTC)) - cycles  # 44 BC is the year -43
    assert after(ides, "hour") == ides + hour
    assert after(ides, "day") == ides + day
    assert after(ides - 14 * day, "month") == ides + 17 * day  # March has 31 days
    far = microseconds(datetime(8000, 2, 1, tzinfo=UTC)) + cycles  # the year 10000, a leap year
    assert after(far, "month") == far + 29 * day


def test_the_line_never_cuts_an_open_period() -> None:
    schema = _schema(("id", "int8", False), ("at", "timestamptz", False))
    rule = rule_of(schema, TableConfig.model_validate({"hot": "36 hours"}))
    now = datetime(2026, 3, 10, 11, 30, tzinfo=UTC)
    assert rule.line(now, 36 * 3600) == microseconds(datetime(2026, 3, 8, tzinfo=UTC))


def test_a_run_takes_whole_periods_up_to_its_limit() -> None:
    day = 86_400_000_000
    periods = [(0, 60), (day, 30), (2 * day, 30), (5 * day, 500), (6 * day, 1)]
    assert next_line(periods, "day", 10 * day, 100) == 2 * day
    assert next_line(periods[2:], "day", 10 * day, 100) == 3 * day
    assert next_line(periods[3:], "day", 10 * day, 100) == 6 * day  # at least one
    assert next_line(periods[4:], "day", 10 * day, 100) == 10 * day
    assert next_line(periods, "day", 2 * day, 1000) == 2 * day
    assert next_line([], "day", day, 10) == day
