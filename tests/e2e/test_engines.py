"""Compose's Airflow and Spark as processes beside the rest: one moves rows, one reads them."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from htapkit.testing.s3 import NoS3Server, program
from htapkit.testing.stack import wait_until
from htapkit_spark.engine import SparkEngine
from tests.e2e.test_compose import SECRETS
from tests.e2e.twins import ROOT, Twins, compose_file, engines_missing, twins
from tests.spark.connect import rows_of
from tests.spark.jars import SERVER_JARS, missing

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.spark,
    pytest.mark.integration,
    pytest.mark.long,
    pytest.mark.timeout(900),
]

RUN_SECONDS_MAX = 300.0
OLD, LATE = 60, 5
TABLE = """CREATE TABLE orders (
    id bigint PRIMARY KEY, created_at timestamptz NOT NULL, total numeric(12, 2), note text)"""
# Two a day, and one of today that stays hot.
FILL = """INSERT INTO orders
    SELECT g, now() - g * interval '12 hours' - interval '2 days', g * 1.01,
    CASE WHEN g % 7 <> 0 THEN 'n° ' || g END FROM generate_series(1, %s) g"""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Row = tuple[int, int, str, str | None]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """Every service, as a process."""
    reason = engines_missing()
    if reason:
        pytest.skip(reason)
    try:
        program()
    except NoS3Server as error:
        pytest.skip(str(error))
    with twins(tmp_path_factory.mktemp("engines"), SECRETS, engines=True) as found:
        found.database.execute(TABLE)
        found.database.execute(FILL.replace("%s", str(OLD)))
        found.database.execute("INSERT INTO orders VALUES (0, now(), 1, 'young')")
        yield found


def test_jars_of_the_image_are_those_of_the_tests() -> None:
    """The sums in Spark's Containerfile are of the files that Maven fetches."""
    reason = missing(SERVER_JARS)
    if reason:
        pytest.skip(reason)
    sums = re.findall(r"\b([0-9a-f]{64}) (\S+\.jar)", (ROOT / "Containerfile.spark").read_text())
    found = [(hashlib.sha256(j.path.read_bytes()).hexdigest(), j.path.name) for j in SERVER_JARS]
    assert sums == found


def test_airflow_moves_and_spark_reads_the_same_rows(running: Twins) -> None:
    """A run of the DAG by Airflow's API; then Spark has what the port has, below that line."""
    with psycopg.connect(running.login(running.stack.port), autocommit=True) as port:
        wait_until(lambda: copied(port) == OLD + 1, 120, running.stack.log_end)
        assert run_dag(running) == OLD
        rows = at_the_port(port)
        assert port.execute("SHOW htapkit.last_route").fetchone() == ("union",)
        assert len(rows) == OLD + 1
        assert by_spark(running) == [row for row in rows if row[0] != 0]
        compacted(running, port)
        joined = by_spark(running)
        assert len(joined) == OLD + LATE
        assert at_the_port(port) == joined + [row for row in rows if row[0] == 0]
    lines = [" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])]
    assert any("SparkConnectServer" in line for line in lines)
    assert not [name for name, secret in SECRETS.items() if secret in "\n".join(lines)]


def copied(port: psycopg.Connection) -> int:
    """How many rows the port shows; 0 before it knows the table."""
    try:
        ((count,),) = port.execute("SELECT count(*) FROM orders").fetchall()
    except psycopg.errors.UndefinedTable:
        return 0
    return int(count)


def at_the_port(port: psycopg.Connection) -> list[Row]:
    """All rows of the table, oldest first."""
    found = port.execute("SELECT id, created_at, total, note FROM orders ORDER BY created_at")
    micro = timedelta(microseconds=1)
    return [(n, (at - EPOCH) // micro, str(total), note) for n, at, total, note in found]


def by_spark(running: Twins) -> list[Row]:
    """The same of the lake."""
    sql = """SELECT id, unix_micros(created_at), total, note
        FROM htapkit.shop.public.orders ORDER BY created_at"""
    return [(n, at, total, note) for n, at, total, note in rows_of(running.spark_address, sql)]


def compacted(running: Twins, port: psycopg.Connection) -> None:
    """Late rows give days a second file, which Spark joins as htapkit would have it do."""
    running.database.execute(
        "INSERT INTO orders SELECT -g, now() - g * interval '1 day' - interval '3 days', 0, 'late' "
        f"FROM generate_series(1, {LATE}) g"
    )
    wait_until(lambda: copied(port) == OLD + LATE + 1, 120, running.stack.log_end)
    with running.stack.client(SECRETS["HTAPKIT_TOKEN"]) as client:
        client.wait(client.tier(["shop.public.orders"], "1 day")["id"], timeout_seconds=120)
    SparkEngine({"remote": running.spark_address}).compact(("shop", "public", "orders"))
    newest = """SELECT operation FROM htapkit.shop.public.orders.snapshots
        ORDER BY committed_at DESC LIMIT 1"""
    assert rows_of(running.spark_address, newest) == [["replace"]]


def run_dag(running: Twins) -> int:
    """Move the table's closed days; how many rows Airflow was told of."""
    kind, *check = compose_file()["services"]["airflow"]["healthcheck"]["test"]
    assert kind == "CMD"
    address = running.scheduler.address
    own = [word.replace("http://127.0.0.1:8080", address) for word in check]
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as api:
        wait_until(
            lambda: subprocess.run([sys.executable, *own[1:]], check=False).returncode == 0,
            RUN_SECONDS_MAX,
            running.scheduler.log_end,
        )
        token = called(api.get("/auth/token"))["access_token"]
        api.headers["Authorization"] = f"Bearer {token}"
        dag = "/api/v2/dags/htapkit_tier"
        wait_until(lambda: api.get(dag).is_success, RUN_SECONDS_MAX, running.scheduler.log_end)
        called(api.patch(dag, json={"is_paused": False}))
        asked = {"tables": "shop.public.orders", "hot_days": 0}
        run = called(api.post(f"{dag}/dagRuns", json={"logical_date": None, "conf": asked}))
        one = f"{dag}/dagRuns/{run['dag_run_id']}"

        def state() -> str:
            return str(called(api.get(one))["state"])

        wait_until(
            lambda: state() in {"success", "failed"}, RUN_SECONDS_MAX, running.scheduler.log_end
        )
        assert state() == "success", json.dumps(called(api.get(f"{one}/taskInstances")), indent=1)
        events = called(api.get("/api/v2/assets/events"))["asset_events"]
    (told,) = [event["extra"] for event in events if event["source_run_id"] == run["dag_run_id"]]
    assert told["table"] == "shop.public.orders"
    return int(told["rows"])


def called(answer: httpx.Response) -> Any:
    """The body of an answer that is none of an error."""
    assert answer.is_success, answer.text
    return answer.json()
