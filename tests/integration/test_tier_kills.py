"""kill -9 while ranges move to the lake, under a load that changes old rows all the time.

The bank's total lies on both sides of the line; whoever reads another one has seen a row twice, not
at all, or half a transaction. Between the kills the line must move, or the test says nothing.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from htapkit import failpoints
from htapkit.client import ServerRefused, ServerUnreachable
from htapkit.testing import bank
from htapkit.testing.postgres import Database
from htapkit.testing.stack import Stack, wait_until
from tests.fix_kills import DIES_SECONDS, Progress, Reader, position
from tests.fix_mirror import last_route, printed

TIERED = ("checking", "savings", "ledger")
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
HOURS = bank.ACCOUNTS
OLDER = (
    "ALTER TABLE {0} ADD opened timestamptz NOT NULL DEFAULT '2026-01-01 00:00+00'",
    "UPDATE {0} SET opened = opened + id * interval '1 hour'",
)


def tier_kill_loop(database: Database, folder: Path, kills: int, seed: int) -> Counter[str]:
    """Kill `kills` times, compare at the end; how often each failpoint was the end."""
    chance = random.Random(seed)
    print(f"seed {seed}")
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        bank.create(connection)
        for table in ("checking", "savings"):
            for statement in OLDER:
                connection.execute(statement.format(table))
        connection.execute(
            "ALTER TABLE ledger ALTER at SET DEFAULT "
            f"timestamptz '{FIRST:%Y-%m-%d}' + random() * interval '{HOURS} hours'"
        )
    load = bank.start(database.dsn, seed)
    sources = {"shop": {"dsn": database.dsn, "tables": ["public.*"]}}
    tables = {f"shop.public.{table}": {"partition": "day"} for table in TIERED}
    stack = Stack(
        folder,
        sources,
        preloaded=True,
        configuration={"tables": tables, "lake": {"interval": "1 hour"}},
    )
    reader = Reader(stack)
    try:
        stack.start()
        stack.wait_ready()
        reader.start()
        stack.kill()
        died = _kill(stack, kills, chance)
        stack.start()
        load.terminate()
        load.wait()
        stack.wait_ready()
        _equal(database, stack)
        with stack.client() as client:
            # With all patches worked in, the same once more.
            names = [f"shop.public.{table}" for table in TIERED]
            client.wait(client.tier(names, _older_than(HOURS))["id"], timeout_seconds=120)
        _equal(database, stack)
        with stack.client() as client:
            verified = client.verify([])
        assert verified["equal"], verified
        reader.wait_for("union")  # or nothing was tested
    finally:
        load.kill()
        load.wait()
        stack.stop()
        reader.end()
    print(f"killed: {dict(died)}; reads {reader.reads}, {dict(reader.routes)}")
    assert not reader.wrong, reader.wrong[:5]
    return died


def _older_than(hours: float) -> str:
    """How old a row must be to lie before that many hours after the first."""
    age = datetime.now(UTC) - (FIRST + timedelta(hours=hours))
    return f"{age.total_seconds():.0f} s"


def _kill(stack: Stack, kills: int, chance: random.Random) -> Counter[str]:
    died: Counter[str] = Counter()
    progress, lines = Progress(), [""]
    for number in range(kills):
        name = failpoints.TIER[number % len(failpoints.TIER)]
        # Three tables: a place that is reached once for each may be reached up to three times.
        each = name in {"tier.exported", "tier.committed"}
        stack.start({"HTAPKIT_FAILPOINT": f"{name}:{chance.randint(1, 3) if each else 1}"})
        line = _line(stack) or lines[-1]
        assert line >= lines[-1], f"the line went back: {lines[-1]} to {line}"
        lines += [line] if line > lines[-1] else []
        anywhere = number % 6 == 5
        progress.wait(stack)
        _ask(stack, HOURS * (number + 1) / kills, until_dead=not anywhere)
        if anywhere:
            stack.wait_ended(chance.random() * 2, kill=True)
            died["anywhere"] += 1
        else:
            code = stack.wait_ended(DIES_SECONDS)
            assert code == -signal.SIGKILL, f"{name}: ended with {code}: {stack.log_end()}"
            died[name] += 1
        progress.look(stack)
    print(f"lines: {lines[1:]}")
    assert len(lines) > kills // 10, "the line hardly moved"
    assert progress.moved > kills // 3, "the copy hardly got on"
    return died


def _line(stack: Stack) -> str:
    """How far the line of `checking` has come; "" where the server is dead already."""
    try:
        wait_until(lambda: not stack.running or position(stack, "") != "", 60, stack.log_end)
        with stack.client() as client:
            tables = client.status()["sources"][0]["tables"]
    except Exception as error:  # noqa: BLE001 - it died meanwhile, which is what is wanted
        print(f"line: {type(error).__name__}")
        return ""
    return next((str(t["lake_below"]) for t in tables if t["table"].endswith("checking")), "")


def _ask(stack: Stack, hours: float, *, until_dead: bool) -> None:
    """Have the line moved: once, or again and again until the server dies of it."""

    def asked() -> bool:
        if not stack.running:
            return True
        try:
            with stack.client() as client:
                tables = [f"shop.public.{table}" for table in TIERED]
                job = client.tier(tables, _older_than(hours))
                if until_dead:
                    client.wait(job["id"], timeout_seconds=60)
        except (ServerRefused, ServerUnreachable, OSError):
            return False  # not followed yet, or dying
        return not until_dead

    wait_until(asked, 120, stack.log_end)


def _equal(database: Database, stack: Stack) -> None:
    with psycopg.connect(database.dsn, autocommit=True) as source, stack.connect() as port:
        port.execute("SET htapkit.freshness = 'strong'")
        port.execute("SET htapkit.wait_timeout = '60s'")
        for table in TIERED:
            sql = f"SELECT * FROM {table} ORDER BY id"

            def from_both(text: str = sql) -> bool:
                printed(port, text)
                return last_route(port) == "union"

            # Right after a start the source answers for a moment.
            wait_until(from_both, 60, stack.log_end)
            assert printed(port, sql) == printed(source, sql), table
            assert last_route(port) == "union", table


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_a_few_kills_while_ranges_move(database: Database, tmp_path: Path) -> None:
    """Each named place twice or so."""
    tier_kill_loop(database, tmp_path, kills=10, seed=random.randrange(2**32))


@pytest.mark.integration
@pytest.mark.long
@pytest.mark.timeout(3000)
def test_many_kills_while_ranges_move(database: Database, tmp_path: Path) -> None:
    """At least 200 over both servers, each named place at least ten times on each."""
    died = tier_kill_loop(database, tmp_path, kills=105, seed=random.randrange(2**32))
    named = {n: c for n, c in died.items() if n != "anywhere"}
    assert sum(died.values()) >= 100
    assert min(named[name] for name in failpoints.TIER) >= 10, named
