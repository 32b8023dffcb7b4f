"""Statements that Spark runs, forced to or too large for here: the source's rows, or refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import adbc_driver_flightsql.dbapi as adbc
import httpx
import psycopg
import pytest
from psycopg.types.string import StrDumper

from htapkit.testing.postgres import PostgresServer, free_port
from tests.fix_mirror import Mirrored, fresh_database, last_route, mirrored, printed
from tests.spark.conftest import TABLE, settings, tier

pytestmark = [pytest.mark.spark, pytest.mark.integration, pytest.mark.long]

CREATE = """
create table {} (
  id int8 primary key, at timestamptz not null, b bool, s int2, i int4, n numeric(20,4),
  big numeric(38,10), t text collate "C", c char(5), u uuid, ts timestamp, day date, d float8,
  free numeric
)
"""
ODD = (
    "(1, '2024-02-29 23:59:59.999999+00', true, 32767, 2147483647, 1234567890123456.7891, "
    "1234567890123456789012345678.0123456789, 'a''b\\c $x ${y} é 🐘', 'ab', "
    "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '2024-02-29 23:59:59.999999', '2024-02-29', 0.1, "
    "0.10)",
    "(2, '1969-12-31 23:59:59.999999+00', false, -32768, -2147483648, -0.0001, -0.0000000001, '', "
    "'', null, 'infinity', 'infinity', 'NaN', 'NaN')",
    "(3, '1582-10-10 12:00+00', null, 0, 0, 0, 0, 'A', 'é', null, '-infinity', '-infinity', "
    "'-Infinity', -1e-20)",
    "(4, '0001-01-01 12:00:00.5+00', null, null, null, null, null, null, null, null, null, null, "
    "null, null)",
    "(5, '0044-03-15 00:00+00 BC', true, 1, 1, 9999999999999999.9999, 1, 'a', 'five5', "
    "'ffffffff-ffff-ffff-ffff-ffffffffffff', '0044-03-15 00:00 BC', '0044-03-15 BC', '-0.0', 1e30)",
    "(6, '2000-01-01 00:00+00', true, 1, 1, 1, 1, 'Z', 'z', null, '2000-01-01', '2000-01-01', 0.0, "
    "1)",
)
OLD = "at < '2024-03-01 00:00+00'"
STATEMENTS = (
    f"select * from {{0}} where {OLD} order by id",
    f"select id, d, free, u, c from {{0}} where {OLD} and id in (1, 2, 5) order by id desc",
    f"select count(*), count(i), sum(i), sum(s), sum(id), sum(n), sum(big), min(n), max(n), "
    f"min(t), max(t), min(day), max(ts), min(at), count(d), count(distinct b) from {{0}} "
    f"where {OLD}",
    f"select avg(i), avg(n), avg(id) from {{0}} where {OLD}",
    f"select b, count(*), sum(n), max(day) from {{0}} where {OLD} group by b order by b desc",
    f"select b, count(*), sum(n) from {{0}} where {OLD} group by b having count(*) > 1",
    f"select distinct b from {{0}} where {OLD}",
    f"select id, t from {{0}} where {OLD} order by t, id",
    f"select id, t from {{0}} where {OLD} order by t desc nulls last, n nulls first limit 3 "
    "offset 1",
    f"select id from {{0}} where {OLD} and day < '0001-06-01'",
    f"select id from {{0}} where {OLD} and ts > '2020-01-01 00:00' order by id",
    f"select id from {{0}} where {OLD} and not (n > 0.5) order by id",
    f"select id from {{0}} where {OLD} and (i = 1 or t is null) order by id",
    f"select id from {{0}} where {OLD} and n between -1 and 1.00000 order by id",
    f"select id from {{0}} where {OLD} and t = 'a''b\\c $x ${{{{y}}}} é 🐘'",
    f"select id from {{0}} where {OLD} and t >= 'A' and t <> 'a' order by id",
    f"select id from {{0}} where {OLD} and u = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
    f"select id from {{0}} where {OLD} and i in (1, null)",
    f"select id from {{0}} where {OLD} and i not in (1, null)",
    f"select id, n from {{0}} where {OLD} and id < 0",
    f"select sum(n), count(*), max(t) from {{0}} where {OLD} and id < 0",
    f"select i, sum(n) from {{0}} where {OLD} and id < 0 group by i",
    f"select l.id, r.id from {{0}} l join {{0}} r on l.i = r.i and l.s = r.s where l.{OLD} "
    f"and r.{OLD} order by l.id, r.id",
    f"select l.id, r.n from {{0}} l left join {{0}} r on l.id = r.s and r.{OLD} where l.{OLD} "
    "order by l.id",
    f"select x.b, x.k from (select b, count(*) as k from {{0}} where {OLD} group by b) x "
    "where x.k > 1 order by x.k",
    f"with o as (select id, i, b from {{0}} where {OLD}), k as (select b, count(*) as n from o "
    "group by b) select o.id, k.n from o join k on o.b = k.b order by o.id",
    f"select id from (with o as (select id, t from {{0}} where {OLD}) select id from o "
    "where t is not null) x order by id desc",
    f"select id, t like 'a%', t like '%z_', t not like '_', t like '' from {{0}} where {OLD} "
    "order by id",
    f"select id from {{0}} where {OLD} and t like '%\\\\c %_é__'",
    f"select id, t like '%$x ${{{{y}}}}%', t like 'a''b\\\\%', t like '%\\_%' from {{0}} "
    f"where {OLD} order by id",
    f"select id, case when i > 0 then 'a\nb' else t end like 'a_b', case when i > 0 then "
    f"'\n\na%b' else t end like '%a\\%b' from {{0}} where {OLD} order by id",
    f"select id, c like 'ab', c like 'ab%', c like 'five_' from {{0}} where {OLD} order by id",
    f"select id, case when i > 0 then n when t = '' then -1.5000 end, case b when true then 'yes' "
    f"when false then t end, coalesce(i, 7), nullif(i, 1) from {{0}} where {OLD} order by id",
    f"select sum(case when n > 0 then i else 0 end), count(case when b then 1 end), "
    f"count(*) filter (where i > 0), sum(n) filter (where b), max(t) filter (where n < 1), "
    f"count(distinct i) filter (where s is not null) from {{0}} where {OLD}",
    f"select id, row_number() over (partition by b order by id desc), rank() over (order by i), "
    f"dense_rank() over (order by s desc nulls last), count(*) over (), sum(i) over (partition by "
    f"b order by id), max(t) over (order by id rows between 1 preceding and 1 following), "
    f"sum(n) over (order by i range between current row and unbounded following), "
    f"min(day) over (order by id rows 2 preceding) from {{0}} where {OLD} order by id",
    f"select b, count(*), rank() over (order by count(*) desc) from {{0}} where {OLD} group by b",
)
CUT = datetime(2024, 3, 1, tzinfo=UTC)
BOUND: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("select id, i from odd where at < %s and i = %s order by id", (CUT, 1)),
    ("select id from odd where at < %s and i <> %s order by id", (CUT, -(2**31))),
    ("select count(*) from odd where at < %s and t = %s", (CUT, "a'b\\c $x ${y} é 🐘")),
    ("select count(*) from odd where at < %s and t >= %s", (CUT, "$1 `A`")),
    ("select id from odd where at < %s and n > %s order by id", (CUT, Decimal("-0.0001"))),
    ("select id from odd where at < %s and day <= %s order by id", (CUT, date(2000, 1, 1))),
    ("select id from odd where at < %s and ts >= %s order by id", (CUT, CUT.replace(tzinfo=None))),
    ("select id from odd where at < %s and b = %s order by id", (CUT, False)),
    ("select sum(case when id > %s then i end) from odd where at < %s", (2, CUT)),
    ("select id from odd where at >= %s and at < %s", (CUT - timedelta(days=1), CUT)),
    ("select count(*) from odd where at < now() - interval '1 year'", ()),
)
REFUSED = (
    ("select count(*) from {0}", "the boundary between hot and lake is"),
    (f"select id from {{0}} where {OLD} limit 2", "LIMIT: without ORDER BY"),
    (f"select id from {{0}} where {OLD} and d > 5", "float8: not proven equal"),
    (f"select d, count(*) from {{0}} where {OLD} group by d", "not proven equal in Spark"),
    (f"select id from {{0}} where {OLD} and upper(t) = 'A'", "not proven equal in Spark"),
    (f"select row_number() over () from {{0}} where {OLD}", "without an order"),
    (f"select lag(i) over (order by id) from {{0}} where {OLD}", "lag OVER"),
    (f"select rank() over (order by d) from {{0}} where {OLD}", "ORDER BY float8: in OVER"),
    ("select 1 from never", "never has no part in the lake"),
)


SCAN_BYTES_MAX = 8_000
"""More than a day of `odd` has, and less than all of it."""


@pytest.fixture(scope="module")
def flight_port() -> int:
    """Of the htapkit that has a Spark for its statements."""
    return free_port()


@pytest.fixture(scope="module")
def odd(
    pg18: PostgresServer,
    flight_port: int,
    spark_environment: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mirrored]:
    """An htapkit with a Spark for its statements, and a table of odd values, most of it old."""
    folder = tmp_path_factory.mktemp("spark-route")
    data = folder / "data"
    configuration: dict[str, Any] = {
        "limits": {"scan": SCAN_BYTES_MAX},
        "servers": {"flight": {"listen": f"127.0.0.1:{flight_port}", "auth": "trust"}},
        "tables": {f"shop.public.{name}": TABLE for name in ("odd", "patched", "many")},
        "lake": {"interval": "1 day"},
        "engines": {"spark": {"master": "local[1]", **settings(data, folder / "engine")}},
    }
    with (
        fresh_database(pg18) as database,
        mirrored(database, folder, configuration=configuration) as one,
    ):
        for name in ("odd", "patched"):
            one.make(
                name,
                CREATE.format(name),
                *(f"insert into {name} values {row}" for row in ODD),
                f"insert into {name} select 7, now(), true, 1, 1, 1, 1, 'hot', 'h', null, now(), "
                "now(), 1, 1",
            )
        one.make("never", "create table never (id int8 primary key, at timestamptz)")
        assert tier(one, "odd", "patched") == 12
        yield one


def rows_equal(mirror: Mirrored, sql: str, forced: str = "spark") -> None:
    """Spark gives the source's rows, as they are printed."""
    with mirror.port(forced) as port, mirror.database.connect() as source:
        ours, theirs = printed(port, sql), printed(source, sql)
        assert last_route(port) == "spark", sql
    if "order by" not in sql:
        ours, theirs = ((columns, sorted(rows, key=str)) for columns, rows in (ours, theirs))
    assert ours == theirs, sql


