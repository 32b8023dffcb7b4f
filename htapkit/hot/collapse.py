"""What a table's changes amount to, key by key. Pure: no file, no clock.

Many changes of one row become at most one delete and one insert. The order of changes is what
decides, so a key that moved from row to row, or back, comes out right. Row values are only moved
around as Arrow columns; no value is looked at but keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from htapkit.model import Op, RowChanges, TableSchema

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class NotConsistent(Exception):
    """The changes contradict each other or the copy: the table must be copied again."""


@dataclass(frozen=True, slots=True)
class Net:
    """What to do to a table: take `gone` out, then put `rows` in.

    With a key, `gone` has the key columns; without one it has whole rows, each to be taken out
    once, and after `rows` are in. Where `sources` has a column, the value of row i is
    `rows[column][sources[i]]` if that is not negative, else the value that row `lookup[-1 -
    sources[i]]` (key columns) has in the table before anything is taken out.
    """

    gone: pa.Table | None
    rows: pa.Table
    picks: Ints | None = None  # which of `rows`, None: all of them
    lookup: pa.Table | None = None
    sources: dict[str, Ints] = field(default_factory=dict)

    def filled(self, found: pa.Table | None) -> pa.Table:
        """The rows to put in; `found` has the looked-up values, one row for each of `lookup`."""
        if self.picks is None:
            return self.rows
        picked = self.rows.take(pa.array(self.picks)) if len(self.picks) else self.rows.slice(0, 0)
        for name, source in self.sources.items():
            column = self.rows[name]
            if found is not None:
                looked_up = found[name].cast(column.type)
                column = pa.chunked_array(column.chunks + looked_up.chunks, type=column.type)
            at = np.where(source >= 0, source, self.rows.num_rows - 1 - source)
            index = picked.schema.get_field_index(name)
            picked = picked.set_column(index, picked.schema.field(index), column.take(pa.array(at)))
        return picked

    def less(self, old: Mask) -> Net:
        """The same without putting in those of `rows` for which `old` is true."""
        if self.picks is None:
            return replace(self, rows=self.rows.filter(pa.array(~old)))
        keep = ~old[self.picks]
        sources = {name: source[keep] for name, source in self.sources.items()}
        lookup, sources = _looked_up(self.lookup, sources)
        return replace(self, picks=self.picks[keep], lookup=lookup, sources=sources)


def collapse(schema: TableSchema, changes: Sequence[RowChanges]) -> Net:
    """The net effect of consecutive changes of one table."""
    rows = pa.Table.from_batches([c.rows for c in changes])
    ops = _ops(changes)
    if not ops.any():  # Op.INSERT is 0
        return Net(None, rows)
    if schema.whole_rows:
        return _whole_rows(changes, rows, ops)
    if not schema.key:
        raise NotConsistent("a table without a key got a change that is not an insert")
    return _by_key(schema, changes, rows, ops)


def departed(schema: TableSchema, changes: Sequence[RowChanges]) -> tuple[Net, Ints] | None:
    """The rows that deletions take out, as they were just before; and which changes those are.

    In order, and each of its own: a row that came and went, a key that is deleted several times.
    None: there is no deletion.
    """
    ops = _ops(changes)
    deletions = np.flatnonzero(ops == Op.DELETE)
    if not len(deletions) or not (schema.key or schema.whole_rows):
        return None
    rows = pa.Table.from_batches([c.rows for c in changes])
    if schema.whole_rows:
        return Net(None, rows, deletions), deletions
    moved = _moved(changes) & (ops == Op.UPDATE)
    touches = _touch(schema, changes, rows, moved)
    count = len(ops)
    place = touches.place[deletions]
    there = touches.starts[place]  # the table has it; else an earlier change does
    earlier = touches.sorted[place - 1]
    before = touches.change[earlier]
    # What was gone already cannot go again: `collapse` says what that means for the copy.
    known = there | ((earlier < count) & (ops[before] != Op.DELETE))
    deletions, there, before = deletions[known], there[known], before[known]
    origin = _origin(touches, moved)
    unchanged = _unchanged(changes)
    sources: dict[str, Ints] = {}
    for name in rows.schema.names:
        if name in schema.key:
            continue  # a deletion says it
        source = np.where(there, -1 - deletions, before)
        if name in unchanged:
            source[~there] = _resolve(touches, ops, origin, unchanged[name], before[~there])
        sources[name] = source
    lookup, sources = _looked_up(touches.keys, sources)
    return Net(None, rows, deletions, lookup if sources else None, sources), deletions


def _whole_rows(changes: Sequence[RowChanges], rows: pa.Table, ops: npt.NDArray[np.int8]) -> Net:
    moved = _moved(changes)
    # An update that sent no old row changed nothing.
    updates = (ops == Op.UPDATE) & moved
    gone = [rows.filter(pa.array(ops == Op.DELETE))]
    before = _before(changes, rows.schema)
    if before is not None:
        for name, mask in _unchanged(changes).items():
            index = rows.schema.get_field_index(name)
            filled = pc.if_else(pa.array(mask), before[name], rows[name])
            rows = rows.set_column(index, rows.schema.field(index), filled)
        gone.append(before.filter(pa.array(updates)))
    return Net(pa.concat_tables(gone), rows, np.flatnonzero((ops == Op.INSERT) | updates))


@dataclass(frozen=True, slots=True)
class _Touches:
    """Every moment at which a change touches a key, grouped by key and in order within a key.

    Touch i < n is the row of change i; a touch from n on is the old key of a change that moved.
    """

    keys: pa.Table
    change: Ints  # of each touch
    sorted: Ints  # touches, by key and order
    place: Ints  # of each touch in `sorted`
    starts: Mask  # over `sorted`: the first touch of its key


def _by_key(
    schema: TableSchema, changes: Sequence[RowChanges], rows: pa.Table, ops: npt.NDArray[np.int8]
) -> Net:
    moved = _moved(changes) & (ops == Op.UPDATE)
    touches = _touch(schema, changes, rows, moved)
    count = len(ops)
    firsts = touches.sorted[touches.starts]
    lasts = touches.sorted[np.append(touches.starts[1:], True)]
    first_change = touches.change[firsts]
    # A key that an insert or a move brings in was free before: nothing to take out.
    brought = (firsts < count) & ((ops[first_change] == Op.INSERT) | moved[first_change])
    gone = touches.keys.take(pa.array(firsts[~brought]))
    puts = np.sort(lasts[(lasts < count) & (ops[touches.change[lasts]] != Op.DELETE)])
    unchanged = _unchanged(changes)
    if not any(mask[puts].any() for mask in unchanged.values()):
        return Net(gone, rows, puts)
    origin = _origin(touches, moved)
    sources: dict[str, Ints] = {}
    for name, mask in unchanged.items():
        if mask[puts].any():
            sources[name] = _resolve(touches, ops, origin, mask, puts)
    lookup, sources = _looked_up(touches.keys, sources)
    return Net(gone, rows, puts, lookup, sources)


def _origin(touches: _Touches, moved: Mask) -> Ints:
    """The touch of each change that has the row before it: of the old key, where it moved."""
    count = len(moved)
    old = np.full(count, -1, np.int64)
    old[touches.change[count:]] = np.arange(count, len(touches.change))
    return np.where(moved, old, np.arange(count))


def _looked_up(
    keys: pa.Table | None, sources: dict[str, Ints]
) -> tuple[pa.Table | None, dict[str, Ints]]:
    """Those of `keys` that the sources look up, and the sources numbered accordingly."""
    if keys is None or not sources:
        return keys, sources
    lookups = np.unique(np.concatenate([-1 - s[s < 0] for s in sources.values()]))
    numbered = {
        name: np.where(source < 0, -1 - np.searchsorted(lookups, -1 - source), source)
        for name, source in sources.items()
    }
    return keys.take(pa.array(lookups)), numbered


def _resolve(
    touches: _Touches, ops: npt.NDArray[np.int8], origin: Ints, mask: Mask, puts: Ints
) -> Ints:
    """For each put, the change that has the column's value, or -1 - the touch whose key has it."""
    found = puts.copy()
    active = np.flatnonzero(mask[puts])
    while len(active):
        touch = origin[found[active]]
        place = touches.place[touch]
        first = touches.starts[place]
        found[active[first]] = -1 - touch[first]
        active, place = active[~first], place[~first]
        earlier = touches.sorted[place - 1]
        source = touches.change[earlier]
        if (earlier >= len(ops)).any() or (ops[source] == Op.DELETE).any():
            raise NotConsistent("an update without all values follows the deletion of its row")
        found[active] = source
        active = active[mask[source]]
    return found


