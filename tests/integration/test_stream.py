"""The change stream of a real server: order, completeness, freshness, and changes of the tables."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from htapkit.errors import UnfaithfulValue
from htapkit.model import Column, SchemaChange, Storage, TableId, TableSchema
from htapkit.testing.postgres import Database
from htapkit.testing.stack import wait_until
from tests.followed import Followed, open_stream
from tests.replica import Replica

pytestmark = pytest.mark.integration


@pytest.fixture
def followed(database: Database) -> Iterator[list[Followed]]:
    """A list to put Followed into, so that each is closed."""
    opened: list[Followed] = []
    yield opened
    for one in opened:
        one.close()


def test_each_kind_of_change_arrives_in_order(database: Database, followed: list[Followed]) -> None:
    one = open_stream(
        followed,
        database,
        "create table a (id int primary key, v text)",
        "create table b (id int primary key, v text)",
    )
    for statement in (
        "insert into a select n, 'x' || n from generate_series(1, 100) n",
        "update a set v = 'y' where id % 3 = 0",
        "update a set id = id + 1000 where id % 5 = 0",
        "delete from a where id % 7 = 0",
        "insert into b values (1, 'gone'), (2, 'gone')",
        "truncate b",
        "insert into b values (3, 'stays')",
        "begin; insert into a values (5000, 'rolled back'); rollback",
        "begin; insert into b values (4, 'kept'); savepoint s; insert into b values (5, 'no'); "
        "rollback to s; insert into b values (6, 'kept'); commit",
        "truncate a, b; insert into a values (1, 'after')",
        "insert into b values (9, null)",
    ):
        database.execute(statement)
    one.check("a", "b")
    assert not one.replica.broken


def test_a_large_transaction_comes_in_parts(database: Database, followed: list[Followed]) -> None:
    one = open_stream(
        followed, database, "create table a (id int primary key, v text)", rows_max=1000
    )
    database.execute("insert into a values (-1, 'small')")
    database.execute("insert into a select n, 'x' from generate_series(1, 10500) n")
    database.execute("insert into a values (-2, 'small')")
    one.check("a")
    parts = [batch for batch in one.replica.batches if not batch.complete]
    assert len(parts) >= 9
    assert all(batch.row_count <= 1000 for batch in one.replica.batches)
    # The small transaction before it did not wait for it.
    first_part = one.replica.batches.index(parts[0])
    assert sum(batch.row_count for batch in one.replica.batches[:first_part]) == 1
    last = next(b for b in one.replica.batches[first_part:] if b.complete)
    assert all(part.end < last.end for part in parts)
    assert all(part.commits[0] < last.end for part in parts)


def test_resuming_loses_and_repeats_nothing(database: Database, followed: list[Followed]) -> None:
    one = open_stream(followed, database, "create table a (id int primary key, v text)")
    stop = threading.Event()

    def load() -> None:
        with database.connect() as connection:
            number = 0
            while not stop.is_set():
                number += 1
                connection.execute("insert into a values (%s, 'x')", [number])
                if number % 3 == 0:
                    connection.execute("update a set id = -id where id = %s", [number - 1])

    writer = threading.Thread(target=load)
    writer.start()
    try:
        for number in range(1, 6):
            end = time.monotonic() + 60
            while len(one.replica.rows[one.schemas[0].table]) < 20 * number:
                assert time.monotonic() < end
                one.replica.take(one.stream.next(0.05))
            assert one.replica.position is not None
            one.stream.confirm(one.replica.position)
            one.release()
            one.stream = one.source.follow(one.replica.position, one.schemas)
    finally:
        stop.set()
        writer.join()
    one.check("a")
    assert len(one.table("a")) > 50


def test_the_position_follows_foreign_log(database: Database, followed: list[Followed]) -> None:
    one = open_stream(
        followed,
        database,
        "create table a (id int primary key)",
        "create schema other create table noise (v text)",
    )
    database.execute(
        "insert into other.noise select repeat('x', 500) from generate_series(1, 2000)"
    )
    head = one.source.head.head()
    one.replica.follow(one.stream, head)
    assert all(not batch.changes for batch in one.replica.batches)
    one.stream.confirm(head)
    one.stream.close()
    confirmed = "select confirmed_flush_lsn - '0/0' from pg_replication_slots where slot_name = %s"

    def at() -> int:
        return int(database.execute(confirmed, [f"slot_{database.name}"])[0][0])

    # The server reads what it was told last when it comes to it.
    wait_until(lambda: at() >= int(head, 16), 60, lambda: f"at {at()}, not at {int(head, 16)}")


def test_a_stream_that_nobody_reads_stays_alive(
    database: Database, followed: list[Followed]
) -> None:
    one = open_stream(
        followed, database, "create table a (id int primary key, v text)", rows_max=500
    )
    # Long enough for a machine that stands still for a moment: half of it is ours.
    database.execute("alter system set wal_sender_timeout = '6s'")
    database.execute("select pg_reload_conf()")
    try:
        database.execute(
            "insert into a select n, repeat('x', 300) from generate_series(1, 40000) n"
        )
        one.replica.take(one.stream.next(60))
        time.sleep(13)
        one.check("a")
    finally:
        database.execute("alter system reset wal_sender_timeout")
        database.execute("select pg_reload_conf()")


def test_a_wait_for_the_head_is_short(database: Database, followed: list[Followed]) -> None:
    """Once in a few rounds, because others use the machine, too: by a timeout it never is."""
    one = open_stream(followed, database, "create table a (id int primary key)")
    medians: list[float] = []
    with database.connect() as connection:
        while len(medians) < 10 and (not medians or medians[-1] >= 0.1):
            waits = []
            for number in range(40):
                connection.execute("insert into a values (%s)", [40 * len(medians) + number])
                begun = time.monotonic()
                one.catch_up()
                waits.append(time.monotonic() - begun)
            medians.append(sorted(waits)[20])
    one.check("a")
    assert medians[-1] < 0.1, medians


def test_schema_changes_come_in_their_place(database: Database, followed: list[Followed]) -> None:
    one = open_stream(
        followed, database, "create table a (id int primary key, v varchar(10), n numeric(8,2))"
    )
    for statement in (
        "insert into a values (1, 'one', 1.5)",
        "alter table a add column x int",
        "update a set x = 7",
        "insert into a values (2, 'two', 2.5, 8)",
        "alter table a rename v to w",
        "insert into a values (3, 'three', 3.5, 9)",
        "alter table a drop column x",
        "insert into a values (4, 'four', 4.5)",
        "alter table a alter n type numeric(12,2), alter w type text",
        "insert into a values (5, 'five is longer than ten', 5555555555.5)",
    ):
        database.execute(statement)
        one.catch_up()
    one.check("a")
    assert not one.replica.broken
    assert len(one.replica.changed) == 4
    assert all(change.faithful for change in one.replica.changed)


@pytest.mark.parametrize(
    "statement",
    [
        "alter table a add column x int default 5",
        "alter table a alter n type bigint using n * 2",
        "alter table a alter n type int using n + 1",
        "alter table a drop column v; alter table a add column v text",
    ],
)
def test_what_has_no_events_breaks_the_table(
    database: Database, followed: list[Followed], statement: str
) -> None:
    one = open_stream(
        followed,
        database,
        "create table a (id int primary key, v text, n int)",
        "create table b (id int primary key)",
        "insert into a values (1, 'one', 1)",
    )
    one.catch_up()
    # Rows in flight from before and after the change, read only after it.
    database.execute("insert into a values (2, 'two', 2)")
    database.execute(statement)
    database.execute("insert into a (id) values (3)")
    database.execute("insert into b values (1)")
    one.catch_up()
    assert one.replica.broken[TableId("shop", "public", "a")].copy_again
    one.check("b")


def test_rows_after_a_break_are_there_for_the_new_copy(
    database: Database, followed: list[Followed]
) -> None:
    """A rewrite that keeps the schema: whoever copies again sees no reason to call `expect`."""
    one = open_stream(followed, database, "create table a (id int primary key, n int)")
    database.execute("insert into a values (1, 1)")
    one.catch_up()
    database.execute("alter table a alter n type int using n * 10")
    database.execute("insert into a values (2, 2)")
    one.catch_up()
    table = TableId("shop", "public", "a")
    assert one.replica.broken[table].copy_again
    one.replica.rows[table].clear()
    one.replica.rows[table].update([(1, 10), (2, 2)])  # the new copy
    database.execute("insert into a values (3, 3)")
    database.execute("update a set n = n + 1")
    one.check("a")


def _fingerprint(one: Followed, table: TableId) -> str:
    # What was discovered before the stream was opened would do, too; the stream keeps the same.
    return one.stream._known.fingerprints[table]


def test_a_rename_that_is_known_early_is_exact(
    database: Database, followed: list[Followed]
) -> None:
    one = open_stream(followed, database, "create table a (id int primary key, v text, w text)")
    database.execute("insert into a values (1, 'v', 'w')")
    one.catch_up()
    before = one.schemas[0]
    database.execute("insert into a values (2, 'v', 'w')")  # in flight, under the old names
    database.execute("alter table a rename v to x; alter table a rename w to v")
    database.execute("alter table a rename x to w")
    now = one.source.discover()[0]
    change = one.source.compare(before, _fingerprint(one, before.table), now)
    assert isinstance(change, SchemaChange)
    assert change.faithful
    one.stream.expect([change.schema])
    one.replica.take(
        replace(
            one.replica.batches[-1],
            changes=(change,),
            end=one.replica.position or one.replica.batches[-1].end,
        )
    )
    database.execute("insert into a values (3, 'w', 'v')")
    one.check("a")
    assert not one.replica.broken


def test_an_unfaithful_value_can_be_read_again_as_text(
    database: Database, followed: list[Followed]
) -> None:
    one = open_stream(followed, database, "create table a (id int primary key, n numeric(8,2))")
    database.execute("insert into a values (1, 1.5), (2, 'NaN')")
    with pytest.raises(UnfaithfulValue) as raised:
        one.catch_up()
    assert raised.value.column == "n"
    schema = as_text(one.schemas[0], "n")
    one.stream.expect([schema])
    one.replica = Replica([schema])
    one.catch_up()
    assert one.replica.table("a") == [(1, "1.50"), (2, "NaN")]


def as_text(schema: TableSchema, name: str) -> TableSchema:
    """The schema with one column kept as text."""

    def kept(column: Column) -> Column:
        return replace(column, storage=Storage.TEXT) if column.name == name else column

    return replace(schema, columns=tuple(map(kept, schema.columns)))


def test_partitions_are_one_table(database: Database, followed: list[Followed]) -> None:
    one = open_stream(
        followed,
        database,
        "create table p (id int, k int, v text, primary key (id, k)) partition by list (k)",
        "create table p1 partition of p for values in (1)",
        "create table p2 partition of p for values in (2)",
    )
    assert [schema.table.name for schema in one.schemas] == ["p"]
    database.execute("insert into p values (1, 1, 'one'), (2, 2, 'two')")
    database.execute("update p set k = 2 where id = 1")
    one.check("p")
    database.execute("create table p3 partition of p for values in (3)")
    database.execute("insert into p values (3, 3, 'three')")
    one.check("p")
    assert not one.replica.broken


@pytest.mark.parametrize("end", ["drop table p2", "alter table p detach partition p2"])
def test_a_partition_that_came_and_went_breaks_its_root(
    database: Database, followed: list[Followed], end: str
) -> None:
    one = open_stream(
        followed,
        database,
        "create table p (id int, k int, primary key (id, k)) partition by list (k)",
        "create table p1 partition of p for values in (1)",
    )
    database.execute("insert into p values (1, 1)")
    one.catch_up()
    database.execute("create table p2 partition of p for values in (2)")
    database.execute("insert into p values (2, 2)")
    database.execute(end)
    one.catch_up()
    assert one.replica.broken[TableId("shop", "public", "p")].copy_again


@pytest.mark.parametrize("identity", ["full", "using index a_u"])
def test_replica_identities(database: Database, followed: list[Followed], identity: str) -> None:
    big = "repeat(md5(random()::text), 300)"
    one = open_stream(
        followed,
        database,
        "create table a (u int not null, v text, big text)",
        "alter table a alter big set storage external",
        "create unique index a_u on a (u)",
        f"alter table a replica identity {identity}",
    )
    database.execute(f"insert into a select n, 'v', {big} from generate_series(1, 20) n")
    database.execute("update a set v = 'w' where u % 2 = 0")
    database.execute("update a set u = u + 100 where u % 5 = 0")
    database.execute("delete from a where u % 3 = 0")
    one.check("a")


def test_append_only_never_harms_the_source(database: Database, followed: list[Followed]) -> None:
    one = open_stream(
        followed,
        database,
        "create table log (v text)",
        "create table other (v text)",
        append_only=["public.log"],
    )
    assert "REPLICA IDENTITY FULL" in one.problems["other"]
    assert one.schemas[0].append_only
    database.execute("insert into log values ('a'), ('a')")
    database.execute("update log set v = 'b'")
    database.execute("update other set v = 'b'")
    one.catch_up()
    assert one.replica.table("log") == [("a",), ("a",)]
    database.execute("truncate log")
    one.catch_up()
    assert one.replica.table("log") == []


def test_tables_join_a_running_stream(database: Database, followed: list[Followed]) -> None:
    one = open_stream(followed, database, "create table a (id int primary key)")
    database.execute("create table b (id int primary key, v text)")
    database.execute("insert into b values (1, 'before')")
    tables: Sequence[TableId] = [d.schema.table for d in one.source.discover()]
    snapshot = one.source.snapshot(tables, {})
    try:
        schema = snapshot.tables[tables[1]].schema
        rows = [
            r for s in snapshot.splits(tables[1]) for b in snapshot.read(s) for r in b.to_pylist()
        ]
        position = snapshot.position
    finally:
        snapshot.close()
    assert rows == [{"id": 1, "v": "before"}]
    one.stream.expect([*one.schemas, schema])
    one.replica.schemas[schema.table] = schema
    one.replica.rows[schema.table] = type(one.replica.rows[one.schemas[0].table])(
        {(1, "before"): 1}
    )
    database.execute("insert into b values (2, 'after')")
    one.check("a", "b")
    assert all(commit > position for batch in one.replica.batches for commit in batch.commits)
