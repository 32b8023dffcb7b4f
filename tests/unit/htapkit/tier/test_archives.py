"""Archives move to the lake like tables: each row once, each column under one field for ever."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

from htapkit.hot.archive import _becomes
from htapkit.lake.types import holds, iceberg_type
from htapkit.model import (
    NUMBER,
    Column,
    SchemaChange,
    SqlType,
    TableSchema,
    TableState,
    archive_schema,
    followed,
    retire,
)
from htapkit.tier.rules import rule_of
from tests.unit.htapkit.hot.building import INT4, INT8, TEXT, Rows, batch_of, covers
from tests.unit.htapkit.hot.test_store import follow
from tests.unit.htapkit.tier.archives import ARCHIVE, CONFIG, DAY, PLAIN, Side, plainly


def change(side: Side, schema: TableSchema, *columns: Column) -> TableSchema:
    now = replace(schema, columns=columns)
    side.store.change_schema(SchemaChange(now, faithful=True))
    return now


def test_a_column_is_one_field_whatever_becomes_of_it(side: Side) -> None:
    follow(side.store, PLAIN, [(1, 10, "one"), (2, 20, "two"), (3, 30, "three")])
    key, number, text = PLAIN.columns
    side.delete(1, PLAIN, 1)
    side.tier(2)
    first = side.fields()
    # `a` gets a wider type and another name, `n` comes.
    wider = replace(number, name="b", type=INT8)
    now = change(side, PLAIN, key, wider, text, Column("n", TEXT, 9))
    side.store.apply(batch_of(DAY + 1, Rows(now).update(2, 2**40, "two", "new").changes()), covers)
    side.delete(2, now, 2)
    side.tier(3)
    second = side.fields()
    # All go but the key; another column gets the name of one.
    now = change(side, now, key, Column("s", INT4, 10))
    side.store.apply(batch_of(2 * DAY + 1, Rows(now).update(3, 33).changes()), covers)
    side.delete(3, now, 3)
    side.tier(4)
    third = side.fields()
    # Another table of that name: its numbers are those that others had.
    again = replace(
        PLAIN, columns=(key, Column("w", TEXT, 2), Column("n", INT4, 3), Column("q", INT4, 10))
    )
    side.store.drop_table(PLAIN.table)
    follow(side.store, again, [(4, "four", 44, 1), (5, "five", 55, 2)], at=3 * DAY)
    side.delete(4, again, 4)
    side.tier(5)
    fourth = side.fields()
    w, n, q = again.columns[1:]
    last = change(side, again, key, replace(w, name="x"), n, q)
    side.delete(5, last, 5)
    side.tier(6)
    expected: list[dict[str, Any]] = [
        {"id": 1, "b": 10, "s_text": "one", "day": 1},
        {"id": 2, "b": 2**40, "s_text": "two", "n_text": "new", "day": 2},
        {"id": 3, "s": 33, "day": 3},
        {"id": 4, "x": "four", "n": 44, "q": 1, "day": 4},
        {"id": 5, "x": "five", "n": 55, "q": 2, "day": 5},
    ]
    for number_, row in enumerate(expected, start=1):
        row[NUMBER] = number_
    assert side.rows() == expected
    assert side.rows(hot=True) == []
    assert plainly(side.iceberg().scan().to_arrow().to_pylist()) == expected
    fields = side.fields()
    assert len(set(fields.values())) == len(fields) == 10
    for then, old, new in (
        (first, "id", "id"),
        (first, "a", "b"),
        (first, "s", "s_text"),
        (second, "n", "n_text"),
        (third, "s", "s"),
        (fourth, "w", "x"),
        (fourth, "n", "n"),
    ):
        assert then[old] == fields[new], (old, new)


def test_what_stays_one_column_here_the_lake_can_promote() -> None:
    """Or a run would be refused for ever: an archive cannot be copied again."""
    found = "bool int2 int4 int8 float4 float8 date time timestamp timestamptz bytea text varchar"
    types = [SqlType(name, number) for number, name in enumerate([*found.split(), "uuid", "json"])]
    for precision, scale in ((10, 2), (12, 2), (12, 3), (50, 2)):
        types.append(SqlType("numeric", 1700, ((precision << 16) | scale) + 4))
    types.append(SqlType("numeric", 1700))
    columns = [Column("c", type_, 1) for type_ in types]
    same = [(old, new) for old, new in product(columns, repeat=2) if _becomes(old, new)]
    for old, new in same:
        assert holds(iceberg_type(new), iceberg_type(old)), (old.type, new.type)
    names = {(old.type.name, new.type.name) for old, new in same}
    assert {("int2", "int4"), ("int4", "int8"), ("float4", "float8"), ("uuid", "text")} <= names


def test_no_number_is_given_twice_though_the_last_ones_are_in_the_lake(side: Side) -> None:
    follow(side.store, PLAIN, [(1, 10, "one"), (2, 20, "two")])
    side.delete(1, PLAIN, 1)
    side.tier(2)
    assert side.rows(hot=True) == []
    side.close()
    side.open()
    side.delete(2, PLAIN, 2)
    assert [(row["id"], row[NUMBER]) for row in side.rows()] == [(1, 1), (2, 2)]


def test_an_archive_without_old_rows_has_no_run(side: Side) -> None:
    follow(side.store, PLAIN, [(1, 10, "one"), (2, 20, "two")])
    side.tier(9)
    side.delete(3, PLAIN, 1)
    side.tier(3)
    assert side.store.catalog.tables[ARCHIVE].boundary is None
    assert side.lake.tables() == ()
    side.tier(4)
    assert side.store.catalog.tables[ARCHIVE].boundary is not None
    found = side.iceberg().current_snapshot()
    side.tier(5)
    assert side.iceberg().current_snapshot() == found


def test_a_column_that_an_older_version_renumbered_stays_as_it_is() -> None:
    """It gave a column that the table had lost an ordinal beyond all tables'."""
    key, number, text = PLAIN.columns
    made = archive_schema(replace(PLAIN, columns=(key, text)))
    older = replace(made, columns=(*made.columns, replace(number, ordinal=1_000_001)))
    again = replace(PLAIN, columns=(key, Column("a", TEXT, 2)))
    middle, named = retire(older, again, frozenset({text.ordinal}))
    assert named == {"a": "a_int4"}
    now = archive_schema(again, middle)
    found = [(c.name, c.ordinal, followed(c)) for c in now.columns][:-2]
    assert found == [("id", 1, 1), ("a", 2, 2), ("s", 3, None), ("a_int4", 1_000_001, None)]


