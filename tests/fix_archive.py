"""Tables whose deletions are noted at the source, to be compared with what the archive has.

A trigger writes each deleted row down, with the time that its transaction took.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from htapkit.testing.postgres import PostgresServer
from tests.fix_mirror import Mirrored, fresh_database, mirrored

LONG = "(select string_agg(md5(g::text || n), '') from generate_series(1, 100) n)"  # goes to TOAST


@contextmanager
def keeping(
    pg: PostgresServer, folder: Path, configuration: Mapping[str, Any], *, preloaded: bool = False
) -> Iterator[Mirrored]:
    """A mirror of a database whose deletions are noted."""
    with (
        fresh_database(pg) as database,
        mirrored(database, folder, configuration=configuration, preloaded=preloaded) as one,
    ):
        prepare(one)
        yield one


def prepare(mirror: Mirrored) -> None:
    mirror.run(
        "create schema noted",
        "create function note() returns trigger language plpgsql as $$ begin execute format("
        "'insert into noted.%I select ($1).*, now()', tg_table_name) using old; "
        "return null; end $$",
    )


def make(mirror: Mirrored, table: str, rows: int = 300) -> None:
    """A table of rows an hour apart, one in three with a long value, and what notes its deletes."""
    mirror.make(
        table,
        f"create table {table} "
        "(id int primary key, at timestamptz not null, n numeric(12, 2), v text)",
        f"create table noted.{table} as select *, now() as deleted from {table}",
        f"create trigger note after delete on {table} for each row execute function note()",
        f"alter table {table} alter v set storage external",
        f"insert into {table} select g, timestamptz '2026-01-01' + g * interval '1 hour', g / 4.0, "
        f"case when g % 3 = 0 then {LONG} else 'v' || g end from generate_series(1, {rows}) g",
    )


def rows_at(port: psycopg.Connection[Any], sql: str) -> list[tuple[Any, ...]]:
    return port.execute(sql).fetchall()


def archived(mirror: Mirrored, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    with mirror.port("auto") as port:
        return rows_at(
            port, f"select {columns} from archive.public.{table} order by htapkit_number"
        )


def agrees(mirror: Mirrored, table: str, columns: str = "id, at, n, v", route: str = "hot") -> int:
    """The archive has what was noted, each as often; how many rows that is."""
    with mirror.database.connect() as source:
        noted = Counter(rows_at(source, f"select {columns} from noted.{table}"))
    found = Counter(archived(mirror, table, columns))
    assert found == noted, (list(found - noted)[:3], list(noted - found)[:3])
    if route == "hot":
        mirror.equal(table)
    else:
        mirror.same_answer(f"select * from {table} order by id", route)
    return found.total()
