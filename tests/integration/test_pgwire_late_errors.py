"""Values of which only the source makes an answer, far behind the first rows of a local one."""

from __future__ import annotations

import psycopg
import pytest

from htapkit.testing.postgres import Database
from tests.fix_stack import StackStarter

pytestmark = pytest.mark.integration
ROWS = 300_000
ODD = ROWS - 1000


STATEMENTS = [
    "SELECT to_char(at, 'YYYY-MM-DD') FROM t",
    "SELECT id FROM t WHERE to_char(at, 'YYYY') >= '2000' OR id > 0",
    "SELECT at AT TIME ZONE 'Europe/Berlin' FROM t",
    "SELECT doc ->> 'k' FROM t WHERE doc ->> 'k' <> 'x'",
]


def test_the_source_answers_whole(database: Database, start_stack: StackStarter) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamptz, doc jsonb)")
    database.execute(
        f"INSERT INTO t SELECT i, CASE WHEN i = {ODD} THEN timestamptz '0044-03-15 BC' "
        "ELSE timestamptz '2024-01-01' + i * interval '1 min' END, "
        f"jsonb_build_object('k', CASE WHEN i = {ODD} THEN '1.50'::jsonb ELSE to_jsonb(i) END) "
        f"FROM generate_series(1, {ROWS}) i"
    )
    stack = start_stack(database)
    with (
        database.connect() as source,
        psycopg.connect(stack.dsn(), autocommit=True) as port,
    ):
        port.execute("SET htapkit.freshness = 'strong'")
        for sql in STATEMENTS:
            _check(port, source, sql)


def _check(port: psycopg.Connection, source: psycopg.Connection, sql: str) -> None:
    found = port.pgconn.exec_(sql.encode())
    assert found.status == psycopg.pq.ExecStatus.TUPLES_OK, found.error_message
    wanted = source.pgconn.exec_(sql.encode())
    assert found.ntuples == wanted.ntuples
    rows = range(wanted.ntuples)
    assert sorted(str(found.get_value(row, 0)) for row in rows) == sorted(
        str(wanted.get_value(row, 0)) for row in rows
    )
    assert port.execute("SHOW htapkit.last_route").fetchone() == ("source",)
