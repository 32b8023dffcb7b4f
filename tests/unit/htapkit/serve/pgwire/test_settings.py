"""SET htapkit.…, and what a session remembers of its transaction."""

from __future__ import annotations

from datetime import timedelta

import pytest

from htapkit.model import Position
from htapkit.plan.plan import Effect
from htapkit.serve.pgwire.settings import (
    Fresh,
    Options,
    WrongSetting,
    seconds_of,
    startup_options,
)
from htapkit.serve.pgwire.state import SessionState


@pytest.mark.parametrize(
    ("word", "seconds"),
    [("200ms", 0.2), ("2 seconds", 2), ("1.5s", 1.5), ("5", 5), ("1 min", 60), ("2 hours", 7200),
     ("3 minutes", 180), ("1 sec", 1), ("10us", 0.00001)],
)  # fmt: skip
def test_times(word: str, seconds: float) -> None:
    assert seconds_of(word) == timedelta(seconds=seconds)


@pytest.mark.parametrize("word", ["", "soon", "-1s", "5 years"])
def test_no_times(word: str) -> None:
    assert seconds_of(word) is None


def test_options() -> None:
    options = Options().set("freshness", "2 seconds")
    assert (options.fresh, options.bound) == (Fresh.BOUND, timedelta(seconds=2))
    assert options.set("freshness", None) == Options()
    for name, value in (
        ("route", "nowhere"),
        ("on_stale", "x"),
        ("nope", "1"),
        ("wait_timeout", "x"),
    ):
        with pytest.raises(WrongSetting):
            Options().set(name, value)
    assert Options().set("route", "Spark").route == "spark"


def test_startup_options() -> None:
    given = {"options": "-c geqo=off -c htapkit.route=hot --htapkit.freshness=2\\ seconds"}
    assert startup_options(given) == {"route": "hot", "freshness": "2 seconds"}


def test_what_a_session_must_see() -> None:
    state = SessionState("shop", Options())
    assert not state.wanted().head
    state.done(Effect.OTHER)
    assert state.wanted().head
    assert not state.pure
    state.ready("T", rolled_back=False)
    assert not state.pure
    state.ready("I", rolled_back=False)
    assert state.pure
    state.set_option("position", "00", in_block=False, local=False)
    assert state.wanted().floors == (Position("00"),)


def test_a_position_is_one_of_the_source() -> None:
    """In SET and in the start-up options; a refused one changes nothing."""
    state = SessionState("shop", Options(position="00"), readable=str.isdigit)
    assert state.wanted().floors == (Position("00"),)
    with pytest.raises(WrongSetting, match=r"htapkit\.position = 'x': expected what SHOW"):
        state.set_option("position", "x", in_block=False, local=False)
    assert state.show("position") == "00"
    with pytest.raises(WrongSetting):
        SessionState("shop", Options(position="x"), readable=str.isdigit)


def test_a_rolled_back_set_is_gone() -> None:
    state = SessionState("shop", Options())
    state.set_option("route", "hot", in_block=True, local=False)
    assert state.view.route == "hot"
    state.ready("I", rolled_back=True)
    assert state.view.route == "auto"


def test_the_past_is_asked_for_by_a_time() -> None:
    """As it is written; with the settings of the source or before they are known."""
    state = SessionState("shop", Options())
    state.set_option("as_of", " 2024-08-01T12:00:00Z ", in_block=False, local=False)
    assert state.view.as_of == "2024-08-01T12:00:00Z"
    state.set_option("as_of", None, in_block=False, local=False)
    assert state.view.as_of == ""
    for word in ("yesterday", "2024-13-01", "now"):
        with pytest.raises(WrongSetting):
            Options().set("as_of", word)
