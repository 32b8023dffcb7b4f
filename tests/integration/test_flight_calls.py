"""Calls of the Flight SQL port that end early, and the tickets that tie them together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from adbc_driver_manager import DatabaseError
from pyarrow import flight

from htapkit.errors import ConfigError
from htapkit.serve.flight import FlightOptions, FlightServer
from htapkit.serve.flight.commands import wrapped
from htapkit.serve.flight.handler import Limits
from htapkit.testing.postgres import Database, PostgresServer
from htapkit.testing.stack import wait_until
from tests.integration.flight_place import Place, descriptor, running

pytestmark = pytest.mark.integration

SETUP = """
create table orders (id int8 primary key, note text);
insert into orders select g, 'note ' || g from generate_series(1, 300000) g;
create table pairs (a int4, b text, primary key (b, a));
"""


@pytest.fixture(scope="module")
def place(pg: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    shop = Database(pg, "flight_calls")
    shop.execute(SETUP)
    try:
        folder = tmp_path_factory.mktemp("flight")
        with running(folder, {"shop": shop}, FlightOptions(port=0, trust=True)) as place:
            yield place
    finally:
        shop.drop()


def sleepers(place: Place) -> int:
    with place.database.connect() as source:
        row = source.execute(
            "select count(*) from pg_stat_activity "
            "where state = 'active' and query like '%pg_sleep(60)' and pid <> pg_backend_pid()"
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_cancel_stops_a_relayed_statement(place: Place) -> None:
    with place.connect() as connection, connection.cursor() as cursor:
        failed: list[Exception] = []

        def run() -> None:
            try:
                cursor.execute("select pg_sleep(60)")
                cursor.fetchall()
            except (DatabaseError, OSError) as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        wait_until(lambda: sleepers(place) == 1, 60)
        cursor.adbc_cancel()
        thread.join(60)
        assert not thread.is_alive()
        assert failed
    wait_until(lambda: sleepers(place) == 0, 60)
    wait_until(lambda: place.flight.calls == 0, 60)


def test_a_stream_that_is_not_read_to_its_end(place: Place) -> None:
    for route in ("hot", "source"):
        with flight.connect(place.address) as client:
            options = flight.FlightCallOptions(headers=[(b"htapkit-route", route.encode())])
            info = client.get_flight_info(descriptor("select * from orders"), options)
            reader = client.do_get(info.endpoints[0].ticket, options)
            assert reader.read_chunk().data.num_rows > 0
            reader.cancel()
    wait_until(lambda: place.server._store._reads.active == 0, 60)
    wait_until(lambda: place.flight.calls == 0, 60)


def test_tickets(place: Place) -> None:
    with flight.connect(place.address) as client:

        def ticket(sql: str) -> flight.FlightEndpoint:
            return client.get_flight_info(descriptor(sql)).endpoints[0]

        again = ticket("select count(*) from orders")
        assert again.expiration_time.as_py() > datetime.now(UTC)
        tables = [client.do_get(again.ticket).read_all() for _ in range(2)]
        assert tables[0] == tables[1]
        once = ticket("insert into pairs values (100, 'once') returning a")
        assert once.expiration_time is None
        assert client.do_get(once.ticket).read_all().to_pylist() == [{"a": 100}]
        with pytest.raises(flight.FlightError, match="26000"):
            client.do_get(once.ticket)
        with pytest.raises(flight.FlightError, match="08P01"):
            client.do_get(flight.Ticket(b"\xff\xff\xff"))
        with pytest.raises(flight.FlightError, match="08P01"):
            client.get_flight_info(flight.FlightDescriptor.for_path("orders"))
        with pytest.raises(pa.ArrowNotImplementedError, match="0A000"):
            client.get_flight_info(
                flight.FlightDescriptor.for_command(wrapped("CommandStatementSubstraitPlan", b""))
            )


def test_the_number_of_tickets_is_limited(place: Place) -> None:
    few = FlightOptions(port=0, trust=True, limits=Limits(tickets_max=50))
    with place.another(few) as port, flight.connect(f"grpc+tcp://127.0.0.1:{port}") as client:

        def take_too_many() -> None:
            for _ in range(51):
                client.get_flight_info(descriptor("select 1"))

        with pytest.raises(flight.FlightUnavailableError, match="50 tickets"):
            take_too_many()


def test_a_taken_address_is_a_configuration_error(place: Place) -> None:
    options = FlightOptions(port=place.flight.port, trust=True)
    with pytest.raises(ConfigError, match=r"servers\.flight\.listen"):
        FlightServer({}, options).start()
