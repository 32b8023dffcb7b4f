"""Publications that the source's own people made: each is mirrored exactly, or refused in words.

A publication decides what is sent, so a wrong one makes a copy that silently lacks rows or columns.
What is refused is refused with the SQL that mends it, and that SQL is run here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from htapkit.testing.postgres import Database
from tests.fix_mirror import mirrored

pytestmark = pytest.mark.integration

OURS = ", publish_generated_columns = stored"
ROWS = "insert into {0} select g, 'v' || g from generate_series({1}, {2}) g"

UNLOGGED = [
    "alter table {0}_1 set unlogged",
    "insert into {0} select generate_series(11, 20)",
    "alter table {0}_1 set logged",
]


def options(database: Database) -> str:
    """How a publication must be made."""
    more = OURS if database.server.version >= 18 else ""
    return f"with (publish_via_partition_root = true{more})"


def theirs(
    database: Database, folder: Path, *, tables: Sequence[str] = ("public.*",), **settings: Any
) -> Any:
    """A mirror of a publication that it may not change."""
    own = {"publication": "theirs", "create_publication": False, "tables": list(tables)}
    return mirrored(database, folder, settings={**own, **settings})


def remedies(why: str) -> Iterator[str]:
    """The SQL of a reason."""
    yield from (part for part in why.split("; ") if re.match("(ALTER|CREATE|GRANT) ", part))


@pytest.fixture
def shop(database: Database) -> Database:
    """Two tables with rows."""
    for name in ("a", "b"):
        database.execute(f"create table {name} (id int primary key, v text)")
        database.execute(ROWS.format(name, 1, 100))
    return database


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ("a where (id > 50)", "leaves out rows"),
        pytest.param("a (id)", "leaves out columns", marks=pytest.mark.long),
    ],
)
def test_a_table_of_which_a_part_is_published(
    shop: Database, tmp_path: Path, member: str, words: str
) -> None:
    shop.execute(f"create publication theirs for table {member}, b {options(shop)}")
    with theirs(shop, tmp_path) as mirror:
        mirror.follows("b")
        why = mirror.becomes("a", "problem", words)
        mirror.same_answer("select count(*), max(v) from a", "source")
        mirror.run(*remedies(why))
        mirror.settles("a", "b")
        mirror.run("update a set v = 'new' where id < 60", ROWS.format("a", 101, 120))
        mirror.equal("a")
        # And while it is followed: what is not sent any more must not be missed.
        mirror.run(f"alter publication theirs set table {member}, b")
        mirror.run("update a set v = 'unsent' where id < 20", "delete from a where id < 10")
        why = mirror.becomes("a", "set_aside", words)
        mirror.same_answer("select count(*), max(v) from a", "source")
        mirror.run(*remedies(why))
        mirror.settles("a", "b")


def test_a_filter_for_a_moment(shop: Database, tmp_path: Path) -> None:
    shop.execute(f"create publication theirs for table a, b {options(shop)}")
    with theirs(shop, tmp_path) as mirror:
        mirror.follows("a", "b")
        mirror.run(
            "alter publication theirs set table a where (id > 50), b",
            "update a set v = 'unsent' where id < 20",
            "alter publication theirs set table a, b",
        )
        mirror.settles("a", "b")


@pytest.mark.long
@pytest.mark.parametrize(
    "wrong",
    [
        "publish = 'insert'",
        "publish_via_partition_root = false",
        "publish_generated_columns = none",
    ],
)
def test_options_that_send_less(shop: Database, tmp_path: Path, wrong: str) -> None:
    if "generated" in wrong and shop.server.version < 18:
        pytest.skip("publish_generated_columns came with 18")
    shop.execute(f"create publication theirs for table a, b {options(shop)}")
    shop.execute(f"alter publication theirs set ({wrong})")
    with theirs(shop, tmp_path) as mirror:
        why = mirror.source_becomes("refused", "create_publication is false")
        shop.execute(why.partition("run: ")[2])
        mirror.settles("a", "b")
        shop.execute(f"alter publication theirs set ({wrong})")
        mirror.run("update a set v = 'unsent' where id < 20")
        mirror.becomes("a", "copying")
        mirror.same_answer("select count(*), max(v) from a", "source")
        shop.execute(why.partition("run: ")[2])
        mirror.settles("a", "b")


def test_a_partition_below_a_published_table(shop: Database, tmp_path: Path) -> None:
    """Its changes are sent as the root's: named by itself, it would stand still without a word."""
    shop.execute("create table events (id int primary key, v text) partition by range (id)")
    shop.execute("create table events_1 partition of events for values from (1) to (1000)")
    shop.execute(ROWS.format("events", 1, 10))
    shop.execute(f"create publication theirs for table events, events_1, a, b {options(shop)}")
    with theirs(shop, tmp_path, tables=["public.a", "public.events_1"]) as mirror:
        mirror.follows("a")
        why = mirror.becomes("events_1", "problem", "public.events")
        mirror.same_answer("select count(*), max(v) from events_1", "source")
        assert "put public.events into `tables`" in why
        mirror.run(*remedies(why))
        mirror.settles("events_1")
        mirror.run(ROWS.format("events", 11, 20))
        mirror.equal("events_1")


