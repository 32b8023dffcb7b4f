"""Cutting a batch in two between its transactions. Pure."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa

from htapkit.model import Change, ChangeBatch, Position, RowChanges, Truncate
from htapkit.spi import PositionOrder


def split_batch(
    batch: ChangeBatch, at: Position, order: PositionOrder
) -> tuple[ChangeBatch | None, ChangeBatch | None]:
    """(the transactions covered by `at`, the later ones); None for an empty part.

    Changes that are not rows (schema changes, broken tables) stay with the rows before them.
    """
    if order.covers(at, batch.end) or not batch.commits:
        return (batch, None) if order.covers(at, batch.end) else (None, batch)
    cut = sum(order.covers(at, commit) for commit in batch.commits)
    if cut == 0:
        return None, batch
    if cut == len(batch.commits):
        return batch, None
    early: list[Change] = []
    late: list[Change] = []
    for change in batch.changes:
        if isinstance(change, RowChanges):
            commit = change.commit.to_numpy(zero_copy_only=False)
            _add(early, _rows(change, commit < cut, 0))
            _add(late, _rows(change, commit >= cut, cut))
        elif isinstance(change, Truncate):
            if change.commit < cut:
                early.append(change)
            else:
                late.append(dataclasses.replace(change, commit=change.commit - cut))
        else:
            (late or early).append(change)
    commits, times = batch.commits, batch.times
    first = dataclasses.replace(
        batch,
        changes=tuple(early),
        commits=commits[:cut],
        times=times[:cut],
        end=commits[cut - 1],
        marks=(),
    )
    second = dataclasses.replace(
        batch, changes=tuple(late), commits=commits[cut:], times=times[cut:]
    )
    return first, second


def _add(changes: list[Change], rows: RowChanges | None) -> None:
    if rows is not None:
        changes.append(rows)


def _rows(change: RowChanges, keep: np.ndarray, shift: int) -> RowChanges | None:
    if not keep.any():
        return None
    mask = pa.array(keep)
    commit = change.commit.filter(mask).to_numpy(zero_copy_only=False) - shift
    return dataclasses.replace(
        change,
        ops=change.ops.filter(mask),
        rows=change.rows.filter(mask),
        commit=pa.array(commit, pa.int32()),
        before=None if change.before is None else change.before.filter(mask),
        moved=None if change.moved is None else change.moved.filter(mask),
        unchanged={name: flags.filter(mask) for name, flags in change.unchanged.items()},
    )
