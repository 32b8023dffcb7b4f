"""Several tickets for one statement: together its rows, each once, at one position.

Random changes, tiering and folding go on while the tickets are read; a row of the table says which
transaction was the last one, and the test knows what the table was after each.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import adbc_driver_flightsql.dbapi as adbc
import pytest
from adbc_driver_flightsql import DatabaseOptions
from adbc_driver_manager import DatabaseError, OperationalError
from pyarrow import flight

from htapkit.testing.postgres import PostgresServer, free_port
from htapkit.testing.stack import wait_until
from tests.fix_mirror import Mirrored, fresh_database, mirrored
from tests.integration.flight_place import HEADER, descriptor

pytestmark = pytest.mark.integration

ROWS = 12_000
ROUNDS = 4
SETUP = """
create table ledger (id int8 primary key, at timestamptz not null, amount int8, note text);
insert into ledger
select g, date_trunc('day', now()) - g % 40 * interval '1 day', g, repeat('x', 1 + g::int % 90)
from generate_series(0, 11999) g;
create table tiny (id int4 primary key);
insert into tiny values (1), (2);
"""
READS_MAX = 80


class Place:
    """The mirror, and its Flight port."""

    def __init__(self, mirror: Mirrored, port: int) -> None:
        self.mirror = mirror
        self.url = f"grpc+tcp://127.0.0.1:{port}"

    def connect(self, **headers: str) -> adbc.Connection:
        waits = {HEADER + "htapkit-wait-timeout": "60s"}  # for the copy, on a slow machine, too
        asked = waits | {HEADER + f"htapkit-{name}": value for name, value in headers.items()}
        wanted = {DatabaseOptions.WITH_MAX_MSG_SIZE.value: str(2**30)}
        return adbc.connect(self.url, db_kwargs={**wanted, **asked}, autocommit=True)

    def leases(self) -> float:
        with self.mirror.stack.client() as client:
            return float(client.status()["store"]["leases"])


@contextmanager
def running(pg18: PostgresServer, folder: Path, lease_time: str) -> Iterator[Place]:
    port = free_port()
    configuration = {
        "tables": {"shop.public.ledger": {"time_column": "at", "partition": "day"}},
        "lake": {"interval": "1 day"},
        "limits": {"lease_time": lease_time, "reads": READS_MAX},
        "servers": {"flight": {"listen": f"127.0.0.1:{port}", "auth": "trust"}},
    }
    with fresh_database(pg18) as database:
        database.execute(SETUP)
        with mirrored(database, folder, configuration=configuration) as mirror:
            mirror.stack.wait_ready()
            wait_tiered(mirror, tier(mirror, "30 days"))
            yield Place(mirror, port)


@pytest.fixture(scope="module")
def place(pg18: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """For all tests but those that need leases to end, or all of them."""
    with running(pg18, tmp_path_factory.mktemp("parts"), "10 min") as place:
        yield place


def tier(mirror: Mirrored, older_than: str) -> str:
    """Begin to move the line; the job."""
    with mirror.stack.client() as client:
        return str(client.tier(["shop.public.ledger"], older_than)["id"])


def wait_tiered(mirror: Mirrored, job: str) -> None:
    with mirror.stack.client() as client:
        client.wait(job, timeout_seconds=120)


class Changing:
    """Random transactions, and what the table was after each of them."""

    def __init__(self, mirror: Mirrored, seed: int) -> None:
        self._mirror = mirror
        self._random = random.Random(seed)
        with mirror.database.connect() as source:
            rows = source.execute("select id, amount from ledger").fetchall()
        self.start: dict[int, int] = dict(rows)
        self.start[0] = 0
        self.changes: list[dict[int, int | None]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Changing:
        self._mirror.run("update ledger set amount = 0 where id = 0")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    @property
    def done(self) -> int:
        return len(self.changes)

    def after(self, number: int) -> dict[int, int]:
        """The table after so many transactions."""
        rows = dict(self.start)
        for change in self.changes[:number]:
            for key, amount in change.items():
                if amount is None:
                    rows.pop(key, None)
                else:
                    rows[key] = amount
        return rows

    def _run(self) -> None:
        present = set(self.start) - {0}
        with self._mirror.database.connect() as source:
            while not self._stop.is_set():
                number = self.done + 1
                change: dict[int, int | None] = {0: number}
                for key in self._random.sample(sorted(present), 25):
                    gone = self._random.random() < 0.2
                    change[key] = None if gone else self._random.randrange(10**6)
                for _ in range(5):
                    change[self._random.randrange(ROWS, 2 * ROWS)] = number
                with source.transaction():
                    for key, amount in change.items():
                        if amount is None:
                            source.execute("delete from ledger where id = %s", [key])
                        else:
                            source.execute(UPSERT, [key, self._random.randrange(60), amount])
                present -= {key for key, amount in change.items() if amount is None}
                present |= {key for key, amount in change.items() if amount is not None and key}
                self.changes.append(change)


UPSERT = """
insert into ledger values (%s, now() - %s * interval '1 day', %s, 'new')
on conflict (id) do update set amount = excluded.amount
"""


def read_all(place: Place, tickets: list[bytes], order: list[int]) -> list[list[tuple[Any, ...]]]:
    found = []
    for number in order:
        # Each ticket by a connection of its own, as another machine would.
        with place.connect() as connection, connection.cursor() as cursor:
            cursor.adbc_read_partition(tickets[number])
            found.append(cursor.fetchall())
    return found


@pytest.mark.parametrize("seed", [20261128])
def test_the_tickets_are_the_table_after_one_transaction(place: Place, seed: int) -> None:
    shuffle = random.Random(seed)
    moments = set()
    with Changing(place.mirror, seed) as changing:
        for round_number in range(ROUNDS):
            headers = {"partitions": "5", "freshness": "strong"}
            before = changing.done
            with place.connect(**headers) as connection, connection.cursor() as cursor:
                tickets, _ = cursor.adbc_execute_partitions("select id, amount from ledger")
                cursor.execute("show htapkit.last_route")
                route = cursor.fetchone()
                cursor.execute("show htapkit.last_position")
                ((position,),) = cursor.fetchall()
            begun = changing.done
            job = tier(place.mirror, f"{29 - 2 * round_number} days")  # the line moves meanwhile
            wait_until(lambda begun=begun: changing.done > begun + 5, 60)  # type: ignore[misc]
            assert (len(tickets), route) == (5, ("union",))
            parts = read_all(place, list(tickets), shuffle.sample(range(5), 5))
            assert all(parts), f"seed {seed}: a part without rows"
            rows = [row for part in parts for row in part]
            found = dict(rows)
            number = found[0]
            assert len(found) == len(rows), f"seed {seed}: a row twice, transaction {number}"
            assert found == changing.after(number), f"seed {seed}: transaction {number}"
            assert before <= number  # strong: what was committed before it was asked
            moments.add((number, position))
            wait_tiered(place.mirror, job)
    assert len(moments) == ROUNDS


def test_a_condition_and_parameters_go_with_every_ticket(place: Place) -> None:
    sql = "select id, at, note from ledger where amount % 3 = $1 and at < $2"
    with (
        place.connect(partitions="3", freshness="strong") as connection,  # others' changes are in
        connection.cursor() as cursor,
    ):
        place.mirror.follows("ledger")
        values = (1, datetime.now(UTC) - timedelta(days=5))
        cursor.execute(sql, values)
        whole = cursor.fetchall()
        tickets, schema = cursor.adbc_execute_partitions(sql, values)
    assert schema is not None
    assert schema.names == ["id", "at", "note"]
    parts = read_all(place, list(tickets), list(range(len(tickets))))
    assert len(parts) > 1
    assert sorted(row for part in parts for row in part) == sorted(whole)
    assert len(whole) > 1000


@pytest.mark.parametrize(
    "sql",
    [
        "select count(*) from ledger",
        "select id from ledger order by id",
        "select id from ledger limit 3",
        "select distinct amount from ledger",
        "select * from tiny",
        "select t.id from tiny t left join ledger l on t.id = l.id",
        "select pg_backend_pid() > 0",
        "show htapkit.last_route",
    ],
)
def test_all_else_has_one_ticket(place: Place, sql: str) -> None:
    with place.connect(partitions="4") as connection, connection.cursor() as cursor:
        tickets, _ = cursor.adbc_execute_partitions(sql)
        assert len(tickets) == 1
        cursor.adbc_read_partition(tickets[0])
        assert cursor.fetchall()


def test_without_the_header_a_scan_has_one_ticket(place: Place) -> None:
    with place.connect() as connection, connection.cursor() as cursor:
        tickets, _ = cursor.adbc_execute_partitions("select * from ledger")
        assert len(tickets) == 1


def test_a_client_that_knows_nothing_of_tickets_reads_them_all(place: Place) -> None:
    with place.connect(partitions="4") as connection, connection.cursor() as cursor:
        cursor.execute("select id from ledger")
        read = cursor.fetch_arrow_table().num_rows
    with place.mirror.database.connect() as source:
        assert [(read,)] == source.execute("select count(*) from ledger").fetchall()


def test_a_wrong_number_is_refused(place: Place) -> None:
    for wrong in ("0", "many", "1001"):
        with (
            place.connect(partitions=wrong) as connection,
            connection.cursor() as cursor,
            pytest.raises(DatabaseError, match=r"htapkit\.partitions"),
        ):
            cursor.adbc_execute_partitions("select * from ledger")


def test_a_ticket_is_one_clients_and_survives_a_broken_stream(place: Place) -> None:
    options = flight.FlightCallOptions(headers=[(b"htapkit-partitions", b"2")])
    with flight.connect(place.url) as client:
        info = client.get_flight_info(descriptor("select id, note from ledger"), options)
        assert len(info.endpoints) == 2
        reader = client.do_get(info.endpoints[0].ticket)
        reader.read_chunk()
        reader.cancel()

        def again() -> bool:
            try:
                return client.do_get(info.endpoints[0].ticket).read_all().num_rows > 0
            except (flight.FlightServerError, OperationalError) as busy:
                if "being read" not in str(busy):
                    raise
                return False

        wait_until(again, 60)
        assert client.do_get(info.endpoints[1].ticket).read_all().num_rows > 0


def test_a_lease_that_ended_by_time_says_so_and_is_freed(
    pg18: PostgresServer, tmp_path: Path
) -> None:
    options = flight.FlightCallOptions(headers=[(b"htapkit-partitions", b"4")])
    with running(pg18, tmp_path, "10 s") as place, flight.connect(place.url) as client:
        info = client.get_flight_info(descriptor("select * from ledger"), options)
        assert len(info.endpoints) == 4
        assert place.leases() >= 1
        wait_until(lambda: place.leases() == 0, 60)
        with pytest.raises(flight.FlightServerError, match=r"limits\.lease_time") as gone:
            client.do_get(info.endpoints[2].ticket)
        assert json.loads(gone.value.extra_info) == {"sqlstate": "72000"}


def test_leases_leave_room_for_other_statements(pg18: PostgresServer, tmp_path: Path) -> None:
    """Half of `limits.reads`: further tickets are fewer, and what is not in parts goes on."""
    counts = []
    with running(pg18, tmp_path, "10 min") as place:
        wait_tiered(place.mirror, tier(place.mirror, "15 days"))  # a file a day: enough to share
        with place.connect(partitions="15") as connection, connection.cursor() as cursor:
            for _ in range(4):
                tickets, _ = cursor.adbc_execute_partitions("select id from ledger")
                counts.append(len(tickets))
        assert counts == [15, 15, 10, 1]
        with place.connect(route="union") as connection, connection.cursor() as cursor:
            cursor.execute("select count(*) from ledger")
            assert cursor.fetchall()
