"""PostgreSQL's connector keeps the contract, on every server that is here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import psycopg
import pytest

from htapkit.model import TableId
from htapkit.spi import SourceOptions, load_source
from htapkit.testing.contract import Harness, SourceContract, Write
from htapkit.testing.merged import Rows
from htapkit.testing.postgres import Database
from htapkit.testing.stack import wait_until


class PostgresHarness:
    """Two tables in a fresh database."""

    def __init__(self, database: Database) -> None:
        """Make the tables."""
        self._connection = psycopg.connect(database.dsn, autocommit=True)
        for name in ("first", "second"):
            self._connection.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, v text)")
        options = SourceOptions(
            "shop",
            {"dsn": database.dsn, "tables": ["public.*"]},
            20,
            10**12,
            50_000,
            32 << 20,
            2,
            None,
        )
        self.source = load_source("postgres", options)

    def close(self) -> None:
        """Remove slot and publication."""
        self.source.detach()
        self._connection.close()

    def table(self, name: str) -> TableId:
        """In schema public."""
        return TableId("shop", "public", name)

    def transaction(self, writes: Sequence[Write]) -> None:
        """As SQL."""
        with self._connection.transaction():
            for write in writes:
                self._write(write)

    def _write(self, write: Write) -> None:
        execute = self._connection.execute
        if write.delete:
            execute(f"DELETE FROM {write.table} WHERE id = %s", (write.id,))
            return
        new_id = write.id if write.new_id is None else write.new_id
        changed = execute(
            f"UPDATE {write.table} SET id = %s, v = %s WHERE id = %s",
            (new_id, write.value, write.id),
        )
        if not changed.rowcount:
            execute(f"INSERT INTO {write.table} VALUES (%s, %s)", (new_id, write.value))

    def truncate(self, table: str) -> None:
        """As SQL."""
        self._connection.execute(f"TRUNCATE {table}")

    def rows(self, table: str) -> Rows:
        """As SQL."""
        return dict(self._connection.execute(f"SELECT id, v FROM {table}").fetchall())

    def lose_position(self) -> None:
        """Somebody drops our slot, once the server has seen the end of who read it."""
        slots = "FROM pg_replication_slots WHERE database = current_database()"

        def dropped() -> bool:
            self._connection.execute(
                f"SELECT pg_drop_replication_slot(slot_name) {slots} AND NOT active"
            )
            return not self._connection.execute(f"SELECT 1 {slots}").fetchall()

        wait_until(dropped, 60)


@pytest.mark.integration
class TestPostgresSource(SourceContract):
    """All of the contract."""

    @pytest.fixture
    def harness(self, database: Database) -> Iterator[Harness]:
        """A fresh database each time."""
        made = PostgresHarness(database)
        yield made
        made.close()
