"""What Flight SQL's calls do: statements, prepared statements, catalog commands.

Calls are independent of one another: what belongs together is tied by tickets and handles, which
are one client's, expire, and are limited in number.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import cast

import pyarrow as pa
from pyarrow import flight

from htapkit.errors import LimitReached, ProtocolError
from htapkit.serve.flight import commands
from htapkit.serve.flight.answers import Answers
from htapkit.serve.flight.catalog import Catalogs
from htapkit.serve.flight.commands import Metadata, NotOffered, StatementQuery
from htapkit.serve.flight.failures import translated
from htapkit.serve.flight.shelf import Shelf
from htapkit.serve.flight.sources import Sources
from htapkit.serve.flight.statement import Part, Prepared, Session, Statement, Values
from htapkit.serve.flight.types import parameter_rows
from htapkit.serve.flight.watch import Context, Watch
from htapkit.serve.pgwire.database import Database
from htapkit.serve.pgwire.tally import Tally

CREATE, CLOSE = "CreatePreparedStatement", "ClosePreparedStatement"
"""The actions."""

_NOTHING = pa.schema([])


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may leave here between calls."""

    tickets_max: int = 10_000
    ticket_seconds: float = 600.0
    prepared_max: int = 10_000
    prepared_seconds: float = 3600.0
    parameter_rows_max: int = 100_000


