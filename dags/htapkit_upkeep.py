"""Keeps the lake small: compaction and expiry, every night."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import CronTriggerTimetable, Param, dag

from htapkit_airflow.operators import HtapkitCompactOperator, HtapkitExpireOperator


@dag(
    schedule=CronTriggerTimetable("30 2 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["htapkit"],
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    params={"tables": Param("", type="string", description="source.schema.table, …; none: all")},
)
def htapkit_upkeep() -> None:
    """Expiry comes after: it removes the files that compaction has replaced."""
    tables = "{{ params.tables }}"
    compact = HtapkitCompactOperator(task_id="compact", tables=tables, deferrable=True)
    expire = HtapkitExpireOperator(task_id="expire", tables=tables, deferrable=True)
    compact >> expire


htapkit_upkeep()
