"""A whole htapkit in this process with a Flight SQL port, beside a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import adbc_driver_flightsql.dbapi as adbc
import pyarrow as pa
import yaml
from adbc_driver_flightsql import DatabaseOptions
from pyarrow import flight

from htapkit.cli.run import Server
from htapkit.client import Client
from htapkit.config import load_config
from htapkit.serve.flight import FlightOptions, FlightServer
from htapkit.serve.flight.commands import wrapped
from htapkit.serve.flight.protobuf import make_octets
from htapkit.testing.postgres import Database
from htapkit.testing.stack import wait_until

HEADER = DatabaseOptions.RPC_CALL_HEADER_PREFIX.value


class Place:
    """The ports and their source."""

    def __init__(self, server: Server, port: FlightServer, databases: list[Database]) -> None:
        self.server = server
        self.flight = port
        self.database = databases[0]
        self.scheme = "grpc+tcp"

    @property
    def address(self) -> str:
        """For clients."""
        return f"{self.scheme}://127.0.0.1:{self.flight.port}"

    @contextmanager
    def another(self, options: FlightOptions) -> Iterator[int]:
        """One more port on the same databases."""
        port = FlightServer(self.server._pgwire._databases, options)
        port.start()
        try:
            yield port.port
        finally:
            port.stop()

    def connect(
        self, headers: Mapping[str, str] | None = None, address: str = "", **options: str
    ) -> adbc.Connection:
        """An ADBC connection; `headers` go with each call."""
        # What waits for the copy waits as long as a slow machine needs.
        asked = {"htapkit-wait-timeout": "60s", **(headers or {})}
        more = {HEADER + name: value for name, value in asked.items()}
        return adbc.connect(address or self.address, db_kwargs={**more, **options}, autocommit=True)

    def rows(self, sql: str, headers: Mapping[str, str] | None = None) -> pa.Table:
        """What a statement gives."""
        with self.connect(headers) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetch_arrow_table()


@contextmanager
def running(
    folder: Path, databases: Mapping[str, Database], options: FlightOptions, dsn: str = ""
) -> Iterator[Place]:
    """Ports on sources by their names, once every table is followed.

    `dsn`: for all of them, instead of the superuser's.
    """
    document: dict[str, Any] = {
        "data_dir": str(folder / "data"),
        "sources": {
            name: {"connector": "postgres", "dsn": dsn or database.dsn, "tables": ["public.*"]}
            for name, database in databases.items()
        },
        "servers": {
            "pgwire": {"listen": "127.0.0.1:0", "auth": "trust"},
            "http": {"listen": "127.0.0.1:0"},
        },
        "watch_interval": "500 ms",
    }
    path = folder / "htapkit.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    whole = Server(load_config(path))
    # What the port is given is what the PostgreSQL port is given.
    port = FlightServer(whole._pgwire._databases, options)
    try:
        whole.start()
        port.start()
        with Client(f"http://127.0.0.1:{whole.http_port}") as client:
            wait_until(client.ready, 180, lambda: str(client.status()))
        yield Place(whole, port, list(databases.values()))
    finally:
        port.stop()
        whole.stop()
        for mirror in whole._mirrors.values():
            origin: Any = mirror.source.origin
            origin.close()


def descriptor(sql: str) -> flight.FlightDescriptor:
    """Of a statement."""
    command = wrapped("CommandStatementQuery", make_octets(1, sql))
    return flight.FlightDescriptor.for_command(command)


def fetch(client: flight.FlightClient, sql: str, options: Any = None) -> pa.Table:
    """What a statement gives, by pyarrow's own client."""
    options = options or flight.FlightCallOptions()
    info = client.get_flight_info(descriptor(sql), options)
    return client.do_get(info.endpoints[0].ticket, options).read_all()


def ask(place: Place, name: str, body: bytes) -> pa.Table:
    """The answer to a command, by pyarrow's own client; its announced schema must be true."""
    with flight.connect(place.address) as client:
        descriptor = flight.FlightDescriptor.for_command(wrapped(name, body))
        info = client.get_flight_info(descriptor)
        table = client.do_get(info.endpoints[0].ticket).read_all()
        assert table.schema == info.schema == client.get_schema(descriptor).schema
        return table
