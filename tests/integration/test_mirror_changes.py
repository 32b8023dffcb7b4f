"""Rows that change at the source are, with their commit, the same rows at the port.

Every test writes at the source and then compares whole tables at once, without waiting: the copy is
asked for with `freshness = 'strong'`, and must be the one that answers.
"""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_mirror import Mirrored, printed

pytestmark = pytest.mark.integration


def test_insert_update_delete(mirror: Mirrored) -> None:
    mirror.make(
        "plain",
        "create table plain (id int primary key, v text, n numeric(12,2), at timestamptz)",
        "insert into plain select g, 'v' || g, g / 4.0, now() from generate_series(1, 2000) g",
    )
    mirror.equal("plain")
    mirror.run("insert into plain values (0, null, null, null), (-1, '', 0, 'epoch')")
    mirror.equal("plain")
    mirror.run("update plain set v = v || '!', n = -n where id % 3 = 0")
    mirror.equal("plain")
    mirror.run("delete from plain where id % 5 = 0")
    mirror.equal("plain")
    mirror.run("insert into plain values (5, 'again', 1, now())", "delete from plain where id = 5")
    mirror.transaction(
        "insert into plain values (10, 'a', 1, now())",
        "update plain set v = 'b' where id = 10",
        "delete from plain where id = 10",
        "insert into plain values (10, 'c', 2, now())",
        "update plain set n = 3 where id = 10",
    )
    mirror.equal("plain")
    mirror.run("delete from plain")
    mirror.equal("plain")
    assert mirror.copies("plain") == 1


def test_keys_that_change(mirror: Mirrored) -> None:
    mirror.make(
        "keys",
        "create table keys (id int primary key, v text)",
        "insert into keys select g, 'v' || g from generate_series(1, 100) g",
    )
    mirror.run("update keys set id = id + 1000 where id <= 50")
    mirror.equal("keys")
    # A chain: each row takes the number that the one before it had.
    with mirror.database.connect() as connection, connection.transaction():
        for number in range(100, 60, -1):
            connection.execute("update keys set id = %s where id = %s", [number + 1, number])
    mirror.equal("keys")
    mirror.transaction(  # a swap
        "update keys set id = -1 where id = 70",
        "update keys set id = 70 where id = 71",
        "update keys set id = 71 where id = -1",
    )
    mirror.transaction(  # there and back, and a row that takes a key that was just given up
        "update keys set id = -2 where id = 80",
        "insert into keys values (80, 'new')",
        "delete from keys where id = 80",
        "update keys set id = 80 where id = -2",
    )
    mirror.equal("keys")
    assert mirror.copies("keys") == 1


def test_a_key_of_several_columns(mirror: Mirrored) -> None:
    mirror.make(
        "wide_key",
        "create table wide_key (id int, b text, c timestamptz, v int, primary key (c, id, b))",
        "insert into wide_key select g, 'b' || g % 7, to_timestamp(g), g "
        "from generate_series(1, 500) g",
    )
    mirror.run(
        "update wide_key set v = -v where id % 2 = 0",
        "update wide_key set c = 'infinity' where id % 11 = 0",
        "update wide_key set b = '' where id % 13 = 0",
        "delete from wide_key where id % 17 = 0",
    )
    mirror.equal("wide_key")


def test_truncate_of_several_tables(mirror: Mirrored) -> None:
    names = ("trunc_a", "trunc_b", "trunc_c")
    mirror.run(
        "create table trunc_a (id int primary key)",
        "create table trunc_b (id int primary key, a int references trunc_a)",
        "create table trunc_c (id serial primary key)",
        "insert into trunc_a select generate_series(1, 10)",
        "insert into trunc_b select g, g from generate_series(1, 10) g",
        "insert into trunc_c select generate_series(1, 10)",
    )
    mirror.follows(*names)
    mirror.equal(*names)
    mirror.run("truncate trunc_a cascade")
    mirror.equal(*names)
    mirror.transaction(
        "insert into trunc_a values (1), (2)",
        "truncate trunc_a, trunc_b, trunc_c restart identity",
        "insert into trunc_a values (7)",
        "insert into trunc_c default values",
    )
    mirror.equal(*names)
    mirror.transaction("truncate trunc_c", "insert into trunc_c select generate_series(1, 1000)")
    mirror.equal(*names)
    assert mirror.all_copies(*names) == dict.fromkeys(names, 1)


