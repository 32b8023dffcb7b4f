"""The horizon of a table: which of its rows are too old to be kept. Pure.

The copy of a table with a horizon is the source's rows less those whose time is finite and below
it. So a change may bring in a row that is not kept, and take out one that never was here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from htapkit.hot.collapse import NotConsistent
from htapkit.model import (
    DATE_INFINITY,
    DELETIONS,
    TIMESTAMP_INFINITY,
    CellChanges,
    Column,
    Horizon,
    TableSchema,
    place_key,
)

_DAY = 86_400_000_000

Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)


def horizon_column(schema: TableSchema, horizon: Horizon | None) -> Column | None:
    """The column that the horizon is about; None where the table has no such times any more.

    Of a reconciled table they are times of its key, or a write could move a row over the horizon.
    """
    if horizon is None:
        return None
    found = next((c for c in schema.columns if c.ordinal == horizon.column), None)
    if found is None or not (pa.types.is_date(found.arrow) or pa.types.is_timestamp(found.arrow)):
        return None
    return found if found.name in schema.key or not schema.reconciled else None


def too_old(
    schema: TableSchema, horizon: Horizon | None, rows: pa.Table | pa.RecordBatch
) -> npt.NDArray[np.bool_] | None:
    """Which rows (in the table's Arrow schema) are below the horizon; None: none of them."""
    column = horizon_column(schema, horizon)
    if column is None or horizon is None or rows.num_rows == 0:
        return None
    days = pa.types.is_date(column.arrow)
    infinity = DATE_INFINITY if days else TIMESTAMP_INFINITY
    since = -(-horizon.since // _DAY) if days else horizon.since
    values = rows.column(column.name).cast(pa.int32() if days else pa.int64())
    # What has no time is kept.
    times = values.fill_null(infinity).to_numpy()
    old: npt.NDArray[np.bool_] = (times < since) & (times > -infinity)
    return old if old.any() else None


def less_old(schema: TableSchema, horizon: Horizon | None, rows: Rows) -> Rows:
    """The rows without those that are too old."""
    old = too_old(schema, horizon, rows)
    return rows if old is None else rows.filter(pa.array(~old))


def young_cells(
    schema: TableSchema, horizon: Horizon | None, batch: pa.RecordBatch
) -> pa.RecordBatch:
    """The cells of a reconciled table without those of rows that are too old; deletions as is.

    The column is one of the key, so no write moves a row over the horizon.
    """
    column = horizon_column(schema, horizon)
    if column is None or batch.schema == DELETIONS:
        return batch
    times = pa.table({column.name: batch[place_key(schema, column)]})
    old = too_old(schema, horizon, times)
    return batch if old is None else batch.filter(pa.array(~old))


def young_changes(
    schema: TableSchema, horizon: Horizon | None, changes: CellChanges
) -> CellChanges:
    """Changes without cells of rows that are too old."""
    return replace(changes, cells=young_cells(schema, horizon, changes.cells))


def follow_horizon(horizon: Horizon | None, old: TableSchema, new: TableSchema) -> None:
    """Raise NotConsistent where rows were dropped by a column that goes: only a new copy helps."""
    if horizon_column(old, horizon) is not None and horizon_column(new, horizon) is None:
        raise NotConsistent("the column by which its old rows were dropped is gone")
