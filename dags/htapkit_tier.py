"""Moves every closed day to the lake, once its data interval is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import CronDataIntervalTimetable, Param, dag

from htapkit_airflow.operators import HtapkitTierOperator
from htapkit_airflow.sensors import HtapkitReadySensor

# Without `hot_days` each table's own `hot` counts; with it, the interval's end does, so that a
# backfill moves day by day. A run by hand without a date has no interval: there it is the moment.
BEFORE = """{{ ((data_interval_end | default(dag_run.run_after))
    - macros.timedelta(days=params.hot_days)).isoformat()
    if params.hot_days is not none else '' }}"""


@dag(
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["htapkit"],
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    params={
        "tables": Param("", type="string", description="source.schema.table, …; none: all"),
        "hot_days": Param(None, type=["null", "integer"], minimum=0, description="days kept hot"),
    },
)
def htapkit_tier() -> None:
    """Wait until the copy is complete, then move."""
    ready = HtapkitReadySensor(task_id="ready", deferrable=True, timeout=3600)
    tier = HtapkitTierOperator(
        task_id="tier", tables="{{ params.tables }}", before=BEFORE, deferrable=True
    )
    ready >> tier


htapkit_tier()
