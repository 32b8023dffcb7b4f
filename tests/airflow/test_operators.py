"""Operators and sensors against a stand-in API: what is asked, and what becomes of the answer."""

from __future__ import annotations

import pytest

pytest.importorskip("airflow", reason="Apache Airflow (extra `airflow`) is not installed")

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, PokeReturnValue
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    TaskDeferred,
)

from htapkit.client import ServerRefused, ServerUnreachable
from htapkit_airflow.assets import LAKE, lake_asset
from htapkit_airflow.operators import (
    HtapkitBackfillOperator,
    HtapkitCompactOperator,
    HtapkitExpireOperator,
    HtapkitExportOperator,
    HtapkitJobOperator,
    HtapkitRetainOperator,
    HtapkitTierOperator,
    HtapkitVerifyOperator,
    names,
)
from htapkit_airflow.sensors import (
    HtapkitJobSensor,
    HtapkitReadySensor,
    HtapkitTableSensor,
)
from tests.airflow.fake_api import FakeApi

pytestmark = pytest.mark.airflow
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
MOVED: dict[str, Any] = {"table": "shop.public.orders", "rows": 7, "folded": 0, "below": 1}
STILL = {"table": "shop.public.customers", "rows": 0, "folded": 0, "below": 1}


class Event:
    """What a task tells of one outlet."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.extra: dict[str, Any] = {}
        self.added: list[tuple[Asset, Any]] = []

    def add(self, asset: Asset, extra: Any) -> None:
        self.added.append((asset, extra))


class Store(dict[str, Any]):
    """What a task keeps between its tries."""

    set = dict.__setitem__

    def delete(self, key: str) -> None:
        self.pop(key, None)


def context() -> Any:
    events = {LAKE: Event(), lake_asset(MOVED["table"]): Event()}
    return {"outlet_events": events, "task_state_store": Store()}


def tier(connection: str, **fields: Any) -> HtapkitTierOperator:
    return HtapkitTierOperator(task_id="tier", htapkit_conn_id=connection, **fields)


@pytest.mark.parametrize(
    ("fields", "age"),
    [
        ({}, None),
        ({"older_than": "7 days"}, "7 days"),
        ({"before": NOW - timedelta(hours=1)}, "3600.000 s"),
        ({"before": "2026-03-10T12:00:00+01:00"}, "3600.000 s"),
        ({"before": "", "older_than": ""}, None),  # templates that rendered to nothing
    ],
)
def test_what_tier_asks(fields: dict[str, Any], age: str | None) -> None:
    """The server takes an age; a moment becomes one."""
    asked = tier("c", tables=["a.b.c"], **fields).asked(NOW)
    assert asked == {"tables": ["a.b.c"], "older_than": age}


def test_what_tier_refuses() -> None:
    """Two answers to one question, and a moment that could be any."""
    with pytest.raises(ValueError, match="not both"):
        tier("c", older_than="1 day", before=NOW).asked(NOW)
    with pytest.raises(ValueError, match="no time zone"):
        tier("c", before="2026-03-10T12:00:00").asked(NOW)


@pytest.mark.parametrize(
    ("task", "path", "body"),
    [
        (
            HtapkitCompactOperator(task_id="t", tables="a.b.c"),
            "compact",
            {"tables": ["a.b.c"], "engine": ""},
        ),
        (HtapkitRetainOperator(task_id="t"), "retain", {"tables": []}),
        (
            HtapkitExpireOperator(task_id="t", tables=["a.b.c"], engine="spark"),
            "expire",
            {"tables": ["a.b.c"], "engine": "spark"},
        ),
        (
            HtapkitBackfillOperator(task_id="t", table="a.b.c", begin="2026-01-01", end=""),
            "backfill",
            {"table": "a.b.c", "from": "2026-01-01", "to": None, "parquet": None},
        ),
        (
            HtapkitBackfillOperator(task_id="t", table="a.b.c", parquet="old/2019.parquet"),
            "backfill",
            {"table": "a.b.c", "from": None, "to": None, "parquet": "old/2019.parquet"},
        ),
        (
            HtapkitExportOperator(task_id="t", path="x.csv", sql="SELECT 1", format="csv"),
            "export",
            {
                "path": "x.csv",
                "sql": "SELECT 1",
                "table": None,
                "from": None,
                "to": None,
                "format": "csv",
                "source": None,
            },
        ),
    ],
)
def test_what_the_others_ask(
    api: FakeApi, connection: str, task: HtapkitJobOperator, path: str, body: dict[str, Any]
) -> None:
    """Each verb with its own words; the result is the job's."""
    api.says(f"POST /api/v1/{path}", {"id": "j1"}, status=202)
    api.job("j1", "done", result={"rows": 1})
    task.htapkit_conn_id = connection
    assert task.execute(context()) == {"rows": 1}
    assert api.asked[0] == (f"POST /api/v1/{path}", body)


def test_names() -> None:
    """A list, or one text with commas; never its letters."""
    assert names("a.b.c, d.e.f,") == ["a.b.c", "d.e.f"]
    assert names(["a.b.c"]) == ["a.b.c"]
    assert names("") == []


