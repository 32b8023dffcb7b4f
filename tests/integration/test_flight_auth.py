"""`auth: source` over Flight SQL: the source's own users, passwords and rights."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import adbc_driver_flightsql.dbapi as adbc
import pytest
import trustme
from adbc_driver_flightsql import DatabaseOptions
from adbc_driver_manager import DatabaseError
from pyarrow import flight

from htapkit.errors import ConfigError
from htapkit.serve.flight import FlightOptions, FlightServer
from htapkit.serve.flight.commands import wrapped
from htapkit.serve.flight.protobuf import make_octets
from htapkit.testing.postgres import Database, PostgresServer
from htapkit.testing.stack import wait_until
from tests.integration.flight_place import Place, running

pytestmark = pytest.mark.integration

SETUP = """
create role htap login superuser replication password 'source-secret';
create role app login password 'app-secret';
create role stranger login password 'stranger-secret';
create table ev (id int primary key, val int, secret text);
insert into ev select g, g * 2, 's' || g from generate_series(1, 2000) g;
create table own (id int primary key, owner text);
insert into own select g, case when g % 4 = 0 then 'app' else 'other' end
  from generate_series(1, 2000) g;
alter table own enable row level security;
create policy mine on own for select using (owner = current_user);
create table hidden (id int primary key);
grant select (id, val), insert on ev to app;
grant select on own to app;
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def place(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    with PostgresServer(16) as server:
        database = Database(server, "shop")
        database.execute(SETUP)
        hba = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        hba += "host replication all 127.0.0.1/32 scram-sha-256\n"
        (server.data / "pg_hba.conf").write_text(hba)
        server.reload()
        dsn = f"host=127.0.0.1 port={server.port} dbname=shop user=htap password=source-secret"
        options = FlightOptions(
            port=0,
            tls_certificate=certificate.cert_chain_pems[0].bytes(),
            tls_key=certificate.private_key_pem.bytes(),
        )
        folder = tmp_path_factory.mktemp("flight")
        with running(folder, {"shop": database}, options, dsn) as place:
            place.scheme = "grpc+tls"
            yield place


@pytest.fixture
def roots(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return (tmp_path / "ca.pem").read_text()


def connect(place: Place, roots: str, user: str, password: str = "") -> adbc.Connection:
    options = {
        DatabaseOptions.TLS_ROOT_CERTS.value: roots,
        "username": user,
        "password": password or f"{user}-secret",
    }
    return adbc.connect(place.address, db_kwargs=options, autocommit=True)


def rows(place: Place, roots: str, user: str, sql: str) -> list[tuple[object, ...]]:
    with connect(place, roots, user) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def test_everybody_is_who_they_are(place: Place, roots: str) -> None:
    assert rows(place, roots, "app", "select current_user::text") == [("app",)]
    assert rows(place, roots, "stranger", "select current_user::text") == [("stranger",)]


def test_column_privileges(place: Place, roots: str) -> None:
    assert rows(place, roots, "app", "select sum(val) from ev") == [(2_001_000 * 2,)]
    for user, sql in (
        ("app", "select secret from ev"),
        ("app", "select * from ev"),
        ("app", "select * from hidden"),
        ("stranger", "select id from ev"),
    ):
        with pytest.raises(DatabaseError, match="42501"):
            rows(place, roots, user, sql)


def test_the_copy_answers_for_who_may(place: Place, roots: str) -> None:
    with connect(place, roots, "app") as connection, connection.cursor() as cursor:
        for sql, expected, route in (
            ("select count(*), sum(val) from ev", (2000, 4_002_000), "hot"),
            ("select count(*) from own", (500,), "source"),  # row-level security
        ):
            cursor.execute(sql)
            assert cursor.fetchall() == [expected]
            cursor.execute("show htapkit.last_route")
            assert cursor.fetchall() == [(route,)]
    with connect(place, roots, "htap", "source-secret") as c, c.cursor() as cursor:
        cursor.execute("select count(*) from own")
        assert cursor.fetchall() == [(2000,)]


def test_the_catalog_is_what_the_role_may_see(place: Place, roots: str) -> None:
    with connect(place, roots, "app") as connection:
        objects = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
    found = [
        table["table_name"]
        for catalog in objects
        for schema in catalog["catalog_db_schemas"]
        for table in schema["db_schema_tables"]
    ]
    assert found == ["ev", "own"]


@pytest.mark.parametrize(
    ("user", "password"), [("app", "wrong"), ("nobody", "wrong"), ("app", "stranger-secret")]
)
def test_wrong_passwords(
    place: Place, roots: str, user: str, password: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DatabaseError, match="28P01") as raised:
        connect(place, roots, user, password)
    assert f'password authentication failed for user "{user}"' in str(raised.value)
    refused = [r for r in caplog.records if r.getMessage() == "login refused"]
    assert {record.__dict__["user"] for record in refused} == {user}


def query(sql: str) -> flight.FlightDescriptor:
    command = wrapped("CommandStatementQuery", make_octets(1, sql))
    return flight.FlightDescriptor.for_command(command)


def test_tokens_and_what_belongs_to_them(place: Place, roots: str) -> None:
    with flight.connect(place.address, tls_root_certs=roots) as client:

        def login(user: str) -> flight.FlightCallOptions:
            header = client.authenticate_basic_token(user, f"{user}-secret")
            return flight.FlightCallOptions(headers=[header])

        app, stranger = login("app"), login("stranger")
        info = client.get_flight_info(query("select count(*) from ev"), app)
        ticket = info.endpoints[0].ticket
        assert client.do_get(ticket, app).read_all().num_rows == 1
        for other in (stranger, flight.FlightCallOptions()):
            with pytest.raises(flight.FlightError, match=r"26000|28P01"):
                client.do_get(ticket, other)
        for header in (b"Bearer nonsense", b"Basic nonsense", b"Basic " + base64.b64encode(b":x")):
            options = flight.FlightCallOptions(headers=[(b"authorization", header)])
            with pytest.raises(flight.FlightUnauthenticatedError, match="28P01"):
                client.get_flight_info(query("select 1"), options)


def test_a_password_with_each_call_is_one_login(place: Place, roots: str) -> None:
    header = b"Basic " + base64.b64encode(b"app:app-secret")
    options = flight.FlightCallOptions(headers=[(b"authorization", header)])
    with flight.connect(place.address, tls_root_certs=roots) as client:
        tickets = [
            client.get_flight_info(query("select 1"), options).endpoints[0].ticket
            for _ in range(20)
        ]
        assert client.do_get(tickets[0], options).read_all().num_rows == 1

    def connections() -> int:
        with place.database.connect() as source:
            row = source.execute(
                "select count(*) from pg_stat_activity where application_name = 'htapkit flight'"
            ).fetchone()
        assert row is not None
        return int(row[0])

    # Those given up end soon, and well before idle ones would.
    most = FlightOptions().idle_connections_max
    wait_until(lambda: connections() <= most, 10, lambda: f"{connections()} connections")
    wait_until(lambda: connections() == 0, 60)  # idle ones are given up


def test_trust_is_for_loopback() -> None:
    with pytest.raises(ConfigError, match="loopback"):
        FlightServer({}, FlightOptions(host="192.0.2.1", trust=True))
