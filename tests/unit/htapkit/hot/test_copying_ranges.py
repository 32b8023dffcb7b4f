"""Copies that are made range by range: each at a position of its own, and exact in the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from htapkit.errors import CatalogChanged
from htapkit.model import SchemaChange, TableState, Truncate
from tests.ranged_copy import SCHEMA, TABLE, Copy
from tests.unit.htapkit.hot.building import (
    INT4,
    INT8,
    TEXT,
    Rows,
    covers,
    position,
    record_batch,
    schema_of,
)


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    made = Copy(tmp_path)
    yield made
    made.close()


def test_each_range_counts_from_its_own_position(copy: Copy) -> None:
    """A change that a range holds already is left out there; a later one is not."""
    copy.rows = {5: (5, 1, "x"), 15: (15, 1, "x")}
    copy.start()
    copy.read(0)
    copy.rows[5], copy.rows[15] = (5, 2, "y"), (15, 2, "y")
    copy.commit(Rows(SCHEMA).update(5, 2, "y").update(15, 2, "y").changes())
    copy.rows[16] = (16, 3, "z")
    copy.commit(Rows(SCHEMA).insert(16, 3, "z").changes())
    for number in (1, 2, 3):
        copy.read(number)
    copy.stream()
    assert copy.finish()
    assert copy.found() == sorted(copy.rows.values())


@pytest.mark.parametrize("early", [(0, 2), (0,), (2,), ()])
@pytest.mark.parametrize("target", [5, 15])
def test_a_key_change_is_judged_on_both_sides(
    copy: Copy, target: int, early: tuple[int, ...]
) -> None:
    """The row leaves a range, or arrives in one, or both; or was read where it went."""
    copy.rows = {25: (25, 1, "x")}
    copy.start()
    for number in early:
        copy.read(number)
    copy.rows = {target: (target, 2, "y")}
    copy.commit(Rows(SCHEMA).update(target, 2, "y", before=(25,)).changes())
    for number in copy.left():
        copy.read(number)
    copy.stream()
    assert copy.finish()
    assert copy.found() == [(target, 2, "y")]


def test_a_range_is_read_again_for_a_value_that_is_nowhere(copy: Copy) -> None:
    """The moved row's unchanged value was in a range that was read only after the move."""
    copy.rows = {25: (25, 1, "long"), 6: (6, 6, "six")}
    copy.start()
    copy.read(0)
    copy.rows = {5: (5, 2, "long"), 6: (6, 6, "six")}
    copy.commit(Rows(SCHEMA).update(5, 2, None, before=(25,), skip=["s"]).changes())
    for number in (1, 2, 3):
        copy.read(number)
    copy.stream()
    copy.fold()
    assert copy.left() == [0]
    assert not copy.finish()
    copy.read(0)
    assert copy.finish()
    assert copy.found() == sorted(copy.rows.values())


def test_changes_of_ranges_to_come_are_not_kept(copy: Copy) -> None:
    """What is staged is gone after a fold, whatever it concerned."""
    copy.start()
    copy.read(0)
    copy.rows = {n: (n, n, "x" * 1000) for n in range(40)}
    copy.commit(*[Rows(SCHEMA).insert(*row).changes() for row in copy.rows.values()])
    copy.stream()
    assert copy.store.sizes()["staged_bytes"] > 1000
    copy.fold()
    assert copy.store.sizes()["staged_bytes"] == 0
    for number in (1, 2, 3):
        copy.read(number)
    assert copy.finish()
    assert copy.found() == sorted(copy.rows.values())


def test_a_truncate_empties_the_ranges_before_it(copy: Copy) -> None:
    """A range that was read after it is read again, since one statement empties the copy."""
    copy.rows = {5: (5, 1, "x"), 15: (15, 1, "x")}
    copy.start()
    copy.read(0)
    copy.commit(Truncate((TABLE,), 0))
    copy.rows = {16: (16, 1, "x")}
    copy.commit(Rows(SCHEMA).insert(16, 1, "x").changes())
    copy.read(1)
    copy.stream()
    copy.fold()
    assert copy.left() == [2, 3, 1], "what was never read comes first"
    for number in (1, 2, 3):
        copy.read(number)
    assert copy.finish()
    assert copy.found() == [(16, 1, "x")]