@pytest.mark.parametrize("sql", STATEMENTS)
def test_equal(odd: Mirrored, sql: str) -> None:
    rows_equal(odd, sql.format("odd"))


@pytest.mark.parametrize(("sql", "values"), BOUND)
def test_values_of_parameters(odd: Mirrored, sql: str, values: tuple[object, ...]) -> None:
    with odd.port("spark") as port, odd.database.connect() as source:
        theirs = source.execute(sql, values).fetchall()
        port.adapters.register_dumper(str, StrDumper)  # says that it is a text
        assert port.execute(sql, values).fetchall() == theirs
        assert last_route(port) == "spark"


def test_values_above_the_boundary(odd: Mirrored) -> None:
    sql = "select count(*) from odd where at < %s"
    refused = psycopg.errors.FeatureNotSupported
    with odd.port("spark") as port, pytest.raises(refused, match="the values ask for times up to"):
        port.execute(sql, (datetime.now(UTC),))
    limit = psycopg.errors.ConfigurationLimitExceeded
    with odd.port("auto") as port:
        with pytest.raises(limit, match=r"limits\.scan.*the values ask for times up to"):
            port.execute(sql, (datetime.now(UTC),))
        assert port.execute(sql, (CUT,)).fetchone() == (6,)
        assert last_route(port) == "spark"


