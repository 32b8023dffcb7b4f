"""kill -9 of the whole server under load, again and again: Kafka has each transaction once."""

from __future__ import annotations

import random
import re
from collections import Counter
from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from htapkit import failpoints
from htapkit.testing import bank
from htapkit.testing.postgres import Database
from htapkit.testing.stack import Stack
from tests.fix_sink import Fed
from tests.kafka.replay import Replayed, replay

pytestmark = [pytest.mark.kafka, pytest.mark.integration]
LARGE = "INSERT INTO ledger (account, amount) SELECT g, 0 FROM generate_series(1, 250) g"
REWRITE = "ALTER TABLE extra ADD COLUMN c{} int DEFAULT 7"
TABLES = ("checking", "savings", "ledger", "extra")

# What the source itself notes of each transaction, inside it: the oracle.
AUDIT = """
CREATE SCHEMA audit;
CREATE TABLE audit.ops (xid xid8, name text, op text, id bigint, former bigint);
CREATE FUNCTION audit.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit.ops VALUES (pg_current_xact_id(), 'public.' || TG_TABLE_NAME,
        lower(left(replace(TG_OP, 'INSERT', 'c'), 1)), coalesce(NEW.id, OLD.id), OLD.id);
    RETURN NULL;
END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON checking
    FOR EACH ROW EXECUTE FUNCTION audit.note();
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON savings
    FOR EACH ROW EXECUTE FUNCTION audit.note();
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON ledger
    FOR EACH ROW EXECUTE FUNCTION audit.note();
"""


def stored(stack: Stack) -> str:
    """Where the last round began, which is what Kafka had."""
    log = stack.log_path.read_text(errors="replace")
    began = re.findall(r"event=sending .*?position=([0-9A-F]+)", log)
    return began[-1] if began else ""


def equal(database: Database, replayed: Replayed) -> None:
    """The replayed tables are the source's, value by value."""
    with psycopg.connect(database.dsn, autocommit=True) as source:
        for table in TABLES:
            cursor = source.execute(f"SELECT * FROM {table} ORDER BY id")
            names = [column.name for column in cursor.description or ()]
            rows = [dict(zip(names, row, strict=True)) for row in cursor]
            found = replayed.tables[f"public.{table}"].values()
            shown = sorted((_typed(row) for row in found), key=lambda row: row["id"])
            assert shown == rows, table


Signature = tuple[tuple[str, str, int], ...]


def audited(database: Database) -> Counter[Signature]:
    """The source's transactions: what each did to which row; a changed key is a delete and more."""
    found: dict[int, list[tuple[str, str, int]]] = {}
    rows = database.execute("SELECT xid::text::int8, name, op, id, former FROM audit.ops")
    for xid, name, op, key, former in rows:
        moved = op == "u" and key != former
        ops = [(name, "d", former), (name, "c", key)] if moved else [(name, op, key)]
        found.setdefault(xid, []).extend(ops)
    return Counter(tuple(sorted(each)) for each in found.values())


def told(replayed: Replayed) -> Counter[Signature]:
    """The same, of the events."""
    found: dict[str, list[tuple[str, str, int]]] = {}
    for event in replayed.events:
        name = f"public.{event['source']['table']}"
        if event["transaction"] is not None and name != "public.extra":
            key = (event["after"] or event["before"])["id"]
            found.setdefault(event["transaction"]["id"], []).append((name, event["op"], key))
    return Counter(tuple(sorted(each)) for each in found.values())


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    typed = dict(row)
    for name in {"balance", "amount"} & row.keys():
        typed[name] = Decimal(row[name])
    if "at" in row:
        typed["at"] = datetime.fromisoformat(row["at"])
    return typed


def kill_loop(fed: Fed, kills: int) -> None:
    """Kill `kills` times; in the end replay and compare."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    database = fed.database
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        bank.create(connection)
        connection.execute("CREATE TABLE extra (id int PRIMARY KEY, v text)")
        connection.execute("INSERT INTO extra SELECT g, 'v' FROM generate_series(1, 3000) g")
        connection.execute(AUDIT)
    fed.configure({"batch_rows": 100}, topic=f"{fed.sink}.all")
    fed.stack.start()
    fed.wait_sent()
    fed.stack.kill()
    died: Counter[str] = Counter()
    positions: list[str] = []
    load = bank.start(database.dsn, seed)
    try:
        for number in range(kills):
            _kill_once(database, fed.stack, number, chance, died)
            positions.append(stored(fed.stack))
        fed.stack.start()
        database.execute("TRUNCATE extra")
        database.execute("INSERT INTO extra (id, v) VALUES (1, 'after')")
        load.terminate()
        load.wait()
        fed.wait_sent()
    finally:
        load.kill()
        load.wait()
    moved = len(set(positions))
    replayed = replay(fed.broker.address, f"{fed.sink}.all")
    print(f"killed: {dict(died)}; {moved} positions; {replayed.ops}")
    print(f"{len(replayed.transactions)} transactions")
    assert positions == sorted(positions), "the position went back"
    assert moved > kills // 3, "it hardly got on"
    equal(database, replayed)
    expected, found = audited(database), told(replayed)
    assert expected.total() > 1000
    copied = Counter(e["source"]["table"] for e in replayed.events if e["op"] == "r")
    assert {copied["checking"], copied["savings"]} == {bank.ACCOUNTS}, copied
    # Not as one comparison: what pytest says of two large counters is larger still.
    more, fewer = found - expected, expected - found
    assert not more, (more.total(), fewer.total(), more.most_common(3), fewer.most_common(3))
    assert not fewer, (fewer.total(), fewer.most_common(3))
    assert replayed.ops.keys() == {"r", "c", "u", "d", "t"}


def _kill_once(
    database: Database, stack: Stack, number: int, chance: random.Random, died: Counter[str]
) -> None:
    """At each named place in turn, and each fourth time at any moment."""
    anywhere = number % 4 == 3
    name = failpoints.SINK[(number - number // 4) % len(failpoints.SINK)]
    count = chance.randint(2, 9) if name not in {"sink.opened", "sink.copied"} else 1
    if name.startswith("sink.cop"):
        count = 1
        database.execute(REWRITE.format(number))
        database.execute("INSERT INTO extra SELECT max(id) + 1, 'w' FROM extra")
    stack.start({} if anywhere else {"HTAPKIT_FAILPOINT": f"{name}:{count}"})
    if name == "sink.part":
        for _ in range(count):
            database.execute(LARGE)
    if anywhere:
        stack.wait_ended(1.0 + chance.random(), kill=True)
    else:
        stack.wait_ended(90)
    died["anywhere" if anywhere else name] += 1


@pytest.mark.timeout(900)
def test_each_transaction_once(fed: Fed) -> None:
    """Each named place once, and some times anywhere."""
    kill_loop(fed, kills=10)


@pytest.mark.long
def test_each_transaction_once_over_many_kills(fed: Fed) -> None:
    """Each named place ten times or so."""
    kill_loop(fed, kills=100)
