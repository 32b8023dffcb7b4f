"""From a source's batch to what a sink is sent, and what the batch says of the tables. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from htapkit.model import (
    Broken,
    CellChanges,
    Change,
    ChangeBatch,
    Column,
    Position,
    RowChanges,
    SchemaChange,
    Storage,
    TableId,
    TableSchema,
    Truncate,
)
from htapkit.sinks import Changed, Commit, FedTable, Stage
from htapkit.spi import PositionOrder

Tables = dict[TableId, FedTable]


def commits_of(batch: ChangeBatch, begun: Position | None) -> tuple[Commit, ...]:
    """The batch's transactions. `begun`: what the first one was called in an earlier part of it."""
    positions = list(batch.commits)
    if begun is not None and positions:
        positions[0] = begun
    return tuple(Commit(position, batch.time(index)) for index, position in enumerate(positions))


def take(
    batch: ChangeBatch, tables: Tables, order: PositionOrder
) -> tuple[tuple[Changed, ...], bool]:
    """(what the sink is to be sent, whether the stream left a table out).

    `tables` is brought to where the batch ends; tables that are not followed get nothing.
    """
    cuts: dict[TableId, int] = {}
    found: list[Changed] = []
    left_out = False
    for change in batch.changes:
        assert not isinstance(change, CellChanges), "reconciled tables are never followed"
        if isinstance(change, RowChanges | Truncate):
            found += _followed(change, batch.commits, tables, order, cuts)
        else:
            left_out |= _news(change, tables)
    if batch.complete:
        for table, fed in tables.items():
            if fed.copied_at is not None and order.covers(batch.end, fed.copied_at):
                tables[table] = dataclasses.replace(fed, copied_at=None)
    return tuple(found), left_out


def _followed(
    change: RowChanges | Truncate,
    commits: Sequence[Position],
    tables: Tables,
    order: PositionOrder,
    cuts: dict[TableId, int],
) -> Iterator[Changed]:
    """What of a change is of tables that follow, and not in their copied rows already."""
    for table in change.tables if isinstance(change, Truncate) else (change.table,):
        fed = tables.get(table)
        if fed is None or fed.stage is not Stage.FOLLOWING:
            continue
        at = fed.copied_at
        if at is not None and table not in cuts:
            cuts[table] = sum(order.covers(at, commit) for commit in commits)
        cut = cuts.get(table, 0) if at is not None else 0
        if isinstance(change, Truncate):
            if change.commit >= cut:
                yield Changed(fed.schema, None, change.commit)
        elif (rows := _since(change, cut)) is not None:
            yield Changed(fed.schema, rows)


def _since(change: RowChanges, cut: int) -> RowChanges | None:
    """The rows of the transactions from `cut` on; None: there are none."""
    commit = change.commit.to_numpy(zero_copy_only=False)
    keep = commit >= cut
    if keep.all():
        return change
    if not keep.any():
        return None
    first = int(np.argmax(keep))  # transactions come in order
    return dataclasses.replace(
        change,
        ops=change.ops[first:],
        rows=change.rows.slice(first),
        commit=change.commit[first:],
        before=None if change.before is None else change.before.slice(first),
        moved=None if change.moved is None else change.moved[first:],
        unchanged={name: mask[first:] for name, mask in change.unchanged.items()},
    )


def _news(change: Change, tables: Tables) -> bool:
    """Take a schema change or a broken table; whether the stream leaves the table out now."""
    assert isinstance(change, SchemaChange | Broken)
    table = change.schema.table if isinstance(change, SchemaChange) else change.table
    fed = tables.get(table)
    if isinstance(change, SchemaChange) and change.faithful:
        if fed is not None:
            tables[table] = dataclasses.replace(fed, schema=change.schema)
        return False
    if fed is None or fed.stage is Stage.GONE:
        return True
    if isinstance(change, SchemaChange) and change.fingerprint == fed.fingerprint:
        return False  # the rows that were copied are of the table as it is now
    tables[table] = in_doubt(fed, change)
    return True


def in_doubt(fed: FedTable, change: SchemaChange | Broken) -> FedTable:
    """A table whose rows may have changed without events, or that cannot be followed."""
    again = isinstance(change, SchemaChange) or change.copy_again
    stage = Stage.COPYING if again else Stage.SET_ASIDE
    return dataclasses.replace(fed, stage=stage, copied_at=None, why=change.why)


def as_text(schema: TableSchema, names: frozenset[str]) -> TableSchema:
    """The same table with these columns kept as they are printed."""

    def kept(column: Column) -> Column:
        if column.name not in names:
            return column
        return dataclasses.replace(column, storage=Storage.TEXT)

    return dataclasses.replace(schema, columns=tuple(map(kept, schema.columns)))


def text_columns(schema: TableSchema) -> frozenset[str]:
    """The columns that are kept as text."""
    return frozenset(c.name for c in schema.columns if c.storage is Storage.TEXT)
