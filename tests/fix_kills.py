"""What the tests that kill a whole server share: a reader that never stops, and the position."""

from __future__ import annotations

import threading
import time
from collections import Counter

import psycopg

from htapkit.testing import bank
from htapkit.testing.stack import Stack

TOTAL_SQL = (
    "SELECT (SELECT sum(balance) FROM checking) + (SELECT sum(balance) FROM savings) AS total"
)


class Reader(threading.Thread):
    """Reads the bank's total at the port all the time; a wrong one is kept."""

    def __init__(self, stack: Stack) -> None:
        """Reads until `stop`."""
        super().__init__(daemon=True)
        self.stack = stack
        self.stopped = False
        self.reads = 0
        self.routes: Counter[str] = Counter()
        self.wrong: list[str] = []

    def run(self) -> None:
        """Reconnect after every kill."""
        while not self.stopped:
            try:
                with self.stack.connect() as connection:
                    connection.execute("SET htapkit.freshness = 'any'")
                    while not self.stopped:
                        self._read(connection)
            except psycopg.Error:
                time.sleep(0.05)  # killed; the next one comes

    def _read(self, connection: psycopg.Connection) -> None:
        row = connection.execute(TOTAL_SQL).fetchone()
        route = connection.execute("SHOW htapkit.last_route").fetchone()
        assert row is not None
        self.reads += 1
        assert route is not None
        self.routes[route[0]] += 1
        if row[0] != bank.TOTAL:
            self.wrong.append(f"{row[0]} by {route}")


def stored_position(stack: Stack, default: str) -> str:
    """The position right after a start, which is what the file says.

    The server may be dead already.
    """
    return position(stack, default) or default


def position(stack: Stack, default: str | None = None) -> str:
    try:
        with stack.client() as client:
            return str(client.status()["sources"][0]["position"])
    except Exception:
        if default is None:
            raise
        return default