@pytest.mark.long
def test_all_tables(shop: Database, tmp_path: Path) -> None:
    shop.execute("create table keyless (v text)")
    shop.execute("create table events (id int primary key, v text) partition by range (id)")
    shop.execute("create table events_1 partition of events for values from (1) to (1000)")
    shop.execute(f"create publication theirs for all tables {options(shop)}")
    with theirs(shop, tmp_path) as mirror:
        mirror.follows("a", "b", "events")
        mirror.becomes("keyless", "problem", "identity")
        mirror.run("create table c (id int primary key, v text)", ROWS.format("c", 1, 10))
        mirror.settles("c")
        mirror.run("update c set v = 'new'", ROWS.format("events", 1, 10))
        mirror.run("vacuum full b", "truncate b", ROWS.format("b", 1, 10))
        mirror.equal("a", "b", "c", "events")
        mirror.stack.stop()
        mirror.run(
            "alter table a set unlogged",
            "update a set v = 'unlogged' where id < 20",
            "alter table a set logged",
        )
        mirror.stack.start()
        mirror.settles("a", "b", "c")
        assert mirror.copies("b") == 1, "VACUUM FULL and TRUNCATE need no new copy"


@pytest.mark.long
def test_a_partition_that_was_unlogged(database: Database, tmp_path: Path) -> None:
    """A server allows it for what is published by way of a root, and then sends nothing."""
    for name, column in (("events", "v text"), ("narrow", "n int")):
        database.execute(
            f"create table {name} (id int primary key, {column}) partition by range (id)"
        )
        database.execute(f"create table {name}_1 partition of {name} for values from (1) to (1000)")
    with mirrored(database, tmp_path) as mirror:
        mirror.settles("events", "narrow")
        mirror.run(ROWS.format("events", 1, 10), "insert into narrow select generate_series(1, 10)")
        mirror.equal("events", "narrow")
        mirror.stack.stop()
        mirror.run(
            "create unlogged table events_2 partition of events for values from (1000) to (2000)",
            ROWS.format("events", 1000, 1010),
            "alter table events_2 set logged",
        )
        for name in ("events", "narrow"):
            mirror.run(*(statement.format(name) for statement in UNLOGGED))
        mirror.stack.start()
        mirror.settles("events", "narrow")


def test_tables_in_schema(shop: Database, tmp_path: Path) -> None:
    shop.execute(f"create publication theirs for tables in schema public {options(shop)}")
    shop.execute("create schema other")
    with theirs(shop, tmp_path) as mirror:
        mirror.follows("a", "b")
        mirror.run("create table c (id int primary key, v text)", ROWS.format("c", 1, 10))
        mirror.settles("c")
        mirror.run("update c set v = 'new'", "delete from a where id < 5")
        mirror.equal("a", "c")
        mirror.run(
            "alter table a set schema other",
            "update other.a set v = 'unsent' where id < 20",
            "alter table other.a set schema public",
        )
        mirror.settles("a", "b", "c")
