"""A source whose connections stay open and say nothing: who asks it gets to know that in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import pytest

from htapkit.errors import SourceUnavailable
from htapkit.testing.postgres import Database
from htapkit_postgres import PostgresSource
from tests.fault_proxy import FaultProxy
from tests.followed import options

pytestmark = pytest.mark.integration

DEADLINE_SECONDS = 90.0  # of a test that is broken
SOON = 0.01


@dataclass
class Silent:
    """A source behind a proxy, and threads to ask it in."""

    source: PostgresSource
    proxy: FaultProxy
    pool: ThreadPoolExecutor

    def asks(self, *questions: Callable[[], object]) -> list[Future[object]]:
        return [self.pool.submit(question) for question in questions]


@pytest.fixture
def silent(database: Database) -> Iterator[Silent]:
    """It answers until the proxy stalls, and at the end again."""
    with (
        ThreadPoolExecutor(8) as pool,
        FaultProxy(database.server.port) as proxy,
        closing(PostgresSource(options(database, dsn=proxy.dsn(database.name)))) as source,
    ):
        yield Silent(source, proxy, pool)
        proxy.flow()


def unanswered(asked: list[Future[object]]) -> None:
    for each in asked:
        with pytest.raises(SourceUnavailable):
            each.result(DEADLINE_SECONDS)


def test_the_head_and_marks_of_a_silent_source(silent: Silent) -> None:
    """For everybody who asks at once, too; the next one that asks is answered again."""
    head = silent.source.head
    before = head.head()
    silent.proxy.stall()
    unanswered(silent.asks(*[lambda: head.head(SOON)] * 4, *[lambda: head.mark("m", SOON)] * 4))
    silent.proxy.flow()
    head.mark("m", DEADLINE_SECONDS)
    assert silent.source.positions.covers(head.head(SOON), before)


def test_letting_go_of_a_silent_source(silent: Silent) -> None:
    silent.source.head.head()
    silent.proxy.stall()
    asked = silent.asks(lambda: silent.source.head.head(SOON))
    silent.asks(silent.source.close)[0].result(DEADLINE_SECONDS)
    unanswered(asked)