@pytest.mark.parametrize("identity", ["default", "full", "index"])
def test_unchanged_toast(mirror: Mirrored, identity: str) -> None:
    name = f"toast_{identity}"
    how = {"default": "default", "full": "full", "index": f"using index {name}_other"}[identity]
    big = "(select string_agg(md5((g * 7 + {0})::text), '') from generate_series(1, 200) g)"
    mirror.run(
        f"create table {name} (id int primary key, other int not null, small text, "
        "big text, bigger bytea, number numeric)",
        f"create unique index {name}_other on {name} (other)",
        f"alter table {name} alter big set storage external, alter bigger set storage external",
        f"alter table {name} replica identity {how}",
        f"insert into {name} select i, i, 's', {big.format('i')}, {big.format('i')}::bytea, "
        "repeat('9', 9000)::numeric from generate_series(1, 20) i",
    )
    mirror.follows(name)
    mirror.equal(name)
    mirror.run(f"update {name} set small = 'changed' where id <= 10")
    mirror.run(f"update {name} set id = id + 100, other = other + 100 where id <= 5")
    mirror.transaction(  # in one batch: the value is that of the row before, not of the table
        f"insert into {name} values (50, 50, 'new', {big.format(50)}, null, 1)",
        f"update {name} set small = 'again' where id = 50",
        f"update {name} set big = {big.format(51)} where id = 7",
        f"update {name} set small = 'twice' where id = 7",
        f"update {name} set other = 77, id = 77 where id = 7",
        f"update {name} set small = 'moved' where id = 77",
        f"update {name} set big = null where id = 8",
    )
    mirror.equal(name)
    assert mirror.copies(name) == 1


def test_no_key_but_whole_rows(mirror: Mirrored) -> None:
    mirror.make(
        "bag",
        "create table bag (a int, b text, c float8, d jsonb)",
        "alter table bag replica identity full",
        "insert into bag select g % 3, 'x', 'NaN', '{}' from generate_series(1, 12) g",
        "insert into bag values (null, null, null, null), (null, null, null, null)",
    )
    mirror.equal("bag", order="")
    one = "delete from bag where ctid = (select min(ctid) from bag where {0})"
    mirror.run(one.format("a = 1"), one.format("a is null"))
    mirror.equal("bag", order="")
    mirror.run("update bag set b = 'y' where ctid = (select min(ctid) from bag where a = 2)")
    mirror.run("update bag set a = a where a = 0")
    mirror.transaction(
        "insert into bag values (9, 'n', 0, null), (9, 'n', 0, null), (9, 'n', 0, null)",
        one.format("a = 9"),
        "update bag set c = -0.0 where ctid = (select max(ctid) from bag where a = 9)",
        one.format("a is null"),
    )
    mirror.equal("bag", order="")
    mirror.run("delete from bag")
    mirror.equal("bag", order="")
    assert mirror.copies("bag") == 1


def test_an_identity_that_is_not_the_key(mirror: Mirrored) -> None:
    mirror.make(
        "by_index",
        "create table by_index (id int primary key, email text not null, v text)",
        "create unique index by_index_email on by_index (email)",
        "alter table by_index replica identity using index by_index_email",
        "insert into by_index select g, 'm' || g, 'v' from generate_series(1, 50) g",
    )
    mirror.run("update by_index set v = 'w' where id % 2 = 0")
    mirror.run("update by_index set email = email || '@' where id % 3 = 0")
    mirror.run("update by_index set id = id + 100 where id % 5 = 0")
    mirror.run("delete from by_index where id % 7 = 0")
    mirror.equal("by_index")
    assert mirror.copies("by_index") == 1


@pytest.mark.parametrize("identity", ["nothing", "default"])
def test_rows_without_identity_are_left_alone(mirror: Mirrored, identity: str) -> None:
    name = f"no_identity_{identity}"
    mirror.transaction(  # a look between two of them would find a table that can be followed
        f"create table {name} (id int{' primary key' if identity == 'nothing' else ''}, v text)",
        f"alter table {name} replica identity {identity}",
        f"insert into {name} values (1, 'one')",
    )
    try:
        assert "REPLICA IDENTITY FULL" in mirror.becomes(name, "problem")
        mirror.run(f"update {name} set v = 'two'")  # the source's own work goes on
        mirror.same_answer(f"select * from {name}", "source")
        with mirror.port() as port, pytest.raises(psycopg.errors.FeatureNotSupported):
            port.execute(f"select * from {name}")
        mirror.run(f"alter table {name} replica identity full")
        mirror.settles(name, order="")
    finally:
        mirror.run(f"drop table {name}")


