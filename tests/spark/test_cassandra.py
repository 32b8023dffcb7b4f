"""The job of docs/examples on a real node's table, of which some days are hot and others tiered."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cassandra.concurrent import execute_concurrent_with_args

from htapkit.testing.guard import child_environment
from htapkit.testing.postgres import free_port
from htapkit.testing.stack import Stack
from tests.fix_cassandra import SECONDS, Keyspace

pytestmark = [
    pytest.mark.spark,
    pytest.mark.cassandra,
    pytest.mark.integration,
    pytest.mark.long,
]
JOB = Path(__file__).parents[2] / "docs" / "examples" / "cassandra_job.py"
DAYS, ENTITIES = 20, 7
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)


def test_a_job_reads_hot_rows_and_lake_rows(
    keyspace: Keyspace, spark_environment: None, tmp_path: Path
) -> None:
    table = f"{keyspace.name}.events"
    keyspace.session.execute(
        f"CREATE TABLE {table} (entity int, at timestamp, kind text, PRIMARY KEY (entity, at))"
        " WITH cdc = true"
    )
    insert = keyspace.session.prepare(f"INSERT INTO {table} (entity, at, kind) VALUES (?, ?, ?)")
    rows = [
        (entity, NOON - timedelta(days=day), ("view", "buy")[(entity + day) % 2])
        for entity in range(ENTITIES)
        for day in range(DAYS)
    ]
    execute_concurrent_with_args(keyspace.session, insert, rows)
    flight = free_port()
    source = {"connector": "cassandra", **keyspace.node.settings(tables=[f"{keyspace.name}.*"])}
    configuration = {
        "tables": {f"events.{table}": {"partition": "day"}},
        "lake": {"interval": "1 day"},
        "servers": {"flight": {"listen": f"127.0.0.1:{flight}", "auth": "trust"}},
    }
    with Stack(tmp_path / "stack", {"events": source}, configuration=configuration) as stack:
        stack.wait_ready(SECONDS)
        with stack.client() as client:
            done = client.wait(client.tier([f"events.{table}"], "10 days")["id"])
        assert done["tables"][0]["rows"] >= 8 * ENTITIES
        # Of the lake and of the hot store: one row more, one less, one that is another now.
        for day in (15, 2):
            at = NOON - timedelta(days=day)
            keyspace.session.execute(insert, (99, at, "view"))
            keyspace.session.execute(insert, (1, at, "other"))
            keyspace.session.execute(f"DELETE FROM {table} WHERE entity = 2 AND at = %s", (at,))
        found = _job(f"grpc://127.0.0.1:{flight}", table, tmp_path / "out")
    now = keyspace.session.execute(f"SELECT at, kind FROM {table}")
    assert found == Counter((row.at.date(), row.kind) for row in now)
    assert sum(found.values()) == DAYS * ENTITIES


def _job(url: str, table: str, out: Path) -> dict[tuple[date, str], int]:
    """What it wrote."""
    command = [sys.executable, str(JOB), url, table, "at", "kind", str(out)]
    done = subprocess.run(
        command, env=child_environment(), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {(r["day"], r["kind"]): r["events"] for r in pq.read_table(out).to_pylist()}
