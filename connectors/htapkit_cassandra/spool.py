"""The rows of a load on disk, as the node's bytes, between reading them and the writing.

What was read once is what is written, compared, and written again after an interruption. The file
is a run of chunks, which java/TableLoad.java reads as well. All numbers are big-endian:

    chunk    rows: int32, columns one after the other
    column   for each row its size: int32 (-1: null); then all values together

Only whole chunks count: a writer that died leaves an unfinished one, behind what was counted.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from htapkit.errors import LimitReached
from htapkit_cassandra.fitting import LoadRefused

CHUNK_ROWS: Final = 1_000
CHUNK_BYTES: Final = 8 * 2**20  # about: a row is as large as it is
DISK_FREE_BYTES_MIN: Final = 512 * 2**20
_PARTS: Final = 256
Row = tuple[bytes | None, ...]
_SIZE: Final = np.dtype(">i4")


class SpoolWriter:
    """Writes chunks. A context manager."""

    def __init__(self, path: Path) -> None:
        """It takes the place of the one before."""
        self._path = path
        self._file = path.open("wb")
        self.rows = 0

    def write(self, columns: Sequence[Sequence[bytes | None]]) -> None:
        """As many values of each column. Raises LimitReached where the disk is nearly full."""
        rows = len(columns[0])
        if not rows:
            return
        if shutil.disk_usage(self._path.parent).free < DISK_FREE_BYTES_MIN:
            raise LimitReached(
                f"less than {DISK_FREE_BYTES_MIN >> 20} MiB are free beside {self._path}, where "
                "the rows are kept until they are loaded; make room, or load them in parts"
            )
        self._file.write(chunk(columns))
        self.rows += rows

    def __enter__(self) -> SpoolWriter:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """All is in the file, and on disk."""
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())


def chunk(columns: Sequence[Sequence[bytes | None]]) -> bytes:
    """As it is in the file."""
    parts = [len(columns[0]).to_bytes(4, "big")]
    for column in columns:
        sizes = [-1 if value is None else len(value) for value in column]
        parts.append(np.array(sizes, _SIZE).tobytes())
        parts += [value for value in column if value]
    return b"".join(parts)


def raw_chunks(path: Path, columns: int, rows: int) -> Iterator[tuple[int, bytes]]:
    """Whole chunks as they are in the file, each with its number of rows, of `rows` in all.

    Raises LoadRefused: the file is another than the one that was written.
    """
    with path.open("rb") as file:
        while rows > 0:
            head = _exactly(file, 4)
            (count,) = struct.unpack(">i", head)
            if not 0 < count <= rows:
                raise _damaged(path)
            parts = [head]
            for _ in range(columns):
                sizes = _exactly(file, 4 * count)
                found = np.frombuffer(sizes, _SIZE)
                parts += [sizes, _exactly(file, int(found[found > 0].sum()))]
            yield count, b"".join(parts)
            rows -= count


def _exactly(file: BinaryIO, size: int) -> bytes:
    if size > os.fstat(file.fileno()).st_size - file.tell():
        raise _damaged(Path(file.name))
    return file.read(size)


def _damaged(path: Path) -> LoadRefused:
    return LoadRefused(
        f"{path} is damaged, where the rows of a load are kept until it is done; give that load "
        "up with --restart"
    )


def chunks(path: Path, columns: int, rows: int) -> Iterator[list[Row]]:
    """The rows, chunk by chunk."""
    for count, raw in raw_chunks(path, columns, rows):
        yield _rows(raw, columns, count)


def _rows(raw: bytes, columns: int, count: int) -> list[Row]:
    place, found = 4, []
    for _ in range(columns):
        sizes = np.frombuffer(raw, _SIZE, count, place).tolist()
        place += 4 * count
        ends = list(accumulate((max(0, size) for size in sizes), initial=place))
        pairs = zip(sizes, ends, ends[1:], strict=False)
        found.append([None if size < 0 else raw[start:end] for size, start, end in pairs])
        place = ends[-1]
    return list(zip(*found, strict=True))


class Keys:
    """Whether a key stands twice among any number of rows, in bounded memory. A context manager."""

    def __init__(self, folder: Path) -> None:
        """Digests of keys lie in files below `folder`, apart by how they begin."""
        self._folder = folder
        folder.mkdir()
        self._files = [(folder / str(n)).open("wb") for n in range(_PARTS)]

    def add(self, keys: Sequence[Row]) -> None:
        """Those of some rows, in order."""
        for key in keys:
            made = digest(key)
            self._files[made[0]].write(made)

    def repeated(self) -> int:
        """How many rows have the key of an earlier one."""
        found = 0
        for file in self._files:
            file.close()
            raw = np.fromfile(file.name, np.uint8)
            values = pa.Array.from_buffers(
                pa.binary(16), raw.size // 16, [None, pa.py_buffer(raw.tobytes())]
            )
            found += len(values) - pc.count_distinct(values).as_py()
        return found

    def __enter__(self) -> Keys:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left."""
        for file in self._files:
            file.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def digest(values: Row) -> bytes:
    """16 bytes for some values; of others they are others."""
    made = hashlib.blake2b(digest_size=16)
    for value in values:
        made.update(b"\0" if value is None else b"\1" + len(value).to_bytes(4, "big") + value)
    return made.digest()


class Shared:
    """What the rows of a partition share, which has to be the same in all that are given."""

    PARTITIONS_MAX: Final = 500_000

    def __init__(self, names: Sequence[str]) -> None:
        """`names` of the static columns."""
        self._names = ", ".join(names)
        self._seen: dict[bytes, bytes] = {}

    def differs(self, partition: Row, shared: Row) -> str:
        """Why a row cannot be taken beside the earlier ones; "" = it can. Raises LimitReached."""
        made = digest(shared)
        if self._seen.setdefault(digest(partition), made) != made:
            return f"{self._names}: static, and other than in an earlier row of its partition"
        if len(self._seen) > self.PARTITIONS_MAX:
            raise LimitReached(
                f"more than {self.PARTITIONS_MAX:,} partitions with static columns "
                f"({self._names}) in one load; load them in parts"
            )
        return ""
