"""The DAGs, run by Airflow itself against a real htapkit on a real PostgreSQL."""

from __future__ import annotations

import pytest

pytest.importorskip("airflow", reason="Apache Airflow (extra `airflow`) is not installed")

from datetime import UTC, datetime, timedelta
from pathlib import Path

from htapkit.testing.stack import wait_until
from tests.airflow.home import AirflowHome, read_run
from tests.fix_mirror import Mirrored

pytestmark = [pytest.mark.airflow, pytest.mark.integration, pytest.mark.long]

LAKE_ORDERS = "htapkit://lake/shop.public.orders"
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def add_orders(shop: Mirrored, first: int, days_ago: int) -> None:
    """Ten orders at noon of a day."""
    noon = TODAY - timedelta(days=days_ago, hours=-12)
    shop.run(
        f"INSERT INTO orders SELECT g, '{noon.isoformat()}', g "
        f"FROM generate_series({first}, {first + 9}) g"
    )
    shop.follows("orders")


def test_verify_maps_over_the_tables(shop: Mirrored, airflow: AirflowHome) -> None:
    """One task for each table that is followed; all are equal."""
    run = airflow.run_dag("htapkit_verify", TODAY.isoformat())
    assert run.state == "success", run.log
    names = [f"shop.public.{name}" for name in ("customers", "events", "orders")]
    assert run.tasks["tables"].value == names
    for index, name in enumerate(names):
        task = run.tasks[f"verify[{index}]"]
        assert task.state == "success"
        assert task.value["equal"]
        assert [t["table"] for t in task.value["tables"]] == [name]


def test_a_task_that_fails_and_is_retried(
    shop: Mirrored, airflow: AirflowHome, tmp_path: Path
) -> None:
    """The server is away at the first try; once it is there the retry succeeds."""
    shop.stack.stop()
    given = {
        "dag_id": "htapkit_verify",
        "when": (TODAY - timedelta(days=1)).isoformat(),
        "configuration": {},
        "retry_seconds": 1,
    }
    log = tmp_path / "run.log"
    child = airflow.start_dag(given, log)
    try:
        wait_until(
            lambda: b"no htapkit answers" in log.read_bytes() or child.poll() is not None,
            60,
            lambda: log.read_text(errors="replace"),
        )
        shop.stack.start()
        shop.stack.wait_ready()
        wait_until(lambda: child.poll() is not None, 120, lambda: log.read_text(errors="replace"))
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        if not shop.stack.running:
            shop.stack.start()
    run = read_run(log.read_text(errors="replace"))
    assert run.state == "success", run.log
    assert run.tasks["tables"].tries > 1
    assert run.tasks["verify[1]"].state == "success"


def test_tier_moves_what_the_interval_closes(shop: Mirrored, airflow: AirflowHome) -> None:
    """Day by day, each once: a run that is repeated finds nothing to do and tells no asset."""
    add_orders(shop, 1, 30)
    add_orders(shop, 11, 29)
    add_orders(shop, 21, 1)
    moved = []
    for days_ago in (29, 29, 28, 28, 29):
        end = (TODAY - timedelta(days=days_ago)).isoformat()
        run = airflow.run_dag("htapkit_tier", end, {"hot_days": 0, "tables": "shop.public.orders"})
        assert run.state == "success", run.log
        value = run.tasks["tier"].value["tables"]
        moved.append(value[0]["rows"])
        assert [uri for uri, _ in run.assets] == ([LAKE_ORDERS] if moved[-1] else [])
        shop.same_answer("SELECT count(*), min(id), max(id), sum(total) FROM orders", "union")
    assert moved == [10, 0, 10, 0, 0]
    run = airflow.run_dag("htapkit_tier", TODAY.isoformat())  # by the table's own `hot`
    assert run.tasks["tier"].value["tables"][0]["rows"] == 0


def test_the_command_line(shop: Mirrored, airflow: AirflowHome) -> None:
    """`airflow dags test` runs it as the README says."""
    printed = airflow.command("dags", "test", "htapkit_tier", TODAY.isoformat())
    assert "state=success" in printed
