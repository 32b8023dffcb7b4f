"""Where the rows of a load come from: Parquet files here, or a statement of the running server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from htapkit_cassandra.fitting import LoadRefused

BATCH_ROWS: Final = 8_192
_BATCH_BYTES: Final = 32 * 2**20  # about
_FILES_MAX: Final = 10_000
_PAGE_BYTES: Final = 1 << 20  # read at once of a column, however large the row group


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the rows, all of one schema."""

    name: str  # of the file, "" = there is none
    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


class Input(Protocol):
    """Rows to be loaded."""

    @property
    def identity(self) -> str:
        """Another one for other rows, as far as that can be known without reading them."""
        ...

    def parts(self) -> Iterator[Part]:
        """All rows. Raises LoadRefused, ServerRefused, ServerUnreachable."""
        ...


class ParquetInput:
    """A file, or all below a folder that end in .parquet."""

    def __init__(self, path: Path) -> None:
        """Raises LoadRefused where there is none.

        As everywhere, names that begin with `_` or `.` are of writers that have not finished.
        """
        self._files = _below(path) if path.is_dir() else [path]
        if not path.exists() or not self._files:
            raise LoadRefused(f"{path}: there is no such file, or no .parquet below this folder")
        if len(self._files) > _FILES_MAX:
            raise LoadRefused(f"{path} has {len(self._files)} files; at most {_FILES_MAX} at once")

    @property
    def identity(self) -> str:
        """Names, sizes, and when each was written."""
        stats = [(file, file.stat()) for file in self._files]
        found = [f"{file.resolve()} {s.st_size} {s.st_mtime_ns}" for file, s in stats]
        return "\n".join(["parquet", *found])

    def parts(self) -> Iterator[Part]:
        """File by file."""
        for file in self._files:
            with _readable(file):
                opened = pq.ParquetFile(file, buffer_size=_PAGE_BYTES, pre_buffer=False)
            with opened:
                yield Part(file.name, opened.schema_arrow, _batches(file, opened))


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise LoadRefused(f"{file} cannot be read as Parquet: {error}") from error


def _batches(file: Path, opened: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    batches = opened.iter_batches(batch_rows(opened.metadata))
    while True:
        with _readable(file):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def batch_rows(found: pq.FileMetaData) -> int:
    """How many rows are read at once: fewer of a file whose rows are large. Pure."""
    groups = [found.row_group(n) for n in range(found.num_row_groups)]
    largest = max((g.total_byte_size / max(1, g.num_rows) for g in groups), default=0)
    return max(1, min(BATCH_ROWS, int(_BATCH_BYTES / max(largest, 1))))


def _below(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*.parquet") if path.is_file())
    return sorted(
        path
        for path in found
        if not any(part.startswith(("_", ".")) for part in path.relative_to(folder).parts)
    )


Opened = AbstractContextManager[tuple[pa.Schema, Iterator[pa.RecordBatch]]]


class QueryInput:
    """The rows of a statement."""

    def __init__(self, sql: str, source: str, ask: Callable[[], Opened]) -> None:
        """`ask` runs it; `source` is the database that it is asked of."""
        self._ask = ask
        self.identity = f"query\n{source}\n{sql}"

    def parts(self) -> Iterator[Part]:
        """One."""
        with self._ask() as (schema, batches):
            yield Part("", schema, batches)
