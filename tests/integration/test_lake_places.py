"""A lake that is not in data_dir: files on a real S3 server, the catalog in a real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from htapkit.client import ServerRefused
from htapkit.testing.postgres import PostgresServer
from htapkit.testing.s3 import S3Server
from htapkit.testing.stack import Stack, wait_until
from tests.fix_mirror import JOB_SECONDS, Mirrored, fresh_database, last_route, mirrored, printed

pytestmark = [pytest.mark.integration, pytest.mark.parametrize("pg", [18], indirect=True)]

TABLE = "shop.public.events"
MAKE = (
    "CREATE TABLE events (id bigint PRIMARY KEY, at timestamptz NOT NULL, kind text, "
    "amount numeric(12,2), note text)",
    "INSERT INTO events SELECT g, now() - g * interval '1 hour', 'k' || g % 5, g / 7.0, "
    "repeat('n', g % 50) FROM generate_series(1, 2000) g",
)
QUESTIONS = (
    "SELECT * FROM events ORDER BY id",
    "SELECT count(*), sum(amount), min(at) FROM events",
    "SELECT kind, count(*) FROM events WHERE at < now() - interval '20 days' GROUP BY 1 ORDER BY 1",
)


def configuration(lake: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "tables": {TABLE: {"partition": "day", "hot": "10 days"}},
        "lake": {"interval": "1 hour", **lake},
    }


def work(mirror: Mirrored, *verbs: str) -> None:
    """Queue jobs and wait for each."""
    with mirror.stack.client() as client:
        queues: Mapping[str, Callable[[], Mapping[str, Any]]] = {
            "tier": lambda: client.tier([TABLE]),
            "compact": lambda: client.compact([TABLE]),
            "expire": lambda: client.expire([TABLE]),
        }
        for verb in verbs:
            client.wait(queues[verb]()["id"], timeout_seconds=JOB_SECONDS)


def same(mirror: Mirrored) -> None:
    """Each question has the source's answer, and the lake was part of it."""
    with mirror.port("auto") as port, mirror.database.connect() as source:
        for sql in QUESTIONS:

            def local(text: str = sql) -> bool:
                printed(port, text)
                return last_route(port) == "union"

            wait_until(local, 60, mirror.stack.log_end)
            assert printed(port, sql) == printed(source, sql), sql


def history(mirror: Mirrored) -> None:
    """All that a lake does, compared after each step; and a restart."""
    mirror.make("events", *MAKE)
    work(mirror, "tier")
    same(mirror)
    mirror.run(
        "UPDATE events SET kind = 'changed' WHERE id % 7 = 0",
        "DELETE FROM events WHERE id % 11 = 0",
        "UPDATE events SET at = at - interval '15 days' WHERE id < 50",
    )
    same(mirror)
    work(mirror, "tier")
    same(mirror)
    work(mirror, "compact", "expire")
    same(mirror)
    mirror.stack.kill()
    mirror.stack.start()
    mirror.stack.wait_ready()
    same(mirror)
    mirror.verified("events")


@pytest.mark.long
@pytest.mark.timeout(400)
def test_files_on_s3(pg: PostgresServer, s3: S3Server, tmp_path: Path) -> None:
    """Nothing of the warehouse is on this machine's disk; an outage loses nothing."""
    bucket = s3.bucket("lake")
    lake = {"warehouse": "s3://lake/warehouse", "catalog": dict(s3.properties)}
    with fresh_database(pg) as database:
        with mirrored(database, tmp_path / "one", configuration=configuration(lake)) as mirror:
            history(mirror)
            assert list(bucket.rglob("*.parquet"))
            assert not (tmp_path / "one" / "data" / "warehouse").exists()
            s3.kill()
            mirror.run("INSERT INTO events SELECT 5000, now(), 'new', 1, 'while it was away'")
            mirror.run("UPDATE events SET kind = 'late' WHERE id = 1999")
            with pytest.raises(ServerRefused, match=r"shop\.public\.events"):
                work(mirror, "tier")
            with mirror.port("auto") as port, database.connect() as source:
                since = source.execute("SELECT (now() - interval '1 day')::text").fetchall()[0][0]
                recent = f"SELECT count(*) FROM events WHERE at > '{since}'"
                assert printed(port, recent) == printed(source, recent)
                assert last_route(port) == "hot"
                assert printed(port, QUESTIONS[0]) == printed(source, QUESTIONS[0])
                assert last_route(port) == "source"
            assert "hot store failed" not in mirror.stack.log_path.read_text()
            s3.start()
            same(mirror)
            work(mirror, "tier")
            same(mirror)
            with mirror.stack.client() as client:
                made = client.backup(str(tmp_path / "backup"))
                client.wait(made["id"], timeout_seconds=JOB_SECONDS)
        restored(mirror, s3, tmp_path)


def restored(mirror: Mirrored, s3: S3Server, folder: Path) -> None:
    """Out of the backup into another bucket, and on from there: the slot has not moved since."""
    s3.bucket("second")
    document = yaml.safe_load(mirror.stack.config_path.read_text())
    document["lake"]["warehouse"] = "s3://second/elsewhere"
    stack = Stack(folder / "two", document["sources"], configuration=document)
    command = [sys.executable, "-m", "htapkit", "restore", str(folder / "backup")]
    config = ["--config", str(stack.config_path)]
    subprocess.run([*command, *config], check=True, capture_output=True, timeout=240)
    with stack:
        stack.wait_ready()
        again = Mirrored(mirror.database, stack)
        same(again)
        assert again.copies("events") == 0, "copied again"
        work(again, "tier")
        same(again)


@pytest.fixture
def catalog(pg: PostgresServer) -> Iterator[Mapping[str, str]]:
    """A catalog in a database of its own."""
    with fresh_database(pg) as database:
        uri = f"postgresql+psycopg://postgres@{pg.host}:{pg.port}/{database.name}"
        yield {"type": "sql", "uri": uri}


def test_the_catalog_in_postgresql(
    pg: PostgresServer, catalog: Mapping[str, str], tmp_path: Path
) -> None:
    """As several machines would share it."""
    lake = {"catalog": dict(catalog)}
    with (
        fresh_database(pg) as database,
        mirrored(database, tmp_path, configuration=configuration(lake)) as mirror,
    ):
        history(mirror)
        assert not (tmp_path / "data" / "catalog.db").exists()
