"""`spark.read.format("htapkit")`: hot rows, lake rows and patches in one read, at one boundary."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import adbc_driver_flightsql.dbapi as adbc
import pytest

from htapkit.testing.postgres import Connection
from tests.fix_mirror import Mirrored
from tests.spark.conftest import Reads, Spark, tier

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

pytestmark = [pytest.mark.spark, pytest.mark.integration, pytest.mark.long]

COLUMNS = "id, at, kind, code, amount, free, small, ratio, flag, key, body, day, ts, octets"
CREATE = """
create table read (
  id int8 primary key, at timestamptz not null, kind text, code char(4), amount numeric(12,2),
  free numeric, small int2, ratio real, flag bool, key uuid, body jsonb, day date,
  ts timestamp, octets bytea
)
"""
FILL = """
insert into read select g, date_trunc('second', now()) - g * interval '6 hours', 'k' || g % 5,
  'c' || g % 3, g / 7.0, g / 7.0, g % 100, g * 0.5, g % 2 = 0, md5(g::text)::uuid,
  jsonb_build_object('n', g), date '2024-01-01' + g,
  timestamp '2024-01-01' + g * interval '1 us', decode(md5(g::text), 'hex')
from generate_series(1, 400) g
"""
EMPTY = "insert into read (id, at) values (500, '2020-02-02'), (501, now())"


@pytest.fixture(scope="module")
def reads(history: Mirrored, htapkit: Reads) -> Reads:
    """Rows in the lake, patches of some of them, and rows that are hot."""
    history.make("read", CREATE, FILL, EMPTY)
    assert tier(history, "read") > 300
    history.run(
        "update read set kind = 'patched', amount = amount + 1 where id % 50 = 0",
        "delete from read where id % 77 = 0",
        "insert into read (id, at, kind) values (600, '2021-01-01', 'late')",
    )
    return htapkit


@pytest.fixture
def source(history: Mirrored) -> Iterator[Connection]:
    """The source, in UTC as Spark is."""
    with history.database.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        yield connection


def rows(frame: DataFrame) -> list[tuple[Any, ...]]:
    """Its rows, by their first column."""
    found = frame.toArrow()
    values = zip(*(column.to_pylist() for column in found.columns), strict=True)
    return sorted(values, key=lambda row: (row[0] is None, row[0]))


def last_route(reads: Reads) -> str:
    """Where the last statement was answered: with `auth: trust`, everybody is one client."""
    with adbc.connect(reads.url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("show htapkit.last_route")
        ((route,),) = cursor.fetchall()
        return str(route)


def expected(source: Connection, what: str, where: str = "true") -> list[tuple[Any, ...]]:
    """What the source has; json and uuid are text in Spark, and so is numeric without a scale."""
    text = {"free": "free::text", "key": "key::text", "body": "body::text"}
    asked = ", ".join(text.get(name.strip(), name) for name in what.split(","))
    return source.execute(f"select {asked} from read where {where} order by 1").fetchall()


def test_a_table_is_the_sources_own(reads: Reads, source: Connection) -> None:
    frame = reads.table("read")
    assert [(f.name, f.dataType.simpleString()) for f in frame.schema] == [
        ("id", "bigint"),
        ("at", "timestamp"),
        ("kind", "string"),
        ("code", "string"),
        ("amount", "decimal(12,2)"),
        ("free", "string"),
        ("small", "smallint"),
        ("ratio", "float"),
        ("flag", "boolean"),
        ("key", "string"),
        ("body", "string"),
        ("day", "date"),
        ("ts", "timestamp_ntz"),
        ("octets", "binary"),
    ]
    assert rows(frame) == expected(source, COLUMNS)
    assert last_route(reads) == "union"
    assert frame.rdd.getNumPartitions() == 1


FILTERS = (
    "id >= 100 and id < 200",
    "id in (1, 2, 77, 1000)",
    "at < timestamp '2025-06-01 00:00:00'",
    "kind = 'k1'",
    "kind in ('patched', 'late', 'it''s')",
    "kind > 'k3'",
    "kind like 'pat%'",
    "kind is null",
    "kind is not null and not kind = 'k1'",
    "amount = 1.14",
    "amount >= 50",
    "small <= 5",
    "ratio > 190.25",
    "flag",
    "flag = false",
    "day between date '2024-06-01' and date '2024-07-01'",
    "ts < timestamp_ntz '2024-01-01 00:00:00.0001'",
)
TYPES_AS_TEXT = (
    ("free = '0.14285714285714285714'", 1),
    ("key = 'c4ca4238-a0b9-2382-0dcc-509a6f75849b'", 1),
    ("key = 'no uuid at all'", 0),
    ("body = '{\"n\": 7}'", 1),
    ("body = 'no json'", 0),
    ("code = 'c1  '", 132),
    ("code = 'c1'", 0),  # Spark compares all four characters
    ("octets = x'c4ca4238a0b923820dcc509a6f75849b'", 1),
    ("id <=> null", 0),
    ("kind <=> null", 1),
)


@pytest.mark.parametrize("where", FILTERS)
def test_filters(reads: Reads, source: Connection, where: str) -> None:
    same = where.replace("timestamp_ntz", "timestamp").replace("kind >", 'kind collate "C" >')
    assert rows(reads.table("read", push_filters="true").where(where)) == expected(
        source, COLUMNS, same
    )


@pytest.mark.parametrize(("where", "count"), TYPES_AS_TEXT)
def test_filters_on_what_is_text_in_spark(reads: Reads, where: str, count: int) -> None:
    assert reads.table("read", push_filters="true").where(where).count() == count


def test_filters_reach_the_server(reads: Reads, source: Connection) -> None:
    """Sent to the source by `route`, the statement can be seen there."""
    frame = reads.table("read", route="source", push_filters="true").select("id")
    where = "id > 390 and kind = 'k2' and at > timestamp '2020-01-01' and small is not null"
    assert rows(frame.where(where)) == expected(source, "id", where)
    (statement,) = source.execute(
        "select query from pg_stat_activity where query like '%FROM read WHERE%' "
        "and pid <> pg_backend_pid() order by query_start desc limit 1"
    ).fetchall()[0]
    for part in (
        '"id" > 390',
        "\"kind\"::text = 'k2'",
        "\"at\" > TIMESTAMPTZ '2020-01-01 00:00:00+00:00'",
        '"small" IS NOT NULL',
    ):
        assert part in statement


def test_filters_are_not_sent_unasked(reads: Reads, source: Connection) -> None:
    """Spark keeps the plan of a DataFrame's first query for the next: with its filters, if any."""
    frame = reads.table("read")
    assert frame.where("id > 300").count() == len(expected(source, "id", "id > 300"))
    assert frame.count() == len(expected(source, "id"))
    both = frame.where("id > 300").union(frame.where("id <= 300"))
    assert both.count() == frame.count()


