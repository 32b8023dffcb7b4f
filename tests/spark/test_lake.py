"""Plain Spark SQL reads our lake: the pinned version and the head, all types, after folding too."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.fix_mirror import Mirrored, difference
from tests.spark.conftest import Spark, tier

pytestmark = [pytest.mark.spark, pytest.mark.integration, pytest.mark.long]

# How a value of each type is looked at, in PostgreSQL and in Spark: both give the same value.
LOOKED_AT = {
    "id": ("id", "id"),
    "b": ("b", "b"),
    "s": ("s", "s"),
    "i": ("i", "i"),
    "f": ("f::float8::text", "f"),
    "d": ("d::text", "d"),
    "n": ("n", "n"),
    "free": ("free::text", "free"),
    "t": ("t", "t"),
    "c": ("c", "c"),
    "u": ("u::text", "u"),
    "j": ("j::text", "j"),
    "o": ("encode(o, 'hex')", "lower(hex(o))"),
    "span": ("span::text", "span"),
    "many": ("many::text", "many"),
    "at": ("{micros}", "unix_micros(at)"),
    "ts": ("{micros}", "unix_micros(cast(ts as timestamp))"),
    "day": ("{days}", "unix_date(day)"),
}
MICROS = (
    "case {0} when 'infinity' then 9223372036854775807 when '-infinity' then -9223372036854775807 "
    "else (extract(epoch from {0}) * 1000000)::int8 end"
)
DAYS = (
    "case {0} when 'infinity' then 2147483647 when '-infinity' then -2147483647 "
    "else {0} - date '1970-01-01' end"
)
CREATE = """
create table things (
  id int8 primary key, b bool, s int2, i int4, f real, d float8, n numeric(20,4), free numeric,
  t text, c char(5), u uuid, j jsonb, o bytea, span interval, many int4[],
  at timestamptz not null, ts timestamp, day date
)
"""
ROWS = (
    "(1, true, 32767, 2147483647, 0.1, 0.1, 1234567890123456.7891, 0.10, 'plain', 'ab', "
    "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{\"k\": [1, null]}', '\\x00ff', '1 mon -2 days', "
    "'{1,NULL,3}', '2024-02-29 23:59:59.999999+00', '2024-02-29 23:59:59.999999', '2024-02-29')",
    "(2, false, -32768, -2147483648, 'NaN', 'NaN', -0.0001, 'NaN', '', '', null, 'null', '\\x', "
    "'0', '{}', '1969-12-31 23:59:59.999999+00', 'infinity', 'infinity')",
    "(3, null, 0, 0, '-Infinity', 'Infinity', 0, -1e-20, 'naïve 🐘 \\ '' \"', 'é', null, '{}', "
    "'\\xdeadbeef', null, null, '1582-10-10 12:00+00', '-infinity', '-infinity')",
    "(4, null, null, null, null, null, null, null, null, null, null, null, null, null, null, "
    "'0001-01-01 12:00:00.5+00', null, null)",
    "(5, true, 1, 1, 3.4e38, 5e-324, 9999999999999999.9999, 1e30, repeat('x', 100000), 'five5', "
    "'ffffffff-ffff-ffff-ffff-ffffffffffff', '[]', decode(repeat('00', 5000), 'hex'), '1 us', "
    "'{{1,2},{3,4}}', '2000-01-01 00:00+00', '0044-03-15 00:00 BC', '0044-03-15 BC')",
    "(6, true, 1, 1, -0.0, -0.0, 1, 1, 'hot', 'h', null, null, null, null, null, now(), now(), "
    "now())",
    "(7, true, 1, 1, 1, 1, 1, 1, 'never', 'h', null, null, null, null, null, 'infinity', now(), "
    "now())",
)


@pytest.fixture(scope="module")
def things(history: Mirrored) -> Mirrored:
    """A table of all types, of which the finite old rows have moved."""
    history.make("things", CREATE, *(f"insert into things values {row}" for row in ROWS))
    assert tier(history, "things") == 5
    return history


def source_rows(mirror: Mirrored) -> list[tuple[object, ...]]:
    """The rows below the boundary, as the source has them."""
    below = mirror.table("things")["lake_below"]
    datetime.fromisoformat(below)
    asked = [
        ours.format(micros=MICROS.format(name), days=DAYS.format(name))
        for name, (ours, _) in LOOKED_AT.items()
    ]
    sql = f"select {', '.join(asked)} from things where at < '{below}' order by id"
    with mirror.database.connect() as source:
        return [_plain(row) for row in source.execute(sql).fetchall()]


def spark_rows(spark: Spark, version: str = "") -> list[tuple[object, ...]]:
    """The lake's rows, as Spark has them."""
    asked = [f"{theirs} as `{name}`" for name, (_, theirs) in LOOKED_AT.items()]
    found = spark.table(f"select {', '.join(asked)} from htapkit.shop.public.things {version}")
    rows = zip(*(column.to_pylist() for column in found.columns), strict=True)
    return sorted((_plain(row) for row in rows), key=lambda row: str(row[0]))


