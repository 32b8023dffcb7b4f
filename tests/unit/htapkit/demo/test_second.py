"""The second source of the demo: found by registration, and clear words where something lacks."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from htapkit.demo import second
from htapkit.demo.second import SecondSourceClass, find_second, registered
from htapkit.errors import ConfigError
from htapkit_cassandra.demo import EventsDemo


def _install(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    found = EntryPoints(EntryPoint(n, v, second.DEMOS) for n, v in values.items())
    monkeypatch.setattr(second, "entry_points", found.select)


def test_the_one_that_is_installed() -> None:
    """It is what the demo asks for, to the type checker as well."""
    assert registered() == "cassandra"
    expected: SecondSourceClass = EventsDemo
    assert find_second("cassandra") is expected


def test_none_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to do instead."""
    _install(monkeypatch)
    with pytest.raises(ConfigError, match="--source shop"):
        registered()


def test_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the module, and the extra that brings it."""
    _install(monkeypatch, planets="htapkit_planets.demo:Planets")
    with pytest.raises(
        ConfigError, match=r"needs htapkit_planets: pip install 'htapkit\[planets\]"
    ):
        find_second(registered())
