"""Locations: local files are spelt in three ways, which mean the same."""

from __future__ import annotations


def is_local(location: str) -> bool:
    """Whether a location is a file of this machine."""
    return location.startswith(("file:", "/"))


def local_path(location: str) -> str:
    """The path of a local file; other locations stay as they are."""
    return location.removeprefix("file://").removeprefix("file:")
