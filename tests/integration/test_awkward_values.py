"""Functions whose answers depend on letters or on many digits, over awkward values.

Each statement must be planned here, and gives what PostgreSQL gives, to the byte.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import duckdb
import psycopg
import pytest

from htapkit.plan import LocalQuery
from htapkit.testing.postgres import PostgresServer
from tests.plan_oracle import Mirror, unordered

pytestmark = pytest.mark.integration

_SEED = 20261130
_TABLES = """
CREATE COLLATION "Odd.name" FROM "C.utf8";
CREATE TABLE letters (id int PRIMARY KEY, t text, e text COLLATE "C", o text COLLATE "Odd.name");
INSERT INTO letters
SELECT n, 'aK' || chr(n) || 'Sz', 'aK' || chr(n) || 'Sz', 'aK' || chr(n) || 'Sz'
FROM generate_series(1, 131071) AS n
WHERE (n < 8600 OR n BETWEEN 11264 AND 11520 OR n BETWEEN 42560 AND 43000
        OR n BETWEEN 65300 AND 65400 OR n BETWEEN 66560 AND 66640 OR n % 97 = 0)
    AND n NOT BETWEEN 55296 AND 57343
    AND n NOT IN (304, 305, 383, 223, 775, 8490) AND n NOT BETWEEN 64256 AND 64262;
INSERT INTO letters VALUES (-1, '', ''), (-2, NULL, NULL), (-3, 'Ögon', 'x'), (-4, ' Ann ', '%');
CREATE TABLE twins (id int PRIMARY KEY, t text);
INSERT INTO twins SELECT n, chr(n) FROM unnest(ARRAY[304, 305, 383, 223, 8490, 64256]) AS n;
INSERT INTO twins VALUES (775, 'i' || chr(775));
CREATE TABLE numbers (id int PRIMARY KEY, k int, i2 smallint, i4 int, i8 bigint,
    n2 numeric(12, 2), n6 numeric(18, 6), nw numeric(30, 10), f float8);
"""


def _numbers(source: random.Random) -> Iterator[tuple[object, ...]]:
    """Groups of one to seven rows: equal, close together, far apart, with NULLs."""
    at = 0
    for group in range(400):
        middle, spread = 10 ** source.randint(0, 9), 10 ** source.randint(0, 9)
        for _ in range(source.randint(1, 7)):
            near = middle + (source.randint(-spread, spread) if group % 5 else 0)
            whole = max(-(2**31), min(near, 2**31 - 1))
            yield tuple(
                each if position < 2 or source.random() > 0.1 else None
                for position, each in enumerate(
                    (
                        *(at, group, whole % 30_000, whole, near * source.choice((1, 1, 1000))),
                        *(
                            f"{near}.{source.randint(0, 99):02}",
                            f"{near}.{source.randint(0, 5):06}",
                        ),
                        *(f"{near % 10**6}.{source.randint(0, 10**10 - 1):010}", near / 7),
                    )
                )
            )
            at += 1


@pytest.fixture(scope="module")
def mirror(pg: PostgresServer) -> Iterator[Mirror]:
    """A database whose letters are a language's, and its copy."""
    with pg.connect() as connection:
        connection.execute("DROP DATABASE IF EXISTS awkward WITH (FORCE)")
        connection.execute("CREATE DATABASE awkward TEMPLATE template0 LOCALE 'C.utf8'")
    with psycopg.connect(pg.dsn("awkward"), autocommit=True) as connection:
        connection.execute(_TABLES)
        with connection.cursor().copy("COPY numbers FROM STDIN") as copy:
            for row in _numbers(random.Random(_SEED)):
                copy.write_row(row)
    made = Mirror(pg.dsn("awkward"))
    try:
        yield made
    finally:
        made.close()
        with pg.connect() as connection:
            connection.execute("DROP DATABASE awkward WITH (FORCE)")


def _planned(mirror: Mirror, sql: str) -> LocalQuery:
    """Its plan, of which the source confirms all that has to be asked before."""
    made = mirror.plan(sql)
    assert isinstance(made, LocalQuery), made
    for probe in made.probes:
        assert mirror.expected(probe.sql).rows == [(probe.answer.encode(),)], probe.sql
    return made


def _check(mirror: Mirror, sql: str) -> None:
    expected = mirror.expected(sql)
    got = mirror.local(_planned(mirror, sql), expected)
    if "ORDER BY" in sql:
        assert got.rows == expected.rows, sql
    else:
        assert unordered(got) == unordered(expected), sql


