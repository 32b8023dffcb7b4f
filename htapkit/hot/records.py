"""What the store knows of each table, and how that is written to the control tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb

from htapkit.errors import StoreError, TableSetAside
from htapkit.hot.definitions import from_json, to_json
from htapkit.hot.names import statement
from htapkit.model import (
    Boundary,
    Horizon,
    Pin,
    Position,
    TableId,
    TableSchema,
    TableState,
    TableStatus,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that is being made beside a table."""

    schema: TableSchema
    fingerprint: str
    position: Position


@dataclass(frozen=True, slots=True)
class Former:
    """What a table with an archive was before a new copy: its relation stays until the swap."""

    schema: TableSchema
    follows: bool  # changes still come in; False: what went since is found by comparing


@dataclass(frozen=True, slots=True)
class Record:
    """All that is known of a table."""

    schema: TableSchema
    fingerprint: str
    state: TableState
    why: str = ""
    complete: bool = False  # the relation holds the table as of some position
    stopped_at: Position | None = None
    generation: int = 0
    copy: Copy | None = None
    boundary: Boundary | None = None  # None: all of it is hot
    horizon: Horizon | None = None  # None: no row is too old to be kept
    keeps: bool = False  # what the source deletes goes into the archive
    former: Former | None = None

    @property
    def table(self) -> TableId:
        """Which table."""
        return self.schema.table

    @property
    def staging(self) -> bool:
        """Whether its changes are kept aside."""
        return self.state in {TableState.COPYING, TableState.PAUSED}

    def status(self, rows: int) -> TableStatus:
        """For the catalog."""
        return TableStatus(
            self.schema,
            self.state,
            rows,
            self.why,
            None if self.state is TableState.FOLLOWING else self.stopped_at,
            self.copy.position if self.copy else None,
            self.boundary,
            self.horizon,
        )

    def replayed(self, schema: TableSchema) -> Record:
        """The record after what was staged is replayed: onto the copy, or the table itself."""
        if self.copy is None:
            return replace(self, schema=schema)
        return replace(self, copy=replace(self.copy, schema=schema))

    def stopped(self, state: TableState, why: str, position: Position | None) -> Record:
        """The same table, no longer following since `position`."""
        if self.state is TableState.FOLLOWING:
            return replace(self, state=state, why=why, stopped_at=position)
        return replace(self, state=state, why=why)


def usable(record: Record | None, table: TableId) -> Record:
    """The record of a table that is known and not set aside. Raises TableSetAside."""
    if record is None:
        raise TableSetAside(table, "it is not known here; add it first")
    if record.state is TableState.SET_ASIDE:
        raise TableSetAside(table, record.why)
    return record


def save(cursor: duckdb.DuckDBPyConnection, record: Record) -> None:
    """Write a table's record over the former one."""
    forget(cursor, record.table)
    copy = record.copy
    cursor.execute(
        statement("save_table"),
        [
            record.table.source,
            record.table.schema,
            record.table.name,
            to_json(record.schema),
            record.fingerprint,
            record.state.value,
            record.why,
            record.complete,
            record.stopped_at,
            record.generation,
            to_json(copy.schema) if copy else None,
            copy.fingerprint if copy else None,
            copy.position if copy else None,
        ],
    ).fetchall()
    names = [record.table.source, record.table.schema, record.table.name]
    if record.boundary is not None:
        values = [*names, *boundary_values(record.boundary)]
        cursor.execute(statement("save_boundary"), values).fetchall()
    if record.keeps:
        former = record.former
        values = [
            *names,
            to_json(former.schema) if former else None,
            former.follows if former else None,
        ]
        cursor.execute(
            "INSERT INTO htapkit.archived VALUES ($1, $2, $3, $4, $5)", values
        ).fetchall()
    if record.horizon is not None:
        values = [*names, record.horizon.column, record.horizon.since]
        cursor.execute(statement("save_horizon"), values).fetchall()


def forget(cursor: duckdb.DuckDBPyConnection, table: TableId) -> None:
    """Remove a table's record."""
    names = [table.source, table.schema, table.name]
    cursor.execute(statement("forget_table"), names).fetchall()
    cursor.execute(statement("forget_boundary"), names).fetchall()
    cursor.execute(statement("forget_horizon"), names).fetchall()
    cursor.execute(statement("forget_archived"), names).fetchall()


def boundary_values(boundary: Boundary) -> list[object]:
    """A boundary as the control tables have it, from `time_column` to `position`."""
    pin = boundary.pin
    return [
        boundary.column,
        boundary.below,
        pin.metadata,
        pin.snapshot,
        pin.rows,
        boundary.position,
    ]


def boundary_from(values: Sequence[Any]) -> Boundary:
    """What `boundary_values` wrote."""
    column, below, metadata, snapshot, rows, position = values
    return Boundary(column, below, Pin(metadata, snapshot, rows), Position(position))


def load(cursor: duckdb.DuckDBPyConnection) -> dict[TableId, Record]:
    """All records of the file."""
    found: dict[TableId, Record] = {}
    boundaries = {
        TableId(*row[:3]): boundary_from(row[3:])
        for row in cursor.execute(statement("load_boundaries")).fetchall()
    }
    horizons = {
        TableId(*row[:3]): Horizon(*row[3:])
        for row in cursor.execute("FROM htapkit.horizons").fetchall()
    }
    archived = {
        TableId(*row[:3]): row[3:] for row in cursor.execute("FROM htapkit.archived").fetchall()
    }
    for row in cursor.execute(statement("load_tables")).fetchall():
        table = TableId(*row[:3])
        definition, fingerprint, state, why, complete, stopped_at, generation = row[3:10]
        copy = None
        if row[10] is not None:
            copy = Copy(from_json(table, row[10]), row[11], Position(row[12]))
        found[table] = Record(
            from_json(table, definition),
            fingerprint,
            TableState(state),
            why,
            complete,
            Position(stopped_at) if stopped_at is not None else None,
            generation,
            copy,
            boundaries.get(table),
            horizons.get(table),
            table in archived,
            _former(table, *archived.get(table, (None, None))),
        )
    return found


def _former(table: TableId, definition: str | None, follows: bool | None) -> Former | None:  # noqa: FBT001 - a row
    return None if definition is None else Former(from_json(table, definition), bool(follows))


@dataclass(frozen=True, slots=True)
class Head:
    """The catalog version and the positions that one snapshot of the file has."""

    version: int
    positions: dict[str, tuple[Position | None, datetime | None]]


def read_head(rows: list[tuple[int | None, str | None, str | None, int | None]]) -> Head:
    """Make sense of the result of `sql/hot/head.sql`."""
    versions = [row[0] for row in rows if row[0] is not None]
    if not versions:
        raise StoreError("the control tables are empty; remove the file to copy everything again")
    return Head(
        max(versions),
        {
            source: (Position(position) if position is not None else None, instant(committed_at))
            for _, source, position, committed_at in rows
            if source is not None
        },
    )


def instant(microseconds: int | None) -> datetime | None:
    """A time in the form that the control tables give it."""
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)
