"""The simplest copy there is: dicts, moved by batches one change after the other.

The contract compares a source with it. Its tables are those of the contract: (id int4 key, v text).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from htapkit.model import (
    Broken,
    CellChanges,
    ChangeBatch,
    Op,
    Position,
    RowChanges,
    TableId,
    TableSchema,
    Truncate,
)
from htapkit.testing.merged import MergedTable, Rows

Covered = Callable[[Position, int], bool]
"""Whether the copy holds what a commit did to the row with that id."""


class Follower:
    """The dumbest correct reader of a stream: rows are changed in order, cells are merged."""

    def __init__(self, schemas: Sequence[TableSchema]) -> None:
        """Empty tables."""
        self._tables = {s.table: RowTable(s) for s in schemas if not s.reconciled}
        self._merged = {s.table: MergedTable(s) for s in schemas if s.reconciled}
        self.position: Position | None = None
        self.marks: set[str] = set()
        self.totals: list[dict[TableId, int]] = []  # rows of the tables with transactions

    def rows(self, table: TableId) -> Rows:
        """What a table holds by now."""
        return self._merged[table].rows() if table in self._merged else self._tables[table].rows

    def load(self, table: TableId, batch: pa.RecordBatch) -> None:
        """Take what a snapshot gives of a table."""
        (self._merged if table in self._merged else self._tables)[table].load(batch)

    def apply(self, batch: ChangeBatch, covered: Covered) -> None:
        """Apply what is not `covered` by the copy; cells are merged, whatever it covers."""
        for change in batch.changes:
            if isinstance(change, Truncate):
                for table in change.tables:
                    if table in self._tables:
                        self._tables[table].truncate(batch.commits[change.commit], covered)
            elif isinstance(change, RowChanges):
                self._tables[change.table].change(batch, change, covered)
            elif isinstance(change, CellChanges):
                self._merged[change.table].load(change.cells)
                self._merged[change.table].load(change.deletions)
            else:
                assert not isinstance(change, Broken), f"{change.table}: {change.why}"
        if batch.complete:
            self.position = batch.end
            self.totals.append({table: len(each.rows) for table, each in self._tables.items()})
        self.marks |= set(batch.marks)


class RowTable:
    """A table with transactions."""

    def __init__(self, schema: TableSchema) -> None:
        """Empty."""
        self._arrow = schema.arrow
        self.rows: Rows = {}

    def load(self, batch: pa.RecordBatch) -> None:
        """Take rows of a snapshot, each once."""
        assert batch.schema == self._arrow
        for row in batch.to_pylist():
            assert row["id"] not in self.rows, "a row twice"
            self.rows[row["id"]] = row["v"]

    def truncate(self, commit: Position, covered: Covered) -> None:
        """Empty it, but for what the copy has of later."""
        for key in [key for key in self.rows if not covered(commit, key)]:
            del self.rows[key]

    def change(self, batch: ChangeBatch, change: RowChanges, covered: Covered) -> None:
        """Apply changes, one after the other."""
        rows = self.rows
        before = change.before.to_pylist() if change.before is not None else None
        moved = change.moved.to_pylist() if change.moved is not None else None
        commits = change.commit.to_pylist()
        for i, (op, row) in enumerate(
            zip(change.ops.to_pylist(), change.rows.to_pylist(), strict=True)
        ):
            commit = batch.commits[commits[i]]
            if before is not None and moved is not None and moved[i]:
                old = before[i]["id"]
                if not covered(commit, old):
                    del rows[old]
            if covered(commit, row["id"]):
                continue
            if op == Op.DELETE:
                del rows[row["id"]]
                continue
            unresent = "v" in change.unchanged and change.unchanged["v"][i].as_py()
            rows[row["id"]] = rows[row["id"]] if unresent else row["v"]


def covers_nothing(_: Position, __: int) -> bool:
    """A copy that holds nothing yet."""
    return False
