"""Runs and cuts, and how they are written to the control tables. Never decides anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import duckdb

from htapkit.hot.names import statement
from htapkit.hot.records import boundary_from, boundary_values
from htapkit.model import Boundary, Pin, Position, RunState, TableId, TieringRun, writer_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Run:
    """A run that was begun, with the time columns (ordinals) that it cuts by."""

    tiering: TieringRun
    columns: Mapping[TableId, int]

    @property
    def logs(self) -> bool:
        """Whether changes of its tables are logged for it."""
        return self.tiering.state is RunState.EXPORTING

    @property
    def writer(self) -> str:
        """The source whose changes write its tables."""
        return writer_of(next(iter(self.columns)))

    def void(self, why: str) -> Run:
        """The same run, which can no longer be finished."""
        return replace(self, tiering=replace(self.tiering, state=RunState.VOID, why=why))


@dataclass(frozen=True, slots=True)
class Cut:
    """What the lake had of a source's tables right after a run."""

    run: str
    flipped_at: datetime
    position: Position  # of the run
    boundaries: Mapping[TableId, Boundary]


def save(cursor: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Write a run over the former one."""
    tiering = run.tiering
    forget(cursor, tiering.id)
    values = [tiering.id, tiering.source, tiering.position, tiering.state.value, tiering.why]
    cursor.execute(
        "INSERT INTO htapkit.runs (id, source, position, state, why) VALUES ($1, $2, $3, $4, $5)",
        values,
    ).fetchall()
    for table, below in tiering.below.items():
        cursor.execute(
            statement("save_run_table"),
            [tiering.id, table.schema, table.name, run.columns[table], below],
        ).fetchall()


def forget(cursor: duckdb.DuckDBPyConnection, run_id: str) -> None:
    """Remove a run."""
    cursor.execute("DELETE FROM htapkit.runs WHERE id = $1", [run_id]).fetchall()
    cursor.execute("DELETE FROM htapkit.run_tables WHERE id = $1", [run_id]).fetchall()


def load(cursor: duckdb.DuckDBPyConnection) -> dict[str, Run]:
    """All runs of the file, oldest first."""
    found: dict[str, Run] = {}
    for row in cursor.execute(statement("load_runs")).fetchall():
        run_id, source, position, state, why, schema, name, column, below = row
        former = found.get(run_id)
        table = TableId(source, schema, name)
        found[run_id] = Run(
            TieringRun(
                run_id,
                source,
                Position(position),
                {**(former.tiering.below if former else {}), table: below},
                RunState(state),
                why,
            ),
            {**(former.columns if former else {}), table: column},
        )
    return found


def save_cut(cursor: duckdb.DuckDBPyConnection, source: str, cut: Cut) -> None:
    """Keep a cut."""
    flipped_at = (cut.flipped_at - _EPOCH) // _MICROSECOND
    for table, boundary in cut.boundaries.items():
        values = [cut.run, source, flipped_at, cut.position, table.schema, table.name]
        values += boundary_values(boundary)
        cursor.execute(statement("save_cut"), values).fetchall()


def load_cuts(cursor: duckdb.DuckDBPyConnection, source: str) -> tuple[Cut, ...]:
    """A source's cuts, oldest first."""
    found: dict[str, Cut] = {}
    for row in cursor.execute(statement("load_cuts"), [source]).fetchall():
        run_id, _, flipped_at, position, schema, name = row[:6]
        former = found.get(run_id)
        found[run_id] = Cut(
            run_id,
            _EPOCH + flipped_at * _MICROSECOND,
            Position(position),
            {
                **(former.boundaries if former else {}),
                TableId(source, schema, name): boundary_from(row[6:]),
            },
        )
    return tuple(found.values())


def drop_cuts(cursor: duckdb.DuckDBPyConnection, source: str, before: datetime | None) -> None:
    """Forget a source's cuts that are older than `before`; None: all of them."""
    text = "DELETE FROM htapkit.cuts WHERE source = $1"
    if before is None:
        cursor.execute(text, [source]).fetchall()
        return
    text += " AND flipped_at < make_timestamptz(CAST($2 AS BIGINT))"
    cursor.execute(text, [source, (before - _EPOCH) // _MICROSECOND]).fetchall()


def forget_past(cursor: duckdb.DuckDBPyConnection, table: TableId, kept: Pin | None) -> None:
    """Take a table out of all cuts of other versions than this one."""
    names = [table.source, table.schema, table.name, kept.snapshot if kept else None]
    cursor.execute(statement("forget_past"), names).fetchall()
