"""Copies that begin with the rows of the table, less some ranges that are in doubt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from htapkit.model import Doubt, SchemaChange, Split, TableState
from tests.ranged_copy import SCHEMA, SPLITS, TABLE, Copy, place
from tests.unit.htapkit.hot.building import Rows, covers

DOUBT = Doubt(tuple(SPLITS), frozenset({1}))


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    """A table that follows, with a row in each range."""
    made = Copy(tmp_path)
    made.rows = {n: (n, 1, "x") for n in (5, 15, 25, 35)}
    made.start()
    for number in range(len(SPLITS)):
        made.read(number)
    made.commit()
    made.stream()
    assert made.finish()
    yield made
    made.close()


def begin(copy: Copy, doubt: Doubt = DOUBT) -> bool:
    return copy.store.copying.keeping.begin(TABLE, "a test", "later", doubt)


def clear(copy: Copy) -> None:
    copy.store.copying.keeping.clear(TABLE, covers, place)


def doubt(*numbers: int) -> Doubt:
    return replace(DOUBT, doubtful=frozenset(numbers))


def told(fingerprint: str, *numbers: int) -> SchemaChange:
    """What the stream says of ranges."""
    return SchemaChange(
        SCHEMA, faithful=False, why="w", fingerprint=fingerprint, doubt=doubt(*numbers)
    )


def less(copy: Copy, *numbers: int) -> bool:
    """More is in doubt than the copier knew, against the fingerprint of the table."""
    now = copy.store.copying.ranged(TABLE)
    assert now is not None
    return copy.store.copying.keeping.less(TABLE, now.fingerprint, "latest", doubt(*numbers))


def state(copy: Copy) -> TableState:
    return copy.store.catalog.tables[TABLE].state


@pytest.mark.parametrize("restarted", [False, True])
def test_only_the_range_in_doubt_is_read(copy: Copy, restarted: bool) -> None:
    """Its old rows go; changes of rows that the table never had there are of no concern."""
    del copy.rows[15]
    copy.rows |= {n: (n, 2, "came") for n in (12, 13)}
    assert begin(copy)
    assert state(copy) is TableState.COPYING
    assert copy.store.catalog.readable(TABLE) is None
    copy.rows[12], copy.rows[25] = (12, 3, "y"), (25, 3, "y")
    copy.commit(Rows(SCHEMA).update(12, 3, "y").update(25, 3, "y").changes())
    copy.stream()
    if restarted:
        copy.restart()
    assert copy.left() == [1]
    assert not copy.finish()
    clear(copy)
    copy.read(1)
    copy.rows[13] = (13, 4, "z")
    copy.commit(Rows(SCHEMA).update(13, 4, "z").changes())
    copy.stream()
    assert copy.finish()
    assert copy.store.fingerprint(TABLE) == "later"
    assert copy.found() == sorted(copy.rows.values())


def test_more_comes_into_doubt_meanwhile(copy: Copy) -> None:
    """The copy begins again with fewer rows, and what it had read goes."""
    copy.rows[15] = (15, 9, "first")
    assert begin(copy)
    clear(copy)
    copy.read(1)
    copy.rows[15], copy.rows[35] = (15, 10, "second"), (35, 10, "second")
    change = SchemaChange(SCHEMA, faithful=False, why="w", fingerprint="latest", doubt=DOUBT)
    copy.commit(change, Rows(SCHEMA).insert(6, 1, "new").changes())
    copy.rows[6] = (6, 1, "new")
    copy.stream()
    assert not copy.finish(), "what was read is in doubt, too"
    assert not less(copy, 3)
    assert less(copy, 1, 3)
    clear(copy)
    for number in copy.left():
        copy.read(number)
    assert copy.finish()
    assert copy.store.fingerprint(TABLE) == "latest"
    assert copy.found() == sorted(copy.rows.values())


def test_attached_and_detached_again(copy: Copy) -> None:
    """The table is as it was before, and the copy has read what was attached."""
    copy.rows[15] = (15, 9, "attached")
    assert begin(copy)
    clear(copy)
    copy.read(1)
    copy.rows[15] = (15, 1, "x")
    copy.commit(told("f", 1))
    copy.stream()
    assert not copy.finish()


@pytest.mark.parametrize("finished", [False, True])
def test_the_stream_knows_of_more_than_whoever_began_it(copy: Copy, finished: bool) -> None:
    """A partition whose rows came with events, and that was gone at the next look."""
    assert begin(copy)
    clear(copy)
    copy.read(1)
    if finished:
        copy.stream()
        assert copy.finish()
    copy.commit(told("later", 1))
    copy.stream()
    assert finished == (state(copy) is TableState.FOLLOWING)
    del copy.rows[25]
    copy.commit(told("later", 1, 2))
    copy.stream()
    if not finished:
        assert not copy.finish()
        assert less(copy, 1, 2)
    assert copy.left() == [1, 2]


def test_a_partition_that_came_and_went_meanwhile(copy: Copy) -> None:
    """The fingerprint that the table's rows had knows nothing of it."""
    assert begin(copy)
    copy.commit(told("latest", 2))
    copy.commit(told("last", 3))
    copy.stream()
    assert not less(copy, 1, 2)
    assert less(copy, 1, 2, 3)


def test_what_the_stream_tells_right_then_stays_told(copy: Copy) -> None:
    assert begin(copy)
    copy.commit(told("latest", 1))
    copy.stream()
    before = copy.store.copying.ranged(TABLE)
    assert before is not None
    copy.commit(told("last", 1))
    copy.stream()
    keeping = copy.store.copying.keeping
    assert not keeping.less(TABLE, before.fingerprint, "latest", DOUBT)


def test_all_ranges_in_doubt_are_taken_out_in_one_pass(copy: Copy) -> None:
    assert begin(copy, doubt(0, 1, 3))
    passes = 0

    def counted(ranges: Sequence[Split], keys: pa.RecordBatch) -> pa.Array:
        nonlocal passes
        passes += 1
        return place(ranges, keys)

    copy.store.copying.keeping.clear(TABLE, covers, counted)
    assert passes == 1
    copy.rows = {25: copy.rows[25]}
    for number in copy.left():
        copy.read(number)
    copy.stream()
    assert copy.finish()
    assert copy.found() == [copy.rows[25]]


def test_ranges_in_doubt_are_not_restless(copy: Copy) -> None:
    """Rows that never were read did not move."""
    assert begin(copy)
    found = copy.store.copying.ranged(TABLE)
    assert found is not None
    assert [(r.stale, r.again) for r in found.left] == [(True, False)]


def test_the_stream_tells_it_in_the_middle_of_a_batch(copy: Copy) -> None:
    """What the batch changed before is kept aside, too."""
    copy.rows |= {5: (5, 7, "before"), 35: (35, 8, "after")}
    del copy.rows[15]
    copy.commit(
        Rows(SCHEMA).update(5, 7, "before").changes(),
        SchemaChange(SCHEMA, faithful=False, why="w", fingerprint="later", doubt=DOUBT),
        Rows(SCHEMA).update(35, 8, "after").changes(),
    )
    copy.stream()
    assert state(copy) is TableState.COPYING
    assert copy.left() == [1]
    clear(copy)
    copy.read(1)
    assert copy.finish()
    assert copy.found() == sorted(copy.rows.values())


def test_a_table_that_does_not_follow_is_copied_as_a_whole(copy: Copy) -> None:
    copy.store.set_state(TABLE, TableState.PAUSED, "a test")
    assert not begin(copy)
    copy.store.copy_again(TABLE, "a test")
    assert not begin(copy)
