"""A database that is followed: its source, its change stream, and what comes out of it."""

from __future__ import annotations

import time
from typing import Any

from htapkit.spi import SourceOptions
from htapkit.testing.postgres import Database
from htapkit.testing.stack import wait_until
from htapkit_postgres import PostgresSource
from htapkit_postgres.stream import PostgresStream
from tests.replica import Replica


def options(database: Database, **settings: object) -> SourceOptions:
    """What the configuration would say."""
    limits = {"rows": 50_000, "bytes": 32 << 20, "queue": 2}
    for name in limits:
        if f"{name}_max" in settings:
            limits[name] = int(str(settings.pop(f"{name}_max")))
    given = {"dsn": database.dsn, "tables": ["public.*"], "slot": f"slot_{database.name}"}
    return SourceOptions(
        name="shop",
        settings={**given, **settings},
        connections_max=20,
        slot_lag_bytes_max=1 << 30,
        batch_rows_max=limits["rows"],
        batch_bytes_max=limits["bytes"],
        queue_batches_max=limits["queue"],
        snapshot_rows_per_second_max=None,
    )


class Followed:
    """A source, its stream, and what comes out of it."""

    def __init__(self, database: Database, **settings: object) -> None:
        self.database = database
        self.source = PostgresSource(options(database, **settings))
        found = self.source.discover()
        self.problems = {d.schema.table.name: d.problem for d in found if d.problem}
        self.schemas = [d.schema for d in found if not d.problem]
        self.stream: PostgresStream = self.source.follow(None, self.schemas)
        self.replica = Replica(self.schemas)

    def catch_up(self) -> Replica:
        """Apply all that was committed before this call."""
        self.source.head.mark(token := f"t{time.monotonic_ns()}")
        end = time.monotonic() + 60
        while token not in self.replica.marks:
            assert time.monotonic() < end, "the mark did not come"
            self.stream.nudge()
            self.replica.take(self.stream.next(0.02))
        return self.replica

    def table(self, name: str) -> list[tuple[Any, ...]]:
        """What the source itself has."""
        rows = self.database.execute(f'select * from public."{name}"')
        return sorted((tuple(row) for row in rows), key=repr)

    def check(self, *names: str) -> None:
        """The replica is equal to the source."""
        self.catch_up()
        for name in names:
            assert self.replica.table(name) == self.table(name), name

    def release(self) -> None:
        """Close the stream, and wait until the server has noticed: the slot is free."""
        self.stream.close()
        used = "select 1 from pg_replication_slots where slot_name = %s and active"
        name = f"slot_{self.database.name}"
        wait_until(lambda: not self.database.execute(used, [name]), 60)

    def close(self) -> None:
        self.stream.close()
        self.source.head.close()


def open_stream(
    followed: list[Followed], database: Database, *statements: str, **settings: object
) -> Followed:
    """Run statements, then follow."""
    for statement in statements:
        database.execute(statement)
    followed.append(Followed(database, **settings))
    return followed[-1]
