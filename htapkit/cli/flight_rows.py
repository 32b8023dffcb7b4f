"""A statement's rows from the running server, over Flight SQL: in pieces, none of them kept."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from pyarrow import flight

from htapkit.cli.ports import reached
from htapkit.client import ServerRefused, ServerUnreachable
from htapkit.config import Config
from htapkit.errors import ConfigError
from htapkit.serve.flight.commands import wrapped
from htapkit.serve.flight.protobuf import make_octets


@contextmanager
def rows_of(
    config: Config, sql: str, source: str, user: str
) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """See Surroundings."""
    location, certificates = _location(config)
    headers = [(b"database", (source or next(iter(config.sources))).encode())]
    if user:
        login = base64.b64encode(f"{user}:{os.environ.get('PGPASSWORD', '')}".encode())
        headers.append((b"authorization", b"Basic " + login))
    options = flight.FlightCallOptions(headers=headers)
    asked = wrapped("CommandStatementQuery", make_octets(1, sql))
    with flight.FlightClient(location, **certificates) as client:
        with _translated(location):
            info = client.get_flight_info(flight.FlightDescriptor.for_command(asked), options)
            reader = client.do_get(info.endpoints[0].ticket, options)
            schema = reader.schema
        yield schema, _batches(location, reader)


def _location(config: Config) -> tuple[str, dict[str, bytes]]:
    wanted = config.servers.flight
    if wanted is None:
        raise ConfigError("servers.flight is not set: the rows of a statement come over that port")
    if wanted.tls_certificate is None:
        return f"grpc+tcp://{reached(wanted.listen)}", {}
    try:
        found = wanted.tls_certificate.read_bytes()
    except OSError as error:
        raise ConfigError(f"servers.flight: {error.filename}: {error.strerror}") from error
    return f"grpc+tls://{reached(wanted.listen)}", {"tls_root_certs": found}


def _batches(location: str, reader: flight.FlightStreamReader) -> Iterator[pa.RecordBatch]:
    while True:
        with _translated(location):
            try:
                chunk = reader.read_chunk()
            except StopIteration:
                return
        if chunk.data is not None:
            yield chunk.data


@contextmanager
def _translated(location: str) -> Iterator[None]:
    try:
        yield
    except flight.FlightUnavailableError as error:
        raise ServerUnreachable(
            f"no htapkit answers at {location}; start it with `htapkit serve`"
        ) from error
    except (flight.FlightError, pa.ArrowException) as error:
        raise ServerRefused(str(error)) from error
