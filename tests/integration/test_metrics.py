"""The metrics of a whole server: each is there from the beginning, and moves when it should."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psycopg
import pytest
from pyarrow import flight

from htapkit.testing.postgres import Database, free_port
from htapkit.testing.stack import Stack, wait_until
from tests.fix_sink import SINK_METRICS

pytestmark = pytest.mark.integration
DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
NOT_HERE = {
    "htapkit_log_lag_ms": "only a source of several logs has it",
    **dict.fromkeys(SINK_METRICS, "only with a sink"),
}
FLIGHT = free_port()


class Metrics:
    """What /metrics says."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"

    def all(self) -> dict[str, float]:
        """By series."""
        lines = httpx.get(self._url, timeout=60).text.splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {series: float(value) for series, value in pairs}

    def of(self, series: str) -> float:
        """0 where there is none."""
        return self.all().get(series, 0.0)

    def reaches(self, series: str, value: float) -> None:
        """Wait for exactly that."""
        wait_until(lambda: self.of(series) == value, 60, lambda: f"{series}: {self.of(series)}")


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    database.execute("CREATE TABLE item (id int PRIMARY KEY, n int)")
    servers = {
        "pgwire": {"listen": f"127.0.0.1:{free_port()}", "auth": "trust"},
        "http": {"listen": f"127.0.0.1:{free_port()}", "token": "a-token-of-a-test"},
        "flight": {"listen": f"127.0.0.1:{FLIGHT}", "auth": "trust"},
    }
    sources = {"shop": {"dsn": database.dsn, "tables": ["public.*"]}}
    more = {"servers": servers, "limits": {"client_connections": 2}}
    with Stack(tmp_path, sources, configuration=more) as made:
        yield made


def documented() -> set[str]:
    return set(re.findall(r"^\| `(htapkit_\w+)` \|", DOCUMENT.read_text(), re.MULTILINE))


def there(series: dict[str, float]) -> set[str]:
    names = {each.partition("{")[0] for each in series}
    return {re.sub("_(total|count)$", "", name) for name in names}


def test_metrics_are_there_and_move(stack: Stack) -> None:
    """Nothing was asked: all are there. Then clients come, ask, and are refused."""
    metrics = Metrics(stack.http_port)
    wait_until(
        lambda: documented() - set(NOT_HERE) <= there(metrics.all()),
        60,
        lambda: f"missing: {documented() - set(NOT_HERE) - there(metrics.all())}",
    )
    following = 'htapkit_tables{source="shop",state="following"}'
    metrics.reaches(following, 1)
    for counter in ("rows_applied", "commits_applied", "batches_applied"):
        assert f'htapkit_{counter}_total{{source="shop"}}' in metrics.all()

    clients = 'htapkit_clients{port="pgwire"}'
    relayed, hot = (f'htapkit_statements_total{{route="{r}"}}' for r in ("source", "hot"))
    timed = 'htapkit_statement_seconds_count{route="hot"}'
    metrics.reaches(clients, 0)
    waits = "-c htapkit.wait_timeout=60s"
    with psycopg.connect(stack.dsn(), autocommit=True, options=waits) as one:
        assert metrics.of(clients) == 1
        before = metrics.all()
        for key in range(5):  # the first by the session, those behind it passed on in the lobby
            one.execute(f"SELECT n FROM item WHERE id = {key}")
        one.execute("INSERT INTO item VALUES (1, 1)")
        assert metrics.of(relayed) == before[relayed] + 6
        one.execute("SELECT sum(n) FROM item")
        assert metrics.of(hot) == before[hot] + 1
        assert metrics.of(timed) == before[timed] + 1
        with pytest.raises(psycopg.Error):
            one.execute("SET htapkit.route = 'nowhere'")
        assert metrics.of('htapkit_errors_total{error="WrongSetting"}') == 1
        with psycopg.connect(stack.dsn(), autocommit=True):
            assert metrics.of(clients) == 2
            with pytest.raises(psycopg.OperationalError, match="too many clients"):
                psycopg.connect(stack.dsn())
        assert metrics.of('htapkit_errors_total{error="TooManyClients"}') == 1
        relays = metrics.of(relayed)
    metrics.reaches(clients, 0)
    assert metrics.of(relayed) == relays  # a session's count outlives it

    address = f"grpc://127.0.0.1:{FLIGHT}"
    with closing(flight.connect(address)) as client, pytest.raises(flight.FlightError):
        client.get_flight_info(flight.FlightDescriptor.for_command(b"nonsense"))
    assert metrics.of('htapkit_errors_total{error="ProtocolError"}') == 1
    assert httpx.get(f"http://127.0.0.1:{stack.http_port}/api/v1/status").status_code == 401
    assert metrics.of('htapkit_errors_total{error="NoToken"}') == 1
