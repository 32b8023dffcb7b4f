"""kill -9 of the whole server, again and again, under load.

No row and no half transaction is ever wrong.

Between two kills the stored position must move, or the test says nothing.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from htapkit import failpoints
from htapkit.testing import bank
from htapkit.testing.postgres import Database
from htapkit.testing.stack import Stack
from tests.fix_kills import DIES_SECONDS, Progress, Reader, ask_for_copy

TABLES = ("checking", "savings", "ledger")
VERIFY_EVERY = 20  # kills, before a new copy of a table may hide what became of it
LIMITS = {"limits": {"batch_rows": 100}}  # so that a transaction can be larger than that
LARGE = "INSERT INTO ledger (account, amount) SELECT g, 0 FROM generate_series(1, 250) g"


def kill_loop(database: Database, folder: Path, kills: int, seed: int) -> Counter[str]:
    """Kill `kills` times, compare at the end; how often each failpoint was the end."""
    chance = random.Random(seed)
    print(f"seed {seed}")
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        bank.create(connection)
    load = bank.start(database.dsn, seed)
    sources = {"shop": {"dsn": database.dsn, "tables": ["public.*"]}}
    stack = Stack(folder, sources, configuration=LIMITS, preloaded=True)
    reader = Reader(stack)
    try:
        stack.start()
        stack.wait_ready()
        reader.start()
        stack.kill()
        died = _kill(database, stack, kills, chance)
        stack.start()
        load.terminate()
        load.wait()
        stack.wait_ready()
        _equal(database, stack)
        _verified(stack)
        reader.wait_for("hot")  # or nothing was tested
    finally:
        load.kill()
        load.wait()
        stack.stop()
        reader.end()
    print(f"killed: {dict(died)}; reads {reader.reads}, {dict(reader.routes)}")
    assert reader.routes["hot"] > kills // 5, "the copy was hardly read"
    assert not reader.wrong, reader.wrong[:5]
    return died


def _kill(database: Database, stack: Stack, kills: int, chance: random.Random) -> Counter[str]:
    """Let it die at every named place in turn, and each sixth time at any moment."""
    died: Counter[str] = Counter()
    names = failpoints.MIRROR
    progress = Progress()
    for number in range(kills):
        name = names[number % len(names)]
        # Some live long enough for a copy to be finished, and read.
        count = chance.randint(2, 12) if name.startswith("apply.") else 1
        stack.start({"HTAPKIT_FAILPOINT": f"{name}:{count}"})
        if name.startswith("copy."):
            ask_for_copy(stack, f"shop.public.{chance.choice(TABLES)}")
        if name == "chunk.written":
            database.execute(LARGE)
        if number % 6 == 5:
            stack.wait_ended(chance.random(), kill=True)
            died["anywhere"] += 1
        else:
            code = stack.wait_ended(DIES_SECONDS)
            assert code == -signal.SIGKILL, f"{name}: ended with {code}: {stack.log_end()}"
            died[name] += 1
        progress.look(stack)
        if number % VERIFY_EVERY == VERIFY_EVERY - 1:
            stack.start()
            stack.wait_ready()
            _verified(stack)
            stack.kill()
    assert progress.moved > kills // 3, "the copy hardly got on"
    return died


def _verified(stack: Stack) -> None:
    """Source and copy at one position, whatever is written meanwhile."""
    with stack.client() as client:
        verified = client.verify([])
    assert verified["equal"], verified
    assert len(verified["tables"]) == len(TABLES)


def _equal(database: Database, stack: Stack) -> None:
    with (
        psycopg.connect(database.dsn, autocommit=True) as source,
        stack.connect() as port,
    ):
        port.execute("SET htapkit.freshness = 'strong'")
        port.execute("SET htapkit.wait_timeout = '60s'")
        port.execute("SET htapkit.route = 'hot'")
        for table in TABLES:
            sql = f"SELECT * FROM {table} ORDER BY id"
            assert port.execute(sql).fetchall() == source.execute(sql).fetchall(), table


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_a_few_kills(database: Database, tmp_path: Path) -> None:
    """Each named place once or so."""
    kill_loop(database, tmp_path, kills=10, seed=random.randrange(2**32))


@pytest.mark.integration
@pytest.mark.long
@pytest.mark.timeout(3000)
def test_many_kills(database: Database, tmp_path: Path) -> None:
    """At least 200 on each server, each named place at least ten times."""
    died = kill_loop(database, tmp_path, kills=230, seed=random.randrange(2**32))
    named = {name: died[name] for name in failpoints.MIRROR}
    assert sum(died.values()) >= 200
    assert min(named.values()) >= 10, named
