"""Handles: whose they are, how long, how many."""

from __future__ import annotations

import pytest

from htapkit.errors import LimitReached
from htapkit.serve.flight.shelf import NoSuchHandle, Shelf


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_handle_is_one_clients_and_expires_after_its_last_use() -> None:
    clock, mine, others = Clock(), object(), object()
    shelf: Shelf[str] = Shelf("thing", 10, 5.0, clock)
    handle = shelf.put(mine, "x")
    for _ in range(3):
        clock.now += 4.0
        assert shelf.get(mine, handle) == "x"
    with pytest.raises(NoSuchHandle):
        shelf.get(others, handle)
    assert not shelf.drop(others, handle)
    clock.now += 5.0
    with pytest.raises(NoSuchHandle, match="no such thing: it is kept for 5 s"):
        shelf.get(mine, handle)


def test_one_of_two_drops_it() -> None:
    shelf: Shelf[str] = Shelf("thing", 10, 5.0, Clock())
    owner = object()
    handle = shelf.put(owner, "x")
    assert [shelf.drop(owner, handle) for _ in range(2)] == [True, False]


def test_the_limit_counts_what_is_alive() -> None:
    clock, owner = Clock(), object()
    shelf: Shelf[int] = Shelf("thing", 3, 5.0, clock)
    handles = [shelf.put(owner, number) for number in range(3)]
    with pytest.raises(LimitReached, match="3 things"):
        shelf.put(owner, 3)
    clock.now += 3.0
    shelf.get(owner, handles[0])
    clock.now += 3.0
    shelf.put(owner, 4)
    shelf.put(owner, 5)
    with pytest.raises(LimitReached):
        shelf.put(owner, 6)
    assert shelf.get(owner, handles[0]) == 0
