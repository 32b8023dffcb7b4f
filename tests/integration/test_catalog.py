"""What the catalog of a real server says of tables, before and after things happened to them."""

from __future__ import annotations

import re

import pytest

from htapkit.model import Broken, SchemaChange, TableId
from htapkit.spi import Discovered
from htapkit.testing.postgres import Database
from htapkit_postgres import PostgresSource
from htapkit_postgres.catalog import describe
from htapkit_postgres.connection import connect, parse_settings
from tests.followed import options

pytestmark = pytest.mark.integration


def discover(database: Database, **settings: object) -> dict[str, Discovered]:
    """By name, with the schema's where it is not public."""
    found = PostgresSource(options(database, **settings)).discover()
    names = [(d.schema.table.schema, d.schema.table.name, d) for d in found]
    return {name if schema == "public" else f"{schema}.{name}": d for schema, name, d in names}


def run(database: Database, *statements: str) -> None:
    for statement in statements:
        database.execute(statement)


def test_columns(database: Database) -> None:
    run(
        database,
        "create domain price as numeric(12,2)",
        "create domain net as price check (value > 0)",
        "create type mood as enum ('ok')",
        "create collation mixed (provider = libc, lc_collate = 'C', lc_ctype = 'C.utf8')",
        'create table "A b" (id bigint, gone int, "we.ird" text collate "C", p net, m mood, '
        "v varchar(7) not null, a int[], c text, x text collate mixed, primary key (v, id))",
        'alter table "A b" drop column gone',
    )
    schema = discover(database)["A b"].schema
    assert schema.key == ("v", "id")
    columns = {c.name: c for c in schema.columns}
    assert [(c.name, c.ordinal) for c in schema.columns] == [
        ("id", 1),
        ("we.ird", 3),
        ("p", 4),
        ("m", 5),
        ("v", 6),
        ("a", 7),
        ("c", 8),
        ("x", 9),
    ]
    assert columns["p"].type.decimal == (12, 2)
    assert columns["m"].type.category == "e"
    assert columns["v"].type.length == 7
    assert columns["a"].type.name == "_int4"
    assert not columns["v"].nullable
    assert not columns["id"].nullable
    assert columns["p"].nullable
    assert columns["we.ird"].binary_order
    assert not columns["x"].binary_order  # what letters become there is not C's


def test_patterns_and_kinds(database: Database) -> None:
    run(
        database,
        "create schema other",
        "create table other.t (id int primary key)",
        "create table t (id int primary key)",
        "create table audit_x (id int primary key)",
        "create view v as select 1",
        "create table p (id int primary key) partition by range (id)",
        "create table p1 partition of p for values from (0) to (10)",
        "create table p2 partition of p for values from (10) to (20) partition by range (id)",
        "create table p21 partition of p2 for values from (10) to (20)",
    )
    assert set(discover(database, tables=["*.*", "!public.audit_*"])) == {"t", "other.t", "p"}
    assert set(discover(database, tables=["public.*", "!public.p"])) == {"t", "audit_x"}
    assert set(discover(database, tables=["public.p21"])) == {"p21"}
    assert set(discover(database, tables=["public.p", "public.p21"])) == {"p"}


IDENTITIES = {
    "create table {0} (id int primary key)": (("id",), False, ""),
    "create table {0} (id int primary key deferrable)": ((), False, "no identity"),
    "create table {0} (id int)": ((), False, "no identity"),
    "create table {0} (id int); alter table {0} replica identity full": ((), True, ""),
    "create table {0} (id int primary key); alter table {0} replica identity full": (
        ("id",),
        False,
        "",
    ),
    "create table {0} (id int primary key); alter table {0} replica identity nothing": (
        (),
        False,
        "no identity",
    ),
    "create table {0} (id int primary key, u int not null); create unique index {0}_u on {0} (u) "
    "include (id); alter table {0} replica identity using index {0}_u": (("u",), False, ""),
    "create unlogged table {0} (id int primary key)": (("id",), False, "unlogged"),
    "create table {0} ()": ((), False, "no columns"),
    "create table {0} (id int, k int, primary key (id, k)) partition by list (k); "
    "create table {0}_1 partition of {0} for values in (1); "
    "alter table {0}_1 replica identity nothing": (("id", "k"), False, "old row's key"),
    "create table {0} (id int, k int) partition by list (k); "
    "create table {0}_1 partition of {0} for values in (1); "
    "alter table {0} replica identity full": ((), True, "old row's key"),
    "create table {0} (id int, k int) partition by list (k); "
    "create table {0}_1 partition of {0} for values in (1); "
    "alter table {0} replica identity full; alter table {0}_1 replica identity full": (
        (),
        True,
        "",
    ),
    "create table {0} (id int primary key); create table {0}_1 () inherits ({0})": (
        ("id",),
        False,
        "inherit",
    ),
}


def test_identities_and_problems(database: Database) -> None:
    for number, text in enumerate(IDENTITIES):
        database.execute(text.format(f"t{number}"))
    found = discover(database)
    for number, (text, (key, whole_rows, problem)) in enumerate(IDENTITIES.items()):
        one = found[f"t{number}"]
        assert (one.schema.key, one.schema.whole_rows) == (key, whole_rows), text
        assert problem in one.problem, text
        assert bool(problem) == bool(one.problem), text


