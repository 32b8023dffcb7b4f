"""A database of its own for work that is thrown away: it spills to disk, and is never the copy."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Self

import duckdb
import pyarrow as pa


class Scratch:
    """An empty DuckDB file in a temporary folder. A context manager that removes it."""

    def __init__(self, purpose: str, memory: str) -> None:
        """`memory` as DuckDB has it, such as 512MB."""
        self._folder = tempfile.TemporaryDirectory(prefix=f"htapkit-{purpose}-")
        path = Path(self._folder.name) / f"{purpose}.duckdb"
        self.db = duckdb.connect(str(path), config={"memory_limit": memory, "threads": 1})

    def run(self, text: str, batch: pa.Table | None = None) -> list[tuple[Any, ...]]:
        """Run a statement, in which `batch` is a relation."""
        if batch is not None:
            self.db.register("batch", batch)
        found = self.db.execute(text).fetchall()
        if batch is not None:
            self.db.unregister("batch")
        return found

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file."""
        self.db.close()
        self._folder.cleanup()
