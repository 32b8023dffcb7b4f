"""A whole htapkit over a node and a PostgreSQL: kills, joins, a database without a PostgreSQL."""

from __future__ import annotations

import math
import os
import random
import signal
import time
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from htapkit.testing.postgres import Database
from htapkit.testing.stack import Stack
from tests.cassandra.workload import Workload
from tests.fix_cassandra import SECONDS, Keyspace, connected, wait_for

pytestmark = pytest.mark.cassandra


class Server:
    """An htapkit over the test's keyspace, and perhaps a PostgreSQL."""

    def __init__(self, stack: Stack, user: str) -> None:
        """It runs; `user` is a role of the PostgreSQL."""
        self.stack = stack
        self.user = user

    def connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        """At its port; everything that it answers is as fresh as the sources are now."""
        return connected(self.stack, database, self.user)

    def rows(self, database: str, sql: str) -> list[tuple[object, ...]]:
        """What a statement gives, sorted."""
        with closing(self.connect(database)) as connection:
            return sorted(connection.execute(sql.encode()).fetchall(), key=repr)


def _server(
    keyspace: Keyspace, folder: Path, running: ExitStack, shop: Database | None = None
) -> Server:
    settings = keyspace.node.settings(tables=[f"{keyspace.name}.*"])
    sources: dict[str, dict[str, object]] = {"events": {"connector": "cassandra", **settings}}
    if shop is not None:
        sources["shop"] = {"dsn": shop.dsn, "tables": ["public.*"]}
    stack = running.enter_context(Stack(folder, sources))
    stack.wait_ready(SECONDS)
    user = conninfo_to_dict(shop.dsn)["user"] if shop is not None else "anybody"
    return Server(stack, str(user))


@pytest.fixture
def running() -> Iterator[ExitStack]:
    """What is stopped at the test's end."""
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("pg", [18], indirect=True)
def test_joined_with_postgres_in_one_statement(
    keyspace: Keyspace, database: Database, tmp_path: Path, running: ExitStack
) -> None:
    """Both sides fresh, from a session of either."""
    ks = keyspace.name
    keyspace.session.execute(
        f"CREATE TABLE {ks}.events (customer int, at timeuuid, kind text, amount decimal,"
        " tags set<text>, e vector<float, 2>, PRIMARY KEY (customer, at)) WITH cdc = true"
    )
    database.execute("CREATE TABLE customers (id int PRIMARY KEY, name text)")
    database.execute("INSERT INTO customers VALUES (1, 'Ada'), (2, 'Bo')")
    insert = (
        f"INSERT INTO {ks}.events (customer, at, kind, amount, tags, e)"
        " VALUES (%s, now(), %s, 1.50, {'a', 'b'}, [3, 4])"
    )
    keyspace.session.execute(insert, (1, "view"))
    server = _server(keyspace, tmp_path / "stack", running, database)
    keyspace.session.execute(insert, (1, "buy"))
    database.execute("INSERT INTO customers VALUES (3, 'Cy')")
    joined = (
        "SELECT c.name, count(e.kind) FROM {shop}customers c"
        f" LEFT JOIN events.{ks}.events e ON e.customer = c.id GROUP BY c.name"
    )
    expected = [("Ada", 2), ("Bo", 0), ("Cy", 0)]
    assert server.rows("shop", joined.format(shop="")) == expected
    assert server.rows("events", joined.format(shop="shop.public.")) == expected
    found = server.rows("events", f"SELECT customer, kind, amount, tags FROM {ks}.events")
    near = (
        f"SELECT c.name, e.kind, e.e <-> %s::vector FROM events.{ks}.events e"
        " JOIN customers c ON c.id = e.customer WHERE e.kind = 'buy' ORDER BY 3 LIMIT %s"
    ).encode()
    with closing(server.connect("shop")) as connection:
        for asked in ("[0,0]", [0.0, 0.0]):
            for _ in range(7):  # psycopg prepares it at the sixth time
                assert connection.execute(near, (asked, 3)).fetchall() == [("Ada", "buy", 5.0)]
        with pytest.raises(psycopg.errors.DataException, match="different vector dimensions 2"):
            connection.execute(near, ([1.0], 3))
    rest = (Decimal("1.50"), ["a", "b"])
    assert found == [(1, "buy", *rest), (1, "view", *rest)]


