"""Clients of the demo's node: they write events, mend and delete some of their own, and read.

How fast they work and what is measured is the demo's; here is what one of them does next.
"""

from __future__ import annotations

import random
from collections import deque
from datetime import UTC, datetime
from decimal import Decimal

from cassandra.cluster import Session

KINDS = ("view", "search", "cart", "checkout", "purchase")
INSERT = (
    "INSERT INTO demo.events (entity_id, event_time, kind, amount, quantity) VALUES (?, ?, ?, ?, ?)"
)
OF_ENTITY = (
    "SELECT entity_id, event_time, kind, amount, quantity FROM demo.events WHERE entity_id = ?"
)
CHANGE = "UPDATE demo.events SET amount = ? WHERE entity_id = ? AND event_time = ?"
DELETE = "DELETE FROM demo.events WHERE entity_id = ? AND event_time = ?"
REMEMBERED = 200  # of each client's own events: what it changes and deletes
READ_ROWS = 20
READS, DELETES, CHANGES = 0.5, 0.02, 0.05  # of all operations; the rest are new events


def event(
    drawn: random.Random, entities: int, at: datetime
) -> tuple[int, datetime, str, Decimal, int]:
    """The values of `INSERT`: somebody did something, some do far more than others."""
    entity = 1 + int(entities * drawn.random() ** 2)
    return entity, at, drawn.choice(KINDS), amount(drawn), drawn.randint(1, 5)


def amount(drawn: random.Random) -> Decimal:
    """Of money."""
    return Decimal(drawn.randrange(100, 50_000)).scaleb(-2)


class EventClient:
    """One client's operations, drawn at random."""

    def __init__(self, cql: Session, seed: int, entities: int) -> None:
        """Prepare its statements."""
        self._cql = cql
        self._random = random.Random(seed)  # noqa: S311 - a shop, no secret
        self._entities = entities
        self._own: deque[tuple[object, object]] = deque(maxlen=REMEMBERED)
        self._insert = cql.prepare(INSERT)
        self._read = cql.prepare(f"{OF_ENTITY} LIMIT {READ_ROWS}")
        self._change = cql.prepare(CHANGE)
        self._delete = cql.prepare(DELETE)

    def act(self) -> str:
        """Make one operation; its kind."""
        drawn = self._random.random()
        if drawn < READS:
            entity = 1 + self._random.randrange(self._entities)
            list(self._cql.execute(self._read, (entity,)))
            return "read"
        self._write(drawn - READS)
        return "write"

    def _write(self, drawn: float) -> None:
        if self._own and drawn < DELETES:
            self._cql.execute(self._delete, self._own.pop())
        elif self._own and drawn < DELETES + CHANGES:
            key = self._random.choice(self._own)
            self._cql.execute(self._change, (amount(self._random), *key))
        else:
            values = event(self._random, self._entities, datetime.now(UTC))
            self._cql.execute(self._insert, values)
            self._own.append(values[:2])
