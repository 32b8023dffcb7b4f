"""Exports to an object store: written here first, then uploaded, so an object is always whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from htapkit.export.place import ExportFailed, Folder

_CONNECT_SECONDS = 10.0
_REQUEST_SECONDS = 60.0
_WAITING_BYTES = 64 << 20  # to be sent: some parts side by side


class Bucket:
    """`s3://bucket/prefix`. An object takes the place of an older one when its upload is complete.

    What an upload that was cut off has sent is no object; a rule of the bucket removes such parts.
    """

    def __init__(self, url: str, storage: Mapping[str, str], scratch: Path) -> None:
        """`storage` is spelled as pyiceberg's (`s3.endpoint`, …); `scratch` is a folder of ours.

        Nothing is connected to.
        """
        parts = urlsplit(url)
        self._root = f"{parts.netloc}{parts.path}".rstrip("/")
        self._scratch = Folder(scratch)
        self._storage = _filesystem(storage)

    def check(self, name: str) -> None:
        """See Place."""
        self._scratch.check(name)

    def clear(self, name: str) -> bool:
        """See Place; of what lies here."""
        path = self._scratch.path(self._local(name))
        written = path.exists()  # and perhaps not uploaded
        path.unlink(missing_ok=True)
        return self._scratch.clear(path.name) or written

    @contextmanager
    def new_file(self, name: str) -> Iterator[BinaryIO]:
        """See Place."""
        path = self._scratch.path(self._local(name))
        try:
            with self._scratch.new_file(path.name) as file:
                yield file
            self._upload(path, name)
        finally:
            path.unlink(missing_ok=True)

    def size(self, name: str) -> int:
        """See Place."""
        try:
            found = self._storage.get_file_info(f"{self._root}/{name}")
        except OSError as error:
            raise _failed(name, error) from error
        return int(found.size or 0)

    def read(self, name: str) -> bytes | None:
        """See Place."""
        try:
            with self._storage.open_input_stream(f"{self._root}/{name}") as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failed(name, error) from error

    def _local(self, name: str) -> str:
        """What it is called here: without folders, which would stay. Raises ConfigError."""
        self.check(name)
        return hashlib.sha256(name.encode()).hexdigest()

    def _upload(self, path: Path, name: str) -> None:
        try:
            # An upload that fails stays failed when it is closed: an object is complete, or there
            # is none. What is written waits in memory to be sent, so it is waited for now and then.
            with (
                pa.memory_map(str(path)) as mapped,
                self._storage.open_output_stream(f"{self._root}/{name}") as stream,
            ):
                while some := mapped.read_buffer(_WAITING_BYTES):
                    stream.write(some)
                    stream.flush()
        except OSError as error:
            raise _failed(name, error) from error


def _failed(name: str, error: OSError) -> ExportFailed:
    return ExportFailed(f"exports.folder: {name}: {error}")


def _filesystem(storage: Mapping[str, str]) -> fs.S3FileSystem:
    endpoint = urlsplit(storage.get("s3.endpoint", ""))
    return fs.S3FileSystem(
        access_key=storage.get("s3.access-key-id"),
        secret_key=storage.get("s3.secret-access-key"),
        session_token=storage.get("s3.session-token"),
        region=storage.get("s3.region"),
        scheme=endpoint.scheme or "https",
        endpoint_override=endpoint.netloc or None,
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_REQUEST_SECONDS,
    )
