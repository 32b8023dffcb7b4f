"""A child process that runs one DAG once with `dag.test()`, and prints how it ended as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from airflow import settings
from airflow.dag_processing.dagbag import DagBag
from airflow.models.asset import AssetEvent
from sqlalchemy import select

from tests.airflow.home import DAGS, MARK


def main() -> None:
    """The argument is JSON: dag_id, when, configuration, retry_seconds."""
    given = json.loads(sys.argv[1])
    bag = DagBag(dag_folder=str(DAGS))
    assert not bag.import_errors, bag.import_errors
    dag = bag.dags[given["dag_id"]]
    for task in dag.tasks:
        task.retry_delay = timedelta(seconds=given["retry_seconds"])
    when = datetime.fromisoformat(given["when"])
    run = dag.test(logical_date=when, run_conf=given["configuration"])
    sys.stdout.write(f"\n{MARK}{json.dumps(_told(run), default=str)}\n")


def _told(run: Any) -> Mapping[str, Any]:
    session = settings.Session()
    tasks = {}
    for ti in run.get_task_instances(session=session):
        name = ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]"
        value = ti.xcom_pull(task_ids=ti.task_id, map_indexes=ti.map_index, session=session)
        tasks[name] = {"state": ti.state, "tries": ti.try_number, "value": value}
    events = session.scalars(select(AssetEvent).where(AssetEvent.source_run_id == run.run_id))
    assets = [(event.asset.uri, event.extra) for event in events]
    return {"state": run.state, "tasks": tasks, "assets": assets}


if __name__ == "__main__":
    main()
