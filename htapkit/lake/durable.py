"""A FileIO whose local files are on the disk before anybody can know of them.

The hot store forgets rows once the lake has them, so a power cut after that may not take them
back. Object stores promise this by themselves; for `file:` each file and its folder are synced.
pyiceberg finds the class by the catalog property `py-io-impl`.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO, cast

from pyiceberg.io import OutputStream
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO
from typing_extensions import override

LOCAL_SCHEMES = {"file", ""}


class DurableFileIO(PyArrowFileIO):
    """pyiceberg's FileIO on Arrow, but for local files that are written."""

    @override
    def new_output(self, location: str) -> PyArrowFile:
        scheme, netloc, path = self.parse_location(location, self.properties)
        if scheme not in LOCAL_SCHEMES:
            return super().new_output(location)
        return DurableFile(location, path, self.fs_by_scheme(scheme, netloc))


class DurableFile(PyArrowFile):
    """A local file that is synced when it is closed."""

    @override
    def create(self, overwrite: bool = False) -> OutputStream:
        path = Path(self._path)
        made = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in made:
            _sync_folder(folder.parent)
        raw = io.FileIO(path, "wb" if overwrite else "xb")
        return cast("OutputStream", _Synced(raw, buffer_size=2**20))

    @override
    def to_input_file(self) -> PyArrowFile:
        return self


class _Synced(io.BufferedWriter):
    """A buffered file that is on the disk when it is closed."""

    @override
    def close(self) -> None:
        if self.closed:
            return
        self.flush()
        os.fsync(self.fileno())
        path = Path(cast("IO[bytes]", self.raw).name)
        super().close()
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
