"""A second file with what the store holds at one moment, and what a restored one must be told.

The copy is made from one snapshot, table by table through Arrow, as rows come in as well. Nobody
waits for it: a copy of the file itself would need the writer lock for as long as it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from htapkit.errors import StoreError
from htapkit.hot import records
from htapkit.hot.database import Database
from htapkit.hot.names import quote, statement
from htapkit.model import HISTORY, Pin, Position, TableId

_BATCH_ROWS = 122_880  # DuckDB's row group
_MEMORY_SHARE = 8
_ROWS = "htapkit_rows"
_PINNING = ("boundaries", "cuts", "imports")
_LEFT_OUT = ("readers", "watched", "journal")  # a reader is further than a restored file


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy has."""

    positions: Mapping[str, Position]  # of each source
    pins: Mapping[TableId, frozenset[Pin]]  # every lake version that it names
    rows: int


def copy_out(database: Database, path: Path, told: Callable[[int], None]) -> Copied:
    """Write all that the store has committed to a new file; `told` hears of the rows so far.

    Raises StoreError; the file is then not complete.
    """
    cursor = database.cursor()
    limits = database.limits
    try:
        with duckdb.connect(
            str(path),
            config={"threads": 1, "memory_limit": f"{limits.memory_bytes // _MEMORY_SHARE}B"},
        ) as copy:
            return _copy(cursor, copy, told)
    except (duckdb.Error, pa.ArrowException) as error:
        line = str(error).strip().split("\n", 1)[0]
        raise StoreError(f"the hot store cannot be copied to {path}: {line}") from error
    finally:
        with suppress(duckdb.Error):
            cursor.rollback()
        database.release(cursor)


def _copy(
    cursor: duckdb.DuckDBPyConnection,
    copy: duckdb.DuckDBPyConnection,
    told: Callable[[int], None],
) -> Copied:
    cursor.execute("BEGIN TRANSACTION READ ONLY")
    head = records.read_head(cursor.execute(statement("head")).fetchall())
    positions = {s: position for s, (position, _) in head.positions.items() if position is not None}
    pins: dict[TableId, set[Pin]] = {}
    for *names, metadata, snapshot, rows in cursor.execute(_pins()).fetchall():
        pins.setdefault(TableId(*names), set()).add(Pin(metadata, int(snapshot), int(rows)))
    done = 0
    for schema, name, definition in cursor.execute(statement("backup_tables")).fetchall():
        copy.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
        copy.execute(definition)
        if schema == "htapkit" and name in _LEFT_OUT:
            continue
        relation = f"{quote(schema)}.{quote(name)}"
        reader = cursor.sql(f"FROM {relation}").to_arrow_reader(_BATCH_ROWS)
        copy.register(_ROWS, reader)
        inserted = copy.execute(f"INSERT INTO {relation} FROM {_ROWS}").fetchall()
        copy.unregister(_ROWS)
        done += int(inserted[0][0])
        told(done)
    copy.execute("CHECKPOINT")
    return Copied(positions, {table: frozenset(found) for table, found in pins.items()}, done)


def _pins() -> str:
    """Of what is ours; tables that others wrote are read here, and are theirs to keep."""
    return statement("backup_pins", history=HISTORY)


def move_pins(path: Path, moved: Mapping[TableId, Callable[[str], str]]) -> None:
    """Have the pins of a copy name the files where they lie now. Nobody may have it open."""
    with duckdb.connect(str(path)) as copy:
        copy.begin()
        for *names, metadata, _, _ in copy.execute(_pins()).fetchall():
            move = moved.get(TableId(*names))
            if move is not None:
                for relation in _PINNING:
                    text = statement("move_pins", relation=relation)
                    copy.execute(text, [*names, metadata, move(metadata)])
        copy.commit()
        copy.execute("CHECKPOINT")
