"""A database and its mirror, compared as a client sees them: the text of every column of a table.

The source is the oracle. A read at the port is forced to the copy and strong, so that a comparison
right after a commit either sees that commit or fails. Nothing here waits without a deadline, and
no deadline is one that a slow machine meets: what is right is there long before.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import pq

from htapkit.testing.postgres import Connection, Database, PostgresServer
from htapkit.testing.stack import Stack, wait_until

WATCH = "200 ms"
SETTLE_SECONDS = 90.0
JOB_SECONDS = 180.0  # more than a job takes on a slow machine
_numbers = itertools.count(1)

Printed = list[tuple[bytes | None, ...]]


def printed(connection: psycopg.Connection[Any], sql: str) -> tuple[list[tuple[Any, ...]], Printed]:
    """What a statement gives, as it comes over the wire: its columns, and the text of its rows."""
    result = connection.pgconn.exec_(sql.encode())
    if result.status != pq.ExecStatus.TUPLES_OK:
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        raise psycopg.errors.lookup(state or "XX000")(result.get_error_message())
    width = range(result.nfields)
    columns = [(result.fname(i), result.ftype(i), result.fmod(i)) for i in width]
    rows = [tuple(result.get_value(row, i) for i in width) for row in range(result.ntuples)]
    return columns, rows


def hot_answers(http_port: int) -> int:
    """How many statements the copy has answered."""
    with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/metrics") as page:
        found = re.search(r'htapkit_statements_total\{route="hot"\} (\d+)', page.read().decode())
    return int(found[1]) if found else 0


class Mirrored:
    """A database with an htapkit beside it."""

    def __init__(self, database: Database, stack: Stack) -> None:
        """Both run, or will."""
        self.database = database
        self.stack = stack

    @property
    def version(self) -> int:
        """Of the source server."""
        return self.database.server.version

    def run(self, *statements: str) -> None:
        """Each statement in a transaction of its own, at the source."""
        for statement in statements:
            self.database.execute(statement)

    def transaction(self, *statements: str) -> None:
        """All in one transaction."""
        with self.database.connect() as connection, connection.transaction():
            for statement in statements:
                connection.execute(statement)

    def make(self, table: str, *statements: str) -> str:
        """Create a table, and wait until it is followed. Its name."""
        self.run(*statements)
        self.follows(table)
        return table

    # -- what the mirror says

    def source(self) -> Mapping[str, Any]:
        """The report on the source."""
        with self.stack.client() as client:
            sources: list[Mapping[str, Any]] = client.status()["sources"]
        return next(source for source in sources if source["name"] == "shop")

    def table(self, name: str) -> Mapping[str, Any]:
        """The report on one table; {} where there is none."""
        full = f"shop.{name if '.' in name else 'public.' + name}"
        return next((t for t in self.source()["tables"] if t["table"] == full), {})

    def state(self, table: str) -> str:
        """Its state; "" where it is not known."""
        return str(self.table(table).get("state", ""))

    def metric(self, name: str) -> float:
        """A figure on the source."""
        url = f"http://127.0.0.1:{self.stack.http_port}/metrics"
        with urllib.request.urlopen(url) as answer:
            text = answer.read().decode()
        found = re.search(rf'^{name}{{source="shop"}} (\S+)$', text, re.MULTILINE)
        assert found is not None, name
        return float(found[1])

    def looked(self, looks: int = 2) -> None:
        """Wait for so many looks at the source's catalog: the first may have begun before.

        Whoever looks copies in between. So with the second, all that the source had at the call was
        seen; with the third, what had to be copied for it was tried, and told in the log.
        """
        name = "htapkit_catalog_looks_total"
        enough = self.metric(name) + looks
        wait_until(lambda: self.metric(name) >= enough, SETTLE_SECONDS, self.stack.log_end)

    def copies(self, table: str) -> int:
        """How often a copy of it was finished, when no other one is due."""
        return self.all_copies(table)[table]

    def all_copies(self, *tables: str) -> Mapping[str, int]:
        """The same of each of these."""
        end = time.monotonic() + SETTLE_SECONDS
        copying = True
        while copying:
            assert time.monotonic() < end, self._now(tables[0])
            self.looked(3)
            copying = any(self.state(table) == "copying" for table in tables)
        return {table: self._copies_told(table) for table in tables}

    def is_copied(self, table: str, times: int) -> None:
        """Wait until a copy of it was finished for the so-manieth time."""
        wait_until(
            lambda: self._copies_told(table) >= times, SETTLE_SECONDS, lambda: self._now(table)
        )

    def _copies_told(self, table: str) -> int:
        full = f"shop.{table if '.' in table else 'public.' + table}"
        wanted = f'event="table follows" table={full} '
        return self.stack.log_path.read_text(errors="replace").count(wanted)

    def becomes(self, table: str, state: str, why: str = "") -> str:
        """Wait until it has this state, and a reason with these words. The reason."""

        def reached() -> bool:
            found = self.table(table)
            return found.get("state") == state and why in found.get("why", "")

        wait_until(reached, SETTLE_SECONDS, lambda: f"{table}: {self._now(table)}")
        return str(self.table(table)["why"])

    def becomes_unknown(self, table: str) -> None:
        """Wait until it is no longer in the list."""
        wait_until(lambda: not self.table(table), SETTLE_SECONDS, lambda: self._now(table))

    def follows(self, *tables: str) -> None:
        """Wait until these are followed."""
        for table in tables:
            self.becomes(table, "following")

    def source_becomes(self, state: str, why: str = "", seconds: float = SETTLE_SECONDS) -> str:
        """Wait until the source has this state, and a reason with these words. The reason."""

        def reached() -> bool:
            found = self.source()
            return found["state"] == state and why in found["why"]

        wait_until(reached, seconds, lambda: f"{self.source()}\n{self.stack.log_end()}")
        return str(self.source()["why"])

    def _now(self, table: str) -> str:
        return f"{dict(self.table(table))}\n{dict(self.source())}\n{self.stack.log_end()}"

    # -- comparing

    @contextmanager
    def port(self, route: str = "hot", freshness: str = "strong") -> Iterator[Connection]:
        """A session at the port."""
        with self.stack.connect() as connection:
            connection.execute(f"SET htapkit.route = '{route}'")
            connection.execute(f"SET htapkit.freshness = '{freshness}'")
            yield connection

    def equal(self, *tables: str, order: str = "id") -> None:
        """Now, at once: whole tables are the same in the copy, and it was the copy that spoke."""
        with self.port() as port, self.database.connect() as source:
            for table in tables:
                self.compare(port, source, table, order)

    def compare(
        self,
        port: Connection,
        source: Connection,
        table: str,
        order: str = "id",
        columns: str = "*",
    ) -> None:
        """One table. Without `order`, rows are compared as a multiset."""
        sql = f"SELECT {columns} FROM {table}" + (f" ORDER BY {order}" if order else "")
        ours, theirs = printed(port, sql), printed(source, sql)
        assert last_route(port) == "hot", table
        assert ours[0] == theirs[0], f"{table}: columns differ"
        left, right = (ours[1], theirs[1]) if order else (_sorted(ours[1]), _sorted(theirs[1]))
        if left != right:  # the rows themselves would fill pages
            pytest.fail(f"{table}: {difference(left, right)}", pytrace=False)

    def settles(self, *tables: str, order: str = "id") -> None:
        """Soon: what the catalog is asked for only every `watch_interval` is equal by then."""
        self.looked()  # or it may be equal before it is copied for what was done last
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                self.follows(*tables)
                self.equal(*tables, order=order)
            except (AssertionError, pytest.fail.Exception, psycopg.Error) as problem:
                if time.monotonic() > end:
                    pytest.fail(f"{problem}\n{self._now(tables[0])}", pytrace=False)
                time.sleep(0.05)
            else:
                return

    def same_answer(self, sql: str, route: str) -> None:
        """`auto` gives the source's answer, by this route."""
        with self.port("auto") as port, self.database.connect() as source:
            assert printed(port, sql) == printed(source, sql), sql
            assert last_route(port) == route, sql

    def verified(self, *tables: str) -> None:
        """`htapkit verify` finds no difference."""
        with self.stack.client() as client:
            found = client.verify([f"shop.public.{table}" for table in tables])
        assert found["equal"], found


