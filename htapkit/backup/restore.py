"""A new data_dir out of a backup, for a server to go on from.

A marker lies in the folder from the first write to the last, and is locked by who restores: a
killed restore is begun again, and nobody serves half of one.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from htapkit import failpoints
from htapkit.backup import manifest as manifests
from htapkit.backup.manifest import HOT, Manifest, sync
from htapkit.errors import ConfigError, StoreError
from htapkit.hot import move_pins
from htapkit.jobs import Progress
from htapkit.lake import SavedTable
from htapkit.model import TableId

_MARKER = "restoring"


class RestoringLake(Protocol):
    """What a restore needs of `htapkit.lake.Lake`; the promises stand there."""

    def bring_back(self, table: TableId, saved: SavedTable, folder: Path) -> Callable[[str], str]:
        """Put a saved table into the lake."""
        ...

    def close(self) -> None:
        """Let go of the catalog."""
        ...


def refuse_half_restored(data_dir: Path) -> None:
    """Raise ConfigError for a folder that a restore has not finished."""
    if (data_dir / _MARKER).exists():
        raise ConfigError(
            f"a restore into {data_dir} has not ended; run the same `htapkit restore` again"
        )


def restore(folder: Path, data_dir: Path, lake: RestoringLake, progress: Progress) -> Manifest:
    """Bring a backup back.

    Raises BackupDamaged before anything is written, ConfigError for a folder that is not empty,
    LakeFailed, StoreError.
    """
    found = manifests.read(folder)
    _refuse_full(data_dir)
    total = found.bytes
    manifests.check(folder, found, lambda done: progress("checking", done, total))
    failpoints.reach("restore.checked")
    try:
        with _claimed(data_dir):
            moved = {}
            for each in found.lake:
                progress(f"lake's {each.table}", 0, 0)
                moved[each.table] = lake.bring_back(each.table, each.saved, folder / each.folder)
                failpoints.reach("restore.lake")
            lake.close()
            progress("hot store", 0, found.hot.bytes)
            unfinished = data_dir / f"{HOT}.unfinished"
            shutil.copyfile(folder / HOT, unfinished)
            move_pins(unfinished, moved)
            sync(unfinished)
            unfinished.rename(data_dir / HOT)
            failpoints.reach("restore.hot")
    except OSError as error:
        raise StoreError(f"{data_dir} cannot be written: {error}; then restore again") from error
    return found


def _refuse_full(data_dir: Path) -> None:
    there = sorted(path.name for path in data_dir.iterdir()) if data_dir.is_dir() else []
    if there and _MARKER not in there:
        raise ConfigError(
            f"data_dir {data_dir} is not empty ({', '.join(there[:3])}); stop the server that uses "
            "it and move it away, or set another data_dir"
        )


@contextmanager
def _claimed(data_dir: Path) -> Iterator[None]:
    """The folder, empty but for the marker, which goes when all is done."""
    data_dir.mkdir(parents=True, exist_ok=True)
    marker = data_dir / _MARKER
    with marker.open("a") as claim:
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another restore into {data_dir} is running") from None
        sync(data_dir)
        for left in data_dir.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            elif left != marker:
                left.unlink()
        yield
        sync(data_dir)
        marker.unlink()
        sync(data_dir)
