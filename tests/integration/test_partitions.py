"""Partitions that come, go and are emptied: only what is theirs is copied again, exactly."""

from __future__ import annotations

import random
import re
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from htapkit.testing.postgres import Database
from htapkit.testing.stack import Stack, wait_until
from tests.fix_load import SmallTransactions
from tests.fix_mirror import WATCH, Mirrored, mirrored, slot_name

pytestmark = pytest.mark.integration

MONTHS = 8
ROWS = 400  # of each partition
CREATE = (
    "CREATE TABLE days (id int, day date, n int NOT NULL, note text, PRIMARY KEY (id, day)) "
    "PARTITION BY RANGE (day)",
    "ALTER TABLE days ALTER COLUMN note SET STORAGE EXTERNAL",
    "CREATE TABLE days_rest PARTITION OF days DEFAULT",
)
FILL = """
    INSERT INTO {table} SELECT g, date '2026-{month:02}-01' + g %% 28, 0,
        repeat('x', CASE WHEN g %% 9 = 0 THEN 3000 ELSE 5 END) FROM generate_series(1, {rows}) g
"""


def bounds(month: int) -> str:
    return f"FOR VALUES FROM ('2026-{month:02}-01') TO ('2026-{month + 1:02}-01')"


def create(month: int) -> str:
    return f"CREATE TABLE days_{month} PARTITION OF days {bounds(month)}"


def fill(month: int, table: str = "days", rows: int = ROWS) -> str:
    return FILL.format(table=table, month=month, rows=rows).replace("%%", "%")


def make(database: Database) -> None:
    for text in CREATE:
        database.execute(text)
    for month in range(1, MONTHS + 1):
        database.execute(create(month))
        database.execute(fill(month))


def copies(mirror: Mirrored) -> dict[str, int]:
    """How many copies this process has finished: of whole tables, and of partitions only."""
    url = f"http://127.0.0.1:{mirror.stack.http_port}/metrics"
    with urllib.request.urlopen(url) as answer:
        text = answer.read().decode()
    found = re.findall(r'htapkit_copies_total{of="(\w+)",source="shop"} (\S+)', text)
    return {of: int(float(count)) for of, count in found}


@pytest.fixture
def days(database: Database, tmp_path: Path) -> Iterator[Mirrored]:
    make(database)
    # What is detached is not mirrored as a table of its own.
    with mirrored(database, tmp_path, settings={"tables": ["public.days"]}) as mirror:
        mirror.follows("days")
        yield mirror


COMING_AND_GOING = (
    ("drop", ("DROP TABLE days_1",), 0),
    ("drop two that touch", ("DROP TABLE days_2; DROP TABLE days_3",), 0),
    ("detach", ("ALTER TABLE days DETACH PARTITION days_4",), 0),
    ("attach", (f"ALTER TABLE days ATTACH PARTITION days_4 {bounds(4)}",), ROWS),
    ("truncate", ("TRUNCATE days_5", fill(5, rows=7)), 7),
    ("make room for another", ("DROP TABLE days_7", create(7), fill(7, rows=9)), 9),
    (
        "rows that go to the default partition",
        ("DROP TABLE days_8", fill(8, rows=11)),
        11,
    ),
    ("rewrite", ("VACUUM FULL days_6",), ROWS),
)


@pytest.mark.timeout(300)
def test_only_the_partition_is_copied(days: Mirrored) -> None:
    for number, (name, statements, rows) in enumerate(COMING_AND_GOING):
        before = days.metric("htapkit_copied_rows_total")
        days.run(*statements)
        wait_until(
            lambda n=number: copies(days)["partitions"] > n,  # type: ignore[misc]
            60,
            lambda n=name: f"{n}\n{days.stack.log_end()}",  # type: ignore[misc]
        )
        days.settles("days", order="day, id")
        # The stream, too, has seen now what became of the partitions.
        days.run(f"INSERT INTO days VALUES ({number}, '2030-01-01', 0, '')")
        days.equal("days", order="day, id")
        assert days.metric("htapkit_copied_rows_total") - before == rows, name
    assert copies(days) == {"tables": 1, "partitions": len(COMING_AND_GOING)}


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("quiet", [False, True])
def test_one_came_and_went_between_two_looks(
    database: Database, tmp_path: Path, quiet: bool
) -> None:
    """Only the stream has seen it, by its rows: whoever looks sees only that another is gone."""
    make(database)
    settings, configuration = {"tables": ["public.days"]}, {"watch_interval": "10 s"}
    with mirrored(database, tmp_path, settings=settings, configuration=configuration) as mirror:
        mirror.follows("days")
        mirror.looked(1)
        mirror.run(create(9), "INSERT INTO days VALUES (1, '2026-09-02', 0, '')")
        mirror.equal("days", order="day, id")
        mirror.run("DROP TABLE days_9", "DROP TABLE days_1")
        wait_until(lambda: sum(copies(mirror).values()) > 1, 60, mirror.stack.log_end)
        if not quiet:
            mirror.run("INSERT INTO days VALUES (1, '2026-02-02', 0, '') ON CONFLICT DO NOTHING")
            mirror.run("DELETE FROM days WHERE id = 2")
            mirror.looked(1)
        mirror.settles("days", order="day, id")


