"""`--engine spark`: Spark joins files, and expires versions, while the server reads on."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog

from htapkit.errors import ConfigError, LakeFailed
from htapkit.testing.postgres import PostgresServer
from htapkit_spark.engine import SparkEngine, expire_call, rewrite_call
from tests.fix_mirror import Mirrored, fresh_database, mirrored
from tests.spark.conftest import TABLE, Spark, settings
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


@pytest.fixture
def forgetful(
    pg18: PostgresServer, spark_environment: None, tmp_path: Path
) -> Iterator[tuple[Mirrored, Path]]:
    """An htapkit that keeps versions for two seconds, and where its catalog is."""
    data = tmp_path / "data"
    configuration = {
        "tables": {"shop.public.removed": TABLE},
        "lake": {"interval": "1 day", "keep": "1 s"},
        "limits": {"statement_time": "2 s"},
        "engines": {"spark": {"master": "local[1]", **settings(data, tmp_path / "engine")}},
    }
    with (
        fresh_database(pg18) as database,
        mirrored(database, tmp_path, configuration=configuration) as one,
    ):
        yield one, data


@pytest.mark.spark
@pytest.mark.integration
@pytest.mark.long
def test_spark_expires_for_the_server(forgetful: tuple[Mirrored, Path]) -> None:
    """What is read stays, also where it was changed since; what nobody reads any more goes."""
    mirror, data = forgetful
    table = make(mirror, "removed")
    mirror.run(f"update {table} set kind = 'patched' where id in (200, 201)")
    mirror.follows(table)
    with mirror.stack.client() as client:
        client.wait(client.compact([f"shop.public.{table}"])["id"], timeout_seconds=60)
    files = set(data.rglob("*.parquet"))
    with SqlCatalog("htapkit", uri=f"sqlite:///{data / 'catalog.db'}") as catalog:

        def versions() -> set[int]:
            found = catalog.load_table(("shop", "public", table)).metadata.snapshots
            return {snapshot.snapshot_id for snapshot in found}

        made, removed = versions(), 0
        assert len(made) == 4
        end = time.monotonic() + 150
        while len(versions()) > 1 and time.monotonic() < end:  # the newest may be too young yet
            with mirror.stack.client() as client:
                job = client.expire([f"shop.public.{table}"], engine="spark")
                (told,) = client.wait(job["id"], timeout_seconds=100)["tables"]
            removed += told["files_removed"]
        (left,) = versions()
        refs = catalog.load_table(("shop", "public", table)).metadata.refs
    assert left in made
    assert set(refs) == {"main", f"htapkit-{left}"}
    assert removed > len(files - set(data.rglob("*.parquet"))) > 0
    same(mirror, table)
    mirror.stack.stop()
    mirror.stack.start()  # nothing is cached any more
    mirror.follows(table)
    same(mirror, table)


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
    name = ("shop", "odd`schema", "it's")
    moment = datetime(2026, 1, 31, 12, 30, 0, 500, tzinfo=timezone(timedelta(hours=1)))
    for call in (rewrite_call(name), expire_call(name, moment)):
        assert "table => '`shop`.`odd``schema`.`it\\'s`'" in call
    assert "TIMESTAMP '2026-01-31 11:30:00.000500+00:00'" in expire_call(name, moment)


@pytest.mark.parametrize("printed", ["", "no numbers\n"])
def test_a_spark_that_tells_nothing_has_failed(
    monkeypatch: pytest.MonkeyPatch, printed: str
) -> None:
    def ended(*_: object, **__: object) -> object:
        return subprocess.CompletedProcess([], 0, printed, "")

    monkeypatch.setattr(subprocess, "run", ended)
    with pytest.raises(LakeFailed, match="did not tell"):
        SparkEngine({"master": "local[1]"}).expire(("a", "b", "c"), datetime.now(UTC))


def test_a_spark_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*_: object, **options: float) -> None:
        raise subprocess.TimeoutExpired("spark", options["timeout"])

    monkeypatch.setattr(subprocess, "run", endless)
    with pytest.raises(LakeFailed, match=r"engines\.spark\.timeout"):
        SparkEngine({"master": "local[1]", "timeout": "2"}).compact(("a", "b", "c"))