@pytest.mark.parametrize(("sql", "why"), REFUSED)
def test_refused(odd: Mirrored, sql: str, why: str) -> None:
    with odd.port("spark") as port:
        with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
            port.execute(sql.format("odd"))
        assert why in str(refused.value)
        rows = port.execute(f"EXPLAIN (ROUTE) {sql.format('odd')}").fetchall()
        assert any(why in str(row) for row in rows), rows


def test_changes_below_the_boundary_are_never_left_out(odd: Mirrored) -> None:
    sql = f"select count(*), sum(i) from patched where {OLD}"
    rows_equal(odd, sql)
    for change in (
        "update patched set i = 77 where id = 6",
        "delete from patched where id = 3",
        "insert into patched (id, at, i) values (8, '2023-05-05 00:00+00', 5)",
        "insert into patched (id, at, i) values (9, '-infinity', 5)",
    ):
        odd.run(change)
        refused = pytest.raises(psycopg.errors.FeatureNotSupported, match="have changed since")
        with odd.port("spark") as port, refused:
            port.execute(sql)
        with odd.port("auto") as port:
            limit = psycopg.errors.ConfigurationLimitExceeded
            with pytest.raises(limit, match=r"limits\.scan.*have changed since"):
                port.execute(sql)
        if "infinity" not in change:
            tier(odd, "patched")
            rows_equal(odd, sql)


def considered(port: psycopg.Connection[Any], sql: str) -> dict[str, tuple[str, str]]:
    """What EXPLAIN (ROUTE) says of each route: whether it is chosen, and why."""
    rows = port.execute(f"EXPLAIN (ROUTE) {sql}").fetchall()
    return {row[0]: (row[1], row[4]) for row in rows if row[0]}


def by_spark(mirror: Mirrored) -> float:
    """How many statements went to Spark."""
    url = f"http://127.0.0.1:{mirror.stack.http_port}/metrics"
    lines = httpx.get(url, timeout=60).text.splitlines()
    (line,) = [each for each in lines if each.startswith('htapkit_statements_total{route="spark"}')]
    return float(line.split()[-1])


