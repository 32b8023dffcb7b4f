"""A standby takes over from the primary, and the mirror goes on there from where it was."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest

from htapkit.testing.postgres import Database, PostgresServer
from htapkit.testing.stack import wait_until
from tests.fault_proxy import FaultProxy
from tests.fix_mirror import fresh_database, mirrored, slot_name

pytestmark = pytest.mark.integration


@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_failover(tmp_path: Path) -> None:
    """On 17 and later the slot is on the standby, too: the mirror goes on there."""
    settings = {"hot_standby": "on", "hot_standby_feedback": "on"}
    with PostgresServer(18, settings=settings) as primary, fresh_database(primary) as database:
        database.execute("create table t (id int primary key, v text)")
        with primary.connect() as connection:
            connection.execute("select pg_create_physical_replication_slot('standby')")
        standby = Standby(primary, database.name)
        primary.reload(synchronized_standby_slots="'standby'")
        proxy = FaultProxy(primary.port)
        with standby, proxy, mirrored(database, tmp_path, dsn=proxy.dsn(database.name)) as one:
            one.settles("t")
            one.run("insert into t select g, 'v' from generate_series(1, 1000) g")
            one.equal("t")
            standby.wait_for_slot(slot_name(database))
            one.stack.stop()
            one.run("update t set v = 'unread' where id <= 30", "delete from t where id > 990")
            standby.wait_for_replay(database)
            primary.stop("immediate")
            standby.promote()
            proxy.target = standby.port
            one.stack.start()
            one.source_becomes("streaming")
            with one.port() as port, standby.connect(database.name) as source:
                one.compare(port, source, "t")
                source.execute("insert into t values (5000, 'on the new primary')")
                one.compare(port, source, "t")
            assert one.copies("t") == 1
        primary.start()


class Standby:
    """A streaming copy of a server, which can take over."""

    def __init__(self, primary: PostgresServer, database: str) -> None:
        """Copy it and start."""
        self._server = PostgresServer(primary.version)
        self._server.settings = dict(primary.settings) | {
            "primary_conninfo": f"'host=127.0.0.1 port={primary.port} user=postgres "
            f"dbname={database}'",
            "primary_slot_name": "'standby'",
            "sync_replication_slots": "on",
        }
        self._server.start()  # a data directory, a port and a guard: its contents are replaced
        self._server.stop("immediate")
        data = self._server.data
        owner = data.stat()
        for item in data.iterdir():
            shutil.rmtree(item) if item.is_dir() else item.unlink()
        backup = [str(primary.tool("pg_basebackup")), "-D", str(data), "-h", "127.0.0.1"]
        options = ["-p", str(primary.port), "-U", "postgres", "-c", "fast", "-X", "stream"]
        subprocess.run([*backup, *options], check=True, capture_output=True, cwd="/")
        (data / "standby.signal").touch()
        for item in (data, *data.rglob("*")):
            os.chown(item, owner.st_uid, owner.st_gid)
        self._server.start()
        self.port = self._server.port

    def __enter__(self) -> Standby:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        """A connection to it."""
        return self._server.connect(database)

    def wait_for_slot(self, name: str) -> None:
        """Wait until the slot is here for good."""
        synced = "select synced and not temporary from pg_replication_slots where slot_name = %s"

        def there() -> bool:
            with self.connect("postgres") as connection:
                return connection.execute(synced, [name]).fetchall() == [(True,)]

        wait_until(there, 90, self._server.log)

    def wait_for_replay(self, database: Database) -> None:
        """Wait until all that was committed on the primary is here."""
        ((end,),) = database.execute("select pg_current_wal_insert_lsn()::text")
        reached = "select pg_last_wal_replay_lsn() >= %s::pg_lsn"

        def there() -> bool:
            with self.connect("postgres") as connection:
                return connection.execute(reached, [end]).fetchall() == [(True,)]

        wait_until(there, 60, self._server.log)

    def promote(self) -> None:
        """Make it the primary."""
        with self.connect("postgres") as connection:
            connection.execute("select pg_promote()")