@pytest.mark.parametrize("column", ["t", "e", "o"])
@pytest.mark.parametrize(
    "condition",
    [
        "{} ILIKE '%k%s%'", "{} ILIKE 'ak_SZ'", "{} NOT ILIKE '%KSZ'", "{} ILIKE '_K__z'",
        "{} ILIKE 'AK\\%sz'", "lower({}) = 'akksz'", "lower({}) LIKE 'ak%'",
        "upper({}) = 'AKASZ'", "upper({}) <> 'AKISZ'", "lower({}) IN ('akasz', 'akisz', '')",
        "lower({}) NOT LIKE 'ak_sz'", "CASE lower({}) WHEN 'akbsz' THEN id END IS NOT NULL",
    ],
)  # fmt: skip
def test_letters_beside_ascii(mirror: Mirror, column: str, condition: str) -> None:
    """All letters beyond ASCII are told from ASCII's as the source tells them."""
    _check(
        mirror,
        f"SELECT count(*), sum(id), max(id) FROM letters WHERE {condition.format(column)}",
    )


@pytest.mark.parametrize("call", ["lower(t)", "upper(t)", "lower(e)", "upper(e)"])
def test_letters_as_keys(mirror: Mirror, call: str) -> None:
    """As keys of groups ASCII's letters are the source's."""
    _check(
        mirror, f"SELECT {call}, count(*) FROM letters WHERE id BETWEEN 1 AND 127 GROUP BY {call}"
    )


@pytest.mark.parametrize(
    "sql",
    ["lower(t) = 'i'", "t ILIKE '%k%'", "upper(t) = 'SS'", "id = 775 AND upper(t) = 'I'"],
)
def test_letters_that_may_become_asciis(mirror: Mirror, sql: str) -> None:
    """They are an error here, and so the source's."""
    made = _planned(mirror, f"SELECT id FROM twins WHERE {sql}")
    with pytest.raises(duckdb.Error, match="become those of ASCII"):
        mirror.duck.sql(made.sql).fetchall()


def test_an_encoding_without_those_letters(mirror: Mirror, pg: PostgresServer) -> None:
    """There the question is no error, and its answer is not the wanted one."""
    (probe,) = _planned(mirror, "SELECT id FROM letters WHERE t ILIKE 'a'").probes
    with pg.connect() as connection:
        connection.execute("DROP DATABASE IF EXISTS latin WITH (FORCE)")
        connection.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    try:
        with psycopg.connect(pg.dsn("latin"), autocommit=True) as connection:
            assert connection.execute(probe.sql.encode()).fetchall() == [(None,)]
    finally:
        with pg.connect() as connection:
            connection.execute("DROP DATABASE latin WITH (FORCE)")


def test_letters_beyond_ascii_as_keys_are_an_error(mirror: Mirror) -> None:
    """What they become is the source's."""
    made = _planned(mirror, "SELECT lower(t), count(*) FROM letters GROUP BY lower(t)")
    with pytest.raises(duckdb.Error, match="letters beyond ASCII"):
        mirror.duck.sql(made.sql).fetchall()


@pytest.mark.parametrize("column", ["i2", "i4", "i8", "n2", "n6", "nw"])
@pytest.mark.parametrize("root", ["stddev", "var"])
def test_deviations(mirror: Mirror, column: str, root: str) -> None:
    """Of exact numbers they have PostgreSQL's digits."""
    names = {"stddev": ("stddev", "stddev_samp", "stddev_pop"), "var": ("variance", "var_pop")}
    calls = ", ".join(f"{name}({column})" for name in names[root])
    _check(mirror, f"SELECT k, {calls} FROM numbers GROUP BY k ORDER BY k")
    _check(mirror, f"SELECT round({calls.partition(',')[0]}, 3) FROM numbers WHERE k % 3 = 0")


def test_deviations_of_a_window_and_a_filter(mirror: Mirror) -> None:
    _check(mirror, "SELECT id, stddev(n2) OVER (PARTITION BY k) FROM numbers ORDER BY id")
    _check(
        mirror,
        "SELECT k, var_samp(i4) FILTER (WHERE i2 > 100) FROM numbers GROUP BY k ORDER BY 2, 1",
    )


@pytest.mark.parametrize("call", ["stddev(f)", "var_pop(DISTINCT i4)", "stddev(n2 / 3)"])
def test_deviations_that_are_the_sources(mirror: Mirror, call: str) -> None:
    """Order of rows, values that are equal once squared, and scales that differ by row."""
    assert not isinstance(mirror.plan(f"SELECT {call} FROM numbers"), LocalQuery)