class Handler:
    """What the calls do."""

    def __init__(
        self,
        databases: Mapping[str, Database],
        limits: Limits,
        sources: Sources,
        watch: Watch,
        tally: Tally,
    ) -> None:
        """All are the server's own."""
        self.tally = tally
        self._databases = databases
        self._sources = sources
        self._watch = watch
        self._rows_max = limits.parameter_rows_max
        self._catalogs = Catalogs(tuple(databases), sources)
        self._tickets: Shelf[Statement | Part] = Shelf(
            "ticket", limits.tickets_max, limits.ticket_seconds
        )
        self._prepared: Shelf[Prepared] = Shelf(
            "prepared statement", limits.prepared_max, limits.prepared_seconds
        )

    @contextlib.contextmanager
    def _answers(self, context: Context, session: Session) -> Iterator[Answers]:
        with self._watch.over(context) as watched:
            yield Answers(self._databases[session.name], self._sources, session, watched)

    def info(
        self, context: Context, session: Session, descriptor: flight.FlightDescriptor
    ) -> flight.FlightInfo:
        """GetFlightInfo: the columns, and tickets for the rows.

        A statement that gives no rows is executed here, because nobody would fetch them.
        """
        command = commands.read(_command(descriptor))
        if isinstance(command, Metadata):
            ticket = flight.FlightEndpoint(descriptor.command, [])
            schema = self._catalogs.schema(command)
            return flight.FlightInfo(schema, descriptor, [ticket], -1, -1)
        statement = self._statement(context, session, command)
        if statement.described.fields is None:
            with self._answers(context, session) as answers:
                answers.update(statement.sql, [statement.values])
            return flight.FlightInfo(_NOTHING, descriptor, [], 0, 0)
        with self._answers(context, session) as answers:
            parts = answers.in_parts(statement)
        endpoints = [self._endpoint(session, part) for part in parts or (statement,)]
        return flight.FlightInfo(statement.schema, descriptor, endpoints, -1, -1)

    def _endpoint(self, session: Session, rows: Statement | Part) -> flight.FlightEndpoint:
        """A ticket, and how long it is good for at least."""
        try:
            handle = self._tickets.put(session.client, rows)
        except LimitReached as reached:
            if isinstance(rows, Part):
                rows.lease.end(str(reached))
            raise
        if isinstance(rows, Statement) and rows.once:
            return flight.FlightEndpoint(commands.statement_ticket(handle), [])
        seconds = self._tickets.seconds
        if isinstance(rows, Part):
            seconds = min(seconds, rows.lease.seconds)
        until = pa.scalar(datetime.now(UTC) + timedelta(seconds=seconds), pa.timestamp("ns", "UTC"))
        return flight.FlightEndpoint(commands.statement_ticket(handle), [], until)

    def schema(
        self, context: Context, session: Session, descriptor: flight.FlightDescriptor
    ) -> pa.Schema:
        """GetSchema: nothing is executed."""
        command = commands.read(_command(descriptor))
        if isinstance(command, Metadata):
            return self._catalogs.schema(command)
        return self._statement(context, session, command).schema

    def _statement(
        self, context: Context, session: Session, command: commands.Command
    ) -> Statement:
        if isinstance(command, StatementQuery):
            with self._answers(context, session) as answers:
                statement = answers.statement(command.query)
            bound: list[Values] = []
        elif isinstance(command, commands.PreparedQuery):
            prepared = self._prepared.get(session.client, command.handle)
            statement, bound = prepared.statement, prepared.bound
        else:
            raise NotOffered(f"{type(command).__name__} gives no rows")
        values = bound[-1] if bound else ()
        wanted = len(statement.described.parameters)
        if len(values) != wanted or len(bound) > 1:
            raise ProtocolError(
                f"the statement has {wanted} parameters, and {len(bound)} rows of "
                f"{len(values)} were bound; one row is needed, and $1, $2 … in the statement"
            )
        return replace(statement, values=values)

    def stream(self, context: Context, session: Session, ticket: bytes) -> flight.FlightDataStream:
        """DoGet: the rows."""
        command = commands.read(ticket)
        if isinstance(command, Metadata):
            table = self._catalogs.answer(command, session.client, session.name)
            return flight.RecordBatchStream(table)
        if not isinstance(command, commands.StatementTicket):
            raise ProtocolError("this is not a ticket of this server")
        rows = self._tickets.get(session.client, command.handle)
        statement = rows.statement if isinstance(rows, Part) else rows
        if statement.once and not self._tickets.drop(session.client, command.handle):
            raise ProtocolError("the ticket of a statement that may write was used before")
        batches = self._batches(context, session, rows)
        next(batches)  # has begun: its errors are the call's, and its end is sure to be noticed
        return flight.GeneratorStream(statement.schema, batches)

    def _batches(
        self, context: Context, session: Session, rows: Statement | Part
    ) -> Generator[pa.RecordBatch]:
        """The rows; the first item is only a sign that they have begun to come."""
        schema = (rows.statement if isinstance(rows, Part) else rows).schema
        with (
            translated(self.tally),
            self._answers(context, session) as answers,
            contextlib.closing(answers.rows(rows)) as batches,
        ):
            first = next(batches, None)
            yield schema.empty_table()
            if first is not None:
                yield first
            yield from batches

    def put(
        self,
        context: Context,
        session: Session,
        descriptor: flight.FlightDescriptor,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.FlightMetadataWriter,
    ) -> None:
        """DoPut: parameters of a prepared statement, or a statement that changes rows."""
        command = commands.read(_command(descriptor))
        match command:
            case commands.StatementUpdate():
                with self._answers(context, session) as answers:
                    answers.check_update(command.query)
                    changed = answers.update(command.query)
                writer.write(commands.update_result(changed))
            case commands.PreparedQuery():
                prepared = self._prepared.get(session.client, command.handle)
                prepared.bound = self._parameters(reader)
                writer.write(commands.bound_result(command.handle))
            case commands.PreparedUpdate():
                prepared = self._prepared.get(session.client, command.handle)
                rows = self._parameters(reader) or prepared.bound or [()]
                with self._answers(context, session) as answers:
                    changed = answers.update(prepared.statement.sql, rows)
                writer.write(commands.update_result(changed))
            case _:
                raise NotOffered(f"{type(command).__name__} takes no rows")

    def _parameters(self, reader: flight.MetadataRecordBatchReader) -> list[Values]:
        rows: list[Values] = []
        for chunk in reader:
            if chunk.data is None:
                continue
            rows += parameter_rows(chunk.data)
            if len(rows) > self._rows_max:
                raise ProtocolError(
                    f"more than {self._rows_max} rows of parameters in one call; send them in parts"
                )
        return rows

    def act(self, context: Context, session: Session, action: flight.Action) -> list[flight.Result]:
        """DoAction: prepared statements begin and end."""
        if action.type not in {CREATE, CLOSE}:
            raise NotOffered(f"the action {action.type} is not offered here")
        command = commands.read(action.body.to_pybytes())
        if isinstance(command, commands.ClosePrepared):
            self._prepared.drop(session.client, command.handle)
            return []
        if not isinstance(command, commands.CreatePrepared):
            raise ProtocolError(f"{type(command).__name__} is not what {action.type} takes")
        with self._answers(context, session) as answers:
            statement = answers.statement(command.query)
        handle = self._prepared.put(session.client, Prepared(statement))
        rows = b"" if statement.described.fields is None else _octets(statement.schema)
        result = commands.prepared_result(handle, rows, _octets(statement.parameters))
        return [flight.Result(result)]


def _octets(schema: pa.Schema) -> bytes:
    return cast("bytes", schema.serialize().to_pybytes())


def _command(descriptor: flight.FlightDescriptor) -> bytes:
    if descriptor.descriptor_type != flight.DescriptorType.CMD:
        raise ProtocolError("expected a Flight SQL command, not a path")
    return cast("bytes", descriptor.command)