def test_tier_waits_and_tells_the_assets(api: FakeApi, connection: str) -> None:
    """The result is the job's, and only what changed becomes an event."""
    api.says("POST /api/v1/tier", {"id": "j1"}, status=202)
    api.job("j1", "queued", "running", "done", result={"tables": [MOVED, STILL]})
    told = context()
    result = tier(connection, older_than="7 days").execute(told)
    assert result == {"tables": [MOVED, STILL]}
    assert api.asked[0] == ("POST /api/v1/tier", {"tables": [], "older_than": "7 days"})
    assert told["outlet_events"][LAKE].added == [(lake_asset(MOVED["table"]), MOVED)]


def test_an_archive_that_moved_is_told_as_well(api: FakeApi, connection: str) -> None:
    moved = {**MOVED, "table": f"archive.{MOVED['table']}"}
    api.says("POST /api/v1/tier", {"id": "j1"})
    api.job("j1", "done", result={"tables": [moved, MOVED]})
    told = context()
    tier(connection).execute(told)
    added = [(lake_asset(each["table"]), each) for each in (moved, MOVED)]
    assert told["outlet_events"][LAKE].added == added


def test_an_outlet_of_ones_own(api: FakeApi, connection: str) -> None:
    """Where the DAG names the asset itself, that one is told."""
    api.says("POST /api/v1/tier", {"id": "j1"})
    api.job("j1", "done", result={"tables": [MOVED]})
    told, asset = context(), lake_asset(MOVED["table"])
    tier(connection, outlets=[asset]).execute(told)
    assert told["outlet_events"][asset].extra == MOVED
    assert not told["outlet_events"][LAKE].added


def test_a_failed_job_fails_the_task(api: FakeApi, connection: str) -> None:
    """With the server's own words."""
    api.says("POST /api/v1/tier", {"id": "j1"})
    api.job("j1", "running", "failed", why="the lake is full")
    with pytest.raises(ServerRefused, match="the lake is full"):
        tier(connection).execute(context())


def test_refusal_and_silence_fail_the_task(api: FakeApi, connection: str) -> None:
    """Nothing was queued, and the reason says why."""
    api.says("POST /api/v1/tier", {"error": "no table has `hot`"}, status=404)
    with pytest.raises(ServerRefused, match="no table has `hot`"):
        tier(connection).execute(context())
    api.stop()
    with pytest.raises(ServerUnreachable):
        tier(connection).execute(context())


def test_without_waiting(api: FakeApi, connection: str) -> None:
    """The job's id, and the job is not asked for."""
    api.says("POST /api/v1/tier", {"id": "j1"})
    assert tier(connection, wait=False).execute(context()) == "j1"
    assert len(api.asked) == 1


def test_deferring_and_resuming(api: FakeApi, connection: str) -> None:
    """The job is queued once; what the trigger says is the end."""
    api.says("POST /api/v1/tier", {"id": "j1"})
    api.job("j1", "running")
    task = tier(connection, deferrable=True, timeout_seconds=60, poll_seconds=0)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context())
    assert deferred.value.timeout == timedelta(seconds=60)
    assert deferred.value.trigger.serialize()[1]["arguments"] == {"job_id": "j1"}
    resume = getattr(task, deferred.value.method_name)
    told = context()
    assert resume(told, {"state": "done", "why": "", "result": {"tables": [MOVED]}})
    assert told["outlet_events"][LAKE].added
    for state in ("failed", "unreachable"):
        with pytest.raises(AirflowException, match="tier: because"):
            resume(context(), {"state": state, "why": "because"})
    assert api.count("POST /api/v1/tier") == 1


def test_a_short_job_is_not_deferred(api: FakeApi, connection: str) -> None:
    """What is done within `poll_seconds` ends in the worker."""
    api.says("POST /api/v1/tier", {"id": "j1"})
    api.job("j1", "running", "done", result={"tables": []})
    task = tier(connection, deferrable=True, poll_seconds=30)
    assert task.execute(context()) == {"tables": []}


def test_a_retry_takes_up_the_job(api: FakeApi, connection: str) -> None:
    """The worker died when the job was queued: the next try tells what that job did."""
    api.says("POST /api/v1/tier", {"id": "j1"}, {"id": "j2"})
    api.job("j1", "running")
    told, task = context(), tier(connection, deferrable=True, poll_seconds=0)
    with pytest.raises(TaskDeferred):
        task.execute(told)
    api.job("j1", "done", result={"tables": [MOVED]})
    assert task.execute(told) == {"tables": [MOVED]}
    assert told["outlet_events"][LAKE].added
    assert api.count("POST /api/v1/tier") == 1
    api.job("j2", "done", result={"tables": [STILL]})
    assert task.execute(told) == {"tables": [STILL]}  # cleared by somebody: it runs anew


