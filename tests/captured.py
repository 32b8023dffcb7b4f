"""The replication stream of a slot as Frames, read by SQL: the same bytes, without a receiver."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.rows import TupleRow

from htapkit.testing.postgres import Database
from htapkit_postgres import pgoutput
from htapkit_postgres.connection import Settings, conninfo
from htapkit_postgres.decode import Frames


def settings(database: Database, source: str = "s") -> Settings:
    """A source's settings for a test database."""
    return Settings(source, database.dsn, ("*.*",), "unused", "published")


class Slot:
    """A slot on a publication of some tables (all: the default)."""

    def __init__(self, database: Database, tables: str = "all tables", options: str = "") -> None:
        """Create both."""
        database.execute(f"create publication published for {tables} {options}")
        self._name = f"slot_{database.name}"
        self._connection: psycopg.Connection[TupleRow] = psycopg.connect(
            conninfo(settings(database)), autocommit=True
        )
        make = "select pg_create_logical_replication_slot(%s, 'pgoutput')"
        self._connection.execute(make, [self._name])

    def messages(self) -> list[bytes]:
        """All messages since the last call."""
        query = (
            "select data from pg_logical_slot_get_binary_changes(%s, null, null, %s, '1', %s, %s)"
        )
        names = [self._name, "proto_version", "publication_names", "published"]
        with self._connection.cursor(binary=True) as cursor:
            return [bytes(data) for (data,) in cursor.execute(query, names).fetchall()]

    def frames(self) -> Frames:
        """All messages since the last call, in one."""
        return framed(self.messages())

    def close(self) -> None:
        """Drop the slot."""
        self._connection.execute("select pg_drop_replication_slot(%s)", [self._name])
        self._connection.close()


@contextmanager
def slot(database: Database, tables: str = "all tables", options: str = "") -> Iterator[Slot]:
    """A slot that goes away again."""
    made = Slot(database, tables, options)
    try:
        yield made
    finally:
        made.close()


def framed(messages: list[bytes]) -> Frames:
    """Messages with their B and C as Frames without them."""
    data = bytearray()
    lengths: list[int] = []
    starts: list[int] = []
    ends: list[int] = []
    for message in messages:
        if message[0] == pgoutput.BEGIN:
            starts.append(len(lengths))
        elif message[0] == pgoutput.COMMIT:
            ends.append(pgoutput.parse_commit(message).end_lsn)
        else:
            data += message
            lengths.append(len(message))
    return Frames(data, lengths, starts or [0], ends or [0])


def by_transaction(messages: list[bytes]) -> Iterator[Frames]:
    """The same, each transaction alone."""
    part: list[bytes] = []
    for message in messages:
        part.append(message)
        if message[0] == pgoutput.COMMIT:
            yield framed(part)
            part = []
