"""Several readers of one database that begin at the same time."""

from __future__ import annotations

import threading

import pytest

from htapkit.errors import SourceError
from htapkit.testing.postgres import Database
from htapkit_postgres import PostgresSource
from tests.followed import options

pytestmark = pytest.mark.integration


def test_tables_are_published_by_whoever_is_first(database: Database) -> None:
    """A sink that finds a new table must not stop the copy, which has found it, too."""
    copy = PostgresSource(options(database))
    readers = [copy, copy.reader("events"), copy.reader("more")]
    failed: list[str] = []

    def publish(reader: PostgresSource, name: str, all_ready: threading.Barrier) -> None:
        tables = [d.schema.table for d in reader.discover() if d.schema.table.name == name]
        all_ready.wait(30)
        try:
            reader.snapshot(tables, {}).close()
        except SourceError as error:
            failed.append(str(error))

    for number in range(12):
        database.execute(f"create table a{number} (id int primary key)")
        ready = threading.Barrier(len(readers))
        threads = [
            threading.Thread(target=publish, args=(reader, f"a{number}", ready))
            for reader in readers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for reader in readers:
        reader.close()
    assert not failed
    published = database.execute("select count(*) from pg_publication_tables")
    assert published == [(12,)]
