"""Spark and htapkit commit to one catalog at the same time: both succeed, and both are exact."""

from __future__ import annotations

import re
import threading

import pytest

from tests.fix_mirror import Mirrored
from tests.spark.conftest import Spark, tier
from tests.spark.test_upkeep import below, compact, make, operations, same

pytestmark = [pytest.mark.spark, pytest.mark.integration, pytest.mark.long]

ROUNDS = 6


class Busy:
    """Changes a table of ours and tiers it, again and again in a thread: every run commits."""

    def __init__(self, mirror: Mirrored, table: str, change: str) -> None:
        """`change` is SQL with {table} and {number}, the number of the run."""
        self._mirror, self._table, self._change = mirror, table, change
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.runs = 0
        self.failed: list[Exception] = []

    def __enter__(self) -> Busy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(120)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._mirror.run(self._change.format(table=self._table, number=self.runs))
            self._mirror.follows(self._table)
            try:
                tier(self._mirror, self._table)
            except Exception as error:  # noqa: BLE001 - the test says what it was
                self.failed.append(error)
            self.runs += 1


# Rows of a day of their own; and changes of rows all over the table, whose files are written again.
APPEND = (
    "insert into {table} select 100000 + {number} * 10 + g, "
    "timestamptz '2001-01-01' + {number} * interval '1 day', 'new', g, 1 "
    "from generate_series(1, 10) g"
)
UPDATE = "update {table} set small = small + 1 where id % 40 = {number} % 40"


def test_a_table_of_sparks_own_beside_ours(history: Mirrored, spark: Spark) -> None:
    """Each round is a commit of Spark's to its own table while we commit to ours."""
    table, own = make(history, "raced"), "htapkit.reports.daily"
    spark.rows("create namespace if not exists htapkit.reports")
    spark.rows(f"create table {own} (day date, rows bigint, round int) using iceberg")
    with Busy(history, table, UPDATE) as busy:
        for number in range(ROUNDS):
            spark.rows(
                f"insert into {own} select cast(at as date), count(*), {number} "
                f"from htapkit.shop.public.{table} group by 1"
            )
        done = busy.runs
    assert busy.failed == []
    assert done >= 3, "our commits fell between Spark's"
    assert spark.value(f"select count(*) from {own}.snapshots") == ROUNDS
    assert spark.value(f"select count(distinct round) from {own}") == ROUNDS
    same(history, table)
    below(history, spark, table)


def test_compacting_a_table_that_grows(history: Mirrored, spark: Spark) -> None:
    """New days do not touch the files that Spark joins: both commits find their place."""
    table = make(history, "grown")
    with Busy(history, table, APPEND) as busy:
        for _ in range(ROUNDS // 2):
            compact(spark, table)
        done = busy.runs
    assert busy.failed == []
    assert done >= 3
    assert operations(spark, table).count("replace") >= 1
    same(history, table)
    below(history, spark, table)
    history.verified(table)


def test_compacting_what_is_written_again_meanwhile(history: Mirrored, spark: Spark) -> None:
    """Where both write the same files, one gives way, and can be repeated; no row is lost."""
    table, told = make(history, "torn"), []
    with Busy(history, table, UPDATE) as busy:
        for _ in range(3):
            try:
                compact(spark, table)
            except Exception as error:  # noqa: BLE001 - what Spark says of it is looked at
                told.append(str(error))
    print(f"{busy.runs} runs, {len(busy.failed)} failed; Spark gave way {len(told)} times")
    print(*(re.findall(r"\S*Exception: .*", error)[-1] for error in told), sep="\n")
    assert all("commit" in error.lower() for error in told), told
    assert all("made again" in str(error) for error in busy.failed), busy.failed
    tier(history, table)
    compact(spark, table)
    same(history, table)
    below(history, spark, table)
    history.verified(table)
