"""A whole Airflow (scheduler, triggerer, DAG processor, API) backfills a history, day by day."""

from __future__ import annotations

import pytest

pytest.importorskip("airflow", reason="Apache Airflow (extra `airflow`) is not installed")

import json
from datetime import UTC, datetime, timedelta

from htapkit.testing.stack import wait_until
from tests.airflow.home import AirflowHome
from tests.airflow.standalone import Standalone
from tests.fix_mirror import Mirrored

pytestmark = [pytest.mark.airflow, pytest.mark.integration, pytest.mark.long]

DAYS = 3
BACKFILL_SECONDS_MAX = 300
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
FIRST = TODAY - timedelta(days=30)


def test_backfill(shop: Mirrored, airflow: AirflowHome) -> None:
    """Each day is one run, moves its own rows, and sets off the DAG that is scheduled on them."""
    fill(shop)
    # Before the scheduler runs: on SQLite, this command and the scheduler get in each other's way.
    airflow.command("dags", "reserialize")
    airflow.command(
        "backfill",
        "create",
        "--dag-id=htapkit_tier",
        f"--from-date={FIRST:%Y-%m-%d}",
        f"--to-date={FIRST + timedelta(days=DAYS - 1):%Y-%m-%d}",
        "--max-active-runs=1",
        f"--dag-run-conf={json.dumps({'hot_days': 0, 'tables': 'shop.public.events'})}",
    )
    with Standalone(airflow) as standalone:
        for dag_id in ("htapkit_verify", "htapkit_tier"):
            airflow.command("dags", "unpause", dag_id)
        follow(standalone)
    shop.same_answer("SELECT count(*), sum(id) FROM events", "union")


def fill(shop: Mirrored) -> None:
    """Ten events a day."""
    for day in range(DAYS):
        noon = FIRST + timedelta(days=day, hours=12)
        rows = f"generate_series({day * 10 + 1}, {day * 10 + 10})"
        shop.run(f"INSERT INTO events SELECT g, '{noon.isoformat()}' FROM {rows} g")
    shop.follows("events")


def follow(standalone: Standalone) -> None:
    """Until every day has run, and the check of the last one has ended well."""
    runs = "SELECT state FROM dag_run WHERE dag_id = 'htapkit_tier' AND run_type = 'backfill'"
    wait_until(
        lambda: standalone.rows(runs) == [("success",)] * DAYS,
        BACKFILL_SECONDS_MAX,
        lambda: f"{standalone.rows(runs)}\n{standalone.log_end()}",
    )
    told = "SELECT extra FROM asset_event ORDER BY id"
    assert [json.loads(extra)["rows"] for (extra,) in standalone.rows(told)] == [10] * DAYS
    checks = (
        "SELECT state FROM dag_run WHERE dag_id = 'htapkit_verify' "
        "AND run_type = 'asset_triggered' ORDER BY id DESC"
    )
    wait_until(
        lambda: standalone.rows(checks)[:1] == [("success",)],
        BACKFILL_SECONDS_MAX,
        lambda: f"{standalone.rows(checks)}\n{standalone.log_end()}",
    )
