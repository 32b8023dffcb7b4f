"""Reads a time range of a table again from the source, in parts; started by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from airflow.sdk import Param, dag, task

from htapkit_airflow.operators import HtapkitBackfillOperator


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["htapkit"],
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    params={
        "table": Param("", type="string", description="source.schema.table"),
        "from_date": Param("2026-01-01", type="string", format="date"),
        "to_date": Param("2026-01-02", type="string", format="date", description="not included"),
        "days": Param(30, type="integer", minimum=1, description="of one part"),
    },
)
def htapkit_backfill() -> None:
    """One task for each part: one that fails is tried again alone."""

    @task
    def parts(from_date: str, to_date: str, days: str) -> Sequence[Mapping[str, str]]:
        first, end = datetime.fromisoformat(from_date), datetime.fromisoformat(to_date)
        step = timedelta(days=int(days))
        starts = [first + step * n for n in range(-((first - end) // step))]
        return [{"begin": f"{s:%Y-%m-%d}", "end": f"{min(s + step, end):%Y-%m-%d}"} for s in starts]

    spans = parts("{{ params.from_date }}", "{{ params.to_date }}", "{{ params.days }}")
    HtapkitBackfillOperator.partial(
        task_id="backfill",
        table="{{ params.table }}",
        deferrable=True,
        max_active_tis_per_dag=1,  # the source reads the whole table for each
        map_index_template="{{ task.begin }}",
    ).expand_kwargs(spans)


htapkit_backfill()