def test_generated_columns(database: Database) -> None:
    run(
        database,
        "create table s (id int primary key, g int generated always as (id * 2) stored)",
    )
    problem = discover(database)["s"].problem
    if database.server.version < 18:
        assert "does not send such columns" in problem
        return
    assert problem == ""
    database.execute("create table v (id int primary key, g int generated always as (id * 2))")
    assert "generated when read" in discover(database)["v"].problem


TABLES = (
    "create type mood as enum ('ok', 'bad')",
    "create table a (id int primary key, v text, n int, m mood)",
    "create index a_n on a (n)",
    "insert into a select n, 'v', n, 'ok' from generate_series(1, 50) n",
    "create table p (id int, k int default 7, v text, primary key (id, k)) partition by range (k)",
    "create table p1 partition of p for values from (0) to (10)",
    "create table p2 partition of p for values from (10) to (20)",
    "insert into p values (1, 1, 'x'), (2, 15, 'y')",
    "create table lone (id int not null, k int not null, v text)",
    "insert into lone values (3, 25, 'z')",
)

NOTHING = (
    "truncate a",
    "vacuum full a",
    "cluster a using a_pkey",
    "analyze a",
    "vacuum a",
    "reindex table a",
    "insert into a values (0, 'x', 1, 'bad')",
    "alter table a alter v set statistics 10",
    "alter table a alter v set default 'd'",
    "alter table a alter v set storage external",
    "alter table a add constraint c check (n < 1000)",
    "alter table a set (fillfactor = 50)",
    "comment on table a is 'c'",
)
FAITHFUL = (
    "alter table a add x int",
    "alter table a drop column v",
    "alter table a rename v to w",
    "alter table a alter n set not null",
    "alter table a alter v type varchar",
    "alter type mood add value 'new'",
    "create table p3 partition of p for values from (20) to (30)",
    "begin; create table p3 partition of p for values from (20) to (30); "
    "insert into p values (5, 25); commit",
)
COPY_AGAIN = (
    "alter table a add x int default 5",
    "alter table a add x int default random() * 10",
    "alter table a add x serial",
    "alter table a alter n type bigint",
    "alter table a alter n type int using n * 2",
    "alter table a alter n type text using 'n' || n",
    "alter table a alter n type int using n * 2; vacuum full a",
    "alter table a add x int default 5; vacuum full a",
    "drop table a; create table a (id int primary key, v text, n int, m mood)",
    "alter type mood rename value 'ok' to 'fine'",
    "alter table a replica identity full; alter table a drop constraint a_pkey",
    "alter table p attach partition lone for values from (20) to (30)",
    "begin; create table fresh (like lone); insert into fresh values (9, 25, 'f'); "
    "alter table p attach partition fresh for values from (20) to (30); commit",
    "begin; create table fresh (like p including all); "
    "alter table p attach partition fresh for values from (20) to (30); commit",
    "truncate p1",
    "alter table p detach partition p1",
    "drop table p1",
    "alter table p detach partition p1; "
    "alter table p attach partition p1 for values from (0) to (10)",
    "alter table p alter v type varchar(5) using substr(v, 1, 5)",
)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        *((s, "nothing") for s in NOTHING),
        *((s, "faithful") for s in FAITHFUL),
        *((s, "copy") for s in COPY_AGAIN),
    ],
)
def test_what_became_of_a_table(database: Database, statement: str, expected: str) -> None:
    run(database, *TABLES)
    source = PostgresSource(options(database))
    parted = re.search(r"table p1? |of p |truncate p1|table p1$", statement)
    table = TableId("shop", "public", "p" if parted else "a")
    before = find(source, table)
    for part in statement.split("; ") if "vacuum" in statement else [statement]:
        database.execute(part)
    now = find(source, table)
    verdict = source.compare(before.schema, before.fingerprint, now)
    if expected == "nothing":
        assert verdict is None or (
            # A default alone changes nothing that is known of a table.
            isinstance(verdict, SchemaChange) and verdict.schema == before.schema
        )
    elif expected == "faithful":
        assert isinstance(verdict, SchemaChange)
        assert verdict.faithful
        assert source.compare(verdict.schema, now.fingerprint, now) is None
    else:
        assert isinstance(verdict, Broken)
        assert verdict.copy_again


def find(source: PostgresSource, table: TableId) -> Discovered:
    return next(d for d in source.discover() if d.schema.table == table)


def test_one_reading_is_of_one_moment(database: Database) -> None:
    """Inside a transaction of the caller's, the catalog is as that transaction sees it."""
    run(database, "create table a (id int primary key)")
    settings = parse_settings(options(database))
    with connect(settings) as connection:
        connection.execute("begin isolation level repeatable read, read only")
        before = describe(connection, settings)
        database.execute("alter table a add x int; create table b (id int primary key)")
        assert describe(connection, settings) == before
        connection.execute("rollback")
        now = describe(connection, settings)
    assert len(now) == 2
    gone = TableId("shop", "public", "gone")
    with connect(settings) as connection:
        assert describe(connection, settings, [gone]) == []