def _touch(
    schema: TableSchema, changes: Sequence[RowChanges], rows: pa.Table, moved: Mask
) -> _Touches:
    names = list(schema.key)
    count = rows.num_rows
    change = np.arange(count)
    order = 2 * change + 1
    keys = rows.select(names)
    old = np.flatnonzero(moved)
    if len(old):
        before = _before(changes, keys.schema)
        assert before is not None
        keys = pa.concat_tables([keys, before.take(pa.array(old))])
        change = np.concatenate([change, old])
        order = np.concatenate([order, 2 * old])
    groups = _groups(keys)
    by_key = np.lexsort((order, groups))
    place = np.empty(len(by_key), np.int64)
    place[by_key] = np.arange(len(by_key))
    starts = np.ones(len(by_key), np.bool_)
    starts[1:] = np.diff(groups[by_key]) != 0
    return _Touches(keys, change, by_key, place, starts)


def _groups(keys: pa.Table) -> Ints:
    """The same number for the same key."""
    groups = np.zeros(keys.num_rows, np.int64)
    for column in keys.columns:
        if column.null_count:
            raise NotConsistent("a change has no value in a column of the key")
        whole = column.combine_chunks()
        if pa.types.is_integer(whole.type):
            codes = whole.to_numpy(zero_copy_only=False)
        else:
            codes = whole.dictionary_encode().indices.to_numpy(zero_copy_only=False)
        if keys.num_columns == 1:
            return codes.astype(np.int64, copy=False)
        _, codes = np.unique(codes, return_inverse=True)
        _, groups = np.unique(groups * (int(codes.max()) + 1) + codes, return_inverse=True)
    return groups


