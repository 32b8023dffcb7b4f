"""The DAGs, run by Airflow itself against a real htapkit on a real PostgreSQL."""

from __future__ import annotations

import pytest

pytest.importorskip("airflow", reason="Apache Airflow (extra `airflow`) is not installed")

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq

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
        "retry_seconds": 8,  # three times that, for the server to start
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
    for days_ago in (29, 28, 29):
        end = (TODAY - timedelta(days=days_ago)).isoformat()
        run = airflow.run_dag("htapkit_tier", end, {"hot_days": 0, "tables": "shop.public.orders"})
        assert run.state == "success", run.log
        value = run.tasks["tier"].value["tables"]
        moved.append(value[0]["rows"])
        assert [uri for uri, _ in run.assets] == ([LAKE_ORDERS] if moved[-1] else [])
        shop.same_answer("SELECT count(*), min(id), max(id), sum(total) FROM orders", "union")
    assert moved == [10, 10, 0]
    run = airflow.run_dag("htapkit_tier", TODAY.isoformat())  # by the table's own `hot`
    assert run.tasks["tier"].value["tables"][0]["rows"] == 0


def test_export_writes_one_file_for_each_interval(shop: Mirrored, airflow: AirflowHome) -> None:
    """Run again, the file is written again, with what came late; another day is another file."""
    add_orders(shop, 101, 11)
    add_orders(shop, 111, 10)
    folder = shop.stack.folder / "out" / "shop.public.orders"
    given = {"tables": "shop.public.orders"}
    for rows in (10, 20):
        run = airflow.run_dag("htapkit_export", (TODAY - timedelta(days=10)).isoformat(), given)
        assert run.state == "success", run.log
        day = f"{TODAY - timedelta(days=11):%Y-%m-%d}"
        assert [path.name for path in folder.iterdir()] == [f"{day}.parquet"]
        found = pq.read_table(folder / f"{day}.parquet")
        assert found.num_rows == run.tasks["export[0]"].value["rows"] == rows
        if rows == 10:
            assert sorted(found["id"].to_pylist()) == list(range(101, 111))
            add_orders(shop, 121, 11)
    run = airflow.run_dag("htapkit_export", (TODAY - timedelta(days=10)).isoformat())
    assert run.state == "success", run.log  # no table was named: nothing to do
    assert run.tasks["export"].state == "skipped"


def test_backfill_maps_over_the_parts_of_a_range(shop: Mirrored, airflow: AirflowHome) -> None:
    """Ten days in parts of four: three tasks, each of its own days; the last one is short."""
    add_orders(shop, 201, 20)
    given = {
        "table": "shop.public.orders",
        "from_date": f"{TODAY - timedelta(days=28):%Y-%m-%d}",
        "to_date": f"{TODAY - timedelta(days=18):%Y-%m-%d}",
        "days": 4,
    }
    run = airflow.run_dag("htapkit_backfill", TODAY.isoformat(), given)
    assert run.state == "success", run.log
    parts = run.tasks["parts"].value
    assert [part["begin"] for part in parts] == [
        f"{TODAY - timedelta(days=days):%Y-%m-%d}" for days in (28, 24, 20)
    ]
    assert parts[-1]["end"] == given["to_date"]
    values = [run.tasks[f"backfill[{n}]"].value for n in range(3)]
    assert values[2]["rows"] == 10
    assert not any(v["missing"] + v["different"] + v["surplus"] for v in values)


def test_upkeep_compacts_and_expires(shop: Mirrored, airflow: AirflowHome) -> None:
    """One after the other, on the tables that are in the lake."""
    add_orders(shop, 301, 40)
    with shop.stack.client() as client:
        client.wait(client.tier(["shop.public.orders"])["id"], timeout_seconds=120)
    run = airflow.run_dag("htapkit_upkeep", TODAY.isoformat())
    assert run.state == "success", run.log
    for verb in ("compact", "expire"):
        tables = [t["table"] for t in run.tasks[verb].value["tables"]]
        assert tables == ["shop.public.orders"], verb
    shop.same_answer("SELECT count(*), sum(total) FROM orders", "union")


def test_the_command_line(shop: Mirrored, airflow: AirflowHome) -> None:
    """`airflow dags test` runs it as the README says."""
    printed = airflow.command("dags", "test", "htapkit_tier", TODAY.isoformat())
    assert "state=success" in printed
