"""Sessions on several nodes, of which one takes the connection and says nothing. No node."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from cassandra.cluster import Session

from htapkit.errors import SourceUnavailable
from htapkit.spi import SourceOptions
from htapkit_cassandra import cluster
from htapkit_cassandra.settings import Settings, parse_settings

HOSTS = ("127.0.0.1", "127.0.0.2")


class _Answers:
    """A session on a node that answers."""

    def __init__(self, host: str) -> None:
        self.host = host

    def execute(self, _: str, *, timeout: float) -> None:
        assert timeout == 0.3


def test_a_node_that_hangs_costs_little_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection and says nothing; then the next one is asked at once for a time."""
    asked: list[str] = []

    @contextmanager
    def opened(settings: Settings, seconds: float) -> Iterator[Session | _Answers]:
        (host,) = settings.hosts
        asked.append(host)
        if host == HOSTS[0]:
            with real(settings, seconds) as made:
                yield made
        yield _Answers(host)

    real = cluster._session
    monkeypatch.setattr(cluster, "ANSWER_SECONDS_MAX", 0.3)
    monkeypatch.setattr(cluster, "_session", opened)
    with closing(socket.create_server((HOSTS[0], 0))) as hanging:
        nodes = [{"address": host, "cdc_raw": "/x"} for host in HOSTS]
        given = {"nodes": nodes, "port": hanging.getsockname()[1]}
        settings = parse_settings(SourceOptions("events", given, 5, 1, 1, 1, 1, None))
        sessions = cluster.Sessions(settings)
        for _ in range(3):
            with sessions.first() as made:
                assert isinstance(made, _Answers)
                assert made.host == HOSTS[1]
        assert asked == list(HOSTS)
        with (
            pytest.raises(SourceUnavailable, match=r"127\.0\.0\.1"),
            sessions.of(settings.each()[0]),
        ):
            pass
        assert asked == list(HOSTS)
        monkeypatch.setattr(cluster, "REST_SECONDS", 0.0)
        sessions.close()
        again = cluster.Sessions(settings)
        for _ in range(2):
            with again.first() as made:
                assert isinstance(made, _Answers)
        assert asked == [*HOSTS * 2, HOSTS[0]]
        again.close()