def _moved(changes: Sequence[RowChanges]) -> Mask:
    parts = [
        _bools(c.moved)
        if c.moved is not None and c.before is not None
        else np.zeros(len(c.ops), bool)
        for c in changes
    ]
    return np.concatenate(parts)


def _before(changes: Sequence[RowChanges], schema: pa.Schema) -> pa.Table | None:
    """The old rows of all changes in these columns, NULL where there are none."""
    if all(c.before is None for c in changes):
        return None
    parts = [
        c.before.select(schema.names) if c.before is not None else _nulls(schema, len(c.ops))
        for c in changes
    ]
    return pa.concat_tables([pa.Table.from_batches([p]).cast(schema) for p in parts])


def _nulls(schema: pa.Schema, count: int) -> pa.RecordBatch:
    return pa.record_batch([pa.nulls(count, f.type) for f in schema], schema=schema)


def _unchanged(changes: Sequence[RowChanges]) -> dict[str, Mask]:
    names = sorted({name for c in changes for name in c.unchanged})
    return {
        name: np.concatenate(
            [
                _bools(c.unchanged[name]) if name in c.unchanged else np.zeros(len(c.ops), np.bool_)
                for c in changes
            ]
        )
        for name in names
    }


def _bools(values: pa.Array) -> Mask:
    return pc.fill_null(values, False).to_numpy(zero_copy_only=False)  # noqa: FBT003 - Arrow's own


def _ops(changes: Sequence[RowChanges]) -> npt.NDArray[np.int8]:
    return np.concatenate([c.ops.to_numpy(zero_copy_only=False) for c in changes])