def test_finished_ranges_survive_a_restart(copy: Copy) -> None:
    """With their rows; a range that was cut short left nothing."""
    copy.rows = {5: (5, 1, "x"), 15: (15, 1, "x")}
    copy.commit(Rows(SCHEMA).insert(5, 1, "x").insert(15, 1, "x").changes())
    copy.start()
    copy.read(0)

    def cut_short() -> Iterator[pa.RecordBatch]:
        yield record_batch(SCHEMA.arrow, [(15, 1, "x")])
        raise CatalogChanged("gone")

    with pytest.raises(CatalogChanged):
        copy.store.copying.loading.load(TABLE, cut_short(), 1, position(0))
    copy.restart()
    copy.stream()
    found = copy.store.copying.ranged(TABLE)
    assert found is not None
    assert (copy.left(), found.rows, found.rows_estimate) == ([1, 2, 3], 1, 40)
    for number in copy.left():
        copy.read(number)
    assert copy.finish()
    assert copy.found() == sorted(copy.rows.values())
    assert copy.store.copying.ranged(TABLE) is None


def test_a_column_that_is_added_between_two_ranges(copy: Copy) -> None:
    """The copy follows with the next fold, and later ranges come in the new form."""
    wider = schema_of(columns={"id": INT8, "a": INT4, "s": TEXT, "more": INT4})
    copy.rows = {5: (5, 1, "x")}
    copy.start()
    copy.read(0)
    copy.commit(SchemaChange(wider, faithful=True), Rows(wider).insert(6, 2, "y", 3).changes())
    copy.stream()
    copy.fold()
    found = copy.store.copying.ranged(TABLE)
    assert found is not None
    assert found.schema == wider
    rows = [record_batch(wider.arrow, [(15, 4, "z", 5)])]
    copy.store.copying.loading.load(TABLE, rows, 1, position(len(copy.log)))
    for number in (2, 3):
        copy.store.copying.loading.load(TABLE, [], number, position(len(copy.log)))
    assert copy.finish()
    assert copy.found() == [(5, 1, "x", None), (6, 2, "y", 3), (15, 4, "z", 5)]


def test_changes_of_columns_before_the_copy_are_left_out(copy: Copy) -> None:
    """They would take a column out that the rows of the first range have."""
    narrow = schema_of(columns={"id": INT8, "a": INT4})
    copy.commit(SchemaChange(narrow, faithful=True), Rows(narrow).insert(5, 1).changes())
    copy.rows[5] = (5, 2, "x")
    copy.commit(SchemaChange(SCHEMA, faithful=True), Rows(SCHEMA).update(5, 2, "x").changes())
    copy.start()
    copy.read(0)
    copy.stream()
    copy.fold()
    for number in copy.left():
        copy.read(number)
    assert copy.finish()
    assert copy.found() == [(5, 2, "x")]


def test_a_pause_in_between_ends_with_the_copy_going_on(copy: Copy) -> None:
    """Half a copy is never swapped in."""
    copy.rows = {5: (5, 1, "x")}
    copy.start()
    copy.read(0)
    copy.store.set_state(TABLE, TableState.PAUSED, "by the user")
    copy.store.finish_copy(TABLE, covers)
    assert copy.store.catalog.tables[TABLE].state is TableState.COPYING
    assert copy.left() == [1, 2, 3]


def test_another_copy_forgets_the_ranges(copy: Copy) -> None:
    """They belong to one copy of the table."""
    copy.start()
    copy.read(0)
    copy.commit(Rows(SCHEMA).insert(5, 1, "x").changes())
    copy.stream()
    copy.store.copy_again(TABLE, "asked")
    assert copy.store.copying.ranged(TABLE) is None
    with pytest.raises(CatalogChanged):
        copy.fold()
    with pytest.raises(CatalogChanged):
        copy.finish()
    copy.start()
    assert copy.left() == [0, 1, 2, 3]
