"""What a session remembers between statements."""

from __future__ import annotations

import time

from htapkit.plan.plan import Effect
from htapkit.serve.pgwire.settings import Options
from htapkit.serve.pgwire.state import SessionState


def test_a_write_keeps_the_transaction_at_the_source_until_it_ends() -> None:
    state = SessionState("shop", Options())
    state.done(Effect.OTHER)
    assert not state.pure
    state.ready("T", rolled_back=False)
    assert not state.pure
    state.ready("I", rolled_back=False)
    assert state.pure
    assert state.wanted().head, "its own commit must be seen"


def test_a_query_of_a_view_may_write_and_leaves_the_tables_as_they_are() -> None:
    state = SessionState("shop", Options())
    state.unknown = False
    state.done(Effect.VIEW)
    assert not state.pure
    state.ready("I", rolled_back=False)
    assert state.doubtful
    assert state.redefined_at is None


def test_changed_tables_count_from_the_end_of_their_transaction() -> None:
    state = SessionState("shop", Options())
    state.redefining = True
    state.ready("T", rolled_back=False)
    assert state.redefined_at is None
    begun = time.monotonic()
    state.ready("I", rolled_back=False)
    assert state.redefined_at is not None
    assert begun <= state.redefined_at <= time.monotonic()
    assert not state.redefining


def test_options_set_in_a_transaction_go_back_with_it() -> None:
    state = SessionState("shop", Options())
    state.set_option("route", "source", in_block=True, local=False)
    assert state.options.route == "source"
    state.ready("I", rolled_back=True)
    assert state.options.route == "auto"
    state.set_option("route", "source", in_block=True, local=True)
    state.ready("I", rolled_back=False)
    assert state.options.route == "auto"


def test_all_options_go_back_to_what_the_session_began_with() -> None:
    first = Options().set("route", "source")
    state = SessionState("shop", first)
    state.set_option("route", "hot", in_block=False, local=False)
    state.set_option("freshness", "any", in_block=False, local=False)
    state.done(Effect.RESET)
    state.ready("I", rolled_back=False)
    assert state.options == first
    state.set_option("route", "hot", in_block=True, local=False)
    state.done(Effect.RESET)
    assert state.options == first
    state.ready("I", rolled_back=True)
    assert state.options == first


def test_what_a_transaction_reset_comes_back_when_it_is_undone() -> None:
    state = SessionState("shop", Options())
    state.set_option("route", "hot", in_block=False, local=False)
    state.done(Effect.RESET)
    state.ready("T", rolled_back=False)
    assert state.options.route == "auto"
    state.ready("I", rolled_back=True)
    assert state.options.route == "hot"
