"""Changes of tables at the source, most without events, end in the same tables at the port.

Where rows are followed in place, the table is not copied again, and that is counted; where they
cannot be, it must be, exactly once. Statements in between are answered by the source or exactly.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import psycopg
import pytest

from tests.fix_mirror import Mirrored, printed

pytestmark = pytest.mark.integration

ROWS = "insert into {0} select g, 'v' || g, g, g / 4.0 from generate_series(1, 300) g"
TABLE = "create table {0} (id int primary key, v varchar(10), n int, x numeric(8,2))"


def changed(
    mirror: Mirrored, prefix: str, cases: Mapping[str, Sequence[str]], copies: int, after: str
) -> None:
    """Change a table for each case, with rows before and after; so many new copies are made."""
    names = {f"{prefix}_{case}": statements for case, statements in cases.items()}
    for name in names:
        mirror.run(TABLE.format(name), ROWS.format(name))
    mirror.follows(*names)
    for name, statements in names.items():
        mirror.run(*(statement.format(name) for statement in statements))
        # The stream shows the new form with the next row; whoever sees it first, it is one change.
        mirror.run(after.format(name))
    mirror.settles(*names)
    for name in names:
        mirror.run(f"delete from {name} where id % 7 = 0")
    mirror.settles(*names)
    counted = mirror.all_copies(*names)
    assert counted == dict.fromkeys(names, 1 + copies), mirror.stack.log_end()


IN_PLACE = {
    "add": ["alter table {0} add column extra text"],
    "add_two": ["alter table {0} add column e1 int, add column e2 timestamptz"],
    "drop": ["alter table {0} drop column v"],
    "rename": ["alter table {0} rename column v to w"],
    "rename_key": ["alter table {0} rename column id to id2", "alter table {0} rename id2 to id"],
    "swap_names": [
        "begin; alter table {0} rename v to t; alter table {0} rename x to v; "
        "alter table {0} rename t to x; commit"
    ],
    "longer": ["alter table {0} alter v type varchar(200)"],
    "to_text": ["alter table {0} alter v type text"],
    "more_digits": ["alter table {0} alter x type numeric(12,2)"],
    "vacuum_full": ["vacuum full {0}"],
    "cluster": ["cluster {0} using {0}_pkey"],
    "set_default": ["alter table {0} alter n set default 7"],
    "not_null": ["alter table {0} alter n set not null"],
    "new_index": ["create index on {0} (n)", "reindex table {0}"],
    "analyze": ["analyze {0}", "vacuum {0}"],
    "storage": ["alter table {0} alter v set storage external", "alter table {0} set logged"],
    "truncate_reload": ["truncate {0}; " + ROWS],
}


def test_a_publication_that_sends_less(mirror: Mirrored) -> None:
    """First, while there are few tables: all of them are copied again."""
    name = mirror.make("less", TABLE.format("less"), ROWS.format("less"))
    mirror.run(
        "alter publication htapkit_shop set (publish = 'insert')",
        f"delete from {name} where id < 9",
        f"update {name} set n = 5",
    )
    mirror.settles(name)
    mirror.run(f"delete from {name} where id < 20")
    mirror.equal(name)


def test_followed_in_place(mirror: Mirrored) -> None:
    changed(mirror, "place", IN_PLACE, 0, "update {0} set n = -n where id % 2 = 0")


COPIED = {
    "add_default": ["alter table {0} add column d int default 5"],
    "add_volatile": ["alter table {0} add column d uuid default gen_random_uuid()"],
    "add_not_null": ["alter table {0} add column d text not null default 'x'"],
    "wider_int": ["alter table {0} alter n type bigint"],
    "using": ["alter table {0} alter v type varchar(10) using reverse(v)"],
    "using_other": ["alter table {0} alter n type text using 'n' || n"],
    "fewer_digits": ["alter table {0} alter x type numeric(8,1)"],
    "drop_add": ["alter table {0} drop column v, add column v varchar(10)"],
    "made_again": ["drop table {0}", TABLE, "insert into {0} values (7, 'new', 1, 1)"],
    "identity_full": [
        "begin; alter table {0} drop constraint {0}_pkey; alter table {0} replica identity full; "
        "commit"
    ],
    "other_key": [
        "alter table {0} drop constraint {0}_pkey, add primary key (id, n)",
    ],
}


def test_copied_again(mirror: Mirrored) -> None:
    changed(mirror, "again", COPIED, 1, "update {0} set id = id + 1000 where id % 2 = 1")


def test_rows_before_and_after_in_one_go(mirror: Mirrored) -> None:
    """All in a burst, so that the stream is behind the catalog when it meets each change."""
    mirror.make("burst", TABLE.format("burst"), ROWS.format("burst"))
    with mirror.database.connect() as connection:
        for step in range(6):
            connection.execute(f"insert into burst (id) values ({1000 + step})")
            connection.execute(f"alter table burst add column c{step} int")
            connection.execute(f"update burst set c{step} = id where id % 10 = {step}")
            connection.execute(f"alter table burst rename column c{step} to d{step}")
            connection.execute(f"update burst set d{step} = -id where id % 20 = {step}")
            if step % 2:
                connection.execute(f"alter table burst drop column d{step}")
            connection.execute("delete from burst where id = 1000 + %s" % (step - 1))
    mirror.settles("burst")
    mirror.run("update burst set n = 0")
    mirror.equal("burst")


def test_a_change_and_rows_in_one_transaction(mirror: Mirrored) -> None:
    mirror.make("inside", TABLE.format("inside"), ROWS.format("inside"))
    mirror.transaction(
        "update inside set n = 1",
        "alter table inside add column late int default 3",
        "update inside set late = 4 where id % 2 = 0",
        "alter table inside alter n type bigint using n * 10",
        "insert into inside values (9999, 'x', 5000000000, 1, 1)",
        "alter table inside drop column x",
        "delete from inside where id < 10",
    )
    mirror.settles("inside")
    mirror.run("update inside set n = n + 1")
    mirror.equal("inside")


def test_new_tables(mirror: Mirrored) -> None:
    """They match the pattern: copied while the others go on, and followed."""
    mirror.make("old", "create table old (id int primary key)")
    for number in range(3):
        mirror.run(
            f"create table new_{number} (id int primary key, v text)",
            f"insert into new_{number} select g, 'v' from generate_series(1, 500) g",
            "insert into old select coalesce(max(id), 0) + 1 from old",
        )
        mirror.equal("old")
    mirror.follows("new_0", "new_1", "new_2")
    mirror.equal("new_0", "new_1", "new_2", "old")
    mirror.run("create schema other", "create table other.not_asked (id int primary key)")
    mirror.run("insert into new_1 values (0, 'x')", "update new_2 set v = 'w'")
    mirror.equal("new_1", "new_2")
    assert mirror.table("other.not_asked") == {}
    assert mirror.copies("old") == 1


def test_a_table_that_is_dropped(mirror: Mirrored) -> None:
    mirror.make("gone", "create table gone (id int primary key)", "insert into gone values (1)")
    mirror.run("drop table gone")
    with mirror.port("auto") as port, pytest.raises(psycopg.errors.UndefinedTable):
        port.execute("select * from gone")
    mirror.becomes_unknown("gone")
    mirror.run("create table gone (id text primary key)", "insert into gone values ('one')")
    mirror.settles("gone", order="")


def test_a_table_that_is_renamed(mirror: Mirrored) -> None:
    mirror.make("before", TABLE.format("before"), ROWS.format("before"))
    mirror.run("alter table before rename to later", "update later set n = 0 where id = 1")
    mirror.settles("later")
    mirror.becomes_unknown("before")
    mirror.run("create schema elsewhere", "alter table later set schema elsewhere")
    mirror.becomes_unknown("later")
    mirror.run("alter table elsewhere.later set schema public", "delete from later where id > 5")
    mirror.settles("later")


def test_tables_that_swap_their_names(mirror: Mirrored) -> None:
    """As a reload by night does it."""
    mirror.run(
        TABLE.format("live"),
        ROWS.format("live"),
        TABLE.format("fresh"),
        "insert into fresh select g, 'fresh', g, 0 from generate_series(1, 50) g",
    )
    mirror.follows("live", "fresh")
    mirror.transaction(
        "alter table live rename to stale",
        "alter table fresh rename to live",
        "alter table stale rename to fresh",
        "insert into live values (777, 'swapped', 0, 0)",
        "insert into fresh values (888, 'swapped', 0, 0)",
    )
    mirror.settles("live", "fresh")
    mirror.run("update live set n = 1", "update fresh set n = 2")
    mirror.equal("live", "fresh")


def test_a_value_is_added_to_an_enum(mirror: Mirrored) -> None:
    mirror.make(
        "moody",
        "create type mood as enum ('sad', 'ok')",
        "create table moody (id int primary key, m mood, ms mood[])",
        "insert into moody values (1, 'sad', '{ok}')",
    )
    mirror.run("alter type mood add value 'great' before 'ok'")
    mirror.run("insert into moody values (2, 'great', '{great,sad}')")
    mirror.equal("moody")
    mirror.settles("moody")
    assert mirror.copies("moody") == 1
    mirror.run("alter type mood rename value 'sad' to 'blue'")
    mirror.settles("moody")
    assert mirror.copies("moody") == 2


def test_a_table_in_and_out_of_the_publication(mirror: Mirrored) -> None:
    """Changes that were not published meanwhile are not missing."""
    name = mirror.make("unlisted", TABLE.format("unlisted"), ROWS.format("unlisted"))
    mirror.run(
        f"alter publication htapkit_shop drop table {name}", f"delete from {name} where id < 9"
    )
    mirror.settles(name)
    copies = mirror.copies(name)
    assert copies == 2
    mirror.run(f"update {name} set n = 5")
    mirror.equal(name)
    mirror.transaction(  # quicker than anybody looks
        f"alter publication htapkit_shop drop table {name}",
    )
    mirror.run(
        f"delete from {name} where id < 20", f"alter publication htapkit_shop add table {name}"
    )
    mirror.settles(name)
    mirror.run(f"update {name} set n = 6 where id = 50")
    mirror.settles(name)
    assert mirror.copies(name) > copies


def test_many_changes_while_others_read(mirror: Mirrored) -> None:
    """A table that is altered all the time: a read is exact at some commit, or the source's."""
    mirror.make("restless", "create table restless (id int primary key, v int)")
    mirror.run("insert into restless select g, 0 from generate_series(1, 100) g")
    stopped = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        with mirror.port("auto", "any") as port:
            while not stopped.is_set():
                _, rows = printed(port, "select count(*), count(distinct v) from restless")
                if rows != [(b"100", b"1")]:
                    wrong.append(rows)

    mirror.equal("restless")
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    for step in range(10):
        mirror.run(
            f"alter table restless add column c{step} int default {step}",
            f"update restless set v = {step}",
            f"alter table restless drop column c{step}",
            "vacuum full restless",
        )
    mirror.settles("restless")
    stopped.set()
    reader.join(60)
    assert not reader.is_alive()
    assert not wrong, wrong[:3]


