"""What the tests that kill a whole server share: a reader that never stops, and the position."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter

import psycopg

from htapkit.client import ServerRefused, ServerUnreachable
from htapkit.testing import bank
from htapkit.testing.stack import Stack, wait_until

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

    def wait_for(self, route: str) -> None:
        """Wait until it has read by this route."""
        wait_until(lambda: self.routes[route] > 0, 60, lambda: f"only by {dict(self.routes)}")

    def end(self) -> None:
        """Stop, after the server it reads from."""
        self.stopped = True
        if self.ident is not None:
            self.join(60)

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


# A copy or a move waits until all is applied that was written while the server was dead.
DIES_SECONDS = 240.0
STILL_MAX = 3  # starts in a row from the same position


class Progress:
    """The stored position over many kills: it never goes back, and it goes on."""

    def __init__(self) -> None:
        """Nothing is stored yet."""
        self._still = 0
        self._stored = ""
        self.moved = 0

    def wait(self, stack: Stack) -> None:
        """Give a server time to get on, where those before it were killed too soon for that."""
        if self._still < STILL_MAX - 1:
            return

        def further() -> bool:
            return not stack.running or position(stack, "") > self._stored

        wait_until(further, 60, stack.log_end)

    def look(self, stack: Stack) -> None:
        """Where the last stream began, which is what the file said; it may be dead since.

        What a server says is what it has in memory, which a kill may take.
        """
        log = stack.log_path.read_text(errors="replace")
        began = re.findall(r"event=streaming .*?position=([0-9A-F]+)", log)
        if not began:
            return
        found = began[-1]
        assert found >= self._stored, f"the position went back: {self._stored} to {found}"
        moved = found > self._stored
        self.moved += moved
        self._still = 0 if moved else self._still + 1
        assert self._still <= STILL_MAX, f"no progress over {self._still} kills at {found}"
        self._stored = found


def ask_for_copy(stack: Stack, table: str, timeout_seconds: float = 60.0) -> None:
    """Have a table copied again; the server may die of it at once."""

    def asked() -> bool:
        if not stack.running:
            return True
        try:
            with stack.client() as client:
                client.table_action("resync", table)
        except (ServerRefused, ServerUnreachable, OSError):
            return False  # not followed yet, or dying
        return True

    wait_until(asked, timeout_seconds, stack.log_end)


def position(stack: Stack, default: str | None = None) -> str:
    try:
        with stack.client() as client:
            return str(client.status()["sources"][0]["position"])
    except Exception:
        if default is None:
            raise
        return default
