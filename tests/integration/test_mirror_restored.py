"""A server whose files are put back as they were some time ago: same address, same identifier.

What it had after that moment is in the copy and no longer at the source. Nothing of that may be
read as if it were the source's, and nothing may be waited for in silence.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest

from htapkit.testing.installation import installations
from htapkit.testing.postgres import Database, PostgresServer
from htapkit.testing.stack import wait_until
from tests.fix_mirror import Mirrored, fresh_database, mirrored

pytestmark = [pytest.mark.integration, pytest.mark.long]


@pytest.mark.parametrize("version", [16, 18])
@pytest.mark.parametrize("running", [True, False])
def test_files_of_an_older_moment(version: int, running: bool, tmp_path: Path) -> None:
    """Started as they are: the log ends before our position."""
    with followed(version, tmp_path) as (server, _, mirror):
        put_back(server, tmp_path / "older", partial(lose, mirror, running))
        if not running:
            mirror.stack.start()
        refused(mirror, "restored from a backup")
        detached(mirror)


@pytest.mark.parametrize("version", [16, 18])
@pytest.mark.parametrize("running", [True, False])
def test_a_server_that_has_written_past_our_position(
    version: int, running: bool, tmp_path: Path
) -> None:
    """Recovered, it is on a timeline of its own: what was copied after the fork is not its."""
    with followed(version, tmp_path) as (server, database, mirror):
        put_back(server, tmp_path / "older", partial(lose, mirror, running), recovered=True)
        insert = "insert into t select g, 'other' from generate_series(1001, 4000) g"
        wait_until(lambda: written(database, insert), 60, server.log)
        if not running:
            mirror.stack.start()
        refused(mirror, "history is another one")
        detached(mirror)
        # A recovery that lost nothing of what is copied: it goes on, and copies nothing again.
        copies = mirror.copies("t")
        mirror.stack.stop()
        put_back(server, tmp_path / "same", lambda: None, recovered=True)
        wait_until(lambda: written(database, "insert into t values (-1, 'on')"), 60, server.log)
        mirror.stack.start()
        mirror.source_becomes("streaming")
        mirror.settles("t")
        assert mirror.copies("t") == copies


@contextmanager
def followed(version: int, folder: Path) -> Iterator[tuple[PostgresServer, Database, Mirrored]]:
    """A server of its own with a table that is followed."""
    if version not in installations():
        pytest.skip(f"PostgreSQL {version} is not installed")
    with PostgresServer(version) as server, fresh_database(server) as database:
        database.execute("create table t (id int primary key, v text)")
        database.execute("insert into t select g, 'v' from generate_series(1, 100) g")
        with mirrored(database, folder / "ours") as mirror:
            mirror.settles("t")
            yield server, database, mirror


def lose(mirror: Mirrored, running: bool) -> None:
    """What the files of before do not have, and the copy has."""
    mirror.run("insert into t select g, 'lost' from generate_series(101, 200) g")
    mirror.settles("t")
    if not running:
        mirror.stack.stop()


def put_back(
    server: PostgresServer,
    folder: Path,
    meanwhile: Callable[[], None],
    *,
    recovered: bool = False,
) -> None:
    """The files as they were before `meanwhile`; `recovered`: on a timeline of their own."""
    server.stop()
    copied(server.data, folder)
    server.start()
    meanwhile()
    server.stop()
    shutil.rmtree(server.data)
    copied(folder, server.data)
    if recovered:
        (server.data / "recovery.signal").touch()
        with (server.data / "postgresql.auto.conf").open("a") as settings:
            settings.write("restore_command = 'false'\n")
    server.start()


def written(database: Database, statement: str) -> bool:
    """Whether it could be: not while the server recovers."""
    try:
        database.execute(statement)
    except psycopg.Error:
        return False
    return True


def copied(data: Path, to: Path) -> None:
    """Files with their owners."""
    subprocess.run(["cp", "-a", str(data), str(to)], check=True)


def refused(mirror: Mirrored, words: str) -> None:
    """It says so in words; a strong read neither takes the copy for fresh nor waits in vain."""
    why = mirror.source_becomes("refused", words)
    assert "htapkit detach shop" in why
    mirror.same_answer("select count(*) from t", "source")
    restored = pytest.raises(psycopg.Error, match=words)
    with mirror.port("hot", "strong") as port, restored:
        port.execute("select count(*) from t")


def detached(mirror: Mirrored) -> None:
    """Followed again only after somebody said so, and then it is the server as it is now."""
    with mirror.stack.client() as client:
        client.detach("shop")
    mirror.stack.stop()
    mirror.stack.start()
    mirror.run("insert into t values (0, 'after')")
    mirror.settles("t")
