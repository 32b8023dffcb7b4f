"""Which columns a relation message lists: certain, or not read at all."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htapkit.model import Column, SqlType, TableId, TableSchema
from htapkit_postgres.alignment import Shown, reads_as
from htapkit_postgres.pgoutput import RelationColumn

TYPES = {"int": 23, "text": 25}
Listed = tuple[tuple[str, int, str], ...]
"""Name, number and type of each column."""

OLD: Listed = (("id", 1, "int"), ("a", 2, "int"), ("b", 3, "int"))


def schema(columns: Listed) -> TableSchema:
    made = tuple(Column(name, SqlType(kind, TYPES[kind]), number) for name, number, kind in columns)
    return TableSchema(TableId("s", "public", "t"), made, key=("id",))


def message(columns: Listed) -> list[RelationColumn]:
    """As pgoutput lists them: no numbers."""
    return [RelationColumn(name, TYPES[kind], -1, key=name == "id") for name, _, kind in columns]


def listed(*columns: str) -> Listed:
    """`name number`, all of them int."""
    return tuple((name, int(number), "int") for name, number in map(str.split, columns))


@pytest.mark.parametrize(
    ("given", "now", "certain"),
    [
        pytest.param(["id 1", "a 2", "b 3"], ["id 1", "a 2", "b 3"], True, id="the same"),
        pytest.param(
            ["id 1", "a 2", "b 3", "c 4"],
            ["id 1", "a 2", "b 3", "c 4", "d 5"],
            True,
            id="the last of two columns is still to come",
        ),
        pytest.param(
            ["id 1", "a 2"], ["id 1", "a 2", "c 4"], True, id="dropped; one still to come"
        ),
        pytest.param(["id 1", "b 3"], ["id 1", "b 3", "c 4"], True, id="dropped in the middle"),
        pytest.param(["id 1", "x 2", "b 3"], ["id 1", "y 2", "b 3"], False, id="renamed twice"),
        pytest.param(
            ["id 1", "a 2", "b 3", "c 4"],
            ["id 1", "x 2", "b 3", "c 4"],
            False,
            id="still to be renamed",
        ),
        pytest.param(
            ["id 1", "x 2", "b 3", "c 4"], ["id 1", "x 2", "b 3"], True, id="renamed; one that goes"
        ),
        pytest.param(
            ["id 1", "a 2", "b 3", "c 4"],
            ["id 1", "a 2", "b 3", "d 4"],
            False,
            id="a new column that is still to be renamed",
        ),
        pytest.param(
            ["id 1", "b 2", "a 3"], ["id 1", "a 2", "b 3"], False, id="swapped for a while"
        ),
        pytest.param(
            ["id 1", "a 2", "b 3", "c 4"],
            ["id 1", "a 2", "b 3", "c 5"],
            False,
            id="another of this name is still to come",
        ),
        pytest.param(
            ["id 1", "a 2", "c 4"],
            ["id 1", "a 2", "c 4"],
            False,
            id="it might be the dropped one, renamed",
        ),
    ],
)
def test_what_is_certain(given: list[str], now: list[str], certain: bool) -> None:
    target = schema(listed(*now))
    made = max(number for _, number, _ in listed(*given, *now))
    catalog = Shown.of(target, made)
    assert reads_as(message(listed(*given)), Shown.of(schema(OLD)), catalog, target) is certain


def test_types_tell_columns_apart() -> None:
    more: Listed = (*OLD[:2], ("c", 4, "text"))
    now = schema(more)
    assert reads_as(message(more), Shown.of(schema(OLD)), Shown.of(now), now)


def test_the_old_names_of_what_will_be_renamed() -> None:
    now = Shown.of(schema(listed("id 1", "x 2", "b 3")))
    assert reads_as(message(OLD), Shown.of(schema(OLD)), now, schema(OLD))


def test_no_more_columns_were_made_than_the_catalog_counts() -> None:
    """Else a dropped one might be another of its name, which came later and went, too."""
    old, now = schema(OLD), schema(OLD[:2])
    assert reads_as(message(OLD), Shown.of(old), Shown.of(now, 3), old)
    assert not reads_as(message(OLD), Shown.of(old), Shown.of(now, 4), old)


def test_what_was_shown_is_not_asked_again() -> None:
    """A column that the stream has shown to be gone is no way to read the next message."""
    shown = Shown.of(schema(OLD))
    less, more = listed("id 1", "a 2"), listed("id 1", "a 2", "c 4")
    now = schema(more)
    assert not reads_as(message(more), shown, Shown.of(now), now)
    shown = shown.after(message(less), schema(less))
    assert reads_as(message(more), shown, Shown.of(now), now)


def test_a_column_that_came_and_went_is_not_the_one_of_its_name_before() -> None:
    """Dropped, made again, and dropped: the message that lists it may mean either."""
    last = ("c", 5, "text")
    old, row = listed("id 1", "a 2"), (*listed("id 1", "a 3", "b 4"), last)
    now = schema((*listed("id 1", "b 4"), last))
    shown = Shown.of(schema(old))
    assert reads_as(message(row), shown, Shown.of(now), now)
    shown = shown.after(message(row), now)
    assert not reads_as(message(row), shown, Shown.of(now), schema(old))


# -- any history --

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "drop", "rename", "row"]),
        st.integers(0, 9),
        st.sampled_from("abc"),
        st.sampled_from(sorted(TYPES)),
    ),
    max_size=14,
)


def history(steps: Sequence[tuple[str, int, str, str]]) -> tuple[list[Listed], int]:
    """What the table was like at each row and in the end; how many columns it ever had."""
    columns: list[tuple[str, int, str]] = [("id", 1, "int"), ("a", 2, "int")]
    made, rows = 2, [tuple(columns)]
    for what, which, name, kind in steps:
        free = all(name != column[0] for column in columns)
        if what == "row":
            rows.append(tuple(columns))
        elif what == "add" and free:
            made += 1
            columns.append((name, made, kind))
        elif len(columns) > 1 and what == "drop":
            del columns[1 + which % (len(columns) - 1)]
        elif len(columns) > 1 and what == "rename" and free:
            at = 1 + which % (len(columns) - 1)
            columns[at] = (name, *columns[at][1:])
    return [*rows, tuple(columns)], made


@settings(max_examples=400, print_blob=True)
@given(steps=STEPS)
def test_what_is_read_is_read_right(steps: Sequence[tuple[str, int, str, str]]) -> None:
    """With the catalog ahead by the whole history, no value comes into another column."""
    rows, made = history(steps)
    now = schema(rows[-1])
    shown = Shown.of(schema(rows[0]))
    for row in rows[1:]:
        for target in (now, schema(rows[0])):
            if not reads_as(message(row), shown, Shown.of(now, made), target):
                continue
            true = {number: place for place, (_, number, _) in enumerate(row)}
            named = {name: place for place, (name, _, _) in enumerate(row)}
            for column in target.columns:
                assert named.get(column.name) == true.get(column.ordinal), (rows, row)
            if target is now:
                shown = shown.after(message(row), now)
