"""now() and its like, answered here: the source's own clock, in the statement's own transaction.

In one READ COMMITTED transaction now() is one time, so the source is the oracle in the same
session: once each statement is answered here, once there.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psycopg
import pytest
from psycopg import pq

from htapkit.testing.postgres import Connection, Database, PostgresServer
from htapkit.testing.stack import Stack
from tests.fix_mirror import JOB_SECONDS, fresh_database, last_route, mirrored

pytestmark = pytest.mark.integration

TABLES = """
CREATE TABLE visits (id int PRIMARY KEY, at timestamptz, seen timestamp, day date, page text);
INSERT INTO visits SELECT i, now() - i * interval '3 hours',
    now()::timestamp - i * interval '5 hours', current_date - i, 'p' || i % 7
    FROM generate_series(-20, 2000) i;
"""
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")
ANYWHERE = (
    "SELECT count(*) FROM visits WHERE at >= now() - interval '2 days'",
    "SELECT count(*), max(at) FROM visits WHERE at < current_timestamp - '36 hours'::interval",
    "SELECT now(), count(*) FROM visits WHERE at BETWEEN now() - interval '1 month' AND now()",
    "SELECT min(at), max(at) FROM visits WHERE at > date_trunc('week', now()) - interval '1 year'",
    "SELECT count(*) FROM visits WHERE at >= date_trunc('day', now()) - 7 * interval '1 day'",
    "SELECT count(*) FROM visits WHERE day = current_date",
    "SELECT day, current_date - 3 FROM visits WHERE day > current_date - 3 ORDER BY day",
    "SELECT count(*) FROM visits WHERE seen > localtimestamp - interval '150 days'",
    "SELECT count(*) FROM visits WHERE seen > now() AT TIME ZONE 'UTC' - interval '9 days'",
    "SELECT page, count(*) FILTER (WHERE at > transaction_timestamp() - interval '100 hours'), "
    "max(now()) FROM visits GROUP BY page ORDER BY page",
    "SELECT to_char(now(), 'US'), count(*) FROM visits WHERE at < now() - interval '1 year'",
    "SELECT at > now(), count(*) FROM visits GROUP BY at > now() ORDER BY 1",
    "WITH w AS (SELECT max(at) AS m FROM visits WHERE at < now()) SELECT m < now(), m FROM w",
    "SELECT count(*) FROM visits v JOIN visits o "
    "ON o.at = v.at AND v.at > now() - interval '5 days'",
    "SELECT current_timestamp(2), localtimestamp(0), count(*) FROM visits",
    "SELECT id, CASE WHEN at < now() THEN now() ELSE at END FROM visits WHERE id < 3 ORDER BY id",
    "SELECT count(*) FROM visits "
    "WHERE day >= now()::date - 10 AND day < (now() + interval '3 days')::date",
    "SELECT count(*), max(id) FROM visits WHERE at >= current_date - 30 AND current_date > at",
    "SELECT count(*) FROM visits WHERE at BETWEEN localtimestamp - interval '9 days' AND now()",
    "SELECT max(now() - at), min(now() - at), avg(now() - at) FROM visits",
    "SELECT count(*) FROM visits WHERE at >= $1 AND at < now() - interval '1 day'",
)
UTC_ONLY = (
    "SELECT date_trunc('day', at), count(*) FROM visits WHERE at > now() - interval '3 weeks' "
    "GROUP BY 1 ORDER BY 1",
    "SELECT extract(year FROM now()), count(*) FROM visits WHERE at + interval '1 day' > now()",
)
AT_SOURCE = (
    "SELECT count(*) FROM visits WHERE at < clock_timestamp()",
    "SELECT count(*) FROM visits WHERE at < now() AND at < statement_timestamp()",
    "SELECT count(*) FROM visits WHERE at < now() - interval '1 day ago'",
    "SELECT count(*) FROM visits WHERE at < now() - interval '900000 years'",
    "SELECT count(*) FROM visits WHERE at < now() AT TIME ZONE 'Nowhere/There'",
    "SELECT count(*) FROM visits WHERE at < 'now'",
)
Answer = tuple[str, list[tuple[bytes | None, ...]]]


@pytest.fixture(scope="module")
def served(pg: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An htapkit on the table."""
    database = Database(pg, "clock")
    try:
        database.execute(TABLES)
        folder: Path = tmp_path_factory.mktemp("clock")
        with Stack(folder, {"shop": {"dsn": database.dsn, "tables": ["public.*"]}}) as stack:
            stack.wait_ready()
            yield stack
    finally:
        database.drop()


@pytest.fixture
def port(served: Stack) -> Iterator[Connection]:
    """A session at the port."""
    with psycopg.connect(served.dsn(), autocommit=True, prepare_threshold=None) as connection:
        yield connection


def answer(port: psycopg.Connection, sql: str, *, binary: bool = False) -> Answer:
    """SQLSTATE and rows."""
    raw = port.pgconn
    if "$1" in sql or binary:
        sent = [b"2020-01-01 00:00:00+00"] if "$1" in sql else []
        result = raw.exec_params(sql.encode(), sent, [1184] * len(sent), None, pq.Format(binary))
    else:
        result = raw.exec_(sql.encode())
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    width = range(result.nfields)
    return state, [
        tuple(result.get_value(row, column) for column in width) for row in range(result.ntuples)
    ]


