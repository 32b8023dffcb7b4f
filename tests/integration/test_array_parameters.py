"""`= ANY ($1)` and labels of enums as parameters, as drivers send them, against the source."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
import pytest

from htapkit.testing.postgres import Database
from tests.fix_stack import StackStarter

pytestmark = pytest.mark.integration

SETUP = """
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE t (id int PRIMARY KEY, small smallint, big bigint, name text, short varchar(9),
    day date, at timestamptz, key uuid, mood mood);
INSERT INTO t SELECT i, i % 7, CASE WHEN i % 5 > 0 THEN i * 10 END, 'n' || i % 4,
    CASE WHEN i % 3 > 0 THEN 's,"' || i % 4 END, date '2024-01-01' + i,
    timestamptz '2024-01-01 00:00+00' + i * interval '1 hour', md5((i % 9)::text)::uuid,
    (ARRAY['sad', 'ok', 'happy', NULL])[1 + i % 4]::mood
FROM generate_series(1, 60) i;
"""
KEY = "c4ca4238-a0b9-2382-0dcc-509a6f75849b"
HOT: list[tuple[str, Sequence[object]]] = [
    ("SELECT id, big = ANY ($1), small <> ALL ($2) FROM t", ["{10,20,NULL}", "{1,2}"]),
    ("SELECT id FROM t WHERE small = ANY ($1::int[])", ["{}"]),
    ("SELECT id, big <> ALL ($1::int8[]) FROM t", ["{10,NULL}"]),
    (
        "SELECT count(*) FROM t WHERE name = ANY ($1) AND short <> ALL ($2)",
        ["{n1,n2}", '{"s,\\"1",x}'],
    ),
    ("SELECT id FROM t WHERE day = ANY ($1)", ["{2024-01-05,2024-02-01}"]),
    ("SELECT id FROM t WHERE at = ANY ($1::timestamptz[])", ["{2024-01-01 05:00:00+00}"]),
    ("SELECT count(*) FILTER (WHERE key = ANY ($1)) FROM t", [f"{{{KEY},NULL}}"]),
    ("SELECT id, mood = $1, mood <> $1 FROM t", ["ok"]),
    ("SELECT count(*) FROM t WHERE mood IN ($1, $2) OR mood = $1", ["sad", "happy"]),
    ("SELECT id FROM t WHERE mood = $1", [None]),
]
SOURCE: list[tuple[str, Sequence[object]]] = [
    ("SELECT id, big <> ALL ($1) FROM t", [None]),
    ("SELECT count(*) FROM t WHERE big = ANY ($1)", ["{{10,20},{30,40}}"]),
    ("SELECT id FROM t WHERE mood > $1", ["sad"]),
    ("SELECT id FROM t WHERE day = ANY ($1)", ["{infinity}"]),
]  # fmt: skip


def _rows(connection: psycopg.Connection, sql: str, values: Sequence[object]) -> list[object]:
    given = [None if value is None else str(value).encode() for value in values]
    result = connection.pgconn.exec_params(sql.encode(), given)
    assert result.status == psycopg.pq.ExecStatus.TUPLES_OK, result.error_message
    cells = range(result.nfields)
    return sorted(
        (tuple(result.get_value(row, cell) for cell in cells) for row in range(result.ntuples)),
        key=str,
    )


def test_parameters_beside_any_and_enums(database: Database, start_stack: StackStarter) -> None:
    database.execute(SETUP)
    stack = start_stack(database)
    with (
        database.connect() as source,
        psycopg.connect(stack.dsn(), autocommit=True) as port,
    ):
        port.execute("SET htapkit.freshness = 'strong'")
        for sql, values in [*HOT, *SOURCE]:
            assert _rows(port, sql, values) == _rows(source, sql, values), sql
            route = port.execute("SHOW htapkit.last_route").fetchone()
            wanted = "hot" if (sql, values) in HOT else "source"
            assert route == (wanted,), sql
        # As psycopg sends lists: in binary form where it can.
        for binary in (False, True):
            for given in ([10, 20, 30], [10, None], []):
                sql = (
                    "SELECT id FROM t WHERE big = ANY(%b)"
                    if binary
                    else ("SELECT id FROM t WHERE big = ANY(%t)")
                )
                found = port.execute(sql, [given]).fetchall()
                assert port.execute("SHOW htapkit.last_route").fetchone() == ("hot",)
                assert sorted(found) == sorted(source.execute(sql, [given]).fetchall())
