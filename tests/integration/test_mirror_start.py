"""What is wrong from the start, or with the own machine: named, with what mends it, and mended.

Other sources and other tables go on; nothing of what is wrong needs a restart of htapkit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from htapkit.testing.postgres import PostgresServer
from htapkit.testing.stack import Stack, wait_until
from tests.fix_mirror import SETTLE_SECONDS, Mirrored, fresh_database, mirrored, slot_name

pytestmark = pytest.mark.integration


WRONG = {
    "nobody listens": ("postgresql://postgres@127.0.0.1:9/x", "unavailable", "cannot connect"),
    "no such host": ("postgresql://postgres@no-such-host.invalid/x", "unavailable", "cannot"),
    "no such database": ("{server}/not_there", "refused", "not_there"),
    "no such user": ("{as_nobody}", "refused", "nobody_at_all"),
}


def test_a_wrong_address(pg18: PostgresServer, tmp_path: Path) -> None:
    """The server starts, says what is wrong with each source, and others are mirrored."""
    with fresh_database(pg18) as database:
        database.execute("create table t (id int primary key)")
        wrong = {
            name.replace(" ", "_"): {
                "dsn": dsn.format(
                    server=f"postgresql://postgres@127.0.0.1:{pg18.port}",
                    as_nobody=database.dsn_as("nobody_at_all"),
                )
            }
            for name, (dsn, _, _) in WRONG.items()
        }
        right = {"dsn": database.dsn, "tables": ["public.*"], "slot": slot_name(database)}
        with Stack(tmp_path, {"shop": right, **wrong}) as stack, stack.client() as client:

            def reports() -> dict[str, dict[str, str]]:
                return {source["name"]: source for source in client.status()["sources"]}

            def settled() -> bool:
                found = reports()
                good = all(
                    found[name.replace(" ", "_")]["state"] == state
                    and words in found[name.replace(" ", "_")]["why"]
                    for name, (_, state, words) in WRONG.items()
                )
                return good and bool(found["shop"]["tables"])

            wait_until(settled, SETTLE_SECONDS, lambda: str(reports()))
            one = Mirrored(database, stack)
            one.settles("t")
            assert not client.ready()
            with pytest.raises(psycopg.OperationalError):
                stack.connect("no_such_database")


def test_a_dsn_that_is_none(tmp_path: Path) -> None:
    stack = Stack(tmp_path, {"shop": {"dsn": "postgresql://u:secret@:x:y/z"}})
    with pytest.raises(Exception, match=r"sources\.shop\.dsn: expected postgresql://") as failed:
        stack.start()
    assert "secret" not in str(failed.value)
    assert "Traceback" not in str(failed.value)


@pytest.mark.long
def test_a_server_that_logs_too_little(pg: PostgresServer, tmp_path: Path) -> None:
    """wal_level = replica: named, with the SQL that mends it; goes on by itself once mended."""
    with (
        PostgresServer(pg.version, settings={"wal_level": "replica"}) as server,
        fresh_database(server) as database,
    ):
        database.execute("create table t (id int primary key)")
        database.execute("insert into t values (1)")
        with mirrored(database, tmp_path) as one:
            why = one.source_becomes("refused", "wal_level")
            assert "logical" in why
            server.reload(wal_level="logical")
            server.restart()
            one.source_becomes("streaming")
            one.settles("t")


def test_a_role_with_too_few_rights(pg: PostgresServer, tmp_path: Path) -> None:
    """No REPLICATION: refused. One table that may not be read: named, and the others go on."""
    with fresh_database(pg) as database:
        role = f"{database.name}_role"
        database.execute(f"create role {role} login")
        try:
            database.execute(
                f"grant create on database {database.name} to {role};"
                "create table open_t (id int primary key); insert into open_t values (1);"
                f"alter table open_t owner to {role};"
                "create table closed_t (id int primary key); insert into closed_t values (1)"
            )
            with mirrored(database, tmp_path, dsn=database.dsn_as(role)) as one:
                why = one.source_becomes("refused")
                assert "replication" in why.lower()
                database.execute(f"alter role {role} replication")
                one.settles("open_t")
                assert one.state("closed_t") in {"problem", "set_aside"}
                assert "closed_t" in one.table("closed_t")["why"]
                one.run("insert into open_t values (2)", "insert into closed_t values (2)")
                one.equal("open_t")
                database.execute(f"alter table closed_t owner to {role}")
                one.settles("closed_t")
        finally:
            database.execute(f"reassign owned by {role} to postgres; drop owned by {role}")
            with suppress(psycopg.Error):
                database.execute(f"drop role {role}")


# -- the disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 96 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


@pytest.mark.parametrize("limit", ["1MB", "24MB"], ids=["full", "limit"])
def test_a_full_disk(pg18: PostgresServer, small_disk: Path, tmp_path: Path, limit: str) -> None:
    """Full to the last byte, or to limits.disk_free: said so, nothing lost, goes on with room."""
    configuration = {"data_dir": str(small_disk / "data"), "limits": {"disk_free": limit}}
    with fresh_database(pg18) as database:
        database.execute("create table t (id int primary key, v text)")
        with mirrored(database, tmp_path / "s", configuration=configuration) as one:
            one.settles("t")
            ballast = small_disk / "ballast"
            free = shutil.disk_usage(small_disk).free
            ballast.write_bytes(bytes(max(0, free - (6 << 20))))
            noise = "(select string_agg(md5((g * i)::text), '') from generate_series(1, 60) i)"
            for step in range(6):
                one.run(
                    f"insert into t select g, {noise} from "
                    f"generate_series({step * 2000 + 1}, {step * 2000 + 2000}) g"
                )
            why = one.source_becomes("unavailable")
            assert "disk" in why.lower() or "space" in why.lower(), why
            ballast.unlink()
            one.source_becomes("streaming")
            one.settles("t")
            assert one.copies("t") == 1
            assert not one.source()["why"], "what is over is not told any more"
            assert "follower failed" not in one.stack.log_path.read_text(), "a limit is no bug"
            one.run("update t set v = 'x' where id % 3 = 0", "delete from t where id % 5 = 0")
            one.equal("t")
