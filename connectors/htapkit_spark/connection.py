"""Flight SQL, by ADBC: the columns of a statement, its tickets, and the rows behind one."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
from adbc_driver_flightsql import DatabaseOptions

from htapkit.client import ServerRefused, ServerUnreachable
from htapkit_spark.options import Options

_BATCH_BYTES_MAX = 2**31 - 1
"""A batch may hold one large value; the driver's own limit is 16 MiB."""


@dataclass(frozen=True, slots=True)
class Tickets:
    """What the server gave out for a statement."""

    schema: pa.Schema
    tickets: Sequence[bytes]  # the driver's descriptors of partitions


def columns(options: Options, sql: str) -> pa.Schema:
    """The columns of a statement. Raises ServerUnreachable, ServerRefused."""
    return tickets(replace(options, partitions=1), sql).schema


def tickets(options: Options, sql: str) -> Tickets:
    """Ask for the columns of a statement and for tickets, at most `partitions`.

    If there are several, their moment is now; else the rows are not made yet. Raises
    ServerUnreachable, ServerRefused.
    """
    with _cursor(options, options.partitions) as cursor:
        given, schema = cursor.adbc_execute_partitions(sql)
        if schema is None:
            raise ServerRefused("the server does not say which columns a statement has")
        return Tickets(schema, list(given))


def rows_of_statement(options: Options, sql: str) -> Generator[pa.RecordBatch]:
    """Run a statement: its rows, in bounded pieces. Raises ServerUnreachable, ServerRefused."""
    with _cursor(options) as cursor:
        cursor.execute(sql)
        yield from _batches(cursor)


def rows_of_ticket(options: Options, ticket: bytes) -> Generator[pa.RecordBatch]:
    """Fetch the rows behind a ticket. Raises ServerUnreachable, ServerRefused."""
    with _cursor(options) as cursor:
        cursor.adbc_read_partition(ticket)
        yield from _batches(cursor)


def _batches(cursor: flight_sql.Cursor) -> Iterator[pa.RecordBatch]:
    with cursor.fetch_record_batch() as reader:
        while True:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                return
            except (OSError, pa.ArrowException) as error:
                # The end of a stream that failed comes through Arrow, not through the driver.
                raise ServerRefused(f"the rows end with an error: {error}") from None
            yield batch


@contextmanager
def _cursor(options: Options, partitions: int = 1) -> Iterator[flight_sql.Cursor]:
    try:
        with (
            flight_sql.connect(
                options.url, db_kwargs=_driver_options(options, partitions), autocommit=True
            ) as connection,
            connection.cursor() as cursor,
        ):
            yield cursor
    except flight_sql.Error as error:
        raise _translated(options, error) from None


def _translated(options: Options, error: flight_sql.Error) -> ServerRefused | ServerUnreachable:
    # The server's own errors end with their SQLSTATE.
    told = str(error)
    if "[SQLSTATE" not in told and "Unavailable" in told:
        return ServerUnreachable(
            f"no htapkit answers at {options.url}; is `servers.flight` in its configuration, and "
            f"can every machine of the cluster reach it? {told}"
        )
    return ServerRefused(told)


def _driver_options(options: Options, partitions: int) -> dict[str, str]:
    header = DatabaseOptions.RPC_CALL_HEADER_PREFIX.value
    found = {DatabaseOptions.WITH_MAX_MSG_SIZE.value: str(_BATCH_BYTES_MAX)}
    if options.user:
        found |= {"username": options.user, "password": options.password}
    if options.token:
        found[DatabaseOptions.AUTHORIZATION_HEADER.value] = f"Bearer {options.token}"
    if options.tls_ca:
        found[DatabaseOptions.TLS_ROOT_CERTS.value] = options.tls_ca
    if options.database:
        found[f"{header}database"] = options.database
    if partitions > 1:
        found[f"{header}htapkit-partitions"] = str(partitions)
    for name, value in options.session.items():
        found[f"{header}htapkit-{name.replace('_', '-')}"] = value
    return found
