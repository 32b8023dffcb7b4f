"""Writes each day's rows of some tables to Parquet, one file for each data interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from airflow.sdk import CronDataIntervalTimetable, Param, dag, task

from htapkit_airflow.operators import HtapkitExportOperator, names


@dag(
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["htapkit"],
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    params={"tables": Param("", type="string", description="source.schema.table, … to export")},
)
def htapkit_export() -> None:
    """The same interval is the same file, however often it is run."""

    @task
    def wanted(tables: str, day: str) -> Sequence[Mapping[str, str]]:
        return [{"table": name, "path": f"{name}/{day}.parquet"} for name in names(tables)]

    HtapkitExportOperator.partial(
        task_id="export",
        begin="{{ data_interval_start.isoformat() }}",
        end="{{ data_interval_end.isoformat() }}",
        deferrable=True,
        map_index_template="{{ task.table }}",
    ).expand_kwargs(wanted("{{ params.tables }}", "{{ data_interval_start | ds }}"))


htapkit_export()
