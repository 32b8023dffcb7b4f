"""A broker that is away: the copy goes on, and the source's disk is kept from filling."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import httpx
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from htapkit.testing.guard import child_environment
from tests.fix_sink import SINK_METRICS, Fed
from tests.kafka.replay import replay

pytestmark = [pytest.mark.kafka, pytest.mark.integration]
ROWS = "INSERT INTO a SELECT g, repeat('x', 500) FROM generate_series({}, {}) g"
SMALL = {"slot_lag": "1MB", "slot_lag_time": "1s"}


def _command(fed: Fed, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "htapkit", *arguments, "--config", str(fed.stack.config_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=child_environment(),
    )


def _servers(fed: Fed) -> dict[str, str | int | float | bool]:
    return {"bootstrap.servers": fed.broker.address}


def _slots(fed: Fed) -> set[str]:
    found = fed.database.execute("SELECT slot_name FROM pg_replication_slots")
    return {str(row[0]) for row in found if str(row[0]).startswith("htapkit_shop")}


def _copied(fed: Fed) -> int:
    """Rows of the copy, as fresh as can be."""
    with fed.stack.connect() as port:
        port.execute("SET htapkit.freshness = 'strong'")
        port.execute("SET htapkit.route = 'hot'")
        row = port.execute("SELECT count(*) FROM a").fetchone()
    assert row is not None
    return int(row[0])


def _metric(fed: Fed, name: str) -> float:
    text = httpx.get(f"http://127.0.0.1:{fed.stack.http_port}/metrics", timeout=30).text
    start = f'{name}{{sink="{fed.sink}"}} '
    return float(
        next(line for line in text.splitlines() if line.startswith(start)).removeprefix(start)
    )


def _metrics(fed: Fed) -> set[str]:
    text = httpx.get(f"http://127.0.0.1:{fed.stack.http_port}/metrics", timeout=30).text
    found = re.findall(r"^(htapkit_sink\w+?)(?:_total|_created)?\{sink=", text, re.MULTILINE)
    return set(found)


def _replayed(fed: Fed) -> dict[str, Any]:
    return replay(fed.broker.address, f"{fed.sink}.all").tables["public.a"]


@pytest.fixture(autouse=True)
def _back(fed: Fed) -> Any:
    """The broker is the session's: it is there again for the next test."""
    yield
    if not fed.broker.answers():
        fed.broker.start()


def test_a_broker_that_comes_back(fed: Fed) -> None:
    """Nothing is lost, and the copy has not waited."""
    fed.database.execute("CREATE TABLE a (id int PRIMARY KEY, v text)")
    fed.stack.start()
    fed.wait_sent()
    fed.broker.kill()
    fed.database.execute(ROWS.format(1, 3000))
    assert _copied(fed) == 3000
    fed.wait(lambda: fed.status()["kept_bytes"] > 1_000_000)
    fed.wait_state("unavailable")
    assert fed.broker.address in fed.status()["why"]
    fed.broker.start()
    fed.wait_sent()
    assert len(_replayed(fed)) == 3000
    assert _metric(fed, "htapkit_sink_up") == 1
    assert _metrics(fed) == SINK_METRICS


def test_a_sink_that_holds_the_log_is_detached(fed: Fed) -> None:
    """Over the limit its slot goes, and says so; `on_gap: copy` begins anew."""
    fed.configure(SMALL, topic=f"{fed.sink}.all")
    fed.database.execute("CREATE TABLE a (id int PRIMARY KEY, v text)")
    fed.database.execute(ROWS.format(1, 10))
    fed.stack.start()
    fed.wait_sent()
    both = {"htapkit_shop", f"htapkit_shop_{fed.sink}"}
    assert _slots(fed) == both
    fed.broker.kill()
    for number in range(1, 4):
        fed.database.execute(ROWS.format(number * 3000, number * 3000 + 2999))
        assert _copied(fed) == 10 + number * 3000
    found = fed.wait_state("detached")
    assert "limits.slot_lag" in found["why"]
    assert "on_gap: copy" in found["why"]
    assert _slots(fed) == {"htapkit_shop"}
    assert _metric(fed, "htapkit_sinks_detached_total") == 1
    fed.database.execute("DELETE FROM a WHERE id < 5")
    assert _copied(fed) == 9006
    fed.broker.start()
    fed.stack.stop()
    fed.stack.start()
    assert "is gone" in fed.wait_state("detached")["why"]
    fed.stack.stop()
    fed.configure(SMALL, topic=f"{fed.sink}.all", on_gap="copy")
    fed.stack.start()
    fed.wait_sent()
    assert len(_replayed(fed)) == 9006
    assert _slots(fed) == both


