"""One real Cassandra node for the whole session, started when first asked for."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil
import psycopg
import pytest
from cassandra.cluster import Session

from htapkit.spi import SourceOptions
from htapkit.testing.guard import Guard
from htapkit.testing.postgres import free_port
from htapkit.testing.stack import Stack
from htapkit_cassandra import CassandraSource
from htapkit_cassandra.jars import missing, version
from htapkit_cassandra.mutations import LogPosition
from htapkit_cassandra.node import CassandraNode
from htapkit_cassandra.segments import newest

# Programs of Java start one after the other, and each takes a minute where others use the machine.
SECONDS = 300.0
HAS_VECTORS = not version().startswith("4.")
Found = TypeVar("Found")
REPLICATION = "replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Keyspace:
    """A keyspace of a test's own, on the session's node."""

    node: CassandraNode
    session: Session
    name: str
    made: list[CassandraSource] = field(default_factory=list)

    def source(self, **more: object) -> CassandraSource:
        """Over this keyspace only, with these settings, or (None) without; closed at the end."""
        found = self.node.settings(tables=[f"{self.name}.*"], **more)
        settings = {name: value for name, value in found.items() if value is not None}
        options = SourceOptions("events", settings, 5, 1, 10_000, 2**25, 1, None)
        self.made.append(CassandraSource(options))
        return self.made[-1]

    def log_end(self) -> LogPosition:
        """A place in the node's log that is behind every write acknowledged before.

        The first sync that is seen may have begun before this call; the one after it has not.
        """
        return self._synced_again(self._synced_again(newest(self.node.cdc_raw)))

    def _synced_again(self, before: LogPosition | None) -> LogPosition:
        self.session.execute("INSERT INTO ticks.ticks (id) VALUES (1)")
        return wait_for(lambda: _later(self.node, before))


def is_reader(process: psutil.Process) -> bool:
    """Whether it is the program that reads logs and files."""
    with suppress(psutil.NoSuchProcess):
        return any("CommitLogTail" in part for part in process.cmdline())
    return False


def _later(node: CassandraNode, before: LogPosition | None) -> LogPosition | None:
    now = newest(node.cdc_raw)
    return now if now is not None and (before is None or now > before) else None


def wait_for(found: Callable[[], Found | None]) -> Found:
    """What `found` gives once it gives something."""
    deadline = time.monotonic() + SECONDS
    while (value := found()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def connected(
    stack: Stack,
    database: str,
    user: str = "anybody",
    *,
    freshness: str = "strong",
    wait_seconds: int = int(SECONDS),
    password: str | None = None,
) -> psycopg.Connection[tuple[object, ...]]:
    """At an htapkit's port, as fresh as the sources are now; what is not in time is an error."""
    options = f"-c htapkit.freshness={freshness} -c htapkit.wait_timeout={wait_seconds}s"
    return psycopg.connect(
        host="127.0.0.1",
        port=stack.port,
        user=user,
        dbname=database,
        options=options,
        autocommit=True,
        password=password,
    )


@contextmanager
def running_node(*changes: tuple[str, str]) -> Iterator[CassandraNode]:
    """A node of one's own, with changes of its settings' text; skips where none can be had."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="htapkit-cassandra-") as folder:
        guard = Guard(Path(folder))
        node = CassandraNode(Path(folder), free_port)
        settings = node.folder / "conf" / "cassandra.yaml"
        for change in changes:
            settings.write_text(settings.read_text().replace(*change))
        try:
            node.start()
            yield node
        finally:
            node.stop()
            guard.release()


@pytest.fixture(scope="session")
def cassandra_node() -> Iterator[CassandraNode]:
    """Started once; tests have keyspaces of their own."""
    with running_node() as node:
        with node.session() as session:
            session.execute(f"CREATE KEYSPACE ticks WITH {REPLICATION}")
            session.execute("CREATE TABLE ticks.ticks (id int PRIMARY KEY) WITH cdc = true")
        yield node


@pytest.fixture
def keyspace(cassandra_node: CassandraNode) -> Iterator[Keyspace]:
    """A new, empty one."""
    name = f"test_{next(_numbers)}"
    with cassandra_node.session() as session:
        session.execute(f"CREATE KEYSPACE {name} WITH {REPLICATION}")
        made = Keyspace(cassandra_node, session, name)
        yield made
        for source in made.made:
            source.close()