def test_a_condition_of_the_sources_own(reads: Reads, source: Connection) -> None:
    where = "at > now() - interval '20 days' or kind = 'late' -- and no more"
    frame = reads.table("read", where=where)
    assert rows(frame.select("id")) == expected(source, "id", f"({where}\n)")
    assert frame.where("id > 70 and id < 500").count() == len(
        expected(source, "id", f"({where}\n) and id > 70 and id < 500")
    )


def test_a_schema_chooses_columns(reads: Reads, source: Connection) -> None:
    chosen = reads.table("read", schema="kind string, id bigint")
    assert chosen.schema.fieldNames() == ["kind", "id"]
    assert rows(chosen.select("id", "kind")) == expected(source, "id, kind")
    with pytest.raises(Exception, match=r"column id is bigint, and the schema says int"):
        reads.table("read", schema="id int").collect()
    with pytest.raises(Exception, match="42703"):
        reads.table("read", schema="nothing int").collect()


def test_a_query_and_a_view(reads: Reads, spark: Spark, source: Connection) -> None:
    sql = (
        "select kind, count(*) as n, sum(amount)::numeric(14,2) as total from read "
        "group by kind -- per kind;"
    )
    frame = reads.query(sql)
    assert rows(frame) == sorted(
        source.execute(sql).fetchall(), key=lambda row: (row[0] is None, row[0])
    )
    assert frame.where("n > 60").count() == sum(row[1] > 60 for row in rows(frame))
    frame.createOrReplaceTempView("kinds")
    assert spark.value("select sum(n) from kinds") == len(expected(source, "id"))
    spark.rows(
        f"create or replace temporary view readings using htapkit options "
        f"(url '{reads.url}', table 'public.read', freshness 'strong')"
    )
    assert spark.value("select count(distinct id) from readings") == len(expected(source, "id"))


