"""A source's tables rebuilt from its change stream alone, to compare with it."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from htapkit.model import (
    Broken,
    Change,
    ChangeBatch,
    Op,
    Position,
    RowChanges,
    SchemaChange,
    TableId,
    TableSchema,
    Truncate,
)
from htapkit.spi import ChangeStream

Row = tuple[Any, ...]


class Replica:
    """Rows by table, as lists of values in the order of the schema's columns."""

    def __init__(self, schemas: list[TableSchema]) -> None:
        self.schemas = {schema.table: schema for schema in schemas}
        self.rows: dict[TableId, Counter[Row]] = {schema.table: Counter() for schema in schemas}
        self.broken: dict[TableId, Broken] = {}
        self.changed: list[SchemaChange] = []
        self.position: Position | None = None
        self.batches: list[ChangeBatch] = []
        self.marks: list[str] = []
        self._open: list[Change] = []

    def follow(self, stream: ChangeStream, until: Position, seconds: float = 60.0) -> None:
        """Apply batches until the position is reached."""
        end = time.monotonic() + seconds
        while self.position is None or self.position < until:
            assert time.monotonic() < end, f"reached {self.position}, not {until}"
            stream.nudge()
            self.take(stream.next(0.05))

    def take(self, batch: ChangeBatch | None) -> None:
        """Apply one batch; parts of a large transaction all at once with the last."""
        if batch is None:
            return
        self.batches.append(batch)
        self.marks += batch.marks
        self._open += batch.changes
        if not batch.complete:
            return
        assert self.position is None or batch.end >= self.position
        assert list(batch.commits) == sorted(batch.commits)
        for change in self._open:
            self._apply(change)
        self._open = []
        self.position = batch.end

    def table(self, name: str) -> list[Row]:
        """The rows of `public.name`, sorted."""
        table = next(table for table in self.rows if table.name == name)
        return sorted(self.rows[table].elements(), key=repr)

    def _apply(self, change: Change) -> None:
        if isinstance(change, Truncate):
            for table in change.tables:
                self.rows[table].clear()
        elif isinstance(change, Broken):
            self.broken[change.table] = change
        elif isinstance(change, SchemaChange):
            self._change_schema(change)
        else:
            assert isinstance(change, RowChanges)
            self._apply_rows(change)

    def _change_schema(self, change: SchemaChange) -> None:
        self.changed.append(change)
        table = change.schema.table
        if not change.faithful:
            self.broken[table] = Broken(table, change.why)
        old = [column.ordinal for column in self.schemas[table].columns]
        new = [column.ordinal for column in change.schema.columns]
        picks = [old.index(n) if n in old else None for n in new]
        moved: Counter[Row] = Counter()
        for row, count in self.rows[table].items():
            moved[tuple(None if p is None else row[p] for p in picks)] += count
        self.rows[table] = moved
        self.schemas[table] = change.schema

    def _apply_rows(self, changes: RowChanges) -> None:
        schema = self.schemas[changes.table]
        assert changes.rows.schema.names == [column.name for column in schema.columns]
        rows = self.rows[changes.table]
        given = changes.rows.to_pylist()
        before = changes.before.to_pylist() if changes.before is not None else [{}] * len(given)
        moved = changes.moved.to_pylist() if changes.moved is not None else [False] * len(given)
        unchanged = {name: mask.to_pylist() for name, mask in changes.unchanged.items()}
        for at, (op, row) in enumerate(zip(changes.ops.to_pylist(), given, strict=True)):
            kept: Row | None = None
            if op != Op.INSERT:
                old = before[at] if moved[at] else row
                kept = self._remove(rows, schema, old)
            if op != Op.DELETE:
                values = list(row.values())
                for column, name in enumerate(row):
                    if unchanged.get(name, [False] * len(given))[at]:
                        assert kept is not None, "an unchanged value of a row that is not there"
                        values[column] = kept[column]
                rows[tuple(values)] += 1

    def _remove(self, rows: Counter[Row], schema: TableSchema, old: dict[str, Any]) -> Row:
        names = [column.name for column in schema.columns]
        key = list(schema.key) or names
        at = [names.index(name) for name in key]
        wanted = tuple(old[name] for name in key)
        found = [row for row in rows if tuple(row[i] for i in at) == wanted]
        assert found, f"{schema.table}: no row {wanted} to change"
        rows[found[0]] -= 1
        if not rows[found[0]]:
            del rows[found[0]]
        return found[0]
