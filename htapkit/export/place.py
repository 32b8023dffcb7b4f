"""Where exports go: names that are safe, and files that appear as a whole."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from htapkit.errors import ConfigError, HtapkitError

_PART = re.compile(r"[A-Za-z0-9_=+,@-][A-Za-z0-9_=+,@:.-]*")
_NAME_CHARACTERS_MAX = 200
_PARTS_MAX = 16
_UNFINISHED = ".unfinished"


class ExportFailed(HtapkitError):
    """The disk, or the object store, did not take an export; nothing is left of it."""

    sqlstate = "58030"
    retry = True


class Place(Protocol):
    """Where exports go. No two exports may write one file at the same time."""

    def check(self, name: str) -> None:
        """Raise ConfigError for a name (parts with `/`) that is not safe."""
        ...

    def clear(self, name: str) -> bool:
        """Remove what an export to `name` that was cut off has left; whether there was anything.

        Raises ConfigError (the name), ExportFailed.
        """
        ...

    def new_file(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Write `name`: it takes the place of an older one when the block ends well.

        Raises ConfigError (the name), ExportFailed.
        """
        ...

    def size(self, name: str) -> int:
        """The bytes of a file that is there. Raises ExportFailed."""
        ...

    def read(self, name: str) -> bytes | None:
        """All of a small file; None: there is none. Raises ExportFailed."""
        ...


class Folder:
    """A folder on this machine."""

    def __init__(self, folder: Path) -> None:
        """It is made when it is first needed."""
        self._folder = folder

    def check(self, name: str) -> None:
        """See Place."""
        self.path(name)

    def size(self, name: str) -> int:
        """See Place."""
        try:
            return self.path(name).stat().st_size
        except OSError as error:
            raise ExportFailed(f"exports.folder: {name}: {error.strerror or error}") from error

    def read(self, name: str) -> bytes | None:
        """See Place."""
        try:
            return self.path(name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ExportFailed(f"exports.folder: {name}: {error.strerror or error}") from error

    def path(self, name: str) -> Path:
        """Where the file `name` (parts with `/`) lies. Raises ConfigError for an unsafe name."""
        parts = name.split("/")
        good = all(_PART.fullmatch(part) and len(part) <= _NAME_CHARACTERS_MAX for part in parts)
        if not good or len(parts) > _PARTS_MAX:
            raise ConfigError(
                f"'{name}': expected the name of a file below exports.folder, such as "
                "orders/2026-01-31.parquet: letters, digits and _ = + , @ : . -, no part begins "
                "with a dot"
            )
        return self._folder.joinpath(*parts)

    def clear(self, name: str) -> bool:
        """See Place."""
        path = self.path(name)
        try:
            left = list(path.parent.glob(f".{path.name}.*{_UNFINISHED}"))
            for each in left:
                each.unlink()
        except OSError as error:
            raise ExportFailed(f"exports.folder: {name}: {error.strerror or error}") from error
        return bool(left)

    @contextmanager
    def new_file(self, name: str) -> Iterator[BinaryIO]:
        """See Place."""
        path = self.path(name)
        try:
            self._make_folder(path.parent)
            temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{_UNFINISHED}")
            try:
                with temporary.open("xb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(path.parent)
        except OSError as error:
            raise ExportFailed(f"exports.folder: {name}: {error.strerror or error}") from error

    def _make_folder(self, folder: Path) -> None:
        """The folder of a file, inside ours whatever links there are. Raises ConfigError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        root = self._folder.resolve()
        existing = folder
        while not existing.exists():
            existing = existing.parent
        if not existing.resolve().is_relative_to(root):
            raise ConfigError(f"'{folder}' leads out of exports.folder by a link")
        folder.mkdir(parents=True, exist_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
