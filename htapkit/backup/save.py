"""Makes a backup. Runs as a job, so that no other job moves, compacts or expires meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import structlog

from htapkit import failpoints
from htapkit.backup.manifest import HOT, NAME, LakeTable, Manifest, measure, sync
from htapkit.errors import ConfigError, LakeMissing, StoreError
from htapkit.hot import HotStore
from htapkit.jobs import Progress
from htapkit.lake import SavedTable
from htapkit.model import ARCHIVE, HISTORY, Pin, TableId

_log = structlog.get_logger("htapkit.backup")


class SavingLake(Protocol):
    """What a backup needs of `htapkit.lake.Lake`; the promises stand there."""

    def save(
        self, table: TableId, keep: Collection[Pin], folder: Path, told: Callable[[int], None]
    ) -> SavedTable | None:
        """Copy a table to a folder."""
        ...


def check_target(folder: Path) -> None:
    """Raise ConfigError where no backup can be written to `folder`."""
    if not folder.is_absolute():
        raise ConfigError(f"backup folder '{folder}': an absolute path is needed")
    if folder.exists():
        raise ConfigError(f"{folder} exists; a backup is a new folder")
    if not folder.parent.is_dir():
        raise ConfigError(f"{folder.parent} is no folder; make it first")


def back_up(store: HotStore, lake: SavingLake, folder: Path, progress: Progress) -> Manifest:
    """Write a backup to a new folder. Raises ConfigError, StoreError, LakeFailed.

    The server's own clock names the moment; what counts are the positions.
    """
    check_target(folder)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        manifest = _write(store, lake, unfinished, progress)
        failpoints.reach("backup.written")
        unfinished.rename(folder)
        sync(folder.parent)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise StoreError(f"{folder} cannot be written: {error}") from error
    except Exception:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    _log.info("backed up", folder=str(folder), positions=dict(manifest.positions))
    return manifest


def _write(store: HotStore, lake: SavingLake, folder: Path, progress: Progress) -> Manifest:
    made_at = datetime.now(UTC).isoformat()
    total = int(store.sizes()["rows"])
    copied = store.copy_to(folder / HOT, lambda rows: progress("hot store", rows, total))
    sync(folder / HOT)
    hot = measure(folder / HOT, HOT)
    failpoints.reach("backup.hot")
    tables = []
    for number, (table, pins) in enumerate(sorted(copied.pins.items())):
        inner = f"lake/{number}"
        step = f"lake's {table}"
        saved = lake.save(table, pins, folder / inner, _bytes_of(progress, step))
        if saved is not None:
            tables.append(LakeTable(table, inner, saved))
        elif table.source in {HISTORY, ARCHIVE}:  # nobody else has its rows
            gone = f"; if they are to be gone: htapkit import --drop {table}"
            raise LakeMissing(
                f"the lake's catalog has no {table}, whose rows belong into a backup"
                f"{gone if table.source == HISTORY else ''}"
            )
        failpoints.reach("backup.lake")
    manifest = Manifest(made_at, copied.positions, copied.rows, hot, tables)
    (folder / NAME).write_text(manifest.text())
    for path in (folder / NAME, *(p for p in folder.rglob("*") if p.is_dir()), folder):
        sync(path)
    return manifest


def _bytes_of(progress: Progress, step: str) -> Callable[[int], None]:
    return lambda done: progress(step, done, 0)