ALL = f"select b, count(*), sum(n), avg(i) from odd where {OLD} group by b"
DAY = "select count(*), sum(i) from odd where at >= '2024-02-29 00:00+00' and at < '2024-03-01'"
TOO_LARGE = (
    (f"select id from odd where {OLD} limit 2", "without ORDER BY"),
    ("select count(*) from odd", "the boundary between hot and lake is"),
)


def test_what_is_larger_than_the_limit_goes_there_by_itself(odd: Mirrored) -> None:
    before = by_spark(odd)
    rows_equal(odd, ALL, "auto")
    assert by_spark(odd) == before + 1
    with odd.port("auto") as port:
        told = considered(port, ALL)
        assert [route for route, (chosen, _) in told.items() if chosen == "true"] == ["spark"]
        assert f"bytes of the lake, and may read {SCAN_BYTES_MAX} here" in told["spark"][1]
        assert "limits.scan" in told["union"][1]
        (routed,) = port.execute("select route from htapkit.routes limit 1").fetchall()
        assert routed == ("spark",)
        # What is small enough stays here, and says so.
        port.execute(DAY)
        assert last_route(port) == "union"
        told = considered(port, DAY)
        assert (told["union"][0], told["spark"][0]) == ("true", "false")
        assert "limits.scan" in told["spark"][1]
    assert by_spark(odd) == before + 1


@pytest.mark.parametrize(("sql", "why"), TOO_LARGE)
def test_what_is_larger_and_not_sparks_is_refused(odd: Mirrored, sql: str, why: str) -> None:
    with odd.port("auto") as port:
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded) as refused:
            port.execute(sql)
        assert "limits.scan" in str(refused.value)
        assert why in str(refused.value)
        told = considered(port, sql)
        assert why in told["spark"][1]
        assert {chosen for chosen, _ in told.values()} == {"false"}


def test_the_limit_over_flight(odd: Mirrored, flight_port: int) -> None:
    before = by_spark(odd)
    with (
        odd.database.connect() as source,
        adbc.connect(f"grpc://127.0.0.1:{flight_port}", autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        sql = f"select b, count(*), sum(i) from odd where {OLD} group by b order by b"
        cursor.execute(sql)
        assert cursor.fetchall() == source.execute(sql).fetchall()
        cursor.execute("show htapkit.last_route")
        assert cursor.fetchall() == [("spark",)]
        assert by_spark(odd) == before + 1
        cursor.execute(f"explain (route) {sql}")
        assert ("spark", "true") in [row[:2] for row in cursor.fetchall()]
        for sql, why in TOO_LARGE:
            cursor.execute(sql)
            with pytest.raises(adbc.Error, match=rf"limits\.scan.*{why}.*SQLSTATE 53400"):
                cursor.fetchall()


def test_a_statement_is_stopped_in_spark(odd: Mirrored) -> None:
    odd.make(
        "many",
        "create table many (id int8 primary key, at timestamptz not null, k int4)",
        "insert into many select g, '2024-01-01 00:00+00', g % 20 "
        "from generate_series(1, 400000) g",
    )
    tier(odd, "many")
    quick = f"select count(*) from many where {OLD}"
    rows_equal(odd, quick)
    # Eight billion pairs, of which Spark looks at some hundred million between two looks around.
    pairs = "select count(*) from many a join many b on a.k = b.k where a.{0} and b.{0}"
    with odd.port("spark") as port:
        threading.Timer(3, port.cancel).start()
        began = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled):
            port.execute(pairs.format(OLD))
        rows_equal(odd, quick)  # the only core is free again
        assert time.monotonic() - began < 45


def test_a_statement_has_its_time(odd: Mirrored) -> None:
    pairs = "select count(*) from many a join many b on a.k = b.k where a.{0} and b.{0}"
    with odd.port("spark") as port:
        port.execute("SET statement_timeout = '2 s'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            port.execute(pairs.format(OLD))


def test_a_spark_that_is_not_there(pg18: PostgresServer, tmp_path: Path) -> None:
    configuration = {
        "tables": {"shop.public.odd": TABLE},
        "lake": {"interval": "1 day"},
        "engines": {"spark": {"master": "local[1]", "spark.jars": str(tmp_path / "none.jar")}},
    }
    with (
        fresh_database(pg18) as database,
        mirrored(database, tmp_path, configuration=configuration) as one,
    ):
        one.make("odd", CREATE.format("odd"), f"insert into odd values {ODD[0]}")
        tier(one, "odd")
        with one.port("spark") as port, pytest.raises(psycopg.errors.SystemError, match="Spark"):
            port.execute(f"select count(*) from odd where {OLD}")