class Load(SmallTransactions):
    """Inserts, updates, deletes and moves between partitions, some of which may not be there."""

    changes_max = 4
    expected = (*SmallTransactions.expected, errors.CheckViolation)

    def __init__(self, database: Database, seed: int, first: int = 1) -> None:
        """Runs until `stop`; leaves months before the first alone."""
        super().__init__(database, seed)
        self._first = first

    def _change(self, connection: psycopg.Connection) -> None:
        chance = self._chance
        where = (
            chance.randint(1, ROWS),
            f"2026-{chance.randint(self._first, 9):02}-{chance.randint(1, 28):02}",
        )
        kind = chance.choice(["insert", "update", "update", "delete", "move"])
        if kind == "insert":
            note = "y" * chance.choice([10, 3000])
            sql = "INSERT INTO days VALUES (%s, %s, 1, %s) ON CONFLICT DO NOTHING"
            connection.execute(sql, (*where, note))
        elif kind == "update":
            connection.execute(
                "UPDATE days SET n = n + 1 WHERE id = %s AND day >= %s AND length(note) < 100",
                where,
            )
        elif kind == "delete":
            connection.execute("DELETE FROM days WHERE id = %s AND day = %s", where)
        else:
            connection.execute(
                "UPDATE days SET day = %s"
                " WHERE id = %s AND day BETWEEN %s AND '2026-05-31' AND length(note) < 100"
                " AND (SELECT count(*) FROM days d WHERE d.id = days.id) = 1",
                (where[1], where[0], f"2026-{self._first:02}-01"),
            )


def alter(database: Database, chance: random.Random, month: int) -> str:
    """Do something to a partition, and all that it takes for it to be there again."""
    name, kind = f"days_{month}", chance.choice(["drop", "detach", "truncate", "rewrite"])
    if kind == "drop":
        database.execute(f"DROP TABLE {name}")
        kinds = chance.choice(["at once", "elsewhere"])
        if kinds == "elsewhere":
            database.execute(f"CREATE TABLE {name} (LIKE days INCLUDING ALL)")
            database.execute(fill(month, name))
    elif kind == "detach":
        database.execute(f"ALTER TABLE days DETACH PARTITION {name}")
        database.execute(f"DELETE FROM {name} WHERE id % 3 = 0")
    else:
        database.execute(f"TRUNCATE {name}" if kind == "truncate" else f"VACUUM FULL {name}")
    return kind


def put_back(database: Database, month: int) -> None:
    """Have the partition there; the default one may have rows of it meanwhile."""
    name = f"days_{month}"
    with database.connect() as connection, connection.transaction():
        connection.execute("LOCK TABLE days IN ACCESS EXCLUSIVE MODE")
        found = connection.execute(
            "SELECT c.relispartition FROM pg_class c WHERE c.relname = %s", (name,)
        ).fetchone()
        if found == (True,):
            return
        connection.execute(
            f"DELETE FROM days_rest WHERE day >= '2026-{month:02}-01' "
            f"AND day < '2026-{month + 1:02}-01'"
        )
        if found is None:
            connection.execute(create(month))
        else:
            connection.execute(f"ALTER TABLE days ATTACH PARTITION {name} {bounds(month)}")


@pytest.mark.timeout(400)
def test_under_load(days: Mirrored) -> None:
    """All is copied again only where a change of a partition is decoded after that is gone."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance, load = random.Random(seed), Load(days.database, seed)
    load.start()
    drops = 0
    try:
        for _ in range(6):
            month, before = chance.randint(1, MONTHS), load.done
            drops += alter(days.database, chance, month) == "drop"
            wait_until(lambda n=before: load.done > n + 5, 60)  # type: ignore[misc]
            days.looked()
            days.follows("days")
            put_back(days.database, month)
            days.looked()
            days.follows("days")
    finally:
        load.stop()
    days.settles("days", order="day, id")
    found = copies(days)
    print(f"{load.done} transactions, {drops} drops, {found}")
    assert found["partitions"] + found["tables"] > 6
    assert 1 <= found["tables"] <= 1 + drops


@pytest.mark.timeout(400)
def test_killed_in_between(database: Database, tmp_path: Path) -> None:
    """What is in doubt stays so through every kill, and most of the table is never copied again."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    make(database)
    # Changes of a partition that was dropped before they were decoded have all copied again.
    load = Load(database, seed, first=5)
    source = {"dsn": database.dsn, "slot": slot_name(database), "tables": ["public.days"]}
    stack = Stack(tmp_path, {"shop": source}, configuration={"watch_interval": WATCH})
    mirror = Mirrored(database, stack)
    try:
        stack.start()
        mirror.follows("days")
        stack.stop()
        load.start()
        places = ("copy.snapshot", "copy.range", "copy.loaded", "copy.swapped")
        for month, place in enumerate(places, start=1):
            stack.start({"HTAPKIT_FAILPOINT": f"{place}:1"})
            database.execute(f"DROP TABLE days_{month}")
            assert stack.wait_ended(90) == -signal.SIGKILL, stack.log_end()
            database.execute(f"TRUNCATE days_{month + len(places)}")
        stack.start()
        mirror.looked()
        mirror.follows("days")
        load.stop()
        mirror.settles("days", order="day, id")
        assert copies(mirror)["tables"] == 0
        assert 'event="table is copied again"' not in stack.log_path.read_text()
    finally:
        load.stop()
        stack.stop()
