"""How packages that are installed beside htapkit are found: by entry points."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from htapkit.errors import ConfigError


def registered(group: str) -> list[str]:
    """The names that packages have registered in a group. Loads none of them."""
    return sorted(entry.name for entry in entry_points(group=group))


def factory(group: str, name: str, wanted: str) -> Callable[..., Any]:
    """What a package has registered in a group under that name.

    `wanted` is what the configuration asks for, in the words of ConfigError, which lists those that
    are installed.
    """
    found = {entry.name: entry for entry in entry_points(group=group)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise ConfigError(f"{wanted} is not installed; installed: {known}")
    made: Callable[..., Any] = found[name].load()
    return made
