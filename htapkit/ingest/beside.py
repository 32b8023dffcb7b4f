"""What a verification says of tables that no source can be asked about.

The rows of a history are nobody else's. So it is held against what it says of itself, and its keys
against those of the table that it belongs to; its values are compared with nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from htapkit.errors import HtapkitError, LimitReached, MomentGone, QueryCancelled
from htapkit.hot import Keys, Moment
from htapkit.ingest.repair import Rows
from htapkit.model import (
    ARCHIVE,
    HISTORY,
    LAKE,
    Catalog,
    TableId,
    TableSchema,
    TableState,
    origin_of,
)

_NOBODY_ELSE = "the source never had its rows"


@dataclass(frozen=True, slots=True)
class Beside:
    """A table that was not compared with the source, and what is known of it all the same."""

    table: str
    rows: int | None  # None: they were not, or could not be read
    sound: bool | None  # whether it is what it says of itself; None: that was not looked at
    at_source: int | None  # rows whose key the source has, too; None: not looked at
    why: str  # it was not compared, or is not sound


def histories(catalog: Catalog, source: str, tables: Collection[TableId]) -> list[TableId]:
    """Those of these tables of a source (none given: all of them)."""
    owners = {table: origin_of(table) for table in catalog.imported if table.source == HISTORY}
    return sorted(
        table
        for table, owner in owners.items()
        if owner is not None and owner.source == source and (not tables or owner in tables)
    )


def keys_of(schema: TableSchema, history: TableSchema) -> Keys | None:
    """For the keys of a table and its history; None where the history lacks a column of the key.

    Columns are told by ordinal: the table's may have got another name since.
    """
    names = {column.ordinal: column.name for column in history.columns}
    key = [column for column in schema.key_columns if column.ordinal in names]
    if not key or len(key) < len(schema.key):
        return None
    return Keys([names[column.ordinal] for column in key], [column.name for column in key])


def check_history(
    table: TableId, moment: Moment, rows: Rows, keys: Keys | None, *, source_read: bool
) -> Beside:
    """Read all of a history. `keys` are for its own, and have the source's where that was read.

    Never raises what is wrong with the history, or with its files.
    """
    status = moment.catalog.imported[table]
    if status.state is TableState.SET_ASIDE:
        return _damaged(table, status.why)
    try:
        count, told = _read(table, moment, rows, keys)
    except (LimitReached, MomentGone, QueryCancelled) as error:  # which say nothing of its rows
        return _not_looked_at(table, f"{_NOBODY_ELSE}, and it was not read to its end: {error}")
    except HtapkitError as error:
        return _damaged(table, f"its rows cannot be read: {error}")
    if told is not None and told != count:
        return _damaged(table, f"its Iceberg table says {told} rows, its files have {count}")
    return _judged(table, count, keys, source_read=source_read)


def _read(table: TableId, moment: Moment, rows: Rows, keys: Keys | None) -> tuple[int, int | None]:
    """(its rows, as many as its Iceberg table says; None where others deleted some)."""
    count, asked = 0, rows(moment.catalog, table)
    for batch in moment.batches(asked):
        count += batch.num_rows
        if keys is not None:
            keys.history(batch)
    told = [arm.files.rows for arm in asked.lake if arm.files.rest is None]
    return count, sum(told) if told else None


def _judged(table: TableId, count: int, keys: Keys | None, *, source_read: bool) -> Beside:
    if keys is not None and (repeated := keys.repeated()):
        return _damaged(table, f"keys that are in it more than once: {repeated}", count)
    if keys is None or not source_read:
        less = "were not looked at" if keys is None else "were not compared with the table's"
        why = f"{_NOBODY_ELSE}; its keys {less}"
        return Beside(str(table), count, sound=True, at_source=None, why=why)
    shared = keys.shared()
    also = f"; {shared} of its keys are there now, and leave with the next backfill"
    why = f"{_NOBODY_ELSE}{also if shared else ''}"
    return Beside(str(table), count, sound=True, at_source=shared, why=why)


def left_out(catalog: Catalog, source: str) -> Iterator[Beside]:
    """What a verification of all that follows has nothing to say of: archives, and the others."""
    for table, status in sorted(catalog.tables.items()):
        owner = origin_of(table)
        if table.source == ARCHIVE and owner is not None and owner.source == source:
            yield _not_looked_at(table, "the source no longer has its rows")
        elif table.source == source and status.state is not TableState.FOLLOWING:
            why = f"it is not followed now: {status.state.value} {status.why}".strip()
            yield _not_looked_at(table, why)


def imported(catalog: Catalog) -> Iterator[Beside]:
    """Tables that others write, and no source of ours knows."""
    for table in sorted(catalog.imported):
        if table.source == LAKE:
            yield _not_looked_at(table, "it belongs to no source: others write it")


def _not_looked_at(table: TableId, why: str) -> Beside:
    return Beside(str(table), None, sound=None, at_source=None, why=why)


def _damaged(table: TableId, why: str, rows: int | None = None) -> Beside:
    return Beside(str(table), rows, sound=False, at_source=None, why=why)
