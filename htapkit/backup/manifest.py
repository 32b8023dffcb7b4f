"""The list of what a backup holds, and the proof that it is still there as it was written.

It has a checksum of its own, so that a damaged list is not taken for damaged files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from htapkit.errors import HtapkitError
from htapkit.lake import SavedFile, SavedTable
from htapkit.model import TableId

NAME = "manifest.json"
HOT = "hot.duckdb"
_FORMAT = 1
_CHUNK_BYTES = 4 * 2**20


class BackupDamaged(HtapkitError):
    """A backup is not as it was written; the message names the file."""

    sqlstate = "XX001"


@dataclass(frozen=True, slots=True)
class LakeTable:
    """A table of the lake, and the folder of its files inside the backup."""

    table: TableId
    folder: str
    saved: SavedTable


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds."""

    made_at: str
    positions: Mapping[str, str]  # of each source
    rows: int  # in the hot store, its own records included
    hot: SavedFile
    lake: Sequence[LakeTable]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for _, file in self.files())

    def files(self) -> Iterator[tuple[str, SavedFile]]:
        """Every file, with its folder."""
        yield "", self.hot
        for each in self.lake:
            for file in each.saved.files:
                yield each.folder, file

    def text(self) -> str:
        """As it is written."""
        body = {"format": _FORMAT, **asdict(self)}
        return json.dumps({**body, "sha256": _checksum(body)}, indent=1)


def read(folder: Path) -> Manifest:
    """The manifest of a backup. Raises BackupDamaged."""
    path = folder / NAME
    try:
        body: dict[str, Any] = json.loads(path.read_text())
        said = body.pop("sha256")
    except FileNotFoundError:
        raise BackupDamaged(f"{path} is missing: this is no backup, or not a whole one") from None
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise BackupDamaged(f"{path} cannot be read: {error}; use another backup") from error
    if said != _checksum(body):
        raise BackupDamaged(f"{path} was changed since it was written; use another backup")
    if body["format"] != _FORMAT:
        raise BackupDamaged(
            f"{path} has format {body['format']}, this version of htapkit reads {_FORMAT}; "
            "use the version that wrote it"
        )
    lake = [
        LakeTable(
            TableId(**each["table"]),
            each["folder"],
            SavedTable(
                each["saved"]["location"],
                each["saved"]["metadata"],
                [SavedFile(**file) for file in each["saved"]["files"]],
            ),
        )
        for each in body["lake"]
    ]
    hot = SavedFile(**body["hot"])
    return Manifest(body["made_at"], body["positions"], body["rows"], hot, lake)


def check(folder: Path, manifest: Manifest, told: Callable[[int], None]) -> None:
    """Read every file; `told` hears of the bytes so far. Raises BackupDamaged."""
    done = 0
    for inner, file in manifest.files():
        path = folder / inner / file.name
        try:
            found = measure(path, file.name)
        except OSError as error:
            raise BackupDamaged(f"{path} cannot be read: {error.strerror}") from error
        if found.bytes != file.bytes:
            raise BackupDamaged(
                f"{path} has {found.bytes} bytes, {file.bytes} were written; use another backup"
            )
        if found.sha256 != file.sha256:
            raise BackupDamaged(f"{path} was changed since it was written; use another backup")
        done += file.bytes
        told(done)


def measure(path: Path, name: str) -> SavedFile:
    """Length and checksum of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return SavedFile(name, size, digest.hexdigest())


def sync(path: Path) -> None:
    """Have a file or folder on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checksum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
