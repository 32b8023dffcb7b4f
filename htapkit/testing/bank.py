"""A bank as a workload.

Transfers between two tables whose total never changes, plus rows that come and go.

Whoever sees another total has seen half a transaction. Runs as a process of its own (`python -m
htapkit.testing.bank DSN SEED`) until it is ended; makes its tables where they are missing.
"""

from __future__ import annotations

import random
import subprocess
import sys

import psycopg
from psycopg import errors

ACCOUNTS = 500
TOTAL = ACCOUNTS * 2 * 1000

SCHEMA = """
CREATE TABLE checking (id int PRIMARY KEY, balance numeric(12,2) NOT NULL, note text);
CREATE TABLE savings (id int PRIMARY KEY, balance numeric(12,2) NOT NULL, note text);
CREATE TABLE ledger (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
                     account int NOT NULL, amount numeric(12,2) NOT NULL, memo text);
ALTER TABLE savings ALTER COLUMN note SET STORAGE EXTERNAL;
"""


def create(connection: psycopg.Connection) -> None:
    """The three tables, with money in them."""
    connection.execute(SCHEMA)
    for table in ("checking", "savings"):
        connection.execute(
            f"INSERT INTO {table} SELECT g, 1000, repeat('n', 3000) FROM generate_series(1, %s) g",  # noqa: S608
            (ACCOUNTS,),
        )


def start(dsn: str, seed: int) -> subprocess.Popen[bytes]:
    """Run the load in a child process."""
    command = [sys.executable, "-m", "htapkit.testing.bank", dsn, str(seed)]
    return subprocess.Popen(command)


def run(dsn: str, seed: int) -> None:
    """Transfers, for ever."""
    chance = random.Random(seed)  # noqa: S311 - a workload
    with psycopg.connect(dsn, autocommit=True) as connection:
        while True:
            try:
                _transaction(connection, chance)
            except (errors.DeadlockDetected, errors.UniqueViolation):
                continue


def _transaction(connection: psycopg.Connection, chance: random.Random) -> None:
    from_table, to_table = chance.sample(["checking", "savings"], 2)
    account, other = chance.randint(1, ACCOUNTS), chance.randint(1, ACCOUNTS)
    amount = chance.randint(1, 100)
    with connection.transaction(force_rollback=chance.random() < 0.05):
        move = "UPDATE {} SET balance = balance + %s WHERE id = %s"
        connection.execute(move.format(from_table), (-amount, account))
        connection.execute(move.format(to_table), (amount, other))
        connection.execute(
            "INSERT INTO ledger (account, amount, memo) VALUES (%s, %s, %s)",
            (account, amount, None if chance.random() < 0.2 else f"to {other} ✓"),
        )
        if chance.random() < 0.3:
            connection.execute(
                "DELETE FROM ledger WHERE id = (SELECT min(id) FROM ledger WHERE account = %s)",
                (other,),
            )
        if chance.random() < 0.02:
            _move_key(connection, chance.randint(1, ACCOUNTS))
        if chance.random() < 0.01:
            connection.execute(
                "UPDATE savings SET note = repeat('m', 4000) WHERE id = %s", (other,)
            )


def _move_key(connection: psycopg.Connection, account: int) -> None:
    """Two keys change places by way of a third."""
    for old, new in (
        (account, -1),
        (account % ACCOUNTS + 1, account),
        (-1, account % ACCOUNTS + 1),
    ):
        connection.execute("UPDATE savings SET id = %s WHERE id = %s", (new, old))


if __name__ == "__main__":
    with psycopg.connect(sys.argv[1], autocommit=True) as first:
        if first.execute("SELECT to_regclass('ledger')").fetchone() == (None,):
            create(first)
    run(sys.argv[1], int(sys.argv[2]))
