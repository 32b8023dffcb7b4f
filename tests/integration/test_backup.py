"""Backup while a load runs, the server lost, restored: equal to the source at the end.

With a slot that was kept the restored copy follows on from the backup's position, without it the
tables are copied again. Either way nobody ever reads half of a transaction.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from htapkit.client import ServerUnreachable
from htapkit.testing import bank
from htapkit.testing.guard import child_environment
from htapkit.testing.postgres import Database
from htapkit.testing.stack import Stack, wait_until
from tests.fix_kills import Reader, position
from tests.fix_mirror import JOB_SECONDS, last_route, printed

pytestmark = pytest.mark.integration

TABLES = ("checking", "savings", "ledger")
OLDER = (
    "ALTER TABLE {0} ADD opened timestamptz NOT NULL DEFAULT '2026-01-01 00:00+00'",
    "UPDATE {0} SET opened = opened + id * interval '1 hour'",
)
KEEP = "SELECT pg_copy_logical_replication_slot(%s, %s)"
FIRST = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Shop:
    """A bank under load, and a server whose tables lie in hot and lake."""

    database: Database
    folder: Path
    stack: Stack
    load: subprocess.Popen[bytes]

    @property
    def slot(self) -> str:
        return f"htapkit_{self.database.name}"

    def server(self, name: str, slot: str) -> Stack:
        """A server of this shop in a folder of its own."""
        source = {"dsn": self.database.dsn, "tables": ["public.*"], "slot": slot}
        # Two servers never run at once, so that the publications may be the same.
        source["publication"] = self.slot
        configuration = {
            "tables": {f"shop.public.{table}": {"partition": "day"} for table in TABLES},
            "lake": {"interval": "1 hour"},
        }
        return Stack(
            self.folder / name, {"shop": source}, configuration=configuration, preloaded=True
        )

    def tier(self, stack: Stack, hours: int) -> None:
        """Move what is older than so many hours after the first row."""
        age = datetime.now(UTC) - FIRST
        older_than = f"{age.total_seconds() - hours * 3600:.0f} s"
        with stack.client() as client:
            job = client.tier([f"shop.public.{table}" for table in TABLES], older_than)
            client.wait(job["id"], timeout_seconds=JOB_SECONDS)

    def transactions(self, more: int) -> None:
        """Wait until the load has made some more."""
        count = "SELECT last_value FROM ledger_id_seq"
        with self.database.connect() as source:

            def now() -> int:
                row = source.execute(count).fetchone()
                assert row is not None
                return int(row[0])

            wanted = now() + more
            wait_until(lambda: now() >= wanted, 60, lambda: "the load stands still")

    def wait_confirmed(self) -> None:
        """Wait until the server has told the source that all there is now may be forgotten."""
        sql = (
            "SELECT confirmed_flush_lsn > %s::pg_lsn FROM pg_replication_slots WHERE slot_name = %s"
        )
        now = self.database.execute("SELECT pg_current_wal_lsn()")[0][0]
        wait_until(
            lambda: self.database.execute(sql, [now, self.slot]) == [(True,)],
            60,
            lambda: f"the slot does not pass {now}: {self.stack.log_end()}",
        )

    def equal(self, stack: Stack, route: str) -> None:
        """The load has ended: every row is the same, and it was the copy that spoke."""
        with self.database.connect() as source, stack.connect() as port:
            port.execute("SET htapkit.freshness = 'strong'")
            for table in TABLES:
                sql = f"SELECT * FROM {table} ORDER BY id"

                def local(text: str = sql) -> bool:
                    printed(port, text)
                    return last_route(port) == route

                wait_until(local, 60, stack.log_end)
                assert printed(port, sql) == printed(source, sql), table
                assert last_route(port) == route


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Shop]:
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        bank.create(connection)
        for table in ("checking", "savings"):
            for statement in OLDER:
                connection.execute(statement.format(table))
        connection.execute(
            f"ALTER TABLE ledger ALTER at SET DEFAULT timestamptz '{FIRST:%Y-%m-%d}' "
            f"+ random() * interval '{bank.ACCOUNTS} hours'"
        )
    load = bank.start(database.dsn, seed=1)
    made = Shop(database, tmp_path, Stack(tmp_path / "unused", {}), load)
    made.stack = made.server("first", made.slot)
    try:
        made.stack.start()
        made.stack.wait_ready()
        yield made
    finally:
        load.kill()
        load.wait()
        made.stack.stop()


def htapkit(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "htapkit", *arguments, "--config", str(stack.config_path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def back_up(stack: Stack, folder: Path) -> str:
    """Through the API, as the command does; the position of the backup."""
    with stack.client() as client:
        result = client.wait(client.backup(str(folder))["id"], timeout_seconds=JOB_SECONDS)
    return str(result["positions"]["shop"])


def test_a_lost_server_goes_on_from_a_backup(shop: Shop) -> None:
    """From the very position, with a slot that was kept; first refused in the wrong folder."""
    shop.tier(shop.stack, 200)
    kept = f"{shop.slot}_kept"
    with shop.database.connect() as source:
        source.execute(KEEP, [shop.slot, kept])
    backup = shop.folder / "backup"
    at = back_up(shop.stack, backup)
    assert json.loads((backup / "manifest.json").read_text())["positions"] == {"shop": at}
    shop.transactions(50)
    shop.tier(shop.stack, 300)
    shop.transactions(50)
    shop.stack.kill()
    shutil.rmtree(shop.stack.folder / "data")
    restored = shop.server("second", kept)
    made = htapkit(restored, "restore", str(backup), "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["positions"] == {"shop": at}
    again = htapkit(restored, "restore", str(backup))
    assert (again.returncode, "is not empty" in again.stderr) == (2, True)
    reader = Reader(restored)
    with restored:
        reader.start()
        try:
            wait_until(lambda: position(restored, "") > at, 60, restored.log_end)
            restored.wait_ready()
            shop.transactions(20)
            shop.tier(restored, 400)
            shop.load.terminate()
            shop.load.wait()
            shop.equal(restored, "union")
            assert 'event="position lost"' not in restored.log_path.read_text()
            assert 'event="table follows"' not in restored.log_path.read_text(), "copied again"
            with restored.client() as client:
                assert client.verify([])["equal"]
            reader.wait_for("union")
        finally:
            reader.end()
    assert not reader.wrong, reader.wrong[:5]


def test_without_the_log_the_tables_are_copied_again(shop: Shop) -> None:
    """The slot went on after the backup: nothing is taken for exact that is not."""
    shop.tier(shop.stack, 200)
    backup = shop.folder / "backup"
    back_up(shop.stack, backup)
    shop.wait_confirmed()
    shop.stack.kill()
    restored = shop.server("second", shop.slot)
    made = htapkit(restored, "restore", str(backup))
    assert made.returncode == 0, made.stderr
    with restored:
        shop.load.terminate()
        shop.load.wait()
        shop.equal(restored, "hot")
        assert 'event="position lost"' in restored.log_path.read_text()
        shop.tier(restored, 500)
        shop.equal(restored, "union")


@pytest.mark.parametrize("pg", [18], indirect=True)
def test_kills_in_the_middle(shop: Shop) -> None:
    """A backup by a server that dies of it, then a restore that dies, then a damaged file."""
    shop.tier(shop.stack, 200)
    backup = shop.folder / "backup"
    shop.stack.stop()
    shop.stack.start({"HTAPKIT_FAILPOINT": "backup.lake:2"})
    with shop.stack.client() as client, suppress(ServerUnreachable):  # it dies of it
        client.backup(str(backup))
    assert shop.stack.wait_ended(60) == -signal.SIGKILL
    assert not backup.exists()
    shop.stack.start()
    shop.stack.wait_ready()
    back_up(shop.stack, backup)
    shop.stack.stop()
    shop.load.terminate()
    shop.load.wait()
    restored = shop.server("second", shop.slot)
    command = [sys.executable, "-m", "htapkit", "restore", str(backup)]
    died = subprocess.run(
        [*command, "--config", str(restored.config_path)],
        env={**child_environment(), "HTAPKIT_FAILPOINT": "restore.lake:2"},
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    refused = htapkit(restored, "serve")
    assert (refused.returncode, "has not ended" in refused.stderr) == (2, True)
    assert htapkit(restored, "restore", str(backup)).returncode == 0
    with restored:
        restored.wait_ready()
        with restored.connect() as port, shop.database.connect() as source:
            port.execute("SET htapkit.freshness = 'strong'")
            for table in TABLES:
                sql = f"SELECT * FROM {table} ORDER BY id"
                assert printed(port, sql) == printed(source, sql)
    (data,) = list((backup / "lake" / "0").rglob("*.parquet"))[:1]
    data.write_bytes(data.read_bytes()[:-1])
    third = shop.server("third", shop.slot)
    damaged = htapkit(third, "restore", str(backup))
    assert (damaged.returncode, data.name in damaged.stderr) == (2, True), damaged.stderr
    assert not (third.folder / "data").exists()
