"""A folder for what a program beside us reads and leaves behind.

It has a known place, so what a kill left there is taken over and never adds up.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path


def fresh(within: Path | None, name: str) -> Path:
    """An empty folder of that name; without a place for it a temporary one, which a kill leaves."""
    if within is None:
        return Path(tempfile.mkdtemp(prefix=f"htapkit-{name}-"))
    path = within.absolute() / name
    remove(path)
    path.mkdir(parents=True)
    return path


def remove(folder: Path) -> None:
    """Remove it with all that is in it. Safe to call twice."""
    shutil.rmtree(folder, ignore_errors=True)