def in_both(port: psycopg.Connection, sql: str, *, binary: bool) -> tuple[Answer, Answer]:
    """Here and at the source, in one transaction."""
    port.execute("BEGIN")
    try:
        port.execute("SET LOCAL htapkit.route = 'hot'")
        ours = answer(port, sql, binary=binary)
        port.execute("SET LOCAL htapkit.route = 'source'")
        return ours, answer(port, sql, binary=binary)
    finally:
        port.execute("ROLLBACK")


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("sql", ANYWHERE)
def test_the_time_is_the_transaction_s_own(
    port: Connection, sql: str, zone: str, *, binary: bool
) -> None:
    port.execute(f"SET timezone = '{zone}'")
    ours, theirs = in_both(port, sql, binary=binary)
    assert ours == theirs
    assert not ours[0]


@pytest.mark.parametrize("sql", UTC_ONLY)
def test_in_utc_also_with_what_is_proven_there(port: Connection, sql: str) -> None:
    ours, theirs = in_both(port, sql, binary=False)
    assert ours == theirs
    assert not ours[0]


@pytest.mark.parametrize("sql", AT_SOURCE)
def test_what_cannot_be_asked_before_goes_to_the_source(port: Connection, sql: str) -> None:
    answer(port, sql)
    assert last_route(port) == "source"


def test_outside_of_a_transaction_it_is_between_before_and_after(port: Connection) -> None:
    sql = "SELECT count(*), now() FROM visits WHERE at < now()"
    for binary in (False, True):
        before = port.execute("SELECT clock_timestamp()").fetchone()
        found = port.execute(sql, binary=binary).fetchone()
        assert last_route(port) == "hot"
        after = port.execute("SELECT clock_timestamp()").fetchone()
        assert before is not None
        assert found is not None
        assert after is not None
        assert before[0] <= found[1] <= after[0]


def test_statement_timestamp_moves_within_a_transaction(port: Connection) -> None:
    port.execute("BEGIN")
    times: list[datetime] = []
    for _ in range(2):
        row = port.execute("SELECT statement_timestamp(), count(*) FROM visits").fetchone()
        assert last_route(port) == "hot"
        assert row is not None
        times.append(row[0])
    started = port.execute("SELECT now()").fetchone()
    assert started is not None
    assert started[0] < times[0] < times[1]
    port.execute("COMMIT")


def test_a_batch_has_one_time(port: Connection) -> None:
    """The statements between two Syncs are one transaction, wherever each of them runs."""
    for texts in (
        ("SELECT now(), count(*) FROM visits", "SELECT now(), count(*) + 1 FROM visits"),
        ("SELECT now(), 1", "SELECT now(), count(*) FROM visits"),
        ("SELECT now(), count(*) FROM visits", "SELECT now(), 1"),
    ):
        raw = port.pgconn
        raw.enter_pipeline_mode()
        for text in texts:
            raw.send_query_params(text.encode(), None)
        raw.pipeline_sync()
        times: list[bytes | None] = []
        while len(times) < len(texts):
            result = raw.get_result()
            if result is not None and result.status == pq.ExecStatus.TUPLES_OK:
                times.append(result.get_value(0, 0))
            elif result is not None:
                pytest.fail(result.error_message.decode())
        while (result := raw.get_result()) is None or (
            result.status != pq.ExecStatus.PIPELINE_SYNC
        ):
            pass
        raw.exit_pipeline_mode()
        assert times[0] == times[1], texts


def test_a_prepared_statement_is_asked_again_each_time(port: Connection) -> None:
    raw = port.pgconn
    raw.prepare(b"asked", b"SELECT now(), count(*) FROM visits WHERE at < now()")
    times = {raw.exec_prepared(b"asked", None).get_value(0, 0) for _ in range(3)}
    assert len(times) == 3
    assert last_route(port) == "hot"


def test_a_cursor_keeps_its_time(port: Connection) -> None:
    port.execute("BEGIN")
    sql = "SELECT id, now() FROM visits ORDER BY id"
    with port.cursor() as cursor:
        times = {row[1] for row in cursor.stream(sql)}
    assert len(times) == 1
    started = port.execute("SELECT now()").fetchone()
    assert started is not None
    assert times == {started[0]}
    port.execute("ROLLBACK")


def test_a_table_with_a_part_in_the_lake(
    pg: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = {"partition": "day", "hot": "10 days"}
    configuration = {"tables": {"shop.public.events": settings}, "lake": {"interval": "1 hour"}}
    folder = tmp_path_factory.mktemp("clock_lake")
    with (
        fresh_database(pg) as database,
        mirrored(database, folder, configuration=configuration) as mirror,
    ):
        mirror.make(
            "events",
            "CREATE TABLE events (id int PRIMARY KEY, at timestamptz NOT NULL)",
            "INSERT INTO events SELECT g, now() - g * interval '1 hour' "
            "FROM generate_series(1, 1000) g",
        )
        with mirror.stack.client() as client:
            job = client.tier(["shop.public.events"], None)
            moved = client.wait(job["id"], timeout_seconds=JOB_SECONDS)
        assert sum(row["rows"] for row in moved["tables"]) > 700
        with mirror.port("auto") as port:
            for zone in ZONES:
                port.execute(f"SET timezone = '{zone}'")
                for condition in (
                    "at >= now() - interval '2 days'",
                    "at < now() - interval '20 days'",
                    "at BETWEEN current_date - 20 AND current_date - 3",
                    "at >= date_trunc('month', now()) - interval '1 month'",
                ):
                    sql = f"SELECT count(*), min(at), max(at) FROM events WHERE {condition}"
                    port.execute("BEGIN")
                    ours = answer(port, sql)
                    assert last_route(port) == "union"
                    port.execute("SET LOCAL htapkit.route = 'source'")
                    assert ours == answer(port, sql), (zone, condition)
                    port.execute("ROLLBACK")
