"""The SQL of a read and its options. No Spark needed."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path

import pytest

from htapkit.errors import ConfigError
from htapkit_spark.options import Options, read_options
from htapkit_spark.statement import condition, null_condition, select

WHERE = {"url": "grpc://127.0.0.1:6433"}


@pytest.mark.parametrize(
    ("kind", "operator", "values", "expected"),
    [
        ("long", ">=", [-5], '"c" >= -5'),
        ("integer", "=", [1, None, 2], '"c" IN (1, 2)'),
        ("boolean", "=", [True], '"c" = true'),
        ("double", "<", [0.1], "\"c\" < '0.1'::float8"),
        ("float", "=", [float("nan")], "\"c\" = 'nan'::float8"),
        ("decimal", "<=", [Decimal("1E+3")], '"c" <= 1000'),
        ("decimal", ">", [Decimal("-0.10")], '"c" > -0.10'),
        ("date", ">", [date(44, 3, 15)], "\"c\" > DATE '0044-03-15'"),
        ("time", ">", [time(1, 2, 3, 4)], "\"c\" > TIME '01:02:03.000004'"),
        (
            "timestamp",
            "<",
            [datetime(2024, 2, 29, 12, tzinfo=UTC)],
            "\"c\" < TIMESTAMPTZ '2024-02-29 12:00:00+00:00'",
        ),
        (
            "timestamp_ntz",
            "<",
            [datetime(2024, 2, 29)],  # noqa: DTZ001 - it has no zone
            "\"c\" < TIMESTAMP '2024-02-29 00:00:00'",
        ),
        ("string", "=", ["it's"], "\"c\"::text = 'it''s'"),
        ("string", "=", ["a\\b'"], "\"c\"::text = E'a\\\\b'''"),
        ("string", "=", ["ab  "], "\"c\"::text IN ('ab  ', 'ab')"),
    ],
)
def test_conditions(kind: str, operator: str, values: list[object], expected: str) -> None:
    assert condition("c", kind, operator, values) == expected


@pytest.mark.parametrize(
    ("kind", "operator", "values"),
    [
        ("string", "<", ["a"]),  # a collation orders texts in its own way
        ("string", "=", ["nul\0"]),  # PostgreSQL has no such text
        ("decimal", "=", [Decimal("NaN")]),
        ("long", "=", [True]),
        ("binary", "=", [b"\x00"]),
        ("timestamp", "<", [datetime(2024, 1, 1)]),  # noqa: DTZ001 - which zone?
        ("timestamp_ntz", "<", [datetime(2024, 1, 1, tzinfo=UTC)]),
        ("date", "<", [datetime(2024, 1, 1, tzinfo=UTC)]),
        ("array", "=", [[1]]),
        ("long", "=", [None]),
        ("long", "=", list(range(1001))),
    ],
)
def test_what_stays_in_spark(kind: str, operator: str, values: list[object]) -> None:
    assert condition("c", kind, operator, values) is None


def test_a_statement() -> None:
    assert select("public.orders", (), ()) == "SELECT * FROM public.orders"
    assert (
        select("t", ["a", 'odd"name'], [null_condition("a", null=False), '"b" = 1'])
        == 'SELECT "a", "odd""name" FROM t WHERE "a" IS NOT NULL AND "b" = 1'
    )


def test_a_query_stands_in_parentheses_of_its_own_lines() -> None:
    """So that a comment at its end hides nothing."""
    options = read_options({**WHERE, "query": "select 1 as a -- one ;"})
    assert options.relation == "(\nselect 1 as a -- one \n) AS spark_query"
    options = read_options({**WHERE, "table": "t", "where": "a = 1 -- one"})
    assert options.where == "(\na = 1 -- one\n)"


def test_options(tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    pem.write_text("-----BEGIN CERTIFICATE-----")
    options = read_options(
        {
            "URL": "grpc+tls://h:1",
            "table": " public.orders ",
            "user": "ann",
            "password": "s3cret",
            "tls_ca": str(pem),
            "Freshness": "strong",
            "on_stale": "error",
            "database": "shop",
        }
    )
    assert options == Options(
        url="grpc+tls://h:1",
        relation="public.orders",
        database="shop",
        user="ann",
        password="s3cret",
        tls_ca="-----BEGIN CERTIFICATE-----",
        session={"freshness": "strong", "on_stale": "error"},
    )
    assert "s3cret" not in repr(options)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"table": "t"}, "url"),
        ({"url": "http://h", "table": "t"}, "url"),
        (WHERE, "either table"),
        ({**WHERE, "table": "t", "query": "select 1"}, "either table"),
        ({**WHERE, "table": "t", "user": "ann"}, "go together"),
        ({**WHERE, "table": "t", "user": "a", "password": "pw", "token": "s3cret"}, "either user"),
        ({**WHERE, "table": "t", "passwrod": "s3cret"}, "unknown option passwrod"),
        ({**WHERE, "table": "t", "push_filters": "perhaps"}, "push_filters: expected true or"),
        ({**WHERE, "table": "t", "partitions": "0"}, "partitions: expected a number from 1 to"),
        ({**WHERE, "table": "t", "tls_ca": "/nowhere/ca.pem"}, "tls_ca"),
    ],
)
def test_wrong_options_say_which(given: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        read_options(given)
    assert "s3cret" not in str(caught.value)
