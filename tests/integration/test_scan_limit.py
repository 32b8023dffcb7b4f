"""limits.scan where no Spark is: too large a statement is refused, and not sent to the source."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import adbc_driver_flightsql.dbapi as adbc
import psycopg
import pytest

from htapkit.testing.postgres import PostgresServer, free_port
from tests.fix_mirror import fresh_database, last_route, mirrored

pytestmark = pytest.mark.integration

DAYS, BYTES_MAX = 20, 5_000
"""A file of one row and two columns has some 1,500 bytes."""
ALL = "select count(*), min(id) from old"
DAY = "select count(*) from old where at >= '2024-01-05' and at < '2024-01-06'"
FIRST, LAST = datetime(2024, 1, 1), datetime(2024, 1, 20)  # noqa: DTZ001 - timestamps
BOUND = "select count(*) from old where at >= %s and at < '2024-01-21'"


def test_too_large_a_statement_is_refused(pg18: PostgresServer, tmp_path: Path) -> None:
    port = free_port()
    configuration: dict[str, Any] = {
        "tables": {"shop.public.old": {"time_column": "at", "hot": "10 days"}},
        "lake": {"interval": "1 day"},
        "limits": {"scan": BYTES_MAX},
        "servers": {"flight": {"listen": f"127.0.0.1:{port}", "auth": "trust"}},
    }
    with (
        fresh_database(pg18) as database,
        mirrored(database, tmp_path, configuration=configuration) as mirror,
    ):
        mirror.make(
            "old",
            "create table old (id int8 primary key, at timestamp not null)",
            f"insert into old select g, timestamp '2023-12-31' + g * interval '1 day' "
            f"from generate_series(1, {DAYS}) g",
        )
        with mirror.stack.client() as client:
            client.wait(client.tier(["shop.public.old"])["id"], timeout_seconds=120)
        with mirror.port("auto") as client:
            limits = "select value, unit from htapkit.limits where name = 'limits.scan'"
            assert client.execute(limits).fetchone() == (BYTES_MAX, "bytes")
            told = client.execute(f"EXPLAIN (ROUTE) {ALL}").fetchall()
            assert not [row for row in told if row[1] == "true"]
            assert ("spark", "none is configured (engines.spark)") in [(r[0], r[4]) for r in told]
            for sql in (ALL, f"select * from ({ALL}) x"):
                with pytest.raises(psycopg.errors.ConfigurationLimitExceeded) as refused:
                    client.execute(sql)
                assert "limits.scan: it reads" in str(refused.value)
                assert f"and may read {BYTES_MAX} here" in str(refused.value)
            assert client.execute(DAY).fetchone() == (1,)
            assert last_route(client) == "union"
            # The value of a parameter leaves files out.
            assert client.execute(BOUND, (LAST,)).fetchone() == (1,)
            assert last_route(client) == "union"
            with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
                client.execute(BOUND, (FIRST,))
            for route in ("union", "lake"):
                client.execute(f"set htapkit.route = '{route}'")
                with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
                    client.execute(f"{ALL} where at < '2024-02-01'")
            client.execute("set htapkit.route = 'source'")
            assert client.execute(ALL).fetchone() == (DAYS, 1)
        with (
            adbc.connect(f"grpc://127.0.0.1:{port}", autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(ALL)
            with pytest.raises(adbc.Error, match=r"limits\.scan.*SQLSTATE 53400") as told_there:
                cursor.fetchall()
            assert "Unavailable" not in str(told_there.value), "nobody shall try it again"
            cursor.execute(DAY)
            assert cursor.fetchall() == [(1,)]
