"""Spark compacts and expires our tables while the server goes on: nothing that it reads is lost."""

from __future__ import annotations

import pytest

from tests.fix_mirror import Mirrored, last_route, printed
from tests.spark.conftest import Spark, tier

pytestmark = [pytest.mark.spark, pytest.mark.integration, pytest.mark.long]


def make(mirror: Mirrored, name: str) -> str:
    """400 rows, four a day, of which those older than ten days move in three runs."""
    mirror.make(
        name,
        f"create table {name} (id int8 primary key, at timestamptz not null, kind text, "
        "amount numeric(12,2), small int2)",
        f"insert into {name} select g, now() - g * interval '6 hours', 'k' || g % 5, g / 7.0, "
        f"g % 100 from generate_series(1, 400) g",
    )
    assert tier(mirror, name) > 300
    for number in (1, 2):
        mirror.run(
            f"insert into {name} select g + {number}000, now() - g * interval '6 hours', 'late', "
            f"g, {number} from generate_series(100, 399) g"
        )
        mirror.follows(name)
        tier(mirror, name)
    return name


def same(mirror: Mirrored, table: str) -> None:
    """The port's answer, from hot store and lake, is the source's."""
    sql = f"select * from {table} order by id"
    with mirror.port("auto") as port, mirror.database.connect() as source:
        assert printed(port, sql) == printed(source, sql)
        assert last_route(port) == "union"


def below(mirror: Mirrored, spark: Spark, table: str) -> None:
    """The head, as Spark reads it, is what the source has below the boundary."""
    line = mirror.table(table)["lake_below"]
    sums = "count(*), sum(id), sum(amount), sum(small), max(kind)"
    with mirror.database.connect() as source:
        expected = source.execute(f"select {sums} from {table} where at < '{line}'").fetchone()
    assert spark.rows(f"select {sums} from htapkit.shop.public.{table}") == [expected]


def files(spark: Spark, table: str) -> int:
    return int(spark.value(f"select count(*) from htapkit.shop.public.{table}.files"))


def operations(spark: Spark, table: str) -> list[str]:
    """What the versions were, from the first to the head."""
    return [
        row[0]
        for row in spark.rows(
            f"select s.operation from htapkit.shop.public.{table}.history h "
            f"join htapkit.shop.public.{table}.snapshots s using (snapshot_id) "
            "where h.is_current_ancestor order by h.made_current_at"
        )
    ]


def compact(spark: Spark, table: str) -> None:
    spark.rows(
        f"call htapkit.system.rewrite_data_files(table => 'shop.public.{table}', "
        "options => map('rewrite-all', 'true'))"
    )


def expire(spark: Spark, table: str) -> dict[str, int]:
    """All versions that may go, go; what went."""
    rows = spark.session.sql(
        f"call htapkit.system.expire_snapshots(table => 'shop.public.{table}', "
        "older_than => timestamp '2100-01-01', retain_last => 1)"
    ).collect()
    return {name: int(count) for name, count in rows[0].asDict().items()}


def test_the_next_run_builds_on_sparks_compaction(history: Mirrored, spark: Spark) -> None:
    table = make(history, "compacted")
    many = files(spark, table)
    compact(spark, table)
    few = files(spark, table)
    assert few < many / 2
    assert operations(spark, table)[-1] == "replace"
    below(history, spark, table)
    same(history, table)  # from the pinned version, which has the old files

    history.run(f"insert into {table} values (9000, now() - interval '30 days', 'new', 1, 1)")
    history.run(f"update {table} set amount = -1 where id = 150")
    history.follows(table)
    tier(history, table)
    assert operations(spark, table)[-2:] == ["replace", "overwrite"]
    assert files(spark, table) <= few + 2  # one day more, and one written again
    same(history, table)
    below(history, spark, table)
    history.verified(table)


def test_expiry_leaves_what_the_server_reads(history: Mirrored, spark: Spark) -> None:
    """Pinned versions have tags, and Spark's expiry leaves tagged ones."""
    table = make(history, "expired")
    history.run(f"update {table} set kind = 'patched' where id in (200, 201)")
    history.follows(table)
    compact(spark, table)
    compact(spark, table)
    tags = "select name from htapkit.shop.public.expired.refs where type = 'TAG' order by name"
    before = spark.rows(tags)
    gone = expire(spark, table)
    assert gone["deleted_data_files_count"] > 0, "the first compaction's files"
    assert spark.rows(tags) == before
    same(history, table)
    history.stack.stop()
    history.stack.start()  # nothing is cached any more
    history.follows(table)
    same(history, table)
    tier(history, table)
    same(history, table)
    below(history, spark, table)
    history.verified(table)


def test_other_upkeep(history: Mirrored, spark: Spark) -> None:
    table = make(history, "kept")
    spark.rows(f"call htapkit.system.rewrite_manifests('shop.public.{table}')")
    same(history, table)
    orphans = spark.rows(
        f"call htapkit.system.remove_orphan_files(table => 'shop.public.{table}', dry_run => true)"
    )
    assert orphans == [], "files of ours are orphans in Spark's eyes"
    history.run(f"update {table} set small = small + 1 where id = 222")
    history.follows(table)
    tier(history, table)
    same(history, table)
    below(history, spark, table)


def test_rows_that_spark_changes_are_left_behind(history: Mirrored, spark: Spark) -> None:
    """A commit that changes rows is not followed, and the next run makes the head right again."""
    table = make(history, "changed")
    spark.rows(f"delete from htapkit.shop.public.{table} where id % 2 = 0")
    same(history, table)
    history.run(f"update {table} set amount = 5 where id = 151")
    history.follows(table)
    tier(history, table)
    same(history, table)
    below(history, spark, table)
    assert "left behind" in history.stack.log_path.read_text()
