"""Compares source and copy, table by table: after every move to the lake, and once a week."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, dag, task

from htapkit_airflow.assets import LAKE
from htapkit_airflow.hook import HtapkitHook
from htapkit_airflow.operators import HtapkitVerifyOperator


@dag(
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("0 4 * * 0", timezone="UTC"), assets=LAKE
    ),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["htapkit"],
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
)
def htapkit_verify() -> None:
    """One task for each table that is followed now."""

    @task
    def tables() -> Sequence[str]:
        return list(HtapkitHook().tables())

    HtapkitVerifyOperator.partial(
        task_id="verify",
        max_active_tis_per_dag=1,  # both are read whole: not at the same time
        map_index_template="{{ task.tables }}",
    ).expand(tables=tables())


htapkit_verify()
