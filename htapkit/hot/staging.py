"""Changes kept aside, as rows of `htapkit.staged`: what is written there and how it comes back.

A staged change is replayed through the same code as one from the stream. It carries the positions
of its own commits, so that those which a copy already holds can be left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from htapkit.hot.definitions import from_json, to_json
from htapkit.model import (
    CellChanges,
    Change,
    ChangeBatch,
    Position,
    RowChanges,
    SchemaChange,
    TableId,
    Truncate,
)

Covers = Callable[[Position, Position], bool]

SCHEMA = pa.schema(
    [
        pa.field("seq", pa.int64()),
        pa.field("source", pa.string()),
        pa.field("schema_name", pa.string()),
        pa.field("table_name", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("commits", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("payload", pa.binary()),
    ]
)

_OPS, _COMMIT, _MOVED = "ops", "commit", "moved"
_ROW, _BEFORE, _UNCHANGED = "row.", "before.", "unchanged."


@dataclass(frozen=True, slots=True)
class Staged:
    """One change of one table, as it is kept aside."""

    table: TableId
    kind: str
    commits: tuple[Position, ...]
    payload: bytes | None
    times: tuple[int, ...] = ()  # of the commits, as in ChangeBatch; () = not known


def stage(change: RowChanges, batch: ChangeBatch) -> Staged:
    """Rows, with those of the batch's commits that they belong to."""
    used = np.unique(change.commit.to_numpy(zero_copy_only=False))
    own = pa.array(np.searchsorted(used, change.commit.to_numpy(zero_copy_only=False)), pa.int32())
    kept = tuple(batch.commits[i] for i in used)
    times = tuple(batch.times[i] for i in used) if batch.times else ()
    return replace(stage_rows(replace(change, commit=own)), commits=kept, times=times)


def stage_rows(change: RowChanges) -> Staged:
    """Rows, without a word of their commits."""
    return Staged(change.table, "rows", (), _to_ipc(change))


def stage_truncate(table: TableId, change: Truncate, batch: ChangeBatch) -> Staged:
    """A truncate."""
    time = batch.time(change.commit)
    times = () if time is None else (time,)
    return Staged(table, "truncate", (batch.commits[change.commit],), None, times)


def stage_schema(change: SchemaChange, *commit: Position) -> Staged:
    """A change of the schema; `commit` is of the first change that was seen after it."""
    return Staged(change.schema.table, "schema", commit, to_json(change.schema).encode())


def stage_cells(change: CellChanges, batch: ChangeBatch) -> Staged:
    """Cells and deletions, of anywhere up to the batch's end."""
    payload = _written(change.cells, change.deletions)
    return Staged(change.table, "cells", (batch.end,), payload)


def restored(staged: Staged, covered_by: Position | None, covers: Covers) -> Change | None:
    """The change, less what a copy at `covered_by` already holds; None if nothing is left."""
    if staged.kind == "cells" and not staged.commits:  # of an older htapkit
        return unpacked(staged)
    fresh = [covered_by is None or not covers(covered_by, c) for c in staged.commits]
    if not any(fresh):
        return None
    change = unpacked(staged)
    if isinstance(change, RowChanges) and not all(fresh):
        return only_commits(change, fresh)
    return change


def unpacked(staged: Staged) -> RowChanges | CellChanges | Truncate | SchemaChange:
    """The change, whole; its rows' commits are indexes into `staged.commits`."""
    if staged.kind == "truncate":
        return Truncate((staged.table,), 0)
    assert staged.payload is not None
    if staged.kind == "schema":
        return SchemaChange(from_json(staged.table, staged.payload.decode()), faithful=True)
    if staged.kind == "cells":
        cells, deletions = _read(staged.payload)
        return CellChanges(staged.table, cells, deletions)
    return replace(_from_ipc(staged.table, staged.payload), times=staged.times)


def only_commits(change: RowChanges, wanted: Sequence[bool]) -> RowChanges | None:
    """The rows of those commits for which `wanted` is true."""
    kept = np.asarray(wanted, np.bool_)[change.commit.to_numpy(zero_copy_only=False)]
    return only_rows(change, kept)


