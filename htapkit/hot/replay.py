"""Staged changes onto a table that was paused, or onto a copy that is being made beside it.

A copy holds the commits up to its position; one that is made range by range has a position for
each range. There, a change counts for the range that its key is in, if that range is in the copy
and its position does not cover the change. One for a range that is not in the copy is forgotten:
that range will be read at a later position. Which range a key is in, and what positions mean, the
source says. Never begins or commits.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from htapkit.hot.applier import evolve, put_rows
from htapkit.hot.archive import clear_rows
from htapkit.hot.cellwrites import put_cells
from htapkit.hot.collapse import NotConsistent
from htapkit.hot.horizon import young_changes
from htapkit.hot.names import name_list, relation, shadow, statement
from htapkit.hot.prepared import Prepared
from htapkit.hot.ranges import KeyRange, mark
from htapkit.hot.records import Record
from htapkit.hot.relations import Relation
from htapkit.hot.staging import Covers, Staged, only_rows, restored, unpacked
from htapkit.hot.transactions import Transaction
from htapkit.model import (
    CellChanges,
    Op,
    Position,
    RowChanges,
    SchemaChange,
    Split,
    TableSchema,
    Truncate,
)

Place = Callable[[Sequence[Split], pa.RecordBatch], pa.Array]
"""The index of the range that each key is in, see `spi.Ranged.place`."""

_Mask = npt.NDArray[np.bool_]
_Ints = npt.NDArray[np.int64]
_LOCAL_ROWS = 36_028_797_018_960_000  # DuckDB numbers rows that are not committed from here on


def replay(
    transaction: Transaction, record: Record, staged: Sequence[Staged], covers: Covers
) -> TableSchema:
    """Bring changes into a table, or into a copy at one position; the schema that it has then.

    Raises NotConsistent.
    """
    table, copy = record.table, record.copy
    schema = copy.schema if copy is not None else record.schema
    name = shadow(table, record.generation) if copy is not None else relation(table)
    position = copy.position if copy is not None else None
    pending: list[RowChanges] = []
    cells: list[CellChanges] = []
    for each in staged:
        change = restored(each, position, covers)
        if isinstance(change, CellChanges):
            cells.append(young_changes(schema, record.horizon, change))
            continue
        target = transaction.writer.relation(name, schema)
        if isinstance(change, RowChanges):
            pending.append(change)
        elif isinstance(change, Truncate):
            if copy is not None:
                target.clear()
            else:
                if record.keeps:
                    put_rows(transaction, target, pending)
                clear_rows(transaction, target, each.times[0] if each.times else None)
            pending = []
        elif isinstance(change, SchemaChange):
            put_rows(transaction, target, pending)
            pending = []
            if change.schema == schema:
                continue
            evolve(transaction, target, change.schema)
            schema = change.schema
    put_rows(transaction, transaction.writer.relation(name, schema), pending)
    if cells and copy is None:
        # What the cells are written to has the columns that came meanwhile, but for its record.
        followed = transaction.record(table)
        assert followed is not None
        transaction.put(followed.replayed(schema))
        put_cells(transaction, table, cells)
    elif cells:
        # The rows are made when the copy has all of them.
        transaction.writer.reconciled(schema, record.generation).add(cells)
    return schema


@dataclass(slots=True)
class RangedReplay:
    """Brings staged changes into a copy that is made range by range."""

    transaction: Transaction
    record: Record
    ranges: list[KeyRange]
    covers: Covers
    place: Place

    def run(self, staged: Sequence[Staged]) -> TableSchema:
        """Bring them in; the schema that the copy has then.

        A range that a change brought into doubt is taken out of the copy, to be read again. Raises
        NotConsistent.
        """
        copy = self.record.copy
        assert copy is not None
        schema = copy.schema
        pending: list[RowChanges] = []
        for each in staged:
            change = unpacked(each)
            if isinstance(change, RowChanges):
                pending = self._rows(schema, pending, change, each.commits)
            elif isinstance(change, SchemaChange):
                if change.schema == schema or self.covers(copy.position, each.commits[0]):
                    continue  # the copy was begun with a schema that is as new
                put_rows(self.transaction, self._relation(schema), pending)
                pending = []
                evolve(self.transaction, self._relation(schema), change.schema)
                schema = change.schema
            elif any(self._fresh(r, each.commits[0]) for r in self.ranges):
                pending = []
                self._relation(schema).clear()
                self._truncated(each.commits[0])
        put_rows(self.transaction, self._relation(schema), pending)
        return schema

    def _relation(self, schema: TableSchema) -> Relation:
        name = shadow(self.record.table, self.record.generation)
        return self.transaction.writer.relation(name, schema)

    def _rows(
        self,
        schema: TableSchema,
        pending: list[RowChanges],
        change: RowChanges,
        commits: Sequence[Position],
    ) -> list[RowChanges]:
        """`pending` with what of the change concerns the copy."""
        kept, doubtful = self._judge(schema, change, commits)
        while doubtful:
            put_rows(self.transaction, self._relation(schema), pending)
            pending = []
            self.take_out(schema, doubtful)
            kept, doubtful = self._judge(schema, change, commits)
        return [*pending, kept] if kept is not None else pending

    def _judge(
        self, schema: TableSchema, change: RowChanges, commits: Sequence[Position]
    ) -> tuple[RowChanges | None, frozenset[int]]:
        """What of a change concerns the copy, and the ranges for which it lacks a value."""
        since = self._since(commits)
        commit = change.commit.to_numpy(zero_copy_only=False)
        splits = [r.split for r in self.ranges]
        into = self._places(splits, change.rows.select(list(schema.key)))
        arrives = commit >= since[into]
        if change.moved is None or change.before is None:
            return only_rows(change, arrives), frozenset()
        ops = change.ops.to_numpy(zero_copy_only=False)
        moved = _bools(change.moved) & (ops == Op.UPDATE)
        old = change.before.select(list(schema.key)).filter(pa.array(moved))
        leaves = arrives.copy()
        leaves[moved] = commit[moved] >= since[self._places(splits, old)]
        only_new, only_old = moved & arrives & ~leaves, moved & leaves & ~arrives
        lacking = only_new & _any(change, len(ops))
        if lacking.any():
            # The old row, which has the value, was not in the copy any more.
            return None, frozenset(int(n) for n in into[lacking])
        ops = np.where(only_old, Op.DELETE, np.where(only_new, Op.INSERT, ops))
        changed = replace(
            change,
            ops=pa.array(ops, pa.int8()),
            rows=_with_keys(change.rows, change.before, schema.key, only_old),
            moved=pa.array(moved & arrives & leaves),
        )
        return only_rows(changed, arrives | leaves), frozenset()

    def _since(self, commits: Sequence[Position]) -> _Ints:
        """For each range, the index of the first of the commits that it does not hold."""
        found: dict[Position | None, int] = {None: len(commits)}
        for each in self.ranges:
            if each.position not in found:
                found[each.position] = bisect_left(commits, 1, key=partial(self._fresh, each))
        return np.array([found[r.position] for r in self.ranges], np.int64)

    def _fresh(self, each: KeyRange, commit: Position) -> bool:
        """Whether the range is in the copy, and the commit is not."""
        return each.position is not None and not self.covers(each.position, commit)

    def _places(self, splits: Sequence[Split], keys: pa.RecordBatch) -> _Ints:
        found = self.place(splits, keys)
        if found.null_count:
            raise NotConsistent("a change has no value in a column of the key")
        places: _Ints = found.to_numpy(zero_copy_only=False).astype(np.int64)
        return places

    def _truncated(self, commit: Position) -> None:
        """All rows are out of the copy: ranges read after the truncation are to be read again."""
        for each in self.ranges:
            if each.position is not None and self.covers(each.position, commit):
                self._mark_out(each.number)

    def take_out(self, schema: TableSchema, numbers: Collection[int]) -> None:
        """Delete the rows of ranges, in one pass. Raises NotConsistent where that cannot be."""
        if "rowid" in {column.name.lower() for column in schema.columns}:
            raise NotConsistent("an update did not resend a value, and the copy has no such row")
        rows = self._relation(schema)
        cursor = self.transaction.cursor
        splits = [r.split for r in self.ranges]
        text = statement("key_rows", columns=name_list(schema.key), table=rows.name)
        arrow = pa.schema([rows.arrow.field(name) for name in schema.key])
        found = []
        for batch in cursor.sql(text).to_arrow_reader():
            keys = pa.RecordBatch.from_arrays(batch.columns[1:], schema=arrow)
            inside = np.isin(self._places(splits, keys), list(numbers))
            found.append(batch.column(0).to_numpy(zero_copy_only=False)[inside])
        ids = np.concatenate(found) if found else np.empty(0, np.int64)
        slot = pa.schema([pa.field("row_id", pa.int64())])
        delete = Prepared(cursor, slot, "delete_row_ids", table=rows.name)
        # Never rows of the file and rows of this transaction in one statement, see `relations`.
        for part in (ids[ids < _LOCAL_ROWS], ids[ids >= _LOCAL_ROWS]):
            if len(part):
                delete.count(pa.table([pa.array(part, pa.int64())], schema=slot))
        delete.close()
        for number in numbers:
            self._mark_out(number)

    def _mark_out(self, number: int) -> None:
        self.ranges[number] = replace(self.ranges[number], position=None, rows=0, again=True)
        mark(self.transaction.cursor, self.record, number, None, 0)


def _bools(values: pa.Array) -> _Mask:
    return pc.fill_null(values, False).to_numpy(zero_copy_only=False)  # noqa: FBT003 - Arrow's own


def _any(change: RowChanges, count: int) -> _Mask:
    """Which rows lack the value of some column."""
    found = np.zeros(count, np.bool_)
    for mask in change.unchanged.values():
        found |= _bools(mask)
    return found


def _with_keys(
    rows: pa.RecordBatch, before: pa.RecordBatch, key: Sequence[str], where: _Mask
) -> pa.RecordBatch:
    """The rows, with the old key where `where` is true."""
    if not where.any():
        return rows
    columns = list(rows.columns)
    for name in key:
        index = rows.schema.get_field_index(name)
        columns[index] = pc.if_else(pa.array(where), before.column(name), columns[index])
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)
