"""The trigger: it asks until there is an answer, and survives being made anew elsewhere."""

from __future__ import annotations

import pytest

pytest.importorskip("airflow", reason="Apache Airflow (extra `airflow`) is not installed")

import asyncio
import json
from typing import Any

from airflow.sdk.definitions.connection import Connection
from airflow.sdk.module_loading import import_string

from htapkit_airflow.hook import HtapkitHook
from htapkit_airflow.triggers import HtapkitTrigger
from tests.airflow.fake_api import FakeApi

pytestmark = pytest.mark.airflow


@pytest.fixture
def address(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> str:
    """The connection, as a triggerer gets it from Airflow's API."""

    async def found(_: str) -> Connection:
        return Connection(conn_id="fake", conn_type="htapkit", host="127.0.0.1", port=api.port)

    monkeypatch.setattr(HtapkitHook, "aget_connection", found)
    return "fake"


def trigger(conn_id: str, **fields: Any) -> HtapkitTrigger:
    given = {"question": "job", "arguments": {"job_id": "j1"}, "poll_seconds": 0.01}
    return HtapkitTrigger(htapkit_conn_id=conn_id, **{**given, **fields})


def event(of: HtapkitTrigger) -> Any:
    """What it says, as it is stored: through JSON."""

    async def first() -> Any:
        return (await anext(of.run())).payload

    return json.loads(json.dumps(asyncio.run(asyncio.wait_for(first(), 20))))


def test_a_job_to_its_end(api: FakeApi, address: str) -> None:
    """Asked for again and again; the event has its result."""
    api.job("j1", "queued", "running", "running", "done", result={"tables": []})
    assert event(trigger(address)) == {"state": "done", "why": "", "result": {"tables": []}}
    assert api.count("GET /api/v1/jobs/j1") == 4


def test_a_job_that_fails_or_is_gone(api: FakeApi, address: str) -> None:
    """Its reason; a server that was started anew does not know the job."""
    api.job("j1", "running", "failed", why="disk full")
    assert event(trigger(address))["why"] == "disk full"
    gone = event(trigger(address, arguments={"job_id": "j2"}))
    assert gone["state"] == "failed"
    assert "nothing is known" in gone["why"]


def test_silence(api: FakeApi, address: str) -> None:
    """A server that does not answer is borne for a while only."""
    api.stop()
    assert event(trigger(address, silence_seconds=0.05))["state"] == "unreachable"


def test_it_does_not_answer_at_once(api: FakeApi, address: str) -> None:
    """Airflow's scheduler must hear of the deferral before it hears of the answer."""
    api.job("j1", "done")
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(anext(trigger(address, poll_seconds=30).run()), 0.3))
    assert not api.asked


def test_it_is_the_same_when_made_anew(api: FakeApi, address: str) -> None:
    """A triggerer makes it from what the database keeps."""
    path, fields = trigger(address, silence_seconds=3.0).serialize()
    again = import_string(path)(**json.loads(json.dumps(fields)))
    assert again.serialize() == (path, fields)
    api.job("j1", "done")
    assert event(again)["state"] == "done"


def test_other_questions(api: FakeApi, address: str) -> None:
    """Readiness and a table's state, as the sensors ask them."""
    api.says("GET /readyz", {})
    assert event(trigger(address, question="ready", arguments={})) == {"state": "done"}
    table = {"table": "a.b.c", "state": "following"}
    api.says("GET /api/v1/status", {"sources": [{"tables": [table]}]})
    asked = {"table": "a.b.c", "state": "following"}
    assert event(trigger(address, question="table", arguments=asked))["table"] == "a.b.c"
