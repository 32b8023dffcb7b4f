"""Locations: local files are spelt in three ways, which mean the same; and names of folders."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote


def is_local(location: str) -> bool:
    """Whether a location is a file of this machine."""
    return location.startswith(("file:", "/"))


def local_path(location: str) -> str:
    """The path of a local file; other locations stay as they are."""
    return location.removeprefix("file://").removeprefix("file:")


def folder_name(name: str) -> str:
    """A name as one folder, which is neither this one nor the one above."""
    quoted = quote(name, safe="")
    return quoted.replace(".", "%2E") if quoted.startswith(".") else quoted


def make_folder(uri: str) -> None:
    """The folder of a catalog on SQLite, which SQLite does not make."""
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///").partition("?")[0])
        path.parent.mkdir(parents=True, exist_ok=True)