def test_append_only(mirror: Mirrored) -> None:
    """Asked for by name: inserts and truncates are followed, and the source may update."""
    mirror.make(
        "appended",
        "create table appended (at timestamptz default now(), v text)",
        "insert into appended (v) select 'v' || g from generate_series(1, 100) g",
    )
    mirror.run("insert into appended (v) values ('late'), ('late')")
    mirror.equal("appended", order="")
    mirror.run("truncate appended", "insert into appended (v) values ('after')")
    mirror.equal("appended", order="")
    mirror.run("update appended set v = 'changed'")  # is not refused, and not seen
    with mirror.port() as port:
        assert printed(port, "select v from appended")[1] == [(b"after",)]
    assert mirror.copies("appended") == 1


def test_a_table_that_loses_its_key(mirror: Mirrored) -> None:
    mirror.make(
        "keyless",
        "create table keyless (id int primary key, v text)",
        "insert into keyless values (1, 'one')",
    )
    try:
        mirror.run("alter table keyless drop constraint keyless_pkey")
        mirror.becomes("keyless", "set_aside", "REPLICA IDENTITY FULL")
        mirror.run("update keyless set v = 'two'")
        mirror.same_answer("select * from keyless", "source")
        mirror.run("alter table keyless add primary key (id)")
        mirror.settles("keyless")
    finally:
        mirror.run("drop table keyless")


def test_partitions(mirror: Mirrored) -> None:
    mirror.make(
        "parted",
        "create table parted (id int, day date, v text, primary key (day, id)) "
        "partition by range (day)",
        "create table parted_1 partition of parted for values "
        "from ('2026-01-01') to ('2026-02-01')",
        "create table parted_2 partition of parted for values "
        "from ('2026-02-01') to ('2026-03-01') "
        "partition by hash (id)",
        "create table parted_2a partition of parted_2 for values with (modulus 2, remainder 0)",
        "create table parted_2b partition of parted_2 for values with (modulus 2, remainder 1)",
        "create table parted_rest partition of parted default",
        "insert into parted select g, '2026-01-01'::date + g, 'v' from generate_series(0, 99) g",
    )
    assert mirror.table("parted_1") == {}
    mirror.equal("parted", order="day, id")
    mirror.run("update parted set v = 'w', day = day + 31 where id < 40")  # to other partitions
    mirror.run("update parted set id = id + 1000 where id % 2 = 0")  # to the sibling by hash
    mirror.equal("parted", order="day, id")
    mirror.run(
        "create table parted_3 partition of parted for values "
        "from ('2027-03-01') to ('2027-04-01')",
        "insert into parted values (1, '2027-03-05', 'three')",
    )
    mirror.settles("parted", order="day, id")
    assert mirror.copies("parted") == 1
    # What a TRUNCATE of partitions took is never sent: the catalog tells.
    for truncated in ("parted_2", "parted_3"):
        before = mirror.copies("parted")
        mirror.run(f"truncate {truncated}")
        mirror.settles("parted", order="day, id")
        assert mirror.copies("parted") > before
    mirror.run("truncate parted", "insert into parted values (1, '2026-02-05', 'one')")
    mirror.settles("parted", order="day, id")
    mirror.run(
        "create table joins (id int not null, day date not null, v text)",
        "insert into joins values (1, '2028-01-05', 'came along')",
        "alter table parted attach partition joins for values "
        "from ('2028-01-01') to ('2028-02-01')",
    )
    mirror.settles("parted", order="day, id")
    assert mirror.copies("parted") >= 2
    before = mirror.copies("parted")
    mirror.run("alter table parted detach partition joins")
    mirror.settles("parted", order="day, id")
    assert mirror.copies("parted") > before
    before = mirror.copies("parted")
    mirror.run("drop table parted_2")
    mirror.settles("parted", order="day, id")
    assert mirror.copies("parted") > before
    mirror.run("drop table joins")


def test_generated_columns(mirror: Mirrored) -> None:
    mirror.run(
        "create table generated (id int primary key, a int, "
        "b int generated always as (a * 2) stored)",
        "insert into generated (id, a) select g, g from generate_series(1, 50) g",
    )
    try:
        if mirror.version < 18:
            why = mirror.becomes("generated", "problem")
            assert "column b is generated" in why
            mirror.run("update generated set a = 7 where id = 1")
            mirror.same_answer("select * from generated order by id", "source")
            return
        mirror.settles("generated")
        mirror.run("update generated set a = 7 where id % 2 = 0")
        mirror.equal("generated")
        mirror.run("alter table generated alter b set expression as (a * 3)")
        mirror.settles("generated")
        mirror.run("insert into generated (id, a) values (100, 5)")
        mirror.equal("generated")
        assert mirror.copies("generated") == 2  # by whichever of the two ways it was noticed first
    finally:
        mirror.run("drop table generated")
