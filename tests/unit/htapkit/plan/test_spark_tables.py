"""A version of a lake table, as a statement for Spark names it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from htapkit.model import ENDS, LakeColumn
from htapkit.plan import SparkQuery, SparkTable, UnprovenError, with_tables
from tests.unit.htapkit.plan.catalogs import SALES, micros

COLUMNS = SALES.schema.columns  # id int8, day date, sum numeric(15,2)
HELD = {
    1: LakeColumn(1, "int", "id"),
    2: LakeColumn(2, "date", "on`day"),
    3: LakeColumn(3, "decimal(12, 2)", "sum"),
}
TABLE = SparkTable(
    "htapkit lake 1", SALES.schema.table, ("shop", "a%2Eb", "sales"), 17, COLUMNS, HELD
)
QUERY = SparkQuery("SELECT 1", ())


def test_columns_have_todays_names_and_types() -> None:
    assert with_tables(QUERY, [TABLE]) == (
        "WITH `htapkit lake 1` AS (SELECT CAST(`id` AS BIGINT) AS `id`, "
        "CAST(`on``day` AS DATE) AS `day`, CAST(`sum` AS DECIMAL(15,2)) AS `sum` "
        "FROM `htapkit`.`shop`.`a%2Eb`.`sales` VERSION AS OF 17) SELECT 1"
    )


def test_a_column_that_the_version_has_not_is_null() -> None:
    held = {ordinal: column for ordinal, column in HELD.items() if ordinal != 3}
    made = with_tables(QUERY, [replace(TABLE, held=held)])
    assert "CAST(NULL AS DECIMAL(15,2)) AS `sum`" in made


def test_what_is_too_old_is_left_out() -> None:
    made = with_tables(QUERY, [replace(TABLE, since=(COLUMNS[1], micros("1970-01-03 00:00:01")))])
    assert made.endswith("VERSION AS OF 17 WHERE `on``day` >= date_from_unix_date(3)) SELECT 1")


def test_what_has_ended_is_left_out() -> None:
    """Beside what is too old."""
    held = {**HELD, ENDS.ordinal: LakeColumn(9, "timestamptz", "htapkit_ends")}
    since = (COLUMNS[1], micros("1970-01-03"))
    made = with_tables(QUERY, [replace(TABLE, held=held, since=since, now=5_000_001)])
    assert made.endswith(
        "WHERE `on``day` >= date_from_unix_date(2) AND "
        "(`htapkit_ends` IS NULL OR `htapkit_ends` > timestamp_micros(5000001))) SELECT 1"
    )


@pytest.mark.parametrize("type_", ["decimal(16, 2)", "decimal(12, 3)", "string", "double"])
def test_a_type_that_would_lose_something_is_refused(type_: str) -> None:
    held = {**HELD, 3: LakeColumn(3, type_, "sum")}
    with pytest.raises(UnprovenError, match="in the lake's version"):
        with_tables(QUERY, [replace(TABLE, held=held)])
