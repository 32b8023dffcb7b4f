"""What the file holds, in memory. Never reads or writes it."""

from __future__ import annotations

from dataclasses import dataclass, field

from htapkit.hot.records import Record
from htapkit.hot.runs import Run
from htapkit.model import Import, TableId


@dataclass(slots=True)
class State:
    """What the file holds, in memory. Changed under the writer lock, after commits only."""

    records: dict[TableId, Record] = field(default_factory=dict)
    version: int = 0
    staged_bytes: dict[TableId, int] = field(default_factory=dict)
    next_seq: int = 1
    next_archived: int = 1
    sources: set[str] = field(default_factory=set)
    text_columns: dict[TableId, frozenset[str]] = field(default_factory=dict)
    churned: dict[TableId, int] = field(default_factory=dict)
    rows: dict[TableId, int] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    imports: dict[TableId, Import] = field(default_factory=dict)
    watched: dict[tuple[str, str], frozenset[TableId]] = field(default_factory=dict)
    """What becomes of which tables' rows is noted for a (source, reader)."""

    def forget(self, table: TableId) -> None:
        """The table is gone."""
        self.records.pop(table, None)
        self.staged_bytes.pop(table, None)
        self.text_columns.pop(table, None)
        self.churned.pop(table, None)
        self.rows.pop(table, None)

    def archive_numbers(self, count: int) -> int:
        """The first of so many numbers for archived rows. None is given twice."""
        first = self.next_archived
        self.next_archived += count
        return first
