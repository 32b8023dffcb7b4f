"""The simplest copy there is: a dict for each table, moved by batches one change after the other.

The contract compares a source with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from htapkit.model import ChangeBatch, Op, Position, RowChanges, TableId, TableSchema, Truncate

Rows = dict[int, str | None]
Covered = Callable[[Position, int], bool]
"""Whether the copy holds what a commit did to the row with that id."""


class Follower:
    """The dumbest correct reader of a stream: applies batches to dicts, one change at a time."""

    def __init__(self, schemas: Sequence[TableSchema]) -> None:
        """Empty tables."""
        self.rows: dict[TableId, Rows] = {schema.table: {} for schema in schemas}
        self.position: Position | None = None
        self.marks: set[str] = set()
        self.totals: list[dict[TableId, int]] = []

    def apply(self, batch: ChangeBatch, covered: Covered) -> None:
        """Apply what is not `covered` by the copy."""
        for change in batch.changes:
            if isinstance(change, Truncate):
                commit = batch.commits[change.commit]
                for table in change.tables:
                    for key in [k for k in self.rows.get(table, {}) if not covered(commit, k)]:
                        del self.rows[table][key]
            elif isinstance(change, RowChanges):
                self._rows(batch, change, covered)
        if batch.complete:
            self.position = batch.end
            self.totals.append({table: len(rows) for table, rows in self.rows.items()})
        self.marks |= set(batch.marks)

    def _rows(self, batch: ChangeBatch, change: RowChanges, covered: Covered) -> None:
        rows = self.rows[change.table]
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