@pytest.mark.parametrize("pg", [16], indirect=True)
def test_roles_that_may_read_are_named(
    keyspace: Keyspace, database: Database, tmp_path: Path, running: ExitStack
) -> None:
    """Where users log in with the passwords of the PostgreSQL."""
    ks, session = keyspace.name, keyspace.session
    session.execute(f"CREATE TABLE {ks}.t (id int PRIMARY KEY) WITH cdc = true")
    session.execute(f"INSERT INTO {ks}.t (id) VALUES (1)")
    for name in ("ann", "bob"):
        database.execute(f"CREATE ROLE {ks}_{name} LOGIN PASSWORD 'secret'")
    events = {"connector": "cassandra", **keyspace.node.settings(tables=[f"{ks}.*"])}
    sources: dict[str, dict[str, object]] = {
        "events": {**events, "readers": [f"{ks}_ann"]},
        "shop": {"dsn": database.dsn, "tables": ["public.*"]},
    }
    stack = running.enter_context(Stack(tmp_path / "stack", sources, auth="source"))
    stack.wait_ready(SECONDS)

    def count(name: str, database_name: str = "shop") -> object:
        opened = connected(stack, database_name, f"{ks}_{name}", password="secret")
        with closing(opened) as connection:
            return connection.execute(f"SELECT count(*) FROM events.{ks}.t".encode()).fetchone()

    assert count("ann") == (1,)
    with pytest.raises(psycopg.Error, match="does not name"):
        count("bob")
    with pytest.raises(psycopg.OperationalError, match="no users of its own"):
        count("ann", "events")


def test_a_database_without_a_postgres(
    keyspace: Keyspace, tmp_path: Path, running: ExitStack
) -> None:
    """It answers SELECTs in both protocols, knows transactions that read, and refuses the rest."""
    ks, session = keyspace.name, keyspace.session
    session.execute(
        f"CREATE TABLE {ks}.t (id int PRIMARY KEY, at timestamp, v blob) WITH cdc = true"
    )
    session.execute(f"INSERT INTO {ks}.t (id, at, v) VALUES (1, '2026-01-02 03:04:05Z', 0x00ff)")
    server = _server(keyspace, tmp_path / "stack", running)
    with closing(server.connect("events")) as connection:
        assert connection.execute("SHOW htapkit.last_route").fetchone() == ("",)
        sql = f"SELECT id, at, v FROM {ks}.t WHERE id = %s".encode()
        expected = [(1, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), b"\x00\xff")]
        for _ in range(8):  # psycopg prepares it at the sixth time
            assert connection.execute(sql, (1,)).fetchall() == expected
        assert connection.execute("SHOW htapkit.last_route").fetchone() == ("hot",)
        with connection.transaction():
            assert connection.execute(f"SELECT count(*) FROM {ks}.t".encode()).fetchone() == (1,)
        refused = {
            "INSERT INTO {}.t VALUES (2)": "may write",
            "SELECT version()": r"version\(\)",
            "SELECT v::text FROM {}.t": "text",
            "SELECT * FROM {}.t, pg_catalog.pg_class": "pg_class",
        }
        for text, why in ((each.format(ks), why) for each, why in refused.items()):
            for prepare in (False, True):
                with pytest.raises(psycopg.errors.FeatureNotSupported, match=f"events.*{why}"):
                    connection.execute(text.encode(), prepare=prepare)
            routes = connection.execute(f"EXPLAIN (ROUTE) {text}".encode()).fetchall()
            assert all(route != "source" and chosen == "false" for route, chosen, *_ in routes)
        connection.execute("DEALLOCATE ALL")
        with pytest.raises(psycopg.errors.FeatureNotSupported), connection.transaction():
            connection.execute("DELETE FROM t")
        assert connection.execute(f"SELECT count(*) FROM {ks}.t".encode()).fetchone() == (1,)