def test_what_comes_late_or_is_erased_while_a_run_is_under_way(side: Side) -> None:
    """Deletions of a paused table keep their time; they are below the line when it is resumed."""
    store = side.store
    follow(store, PLAIN, [(n, n, "x") for n in range(1, 6)])
    side.delete(1, PLAIN, 1, 2)
    store.set_state(PLAIN.table, TableState.PAUSED, "a test")
    side.delete(2, PLAIN, 3)
    rule = rule_of(store.catalog.tables[ARCHIVE].schema, CONFIG)
    with store.begin_run("run", {ARCHIVE: 3 * DAY}, {ARCHIVE: rule.column.ordinal}) as export:
        schema, rows = export.schema(ARCHIVE), export.rows(ARCHIVE, rule.layout.sort)
        pin = side.lake.commit(export.run, schema, rule.layout, None, None, rows)
    store.set_state(PLAIN.table, TableState.FOLLOWING, "")
    side.delete(4, PLAIN, 4)
    store.archives.erase(PLAIN.table, side.numbers(1))
    store.finish_run("run", {ARCHIVE: pin})
    days = ((2, 1), (3, 2), (4, 4))
    left = [{"id": n, "a": n, "s": "x", NUMBER: n, "day": day} for n, day in days]
    assert side.rows() == left
    assert [row["id"] for row in side.rows(hot=True)] == [3, 4]
    side.tier(3)
    assert side.rows() == left
    assert [row["id"] for row in side.rows(hot=True)] == [4]
    found = plainly(side.iceberg().scan().to_arrow().to_pylist())
    assert [row["id"] for row in found] == [2, 3]
