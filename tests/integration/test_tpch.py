"""TPC-H through the port: each of the 22 is answered from the copy, byte for byte."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import pq

from htapkit.testing.postgres import Database, PostgresServer
from htapkit.testing.stack import Stack
from tests.bench import tpch_data

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

SCALE = 0.01
Text = tuple[list[tuple[bytes | None, int, int]], list[tuple[bytes | None, ...]]]


@pytest.fixture(scope="module")
def folder() -> Path:
    """The rows. Their generator is in an old wheel, which needs an index to be fetched from."""
    try:
        return tpch_data.make(SCALE).resolve()
    except (subprocess.CalledProcessError, OSError) as problem:
        reason = f"no TPC-H data: the duckdb 1.1.3 wheel cannot be had or run here: {problem}"
        print(reason)
        pytest.skip(reason)


@pytest.fixture(scope="module")
def servers(
    pg: PostgresServer, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[psycopg.Connection, psycopg.Connection]]:
    """The source and the port, with the tables copied."""
    database = Database(pg, "tpch")
    try:
        with database.connect() as admin:
            for statement in tpch_data.schema().split(";"):
                if statement.strip():
                    admin.execute(statement)
            for table in tpch_data.TABLES:
                with admin.cursor().copy(f"COPY {table} FROM STDIN (FORMAT csv)") as copy:
                    copy.write((folder / f"{table}.csv").read_bytes())
            admin.execute("ANALYZE")
            sources = {"shop": {"dsn": database.dsn, "tables": ["public.*"]}}
            with Stack(tmp_path_factory.mktemp("tpch"), sources) as stack:
                stack.wait_ready()
                with stack.connect() as port:
                    yield admin, port
    finally:
        database.drop()


def answer(connection: psycopg.Connection, sql: str, *, simple: bool) -> Text:
    """Columns and rows as text; `simple`: by the simple protocol, else the extended one."""
    raw = connection.pgconn
    result = raw.exec_(sql.encode()) if simple else raw.exec_params(sql.encode(), None)
    assert result.status == pq.ExecStatus.TUPLES_OK, result.error_message.decode()
    columns = range(result.nfields)
    names = [(result.fname(i), result.ftype(i), result.fmod(i)) for i in columns]
    rows = [tuple(result.get_value(row, i) for i in columns) for row in range(result.ntuples)]
    return names, rows


@pytest.mark.parametrize("simple", [True, False], ids=["simple", "extended"])
@pytest.mark.parametrize("name", sorted(tpch_data.queries()))
def test_equal_and_hot(
    servers: tuple[psycopg.Connection, psycopg.Connection], name: str, *, simple: bool
) -> None:
    source, port = servers
    # A text may end with a semicolon, which the extended protocol takes as well.
    sql = tpch_data.queries()[name]
    expected = answer(source, sql, simple=simple)
    assert answer(port, sql, simple=simple) == expected
    assert answer(port, "SHOW htapkit.last_route", simple=True)[1] == [(b"hot",)]