COMPOSED = {
    "adds": "alter type {0}_pair add attribute c int",
    "drops": "alter type {0}_pair drop attribute b",
    "nested": "alter type {0}_inner add attribute d int",
    "rowtype": "alter table {0}_other add column c int",
    "domained": "alter type {0}_one add attribute c int",
}


@pytest.mark.parametrize(
    "case",
    [case if case == "adds" else pytest.param(case, marks=pytest.mark.long) for case in COMPOSED],
)
def test_a_composite_type_that_changes(mirror: Mirrored, case: str) -> None:
    """All values print differently at once, without an event and without a new file."""
    makes = (
        "create type {0}_inner as (c int)",
        "create type {0}_pair as (a int, b text, i {0}_inner)",
        "create type {0}_one as (a int)",
        "create domain {0}_domain as {0}_one",
        "create table {0}_other (id int primary key, b text)",
        "create table {0} (id int primary key, p {0}_pair, many {0}_pair[], o {0}_other, "
        "d {0}_domain)",
        "insert into {0} values (1, (1, 'x', row(5)), array[row(1, 'x', row(2))::{0}_pair], "
        "row(1, 'y'), row(5))",
    )
    mirror.make(case, *(statement.format(case) for statement in makes))
    mirror.settles(case)
    mirror.run(COMPOSED[case].format(case))
    mirror.settles(case)
    mirror.run(f"drop table {case}")  # what is user-defined is copied again with its like
