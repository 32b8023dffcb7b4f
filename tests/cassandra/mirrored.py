"""A mirror of one keyspace in the test's process, and whether it is what SELECT gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from htapkit.hot import HotStore
from htapkit.ingest import Mirror, MirrorOptions
from htapkit.metrics import Metrics
from htapkit.model import TableId, TableState, hot_relation
from tests.cassandra.workload import SHORT_TTL
from tests.fix_cassandra import SECONDS, Keyspace, wait_for

Row = tuple[object, ...]
_SELECT = "SELECT pk, ck, s, a, b, m FROM {}.t"


class Copied:
    """A mirror of one keyspace, in this process."""

    def __init__(self, keyspace: Keyspace, folder: Path, **more: object) -> None:
        """Not started; `more` settings of the source."""
        self.keyspace = keyspace
        self.store = HotStore(folder / "hot.duckdb")
        self.source = keyspace.source(**more)
        options = MirrorOptions(watch_interval_seconds=0.2)
        self.mirror = Mirror("events", self.source, self.store, Metrics(), options)

    def follows(self, name: str) -> None:
        """Wait until the table is followed."""
        table = TableId("events", self.keyspace.name, name)

        def reached() -> bool | None:
            status = self.store.catalog.tables.get(table)
            return (status is not None and status.state is TableState.FOLLOWING) or None

        wait_for(reached)

    def rows(self, name: str, columns: str) -> list[Row]:
        """The copy's rows, as fresh as the source is now."""
        self.mirror.freshness.wait_strong(SECONDS)
        self.store.maintain()
        schema, relation = hot_relation(TableId("events", self.keyspace.name, name))
        read = self.store.read(f'SELECT {columns} FROM "{schema}"."{relation}"')
        try:
            return [tuple(r.values()) for batch in read.batches() for r in batch.to_pylist()]
        finally:
            read.close()


@contextmanager
def copied(keyspace: Keyspace, folder: Path, **more: object) -> Iterator[Copied]:
    """One that runs."""
    made = Copied(keyspace, folder, **more)
    made.mirror.start()
    try:
        yield made
    finally:
        made.mirror.stop()
        made.store.close()


def _selected(keyspace: Keyspace) -> list[Row]:
    rows = keyspace.session.execute(_SELECT.format(keyspace.name))
    found = [(*row[:5], dict(row.m) if row.m else None) for row in rows]
    return sorted(found, key=repr)


def _shown(made: Copied) -> list[Row]:
    rows = made.rows("t", "pk, ck, s, a, b, m")
    return sorted(((*r[:5], json.loads(str(r[5])) if r[5] else None) for r in rows), key=repr)


def ends_equal(made: Copied) -> None:
    """Once what is short-lived is over; until then both sides are asked again."""
    expected: list[Row] = []
    found: list[Row] = []

    def equal() -> bool | None:
        nonlocal expected, found
        expected, found = _selected(made.keyspace), _shown(made)
        return expected == found or None

    try:
        wait_for(equal)
    except AssertionError:
        assert found == expected
    assert len(expected) > 100, SHORT_TTL
