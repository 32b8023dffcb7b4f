"""The source in memory keeps the contract, too.

So the suite itself is known to pass for a right source.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from htapkit.model import Column, Op, SqlType, TableId, TableSchema
from htapkit.testing.contract import Harness, SourceContract, Write
from htapkit.testing.memory import MemorySource, RowEvent, Server, TruncateEvent
from htapkit.testing.merged import Rows


class MemoryHarness:
    """Two tables in a Server."""

    def __init__(self) -> None:
        """Empty tables."""
        columns = (Column("id", SqlType("int4", 23), 1), Column("v", SqlType("text", 25), 2))
        schemas = {
            t: TableSchema(t, columns, ("id",)) for t in (self.table("first"), self.table("second"))
        }
        self.server = Server("mem", schemas)
        self.source = MemorySource(self.server)

    def table(self, name: str) -> TableId:
        """In schema public."""
        return TableId("mem", "public", name)

    def transaction(self, writes: Sequence[Write]) -> None:
        """As events."""
        events = []
        rows = {name: dict(self.server.rows[self.table(name)]) for name in ("first", "second")}
        for write in writes:
            known = rows[write.table]
            row = (write.id if write.new_id is None else write.new_id, write.value)
            op = Op.UPDATE if (write.id,) in known else Op.INSERT
            before = (write.id,) if write.new_id is not None else None
            if write.delete:
                op, row = Op.DELETE, (write.id, None)
                known.pop((write.id,))
            else:
                known[(row[0],)] = row
            events.append(RowEvent(self.table(write.table), op, row, before))
        self.server.commit(*events)

    def truncate(self, table: str) -> None:
        """As an event."""
        self.server.commit(TruncateEvent(self.table(table)))

    def rows(self, table: str) -> Rows:
        """From the server's dict."""
        return {key[0]: row[1] for key, row in self.server.rows[self.table(table)].items()}  # type: ignore[misc]

    def lose_position(self) -> None:
        """Forget everything."""
        self.transaction([Write("first", 99, "gone")])
        self.source.lost_before = len(self.server.log)


class TestMemorySource(SourceContract):
    """All of the contract."""

    @pytest.fixture
    def harness(self) -> Harness:
        """A fresh one."""
        return MemoryHarness()