def test_times_of_day_are_text(history: Mirrored, reads: Reads, source: Connection) -> None:
    """As PostgreSQL prints them; Spark's own type is switched off unless one asks for it."""
    history.make(
        "clocks",
        "create table clocks (id int4 primary key, clock time)",
        "insert into clocks values (1, '01:02:03.5'), (2, '00:00'), (3, '24:00'), (4, null), "
        "(5, '23:59:59.999999'), (6, '10:20:30'), (7, '00:00:10')",
    )
    printed = source.execute("select id, clock::text from clocks order by id").fetchall()
    assert rows(reads.table("clocks")) == printed
    found = reads.table("clocks", push_filters="true").where(
        "clock in ('24:00:00', '01:02:03.5', '1:2:3.5')"
    )
    assert [row[0] for row in rows(found)] == [1, 3]


def test_it_joins_what_spark_reads_of_the_lake(reads: Reads, spark: Spark) -> None:
    """The lake part alone is open to Spark as well, without the patches."""
    reads.table("read").createOrReplaceTempView("everything")
    changed = spark.rows(
        "select a.kind, count(*) from htapkit.shop.public.read l left join everything a using (id) "
        "where a.kind is distinct from l.kind group by 1"
    )
    assert {kind for kind, _ in changed} == {"patched", None}


def test_every_read_is_of_one_moment(history: Mirrored, reads: Reads) -> None:
    """Transactions move amounts between old rows and hot rows, and old rows move to the lake."""
    history.make(
        "accounts",
        "create table accounts (id int8 primary key, at timestamptz not null, amount int8)",
        "insert into accounts select g, now() - g * interval '1 day', 1000 "
        "from generate_series(0, 39) g",
    )
    assert tier(history, "accounts") >= 29
    stop, moved, runs = threading.Event(), [0], [0]

    def move() -> None:
        with history.database.connect() as source:
            while not stop.is_set():
                old, young = 20 + moved[0] % 20, moved[0] % 9
                source.execute(
                    "update accounts set amount = amount + case id when %s then 7 else -7 end "
                    "where id in (%s, %s)",
                    (old, old, young),
                )
                moved[0] += 1

    def fold() -> None:
        while not stop.is_set():
            tier(history, "accounts")
            runs[0] += 1

    threads = [threading.Thread(target=work) for work in (move, fold)]
    for thread in threads:
        thread.start()
    try:
        frame = reads.table("accounts")
        seen = [rows(frame.selectExpr("id", "amount")) for _ in range(12)]
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert [sum(amount for _, amount in one) for one in seen] == [40_000] * len(seen)
    assert all(len(one) == 40 for one in seen)
    assert len({tuple(one) for one in seen}) > 1, "nothing changed between the reads"
    assert runs[0] > 1
    assert moved[0] > 10


def test_partitions_are_tasks_of_one_moment(
    history: Mirrored, reads: Reads, source: Connection
) -> None:
    """A moment is read again and again, while rows change; a new read sees the change."""
    before = expected(source, "id, kind, amount")
    frame = reads.table(
        "read", schema="id bigint, kind string, amount decimal(12,2)", partitions="4"
    )
    assert frame.rdd.getNumPartitions() > 1
    history.run("update read set kind = 'later' where id % 3 = 0", "delete from read where id = 5")
    assert rows(frame) == before
    assert rows(frame.orderBy("kind")) == before  # Spark looks at the rows twice for this
    anew = reads.table("read", partitions="4").select("id", "kind", "amount")
    assert rows(anew) == expected(source, "id, kind, amount") != before
    assert reads.table("read", partitions="4").where("id <= 20").count() == 19
    assert reads.query("select count(*) from read", partitions="4").rdd.getNumPartitions() == 1


def test_failures_say_what_and_where(reads: Reads, spark: Spark) -> None:
    with pytest.raises(Exception, match="42P01"):
        reads.table("nothing").collect()
    with pytest.raises(Exception, match="22012"):
        reads.query("select 1 / (id - 400) as a from read").collect()
    with pytest.raises(Exception, match="several columns a; give each"):
        reads.query("select 1 as a, 2 as a").collect()
    with pytest.raises(Exception, match=r"no htapkit answers at grpc://127\.0\.0\.1:9"):
        spark.session.read.format("htapkit").options(url="grpc://127.0.0.1:9", table="t").load()
    with pytest.raises(Exception, match="give either table"):
        spark.session.read.format("htapkit").option("url", reads.url).load()
    with pytest.raises(Exception, match="22023"):
        reads.table("read", route="nonsense")
