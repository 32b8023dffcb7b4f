"""Calls whose client goes away, and calls that take too long."""

from __future__ import annotations

import threading
import time

import pytest

from htapkit.errors import QueryCancelled, SourceUnavailable
from htapkit.serve.flight.watch import Watch, Watched


class Context:
    def __init__(self) -> None:
        self.gone = False
        self.asked = 0

    def is_cancelled(self) -> bool:
        self.asked += 1
        return self.gone


def test_a_client_that_goes_away_stops_what_runs() -> None:
    watch, context, stopped = Watch(), Context(), threading.Event()
    with watch.over(context) as watched, watched.running(stopped.set):
        assert not stopped.wait(0.2)
        context.gone = True
        assert stopped.wait(60)
        assert watched.stopped == "canceling statement due to user request"
    with pytest.raises(QueryCancelled, match="user request"), watched.running(stopped.set):
        pass
    asked = context.asked
    with watch.over(None):
        time.sleep(0.15)
    assert context.asked == asked  # the context may not be used behind its call
    watch.stop()


def test_a_deadline_stops_what_runs() -> None:
    stopped: list[int] = []
    watched = Watched(None)
    with watched.running(lambda: stopped.append(1), until=10.0):
        watched.look(9.9)
        assert not stopped
        watched.look(10.0)
        watched.look(11.0)
    assert stopped == [1]
    assert watched.stopped == "canceling statement due to statement timeout"


def test_what_has_ended_is_not_stopped() -> None:
    context, stopped = Context(), []
    watched = Watched(context)
    with watched.running(lambda: stopped.append(1)):
        pass
    context.gone = True
    watched.look(0.0)
    assert not stopped


def test_a_stop_that_fails_is_only_told() -> None:
    watched = Watched(None)

    def fail() -> None:
        raise SourceUnavailable("away")

    with watched.running(fail):
        watched.end("over")
    assert watched.stopped == "over"
