"""A load of small random transactions, for tests that say of what."""

from __future__ import annotations

import random
import threading
from abc import abstractmethod
from typing import ClassVar

import psycopg
from psycopg import errors

from htapkit.testing.postgres import Database


class SmallTransactions(threading.Thread):
    """Each has up to `changes_max` changes."""

    changes_max = 5
    expected: ClassVar[tuple[type[psycopg.Error], ...]] = (
        errors.UniqueViolation,
        errors.DeadlockDetected,
    )
    """After these the next one is made."""

    def __init__(self, database: Database, seed: int) -> None:
        """Runs until `stop`."""
        super().__init__(daemon=True)
        self._dsn = database.dsn
        self._chance = random.Random(seed)
        self._stopping = threading.Event()
        self.done = 0

    def run(self) -> None:
        """For ever."""
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._stopping.is_set():
                try:
                    with connection.transaction():
                        for _ in range(self._chance.randint(1, self.changes_max)):
                            self._change(connection)
                    self.done += 1
                except self.expected:
                    continue

    def stop(self) -> None:
        """End it, and see it end."""
        self._stopping.set()
        if self.ident is not None:
            self.join(30)
        assert not self.is_alive()

    @abstractmethod
    def _change(self, connection: psycopg.Connection) -> None:
        """One change, in the transaction that is open."""