def test_detach_and_begin_again(fed: Fed) -> None:
    """By hand: the slot is gone, the copy goes on; the next start copies all again."""
    fed.database.execute("CREATE TABLE a (id int PRIMARY KEY, v text)")
    fed.database.execute(ROWS.format(1, 10))
    fed.stack.start()
    fed.wait_sent()
    shown = _command(fed, "status")
    assert "sending" in shown.stdout, shown
    done = _command(fed, "detach", fed.sink, "--yes")
    assert done.returncode == 0, done
    assert _slots(fed) == {"htapkit_shop"}
    fed.database.execute("DELETE FROM a WHERE id < 5")
    assert _copied(fed) == 6
    fed.stack.stop()
    fed.stack.start()
    fed.wait_sent()
    assert len(_replayed(fed)) == 6
    fed.stack.stop()
    done = _command(fed, "detach", "shop", "--yes")
    assert done.returncode == 0, done
    assert not _slots(fed)


def test_check(fed: Fed) -> None:
    """The preflight says whether the brokers answer, and which topic is missing."""
    fed.database.execute("CREATE TABLE a (id int PRIMARY KEY)")
    good = _command(fed, "check", "--json")
    assert good.returncode == 0, good
    assert "answer" in json.loads(good.stdout)[fed.sink][0]["message"]
    fed.configure(create_topics=False)
    bad = _command(fed, "check", "--json")
    assert bad.returncode == 1
    assert "is not there" in json.loads(bad.stdout)[fed.sink][1]["message"]
    fed.configure(brokers="127.0.0.1:9")
    away = _command(fed, "check", "--json")
    assert away.returncode == 1
    assert "127.0.0.1:9" in json.loads(away.stdout)[fed.sink][0]["message"]


def test_asking_makes_no_topic(fed: Fed) -> None:
    """Brokers make topics that are asked for, unless they are told otherwise, and as they like."""
    fed.database.execute("CREATE TABLE a (id int PRIMARY KEY)")
    positions, asked = f"htapkit.shop.{fed.sink}.positions", AdminClient(_servers(fed))
    assert _command(fed, "check").returncode == 0
    assert positions not in asked.list_topics(timeout=30).topics
    fed.database.execute("INSERT INTO a VALUES (1)")
    fed.stack.start()
    fed.wait_sent()
    found = asked.list_topics(timeout=30).topics
    assert [len(found[topic].partitions) for topic in (positions, f"{fed.sink}.all")] == [1, 1]
    resource = ConfigResource(ResourceType.TOPIC, positions)
    told = asked.describe_configs([resource])[resource].result(30)
    assert told["cleanup.policy"].value == "compact"


def test_positions_that_would_be_forgotten(fed: Fed) -> None:
    """A topic that somebody made keeps records for some days only: what to do is said."""
    positions = f"htapkit.shop.{fed.sink}.positions"
    asked = AdminClient(_servers(fed))
    asked.create_topics([NewTopic(positions, 1, 1)])[positions].result(30)
    fed.stack.start()
    assert "cleanup.policy=compact" in fed.wait_state("refused")["why"]


def test_a_topic_that_is_not_there(fed: Fed) -> None:
    """Named, with what to do; made by hand, it is used."""
    fed.configure(create_topics=False)
    fed.database.execute("CREATE TABLE a (id int PRIMARY KEY)")
    fed.stack.start()
    found = fed.wait_state("refused")
    assert f"htapkit.shop.{fed.sink}.positions" in found["why"]
    assert "create_topics: true" in found["why"]