def test_nearest_vectors(keyspace: Keyspace, tmp_path: Path, running: ExitStack) -> None:
    """By texts and by lists, from the copy; what has another length is an error."""
    ks, session = keyspace.name, keyspace.session
    session.execute(
        f"CREATE TABLE {ks}.t (id int PRIMARY KEY, kind int, e vector<float, 3>) WITH cdc = true"
    )
    rolled = random.Random(7)
    rows = {n: array("f", [rolled.uniform(-1, 1) for _ in range(3)]).tolist() for n in range(60)}
    insert = session.prepare(f"INSERT INTO {ks}.t (id, kind, e) VALUES (?, ?, ?)")
    for n in range(30):
        session.execute(insert, (n, n % 2, rows[n]))
    server = _server(keyspace, tmp_path / "stack", running)
    for n in range(30, 60):
        session.execute(insert, (n, n % 2, rows[n]))
    session.execute(f"INSERT INTO {ks}.t (id, kind) VALUES (100, 1)")
    asked = [0.25, -0.5, 1.0]
    near = sorted((math.dist(row, asked), n) for n, row in rows.items() if n % 2)[:5]
    sql = f"SELECT e <-> %s::vector, id FROM {ks}.t WHERE kind = 1 ORDER BY 1 LIMIT %s".encode()
    with closing(server.connect("events")) as connection:
        for _ in range(8):  # psycopg prepares it at the sixth time
            for given in (str(asked), asked):
                found = connection.execute(sql, (given, 5)).fetchall()
                assert [n for _, n in found] == [n for _, n in near]
                assert [d for d, _ in found] == pytest.approx([d for d, _ in near], rel=1e-15)
        last = f"SELECT id, e FROM {ks}.t WHERE kind = 1 ORDER BY e <=> '{asked}' DESC LIMIT 1"
        assert connection.execute(last.encode()).fetchone() == (100, None)
        assert connection.execute("SHOW htapkit.last_route").fetchone() == ("hot",)
        for wrong in ([1.0], "[1,2,3,4]"):
            with pytest.raises(
                psycopg.errors.DataException, match=r"different vector dimensions 3"
            ):
                connection.execute(sql, (wrong, 5))
        with pytest.raises(psycopg.errors.InvalidTextRepresentation, match="invalid vector"):
            connection.execute(sql, ("nonsense", 5))


def _write_until_it_dies(
    keyspace: Keyspace, workload: Workload, stack: Stack, rolled: random.Random
) -> None:
    """How much a batch has is chance: what is written at once may never be a second one.

    A portion is synced before the next one is written, so that there is always more to come.
    """
    deadline = time.monotonic() + SECONDS
    while stack.running:
        assert time.monotonic() < deadline, stack.log_end()
        workload.write(rolled.randrange(5, 50))
        keyspace.log_end()
    assert stack.wait_ended(1) == -signal.SIGKILL, stack.log_end()


@pytest.mark.long
def test_killed_again_and_again(keyspace: Keyspace, tmp_path: Path, running: ExitStack) -> None:
    """Htapkit dies between, and within, copy and batches; the end is what SELECT gives."""
    seed = int(os.environ.get("CASSANDRA_SEED", "0")) or random.randrange(2**32)
    print(f"CASSANDRA_SEED={seed}")
    rolled, workload = random.Random(seed), Workload(keyspace, seed)
    workload.write(200)
    settings = keyspace.node.settings(tables=[f"{keyspace.name}.*"])
    stack = Stack(tmp_path / "stack", {"events": {"connector": "cassandra", **settings}})
    running.callback(stack.stop)
    for point in ("copy.loaded:1", "copy.swapped:1", "apply.written:2", "apply.committed:3"):
        stack.start({"HTAPKIT_FAILPOINT": point})
        _write_until_it_dies(keyspace, workload, stack, rolled)
        workload.write(rolled.randrange(50, 150))
    stack.start()
    stack.wait_ready(SECONDS)
    server = Server(stack, "anybody")
    expected: list[tuple[object, ...]] = []
    found: list[tuple[object, ...]] = []

    def equal() -> bool | None:
        nonlocal expected, found
        rows = keyspace.session.execute(f"SELECT pk, ck, s, a, b, m FROM {keyspace.name}.t")
        plain = [(*row[:5], dict(row.m) if row.m else None) for row in rows]
        expected = sorted(plain, key=repr)
        found = server.rows("events", f"SELECT pk, ck, s, a, b, m FROM {keyspace.name}.t")
        return found == expected or None

    try:
        wait_for(equal)
    except AssertionError:
        assert found == expected
    assert len(expected) > 100
