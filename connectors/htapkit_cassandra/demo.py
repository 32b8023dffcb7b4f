"""The second source of `htapkit demo --source both`: events of the shop's customers, in Cassandra.

Found by the entry point `htapkit.demos`; what the demo asks of it is `htapkit.demo.second`. Each
question is answered by the node itself, too: its rows over CQL, counted and joined here in Python.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

from htapkit.errors import ConfigError
from htapkit.sqlfiles import sql
from htapkit_cassandra.cluster import session, translated
from htapkit_cassandra.demo_clients import INSERT, OF_ENTITY, EventClient, event
from htapkit_cassandra.jars import cache_folder, missing
from htapkit_cassandra.node import CassandraNode
from htapkit_cassandra.settings import Settings

POINT_READS = 10
WRITERS = 32
FILL_SEED = 7
APT = "apt-get install openjdk-17-jre-headless maven"

Rows = list[tuple[object, ...]]
Shop = Callable[[str], Sequence[tuple[object, ...]]]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the copy, statement by statement, and who else knows the answers."""

    title: str
    statements: Sequence[str]
    answer: Callable[[Shop], Sequence[Rows]]


def joined(customers: Sequence[tuple[object, ...]], events: Sequence[tuple[int, int]]) -> Rows:
    """(country, events, quantity) of (id, country) and (entity, quantity)."""
    country = {row[0]: row[1] for row in customers}
    found: dict[object, list[int]] = defaultdict(lambda: [0, 0])
    for entity, quantity in events:
        if entity in country:
            found[country[entity]][0] += 1
            found[country[entity]][1] += quantity
    return [(name, *sums) for name, sums in found.items()]


class EventsDemo:
    """One private node with `demo.events`, written and read at a live rate."""

    database = "events"
    table = "events.demo.events"
    title = "Cassandra"

    def __init__(self, folder: Path, free_port: Callable[[], int]) -> None:
        """In a folder of its own, which the caller removes. Raises ConfigError: Java, Maven."""
        if reason := missing():
            raise ConfigError(f"the demo with {self.title} cannot run: {reason}; as root: {APT}")
        fetched = cache_folder().is_dir()
        self.starting = "a private Cassandra node" + (
            "" if fetched else "; Maven fetches its jars first, once (100 jars, 67 MB)"
        )
        folder.mkdir()
        self._node = CassandraNode(folder, free_port)
        self._sessions = ExitStack()

    @property
    def settings(self) -> dict[str, object]:
        """Its section of the configuration."""
        return {"connector": "cassandra", **self._node.settings(tables=["demo.*"])}

    def start(self) -> None:
        """Start the node, and do not wait for it."""
        self._node.spawn()

    def fill(self, rows: int, entities: int) -> str:
        """Wait until it answers, make the table with so many events; a line about it."""
        self._node.wait_started()
        self._session = self._sessions.enter_context(self._node.session())
        with translated(Settings(self.database, port=self._node.port)):
            self._fill(rows, entities)
        return f"one Cassandra node at 127.0.0.1:{self._node.port}, {rows:,} events in demo.events"

    def _fill(self, rows: int, entities: int) -> None:
        for statement in sql("demo/events_schema_cql").split(";"):
            if statement.strip():
                self._session.execute(statement)
        drawn = random.Random(FILL_SEED)  # noqa: S311 - a shop, no secret
        first = datetime.now(UTC) - timedelta(days=1)
        step = timedelta(days=1) / rows
        events = [event(drawn, entities, first + number * step) for number in range(rows)]
        insert = self._session.prepare(INSERT)
        execute_concurrent_with_args(self._session, insert, events, concurrency=WRITERS)

    def address(self, entities: int) -> str:
        """For `client`, in whatever process."""
        return f"{self._node.port} {entities}"

    @staticmethod
    @contextmanager
    def client(address: str, seed: int) -> Iterator[Callable[[], str]]:
        """One client of the node: each call is an operation, `read` or `write`."""
        port, entities = map(int, address.split())
        with session(Settings(EventsDemo.database, port=port)) as opened:
            yield EventClient(opened, seed, entities).act

    def questions(self, entities: int) -> Sequence[Question]:
        """Reads by key, counts over everything, and a join with the shop's customers."""
        cql = self._session
        read = cql.prepare(OF_ENTITY)
        keys = [1 + number * entities // POINT_READS for number in range(POINT_READS)]
        return (
            Question(
                f"The events of one customer ({POINT_READS} times, each)",
                [sql("demo/events_point").replace("{entity}", str(key)) for key in keys],
                lambda _: [_rows(cql, read.bind((key,))) for key in keys],
            ),
            Question(
                "Events per customer, and the last of each",
                [sql("demo/events_counts")],
                lambda _: [_rows(cql, sql("demo/events_counts_cql"))],
            ),
            Question(
                "Purchases by country: joined with PostgreSQL's customers",
                [sql("demo/events_join")],
                lambda shop: [_purchases(cql, shop)],
            ),
        )

    def stop(self) -> None:
        """End the node; safe to call whatever became of it."""
        self._sessions.close()
        self._node.stop()


def _rows(cql: Session, statement: object) -> Rows:
    return [tuple(_aware(value) for value in row) for row in cql.execute(statement)]


def _aware(value: object) -> object:
    """The driver gives times in UTC without saying so."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def _purchases(cql: Session, shop: Shop) -> Rows:
    events = cql.execute("SELECT entity_id, kind, quantity FROM demo.events")
    bought = [(row.entity_id, row.quantity) for row in events if row.kind == "purchase"]
    return joined(shop("SELECT id, country FROM customers"), bought)
