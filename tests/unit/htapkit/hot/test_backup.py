"""A copy of the store is one commit of it, whoever writes meanwhile, and opens as a store."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from htapkit.errors import StoreError
from htapkit.hot import HotStore, move_pins
from htapkit.model import Pin, TableState
from tests.unit.htapkit.hot.building import Rows, batch_of, covers, position
from tests.unit.htapkit.hot.lakes import (
    DAY,
    ROWS,
    TS,
    PlainLake,
    T,
    at,
    boundary_of,
    opened,
    tier,
    whole_rows,
)
from tests.unit.htapkit.hot.test_store import follow

CHANGED = (1, at(1), "changed in the lake")


def test_a_copy_is_the_store(store: HotStore, lake: PlainLake, tmp_path: Path) -> None:
    """Rows, line, tombstones, position; what comes later is not in it."""
    follow(store, T, ROWS)
    tier(store, lake, T, 3 * DAY, TS)
    store.apply(batch_of(1, Rows(T).update(*CHANGED).changes()), covers)
    expected, boundary = whole_rows(store, lake, T), boundary_of(store, T)
    told: list[int] = []
    copied = store.copy_to(tmp_path / "copy.duckdb", told.append)
    store.apply(batch_of(2, Rows(T).delete(4).changes()), covers)
    assert copied.positions == {"shop": position(1)}
    assert copied.pins == {T.table: {boundary.pin}}
    assert told[-1] == copied.rows > len(ROWS)
    with opened(tmp_path / "copy.duckdb", lake) as second:
        assert second.stored_position("shop") == position(1)
        assert whole_rows(second, lake, T) == expected != whole_rows(store, lake, T)
        assert boundary_of(second, T) == boundary
        assert second.cuts("shop") == store.cuts("shop")
        assert second.catalog.tables[T.table].state is TableState.FOLLOWING
        second.apply(batch_of(2, Rows(T).delete(4).changes()), covers)
        assert whole_rows(second, lake, T) == whole_rows(store, lake, T)


def test_every_type_comes_through(tmp_path: Path) -> None:
    """What Arrow has no infinity for is infinite all the same."""
    values = (
        "true, 1::SMALLINT, 2::INTEGER, 3::BIGINT, 'NaN'::FLOAT, '-0'::DOUBLE, "
        "'-infinity'::DATE, '24:00:00'::TIME, 'infinity'::TIMESTAMP, '-infinity'::TIMESTAMPTZ, "
        "'\\x00ab'::BLOB, chr(0) || 'ä', 12345678901234567890123456789012345678::DECIMAL(38,0)"
    )
    with HotStore(tmp_path / "hot.duckdb") as store:
        cursor = store._core.database.cursor()
        cursor.execute('CREATE SCHEMA "a ""b"')
        cursor.execute(f'CREATE TABLE "a ""b"."T x" AS SELECT {values}')
        cursor.execute('INSERT INTO "a ""b"."T x" (SELECT COLUMNS(*)::VARCHAR FROM "a ""b"."T x")')
        expected = cursor.execute('SELECT COLUMNS(*)::VARCHAR FROM "a ""b"."T x"').fetchall()
        store._core.database.release(cursor)
        store.copy_to(tmp_path / "copy.duckdb")
    with duckdb.connect(str(tmp_path / "copy.duckdb")) as copy:
        copy.execute("SET TimeZone = 'UTC'")
        assert copy.execute('SELECT COLUMNS(*)::VARCHAR FROM "a ""b"."T x"').fetchall() == expected
    assert len(expected) == 2


def test_pins_name_the_new_place(store: HotStore, lake: PlainLake, tmp_path: Path) -> None:
    """In the line and in the cuts; of other tables they stay."""
    follow(store, T, ROWS)
    tier(store, lake, T, 2 * DAY, TS)
    tier(store, lake, T, 3 * DAY, TS)
    path = tmp_path / "copy.duckdb"
    store.copy_to(path)
    move_pins(path, {T.table: lambda name: f"/elsewhere/{name}"})
    with opened(path, lake) as second:
        pins = [cut.boundaries[T.table].pin for cut in second.cuts("shop")]
        pins.append(boundary_of(second, T).pin)
    assert len(pins) == 3
    assert all(isinstance(pin, Pin) and pin.metadata.startswith("/elsewhere/") for pin in pins)


def test_a_copy_that_cannot_be_written_harms_nobody(
    store: HotStore, lake: PlainLake, tmp_path: Path
) -> None:
    """The store itself goes on."""
    follow(store, T, ROWS)
    with pytest.raises(StoreError, match="cannot be copied to"):
        store.copy_to(tmp_path / "no such folder" / "copy.duckdb")
    assert whole_rows(store, lake, T) == ROWS
