"""An htapkit over two keyspaces of a ring, and whether its copy is what CQL gives at ALL."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import psutil
from cassandra import ConsistencyLevel, DriverException
from cassandra.cluster import Session
from cassandra.query import SimpleStatement

from htapkit.testing.stack import Stack
from tests.cassandra.workload import Workload
from tests.fix_cassandra import SECONDS, Keyspace, connected, is_reader, wait_for
from tests.fix_ring import CassandraRing

ONE, QUORUM, ALL = ConsistencyLevel.ONE, ConsistencyLevel.QUORUM, ConsistencyLevel.ALL
Row = tuple[object, ...]
_COLUMNS = "pk, ck, s, a, b, m"


class Ringed:
    """A whole htapkit over two keyspaces: `thrice` with three replicas, `once` with one.

    `end` is behind the names, for each test has its own.
    """

    def __init__(
        self,
        ring: CassandraRing,
        folder: Path,
        session: Session,
        settings: Mapping[str, object],
        end: str,
    ) -> None:
        """Make the tables. Nothing runs yet. `settings` are the source's, but for `tables`."""
        self.ring = ring
        self.session = session
        self.thrice, self.once = f"thrice{end}", f"once{end}"
        for name, factor in ((self.thrice, 3), (self.once, 1)):
            session.execute(
                f"CREATE KEYSPACE {name} WITH replication = "
                f"{{'class': 'SimpleStrategy', 'replication_factor': {factor}}}"
            )
        session.execute(f"CREATE TABLE {self.once}.t (id int PRIMARY KEY, v int) WITH cdc = true")
        session.execute(
            f"CREATE TABLE {self.thrice}.counted (id int PRIMARY KEY, n counter, m counter)"
            " WITH cdc = true"
        )
        tables = [f"{self.thrice}.*", f"{self.once}.*"]
        source = {"connector": "cassandra", **settings, "tables": tables}
        self.stack = Stack(folder, {"events": source})

    def workload(self, seed: int, *, make: bool = True) -> Workload:
        """Statements for the table with three replicas, by the first node."""
        return self.workload_by(self.session, seed, make=make)

    def workload_by(self, session: Session, seed: int, *, make: bool = False) -> Workload:
        """The same by the node of another session."""
        return Workload(Keyspace(self.ring.nodes[0], session, self.thrice), seed, make=make)

    def write_once(self, first: int) -> None:
        """Each row is at one node only: no other one's log or files have it; and counters."""
        for number in range(first, first + 60):
            self.session.execute(f"INSERT INTO {self.once}.t (id, v) VALUES ({number}, {first})")
        self.count(self.session, first, ONE)

    def count(self, session: Session, seed: int, consistency: int) -> None:
        """Each replica leads some of these increments; some counters are deleted."""
        rolled = random.Random(seed)
        for _ in range(80):
            cql = (
                f"UPDATE {self.thrice}.counted SET n = n + {rolled.randrange(9)}, m = m - 1"
                " WHERE id = %s"
            )
            if rolled.random() < 0.05:
                cql = f"DELETE FROM {self.thrice}.counted WHERE id = %s"
            statement = SimpleStatement(cql, consistency_level=consistency)
            wait_for(partial(_written, session, statement, rolled.randrange(20)))

    def asked(
        self, sql: str, *, wait_seconds: int = int(SECONDS), strong: bool = True
    ) -> list[Row]:
        """What htapkit answers."""
        freshness = "strong" if strong else "any"
        opened = connected(self.stack, "events", freshness=freshness, wait_seconds=wait_seconds)
        with closing(opened) as connection:
            return sorted(connection.execute(sql.encode()).fetchall(), key=repr)

    def equals(self, *, strong: bool = True, consistency: int = ALL) -> None:
        """Once what is short-lived is over the tables are what CQL gives.

        Not `strong`: of the table alone whose replicas need not all be up for that.
        """
        found: list[list[Row]] = []
        expected: list[list[Row]] = []
        table = f"SELECT {_COLUMNS} FROM {self.thrice}.t"
        others = [f"SELECT id, v FROM {self.once}.t"]
        others.append(f"SELECT id, n, m FROM {self.thrice}.counted")

        def equal() -> bool | None:
            nonlocal found, expected
            try:
                expected = [
                    _selected(self.session, table, consistency),
                    *(_selected(self.session, sql, ALL) for sql in others if strong),
                ]
            except DriverException:
                return None  # a node has just come or gone
            found = [
                self.asked(table, strong=strong),
                *(self.asked(sql) for sql in others if strong),
            ]
            return found == expected or None

        try:
            wait_for(equal)
        except AssertionError:
            assert found == expected
        assert len(expected[0]) > 50

    def readers(self) -> list[psutil.Process]:
        """The programs that htapkit has started."""
        found = psutil.Process(self.stack.pid).children(recursive=True)
        return [process for process in found if is_reader(process)]


@contextmanager
def ringed(
    ring: CassandraRing, folder: Path, settings: Mapping[str, object], end: str = ""
) -> Iterator[Ringed]:
    """Whose htapkit is stopped at the end."""
    with ring.nodes[0].session() as session, ExitStack() as running:
        made = Ringed(ring, folder, session, settings, end)
        running.callback(made.stack.stop)
        yield made


def _written(session: Session, statement: SimpleStatement, number: int) -> bool | None:
    """Perhaps not, or nobody knows, while a node that is gone may be the one that counts."""
    try:
        session.execute(statement, (number,))
    except DriverException:
        return None
    return True


def _selected(session: Session, cql: str, consistency: int) -> list[Row]:
    rows = session.execute(SimpleStatement(cql, consistency_level=consistency))
    plain = [tuple(dict(v) if hasattr(v, "items") else v for v in row) for row in rows]
    return sorted([tuple(None if v == {} else v for v in row) for row in plain], key=repr)
