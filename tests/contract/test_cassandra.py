"""Cassandra's connector keeps the contract, over a real node."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from htapkit.model import TableId
from htapkit.testing.contract import Harness, Write
from htapkit.testing.merged import Rows
from htapkit.testing.resumed import ResumableContract
from htapkit_cassandra.segments import forget
from tests.fix_cassandra import SECONDS, Keyspace

FILLER = "x" * (1 << 18)  # four are a segment of the node's log


class CassandraHarness:
    """Two tables in a keyspace of their own."""

    def __init__(self, keyspace: Keyspace) -> None:
        """Make the tables, and one that nobody follows."""
        self._keyspace = keyspace
        for name in ("first", "second", "filler"):
            self._execute(f"CREATE TABLE {{}}.{name} (id int PRIMARY KEY, v text) WITH cdc = true")
        self.source = keyspace.source(delete_cdc_raw=True)
        keyspace.log_end()  # what the node logged of tables that are gone lies before any stream

    def _execute(self, statement: str, *values: object) -> None:
        self._keyspace.session.execute(statement.format(self._keyspace.name), values)

    def table(self, name: str) -> TableId:
        """In the keyspace."""
        return TableId("events", self._keyspace.name, name)

    def transaction(self, writes: Sequence[Write]) -> None:
        """As CQL, one statement after the other."""
        for write in writes:
            if write.delete or write.new_id is not None:
                self._execute(f"DELETE FROM {{}}.{write.table} WHERE id = %s", write.id)
            if not write.delete:
                new_id = write.id if write.new_id is None else write.new_id
                insert = f"INSERT INTO {{}}.{write.table} (id, v) VALUES (%s, %s)"
                self._execute(insert, new_id, write.value)

    def truncate(self, table: str) -> None:
        """As CQL."""
        self._execute(f"TRUNCATE {{}}.{table}")

    def rows(self, table: str) -> Rows:
        """As CQL."""
        found = self._keyspace.session.execute(f"SELECT id, v FROM {self._keyspace.name}.{table}")
        return {row.id: row.v for row in found}

    def lose_position(self) -> None:
        """Somebody deletes all segments of the log but the newest, once that is another one."""
        begun = self._keyspace.log_end()
        while (end := self._keyspace.log_end()).segment == begun.segment:
            self._execute("INSERT INTO {}.filler (id, v) VALUES (1, %s)", FILLER)
        forget(self._keyspace.node.cdc_raw, end)


@pytest.mark.cassandra
class TestCassandraSource(ResumableContract):
    """All of the contract that is not of transactions."""

    marks = False
    seconds = SECONDS

    @pytest.fixture
    def harness(self, keyspace: Keyspace) -> Harness:
        """A fresh keyspace each time."""
        return CassandraHarness(keyspace)