def only_rows(change: RowChanges, kept: npt.NDArray[np.bool_]) -> RowChanges | None:
    """The rows for which `kept` is true; None if there are none."""
    if kept.all():
        return change
    if not kept.any():
        return None
    mask = pa.array(kept)
    return RowChanges(
        change.table,
        change.ops.filter(mask),
        change.rows.filter(mask),
        change.commit.filter(mask),
        change.before.filter(mask) if change.before is not None else None,
        change.moved.filter(mask) if change.moved is not None else None,
        {name: values.filter(mask) for name, values in change.unchanged.items()},
        change.times,
    )


def as_batch(staged: Sequence[Staged], first_seq: int) -> pa.RecordBatch:
    """Rows for `htapkit.staged`."""
    columns = [
        pa.array(range(first_seq, first_seq + len(staged)), pa.int64()),
        pa.array([s.table.source for s in staged], pa.string()),
        pa.array([s.table.schema for s in staged], pa.string()),
        pa.array([s.table.name for s in staged], pa.string()),
        pa.array([s.kind for s in staged], pa.string()),
        pa.array([_commits(s) for s in staged], pa.string()),
        pa.array([len(s.payload or b"") for s in staged], pa.int64()),
        pa.array([s.payload for s in staged], pa.binary()),
    ]
    return pa.record_batch(columns, schema=SCHEMA)


def from_row(table: TableId, kind: str, commits: str, payload: bytes | None) -> Staged:
    """A row of `htapkit.staged`."""
    found = json.loads(commits)
    if found and isinstance(found[0], list):
        at, times = zip(*found, strict=True)
        return Staged(table, kind, tuple(map(Position, at)), payload, times)
    return Staged(table, kind, tuple(map(Position, found)), payload)


def _commits(staged: Staged) -> str:
    """Positions, each with its time where that is known."""
    if staged.times:
        return json.dumps(list(zip(staged.commits, staged.times, strict=True)))
    return json.dumps(staged.commits)


def _to_ipc(change: RowChanges) -> bytes:
    arrays: list[pa.Array] = [change.ops, change.commit]
    names = [_OPS, _COMMIT]
    if change.moved is not None and change.before is not None:
        arrays += [change.moved, *change.before.columns]
        names += [_MOVED, *(_BEFORE + n for n in change.before.schema.names)]
    arrays += change.unchanged.values()
    names += [_UNCHANGED + n for n in change.unchanged]
    arrays += change.rows.columns
    names += [_ROW + n for n in change.rows.schema.names]
    return _written(pa.RecordBatch.from_arrays(arrays, names=names))


def _written(*batches: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    for batch in batches:
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def _read(payload: bytes) -> list[pa.RecordBatch]:
    """What `_written` wrote."""
    source = pa.BufferReader(payload)
    batches = []
    while source.tell() < len(payload):
        with pa.ipc.open_stream(source) as reader:
            batches += list(reader)
    return batches


def _from_ipc(table: TableId, payload: bytes) -> RowChanges:
    (batch,) = _read(payload)
    moved = batch.column(_MOVED) if _MOVED in batch.schema.names else None
    return RowChanges(
        table,
        batch.column(_OPS),
        _part(batch, _ROW),
        batch.column(_COMMIT),
        _part(batch, _BEFORE) if moved is not None else None,
        moved,
        {
            name.removeprefix(_UNCHANGED): batch.column(name)
            for name in batch.schema.names
            if name.startswith(_UNCHANGED)
        },
    )


def _part(batch: pa.RecordBatch, prefix: str) -> pa.RecordBatch:
    names = [n for n in batch.schema.names if n.startswith(prefix)]
    fields = [batch.schema.field(n).with_name(n.removeprefix(prefix)) for n in names]
    return pa.RecordBatch.from_arrays([batch.column(n) for n in names], schema=pa.schema(fields))
