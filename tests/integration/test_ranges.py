"""Very large tables, copied range by range: of every kind of key, under load, and through kills."""

from __future__ import annotations

import random
import re
import signal
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest

from htapkit.hot import HotStore
from htapkit.model import TableId
from htapkit.testing.postgres import Database
from htapkit.testing.stack import Stack, wait_until
from tests.fix_kills import DIES_SECONDS
from tests.fix_load import SmallTransactions
from tests.fix_mirror import Mirrored, mirrored, slot_name

RANGE_ROWS = 5_000
LIMITS = {"limits": {"range_rows": RANGE_ROWS}}
BIG = TableId("shop", "public", "big")
KEYS = 80_000
FILL = """
    INSERT INTO big SELECT g, g % 7, repeat(md5(g::text), CASE WHEN g % 20 = 0 THEN 100 ELSE 1 END)
    FROM generate_series(1, {rows}) g ON CONFLICT DO NOTHING
"""
CREATE = (
    "CREATE TABLE big (id int PRIMARY KEY, n int NOT NULL, note text)",
    "ALTER TABLE big ALTER COLUMN note SET STORAGE EXTERNAL",
)

TABLES = {
    "int8": "CREATE TABLE {t} (k bigint PRIMARY KEY, v int); "
    "INSERT INTO {t} SELECT g::bigint * 1000003 - 5000000000, g FROM generate_series(1, 20000) g",
    "uuid": "CREATE TABLE {t} (k uuid PRIMARY KEY, v int); "
    "INSERT INTO {t} SELECT gen_random_uuid(), g FROM generate_series(1, 20000) g",
    "text": 'CREATE TABLE {t} (k text COLLATE "C" PRIMARY KEY, v int); '
    "INSERT INTO {t} SELECT chr(33 + g % 600) || E'\\'\\\\%' || g, g"
    " FROM generate_series(1, 20000) g",
    "timestamptz": "CREATE TABLE {t} (k timestamptz, w int, v int, PRIMARY KEY (k, w)); "
    "INSERT INTO {t} SELECT timestamptz '2020-01-01' + g * interval '7.123457 s', g, g"
    " FROM generate_series(1, 20000) g; "
    "INSERT INTO {t} VALUES ('infinity', 1, 1), ('-infinity', 1, 1), ('0044-03-15 BC', 1, 1)",
    "date": "CREATE TABLE {t} (k date, w int, v int, PRIMARY KEY (k, w)); "
    "INSERT INTO {t} SELECT date '2020-01-01' + g % 300, g, g FROM generate_series(1, 20000) g",
    "partitioned": "CREATE TABLE {t} (k int, v int, PRIMARY KEY (k)) PARTITION BY HASH (k); "
    "CREATE TABLE {t}_0 PARTITION OF {t} FOR VALUES WITH (MODULUS 2, REMAINDER 0); "
    "CREATE TABLE {t}_1 PARTITION OF {t} FOR VALUES WITH (MODULUS 2, REMAINDER 1); "
    "INSERT INTO {t} SELECT g, g FROM generate_series(1, 20000) g",
}


class Load(SmallTransactions):
    """Inserts, updates, deletes and key changes from one end of the table to the other."""

    def __init__(self, database: Database, seed: int) -> None:
        """Runs until `stop`."""
        super().__init__(database, seed)
        self.long_values_move = False  # such a move may put a range out of the copy again
        self.moves = 0

    def _change(self, connection: psycopg.Connection) -> None:
        key, other = self._chance.randint(1, KEYS), self._chance.randint(-1000, KEYS)
        kind = self._chance.choice(["insert", "update", "update", "delete", "move"])
        if kind == "insert":
            note = "x" * self._chance.choice([10, 3000])
            connection.execute(
                "INSERT INTO big VALUES (%s, 1, %s) ON CONFLICT DO NOTHING", (key, note)
            )
        elif kind == "update":
            connection.execute("UPDATE big SET n = n + 1 WHERE id = %s", (key,))
        elif kind == "delete":
            connection.execute("DELETE FROM big WHERE id = %s", (key,))
        else:
            moved = connection.execute(
                "UPDATE big SET id = %s WHERE id = %s AND (%s OR length(note) < 100)"
                " AND NOT EXISTS (SELECT FROM big WHERE id = %s)",
                (other, key, self.long_values_move, other),
            )
            self.moves += moved.rowcount


def finished(stack: Stack) -> tuple[int, int]:
    """(ranges in the copy, ranges) of the dead server's file."""
    with HotStore(stack.folder / "data" / "hot.duckdb") as store:
        copy = store.copying.ranged(BIG)
    assert copy is not None
    return len(copy.ranges) - len(copy.left), len(copy.ranges)