def last_route(port: Connection) -> str:
    """Where the last statement of the session was answered."""
    row = port.execute("SHOW htapkit.last_route").fetchone()
    assert row is not None
    return str(row[0])


def difference(left: Sequence[Any], right: Sequence[Any]) -> str:
    """The first rows that differ, copy against source."""
    pairs = itertools.zip_longest(left, right)
    found = [_told(a, b) for a, b in pairs if a != b]
    return f"{len(left)} and {len(right)} rows; " + "; ".join(found[:3])[:1500]


def _told(ours: Any, theirs: Any) -> str:
    """Two rows; of long ones only the cells that differ."""
    if isinstance(ours, tuple) and isinstance(theirs, tuple) and len(ours) == len(theirs):
        cells = enumerate(zip(ours, theirs, strict=True))
        return "; ".join(f"cell {n}: copy {a!r} source {b!r}" for n, (a, b) in cells if a != b)
    return f"copy {ours!r} source {theirs!r}"


def _sorted(rows: Printed) -> Printed:
    return sorted(rows, key=lambda row: [(value is None, value or b"") for value in row])


def slot_name(database: Database) -> str:
    """The slot of the mirror of a database."""
    return f"htapkit_{database.name}"


@contextmanager
def stopped(pid: int) -> Iterator[int]:
    """A process that stands still. It must go on before its server is stopped."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def stopped_sender(one: Mirrored, slot: str = "") -> Iterator[int]:
    """The server's side of the stream stands still; all other connections go on."""
    sql = "select active_pid from pg_replication_slots where slot_name = %s"
    found = one.database.execute(sql, [slot or slot_name(one.database)])
    with stopped(int(found[0][0])) as pid:
        yield pid


@contextmanager
def mirrored(
    database: Database,
    folder: Path,
    *,
    dsn: str = "",
    settings: Mapping[str, Any] | None = None,
    configuration: Mapping[str, Any] | None = None,
    start: bool = True,
    preloaded: bool = False,
) -> Iterator[Mirrored]:
    """An htapkit on `database`; `settings` are of the source, `configuration` of the file."""
    own = {"slot": slot_name(database), "tables": ["public.*"]}  # slots belong to a whole server
    source = {"dsn": dsn or database.dsn, **own, **(settings or {})}
    laid_over = {"watch_interval": WATCH, **(configuration or {})}
    stack = Stack(folder, {"shop": source}, configuration=laid_over, preloaded=preloaded)
    try:
        if start:
            stack.start()
        yield Mirrored(database, stack)
    finally:
        stack.stop()


@contextmanager
def fresh_database(server: PostgresServer) -> Iterator[Database]:
    """A database that is dropped with its slots."""
    database = Database(server, f"mirror_{next(_numbers)}")
    try:
        yield database
    finally:
        database.drop()


@pytest.fixture(scope="module")
def mirror(pg: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    """One mirror for all tests of a module: each makes tables of its own."""
    folder = tmp_path_factory.mktemp("mirror")
    tables = {"shop.public.appended": {"append_only": True}}
    with (
        fresh_database(pg) as database,
        mirrored(database, folder, configuration={"tables": tables}) as one,
    ):
        yield one