def _plain(row: tuple[object, ...]) -> tuple[object, ...]:
    """Floats as PostgreSQL's text, in which NaN is equal to itself and -0 is not 0."""
    floats = [list(LOOKED_AT).index(name) for name in ("f", "d")]
    return tuple(
        repr(float(str(value))) if n in floats and value is not None else value
        for n, value in enumerate(row)
    )


def equal(ours: list[tuple[object, ...]], theirs: list[tuple[object, ...]]) -> None:
    """The same rows, or the first cells that differ."""
    if ours != theirs:
        pytest.fail(difference(ours, theirs), pytrace=False)


def pinned(spark: Spark, table: str) -> str:
    """The newest tag of ours."""
    return str(
        spark.value(
            f"select max_by(r.name, s.committed_at) from htapkit.shop.public.{table}.refs r "
            f"join htapkit.shop.public.{table}.snapshots s using (snapshot_id) "
            "where r.type = 'TAG' and r.name like 'htapkit-%'"
        )
    )


def test_all_types_at_the_pinned_version_and_at_the_head(things: Mirrored, spark: Spark) -> None:
    expected = source_rows(things)
    assert [row[0] for row in expected] == [1, 2, 3, 4, 5]
    equal(spark_rows(spark), expected)
    tag = pinned(spark, "things")
    equal(spark_rows(spark, f"version as of '{tag}'"), expected)
    equal(spark_rows(spark, f"version as of {tag.removeprefix('htapkit-')}"), expected)


def test_spark_opens_only_the_files_of_a_range(things: Mirrored, spark: Spark) -> None:
    """A range of the time column is a range of partitions: a file outside may even be gone."""
    table, day = "htapkit.shop.public.things", "timestamp '2024-02-29'"
    (path,) = [
        Path(unquote(urlsplit(row[0]).path))
        for row in spark.rows(f"select file_path from {table}.files where partition.at_day is null")
        + spark.rows(
            f"select file_path from {table}.files where partition.at_day < date '1000-1-1'"
        )
    ]
    aside = path.with_name("aside")
    path.rename(aside)
    try:
        sql = f"select id from {table} where at >= {day} and at < {day} + interval 1 day"
        assert spark.rows(sql) == [(1,)]
        with pytest.raises(Exception, match=path.name):
            spark.rows(f"select id from {table}")
    finally:
        aside.rename(path)


def test_patches_are_there_after_folding(things: Mirrored, spark: Spark) -> None:
    """Folded, the head has the rows that changed; the old version is as it was."""
    before, old = source_rows(things), pinned(spark, "things")
    things.run(
        "update things set t = 'changed', n = null where id = 1",
        "delete from things where id = 2",
        "update things set at = '2001-01-01 00:00+00' where id = 6",
        "insert into things (id, at) values (8, '2002-02-02 00:00+00')",
    )
    things.follows("things")
    equal(spark_rows(spark), before)
    tier(things, "things")
    after = source_rows(things)
    assert [row[0] for row in after] == [1, 3, 4, 5, 6, 8]
    equal(spark_rows(spark), after)
    assert pinned(spark, "things") != old
    equal(spark_rows(spark, f"version as of '{old}'"), before)
    things.verified("things")


def test_columns_that_changed(things: Mirrored, spark: Spark) -> None:
    """A renamed column keeps its values; an old version has its old name."""
    old = pinned(spark, "things")
    things.run("alter table things rename column t to words", "alter table things add extra int2")
    things.run("update things set extra = 7 where id = 5")
    things.follows("things")
    tier(things, "things")
    assert spark.rows(
        "select id, length(words), extra from htapkit.shop.public.things "
        "where id in (1, 5) order by id"
    ) == [(1, 7, None), (5, 100_000, 7)]
    assert spark.rows(
        f"select length(t) from htapkit.shop.public.things version as of '{old}' where id = 5"
    ) == [(100_000,)]


def test_times_of_day_are_beyond_spark(history: Mirrored, spark: Spark) -> None:
    """Iceberg has the type and Spark's reader has not: the table's other columns cannot be read."""
    history.make(
        "times",
        "create table times (id int4 primary key, at timestamptz not null, clock time)",
        "insert into times values (1, '2020-01-01', '12:34:56.789')",
    )
    assert tier(history, "times") == 1
    with pytest.raises(Exception, match="time"):
        spark.rows("select id from htapkit.shop.public.times")