@pytest.mark.integration
@pytest.mark.timeout(300)
def test_every_kind_of_key(database: Database, tmp_path: Path) -> None:
    """Each table is cut, and comes out whole."""
    for name, text in TABLES.items():
        for each in text.format(t=f"t_{name}").split("; "):
            database.execute(each)
    database.execute("CREATE TABLE t_plain (k text PRIMARY KEY, v int)")
    database.execute("INSERT INTO t_plain SELECT g, g FROM generate_series(1, 20000) g")
    database.execute("ANALYZE")
    with mirrored(database, tmp_path, configuration=LIMITS) as mirror:
        tables = [f"t_{name}" for name in [*TABLES, "plain"]]
        mirror.stack.wait_ready(120)
        mirror.equal(*tables, order="")
        log = mirror.stack.log_path.read_text()
        for table in tables[:-1]:
            ranges = re.findall(f'event="range copied" .*table=shop.public.{table} ', log)
            assert len(ranges) >= 3, table
        mirror.verified(*tables)


@pytest.mark.integration
@pytest.mark.timeout(300)
def test_progress_and_changes_of_columns(database: Database, tmp_path: Path) -> None:
    """The status counts on over all ranges; a column added between two costs no new copy."""
    for text in (*CREATE, FILL.format(rows=40_000), "ANALYZE big"):
        database.execute(text)
    limits = {"range_rows": RANGE_ROWS, "snapshot_rows_per_second": 5_000, "snapshot_readers": 1}
    with mirrored(database, tmp_path, configuration={"limits": limits}) as mirror:
        reports: list[Mapping[str, Any]] = []

        def going_on() -> bool:
            reports.append(mirror.table("big"))
            return bool(reports[-1].get("rows", 0) > 12_000)

        wait_until(going_on, 60, mirror.stack.log_end)
        report = reports[-1]
        assert report["state"] == "copying"
        assert 30_000 < report["rows_estimate"] < 50_000
        # It waits for the range that is read, and no reader of ours waits for it.
        mirror.run("SET lock_timeout = '30s'; ALTER TABLE big ADD COLUMN more int")
        mirror.run("UPDATE big SET more = 5 WHERE id IN (1, 39999)")
        # What is written meanwhile is kept here, and the source need not keep it until the end.
        ((end,),) = database.execute("SELECT pg_current_wal_insert_lsn()")
        slots = "SELECT slot_name FROM pg_replication_slots WHERE confirmed_flush_lsn >= %s"
        wait_until(lambda: database.execute(slots, [end]) != [], 60, mirror.stack.log_end)
        assert mirror.table("big")["state"] == "copying"
        mirror.stack.wait_ready(120)
        mirror.equal("big")
        log = mirror.stack.log_path.read_text()
        numbers = [line for line in log.splitlines() if "range copied" in line]
        assert len(numbers) == 8, numbers


def kill_loop(database: Database, folder: Path, kills: int, seed: int) -> None:
    """Kill after finished ranges; the copy gets on each time, and is the table in the end."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    for text in (*CREATE, FILL.format(rows=KEYS), "ANALYZE big"):
        database.execute(text)
    load = Load(database, seed)
    source = {"dsn": database.dsn, "slot": slot_name(database), "tables": ["public.*"]}
    stack = Stack(folder, {"shop": source}, configuration=LIMITS, preloaded=True)
    seen: list[int] = []
    left = KEYS // RANGE_ROWS
    try:
        load.start()
        for number in range(kills):
            if not left:
                break  # the copy has all of them, and would only be finished
            hits = chance.randint(1, min(3, left))
            stack.start({"HTAPKIT_FAILPOINT": f"copy.range:{hits}"})
            code = stack.wait_ended(DIES_SECONDS)
            assert code == -signal.SIGKILL, stack.log_end()
            done, ranges = finished(stack)
            assert ranges >= 12
            seen.append(done)
            left = ranges - done
            backwards = sum(later <= earlier for earlier, later in pairwise(seen))
            # Ranges that were read after the truncate, but before the stream had it, go once.
            assert backwards <= (number > kills // 2), (
                f"no progress between two kills: {seen}\n{stack.log_path.read_text()}"
            )
            if number == kills // 2:
                database.execute("TRUNCATE big")
                database.execute(FILL.format(rows=KEYS // 4))
        load.long_values_move = True
        stack.start()
        stack.wait_ready(120)
        wait_until(lambda: load.moves > 20, 60)
        load.stop()
        mirror = Mirrored(database, stack)
        mirror.equal("big")
        mirror.verified("big")
    finally:
        load.stop()
        stack.stop()
    print(f"{load.done} transactions, {load.moves} moves; finished ranges: {seen}")


@pytest.mark.integration
@pytest.mark.timeout(300)
def test_a_few_kills(database: Database, tmp_path: Path) -> None:
    """With a truncate half-way."""
    kill_loop(database, tmp_path, kills=6, seed=random.randrange(2**32))


@pytest.mark.integration
@pytest.mark.long
@pytest.mark.timeout(2400)
def test_many_kills(database: Database, tmp_path: Path) -> None:
    """Again and again, each time in a new mirror."""
    for number in range(12):
        database.execute("DROP TABLE IF EXISTS big")
        kill_loop(database, tmp_path / str(number), kills=8, seed=random.randrange(2**32))
