"""`htapkit compact --engine spark`: Spark joins files; the server reads them once compared."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from htapkit.errors import ConfigError, LakeFailed
from htapkit_spark.engine import SparkEngine, rewrite_call
from tests.fix_mirror import Mirrored
from tests.spark.conftest import Spark
from tests.spark.test_upkeep import files, make, operations, same


def pinned(spark: Spark, table: str) -> bool:
    """Whether the head is the version that the server is held to."""
    head = f"select snapshot_id from htapkit.shop.public.{table}.refs where name = 'main'"
    tags = f"select snapshot_id from htapkit.shop.public.{table}.refs where type = 'TAG'"
    return spark.rows(head)[0] in spark.rows(tags)


def compact(mirror: Mirrored, table: str) -> Any:
    with mirror.stack.client() as client:
        job = client.compact([f"shop.public.{table}"], engine="spark")
        return client.wait(job["id"], timeout_seconds=600)


@pytest.mark.spark
@pytest.mark.integration
@pytest.mark.long
def test_spark_compacts_for_the_server(history: Mirrored, spark: Spark) -> None:
    table = make(history, "joined")
    history.run(f"update {table} set kind = 'patched' where id in (200, 201)")
    history.follows(table)
    many = files(spark, table)
    assert compact(history, table)["tables"] == [
        {"table": f"shop.public.{table}", "compacted": True, "files_removed": 0}
    ]
    assert files(spark, table) < many / 2
    assert operations(spark, table)[-1] == "replace"
    assert pinned(spark, table)
    same(history, table)
    history.verified(table)
    with history.stack.client() as client:
        again = client.wait(client.compact([f"shop.public.{table}"])["id"], timeout_seconds=120)
    assert [row["compacted"] for row in again["tables"]] == [False], "nothing is left to join"
    same(history, table)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "either remote"),
        ({"master": "local[1]", "remote": "sc://h:1"}, "either remote"),
        ({"master": "local[1]", "sparkle": "s3cret"}, "unknown key sparkle"),
        ({"master": "local[1]", "timeout": "soon"}, "timeout: expected seconds"),
    ],
)
def test_wrong_settings_say_which(given: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        SparkEngine(given)
    assert "s3cret" not in str(caught.value)


def test_names_are_quoted_for_spark() -> None:
    call = rewrite_call(("shop", "odd`schema", "it's"))
    assert "table => '`shop`.`odd``schema`.`it\\'s`'" in call


def test_a_spark_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*_: object, **options: float) -> None:
        raise subprocess.TimeoutExpired("spark", options["timeout"])

    monkeypatch.setattr(subprocess, "run", endless)
    with pytest.raises(LakeFailed, match=r"engines\.spark\.timeout"):
        SparkEngine({"master": "local[1]", "timeout": "2"}).compact(("a", "b", "c"))
