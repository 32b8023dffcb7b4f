"""Erasing what is left of deleted rows: no file of the lake has them once the deadline is over."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest

from htapkit import failpoints
from htapkit.client import ServerRefused, ServerUnreachable
from htapkit.testing.postgres import PostgresServer
from htapkit.testing.stack import wait_until
from tests.fix_mirror import JOB_SECONDS, Mirrored, fresh_database, mirrored

pytestmark = pytest.mark.integration

TABLES = ("visits", "killed", "hot")
CONFIGURATION = {
    "tables": {f"shop.public.{table}": {"hot": "10 days"} for table in TABLES},
    # What nobody can read any more goes at once, only what a test asks for is done.
    "lake": {"interval": "1 hour", "keep": "1 s"},
    "limits": {"statement_time": "5 s"},
}


@pytest.fixture(scope="module")
def lake(pg: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    """One mirror for all tests of the module."""
    folder = tmp_path_factory.mktemp("erase")
    with (
        fresh_database(pg) as database,
        mirrored(database, folder, configuration=CONFIGURATION) as one,
    ):
        yield one


def _make(mirror: Mirrored, table: str) -> None:
    """1,000 visits of a hundred users, one an hour; three quarters are in the lake."""
    mirror.make(
        table,
        f"create table {table} (id int primary key, at timestamptz not null, user_id int, v text)",
        f"insert into {table} select g, now() - g * interval '1 hour', g % 100, 'v' || g "
        "from generate_series(1, 1000) g",
    )


def _job(mirror: Mirrored, verb: str, table: str) -> None:
    with mirror.stack.client() as client:
        client.wait(
            getattr(client, verb)([f"shop.public.{table}"])["id"], timeout_seconds=JOB_SECONDS
        )


def _erase(mirror: Mirrored, table: str, where: str) -> dict[str, Any]:
    with mirror.stack.client() as client:
        job = client.erase(f"shop.public.{table}", where)
        return dict(client.wait(job["id"], timeout_seconds=JOB_SECONDS))


def _holding(mirror: Mirrored, table: str, user: int) -> list[Path]:
    """The lake's files that have rows of a user."""
    folder = mirror.stack.config_path.parent / "data" / "warehouse" / "shop.public" / table
    found = []
    for path in folder.rglob("*.parquet"):
        users = pq.read_table(path, columns=["user_id"], partitioning=None).column(0)
        found += [path] if user in users.to_pylist() else []
    return found


def _gone(mirror: Mirrored, table: str, user: int) -> None:
    """Expiry does what the deadline says, here after a few seconds."""

    def gone() -> bool:
        _job(mirror, "expire", table)
        return not _holding(mirror, table, user)

    wait_until(gone, 60, mirror.stack.log_end)


def test_deleted_rows_are_purged(lake: Mirrored) -> None:
    _make(lake, "visits")
    _job(lake, "tier", "visits")
    with pytest.raises(ServerRefused, match=r"10 rows of shop\.public\.visits that match"):
        _erase(lake, "visits", "user_id = 17")
    before = datetime.now(UTC)
    # One row stays, with another user: what it was goes all the same.
    lake.run(
        "update visits set user_id = 18 where id = 917", "delete from visits where user_id = 17"
    )
    assert _holding(lake, "visits", 17)
    past = f"select count(*) from visits where user_id = 17 and at < '{before - timedelta(20)}'"
    with lake.port("auto") as port:
        port.execute(f"set htapkit.as_of = '{before}'")
        assert port.execute(past).fetchone() == (5,), "AS OF still has them"
    done = _erase(lake, "visits", "user_id = 17 AND v IS NOT NULL")
    assert done["folded"] >= 7
    assert 0 < (datetime.fromisoformat(done["gone_by"]) - before).total_seconds() < 3700
    lake.verified("visits")
    with lake.port("auto") as port:
        port.execute(f"set htapkit.as_of = '{before}'")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match=r"no part in the lake|no cut"):
            port.execute(past)
    _gone(lake, "visits", 17)
    assert _holding(lake, "visits", 18)
    lake.verified("visits")
    with lake.database.connect() as source, lake.port("union") as port:
        sql = "select * from visits order by id"
        assert port.execute(sql).fetchall() == source.execute(sql).fetchall()


def test_what_can_be_erased_is_judged_here(lake: Mirrored) -> None:
    _make(lake, "hot")
    for where, words in (
        ("user_id = 17)", "is not a condition"),
        ("user_id IN (SELECT 17)", "no other query"),
        ("nobody = 17", "nobody"),
        ("v ~ '^v1'", "cannot be judged here"),
        ("at < now()", "cannot be judged here"),
    ):
        with pytest.raises(ServerRefused, match=words):
            _erase(lake, "hot", where)
    with pytest.raises(ServerRefused, match="not mirrored"):
        _erase(lake, "nothing", "true")
    lake.run("delete from hot where user_id = 17")
    assert _erase(lake, "hot", "user_id = 17")["folded"] == 0
    # A table that was copied again has no part in the lake; what it had there goes at once.
    _job(lake, "tier", "hot")
    lake.run("truncate hot")
    assert _holding(lake, "hot", 18)
    _erase(lake, "hot", "user_id = 18")
    assert not _holding(lake, "hot", 18)
    lake.run("insert into hot values (1, '2020-01-01', 19, 'again')")
    _job(lake, "tier", "hot")
    lake.verified("hot")


@pytest.mark.long
def test_kills_while_rows_are_erased(lake: Mirrored) -> None:
    """Whoever erases again after a crash has them erased."""
    _make(lake, "killed")
    _job(lake, "tier", "killed")
    for user, name in enumerate(failpoints.ERASURE, 20):
        lake.run(f"delete from killed where user_id = {user}")
        lake.stack.stop()
        lake.stack.start({"HTAPKIT_FAILPOINT": f"{name}:1"})
        lake.follows("killed")
        with lake.stack.client() as client, suppress(ServerUnreachable):  # it dies of it
            client.erase("shop.public.killed", f"user_id = {user}")
        assert lake.stack.wait_ended(60) == -signal.SIGKILL, lake.stack.log_end()
        lake.stack.start()
        lake.follows("killed")
        _erase(lake, "killed", f"user_id = {user}")
        _gone(lake, "killed", user)
        lake.verified("killed")