@pytest.mark.parametrize("gone", [True, False])
def test_a_retry_after_a_failed_job(api: FakeApi, connection: str, *, gone: bool) -> None:
    """A job that failed, or that the server does not know any more, is queued again."""
    api.says("POST /api/v1/tier", {"id": "j2"})
    if not gone:
        api.job("j1", "failed", why="because")
    api.job("j2", "done", result={"tables": [MOVED]})
    told = context()
    told["task_state_store"].set("htapkit_job", "j1")
    assert tier(connection).execute(told) == {"tables": [MOVED]}
    assert not told["task_state_store"]


def test_a_new_verb_is_one_line(api: FakeApi, connection: str) -> None:
    """Any method of the client that queues a job, with its arguments; without one it is refused."""

    class Later(HtapkitJobOperator):
        """A verb of a later version."""

        verb = "tier"

    api.says("POST /api/v1/tier", {"id": "j1"})
    api.job("j1", "done", result={"n": 1})
    one = Later(task_id="a", htapkit_conn_id=connection, arguments={"tables": ["a.b.c"]})
    other = HtapkitJobOperator(
        task_id="b", verb="tier", htapkit_conn_id=connection, arguments={"tables": ["a.b.c"]}
    )
    assert one.execute(context()) == other.execute(context()) == {"n": 1}
    assert api.asked[0] == api.asked[2]
    with pytest.raises(ValueError, match="give the verb"):
        HtapkitJobOperator(task_id="c")


def test_verify(api: FakeApi, connection: str) -> None:
    """Equal is the result; a difference fails for good."""
    task = HtapkitVerifyOperator(task_id="v", tables="a.b.c", htapkit_conn_id=connection)
    api.says("POST /api/v1/verify", {"equal": True, "tables": [{"table": "a.b.c"}]})
    assert task.execute({})["equal"]
    assert api.asked == [("POST /api/v1/verify", {"tables": ["a.b.c"]})]
    api.says("POST /api/v1/verify", {"equal": False, "tables": [{"table": "a.b.c"}]})
    with pytest.raises(AirflowFailException, match=r"differ.*a\.b\.c"):
        task.execute({})


def test_templates(connection: str) -> None:
    """Every field that one would want to depend on the interval is rendered."""
    fields = {"tables": ["{{ t }}"], "older_than": "{{ n }} days", "before": "{{ end }}"}
    task = tier("{{ c }}", **fields)
    task.render_template_fields({"t": "a.b.c", "n": 7, "end": "e", "c": connection})
    rendered = [task.tables, task.older_than, task.before, task.htapkit_conn_id]
    assert rendered == [["a.b.c"], "7 days", "e", connection]
    sensor = HtapkitTableSensor(task_id="s", table="{{ t }}", state="{{ n }}")
    sensor.render_template_fields({"t": "a.b.c", "n": "paused"})
    assert sensor.asked() == {"table": "a.b.c", "state": "paused"}


def test_sensor_pokes(api: FakeApi, connection: str) -> None:
    """Not yet while the server starts, copies or is not there; then the answer."""
    ready = HtapkitReadySensor(task_id="r", htapkit_conn_id=connection, poke_interval=0.01)
    api.says("GET /readyz", {}, status=503)
    assert not ready.poke({})
    api.says("GET /readyz", {})
    assert ready.poke({})
    api.stop()
    assert not ready.poke({})


def test_table_sensor_waits_until_it_follows(api: FakeApi, connection: str) -> None:
    """Of several tables the one that was named; the answer is its report."""
    task = HtapkitTableSensor(
        task_id="s", table="a.b.c", htapkit_conn_id=connection, poke_interval=0.01, timeout=20
    )
    other = {"table": "a.b.d", "state": "following"}
    bodies = [
        {"sources": [{"tables": [other, {"table": "a.b.c", "state": state, "rows": 5}]}]}
        for state in ("copying", "copying", "following")
    ]
    api.says("GET /api/v1/status", *bodies)
    assert task.execute({}) == {"table": "a.b.c", "state": "done", "rows": 5}
    assert api.count("GET /api/v1/status") == 3
    api.stop()
    assert not task.poke({})


def test_job_sensor(api: FakeApi, connection: str) -> None:
    """The job's result, or its reason."""
    task = HtapkitJobSensor(task_id="s", job_id="j1", htapkit_conn_id=connection)
    api.job("j1", "done", result={"n": 1})
    answer = task.poke({})
    assert isinstance(answer, PokeReturnValue)
    assert answer.xcom_value["result"] == {"n": 1}
    api.job("j1", "failed", why="because")
    with pytest.raises(AirflowException, match="because"):
        task.poke({})


def test_deferred_sensor(api: FakeApi, connection: str) -> None:
    """It asks once itself, and leaves the rest to the triggerer for as long as it may take."""
    task = HtapkitReadySensor(
        task_id="r", htapkit_conn_id=connection, deferrable=True, timeout=30, poke_interval=2
    )
    api.says("GET /readyz", {}, status=503)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute({})
    assert deferred.value.timeout == timedelta(seconds=30)
    assert deferred.value.trigger.serialize()[1]["poll_seconds"] == 2
    assert task.resume({}, {"state": "done"}) == {"state": "done"}
    api.says("GET /readyz", {})
    assert task.execute({}) == {"state": "done"}
