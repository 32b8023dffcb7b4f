"""Digests of a table's rows, so that two copies of it can be compared without holding either.

Both sides go through the same function in the same process; a digest is never stored or compared
with one made elsewhere.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from htapkit.hot.names import quote
from htapkit.model import TableSchema

_EXAMPLES = 10


class Digest:
    """One side's rows as (chunk, hash of the row, key as text). A context manager."""

    def __init__(self, schema: TableSchema, chunks: int, memory: str = "256MB") -> None:
        """Rows fall into `chunks` by their key's hash.

        What does not fit in memory goes to a file.
        """
        self.rows = 0
        self._folder = tempfile.TemporaryDirectory(prefix="htapkit-digest-")
        path = Path(self._folder.name) / "digest.duckdb"
        self._db = duckdb.connect(str(path), config={"memory_limit": memory, "threads": 1})
        columns = [quote(c.name) for c in schema.columns]
        keys = [quote(name) for name in schema.key] or columns
        shown = " || ', ' || ".join(f"coalesce(CAST({k} AS VARCHAR), 'NULL')" for k in keys)
        self._insert = (
            f"INSERT INTO digest SELECT hash({', '.join(keys)}) % {chunks}, "  # noqa: S608 - quoted
            f"hash({', '.join(columns)}), {shown} FROM batch"
        )
        self._db.execute("CREATE TABLE digest(chunk UBIGINT, row UBIGINT, key VARCHAR)")

    def __enter__(self) -> Digest:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file."""
        self._db.close()
        self._folder.cleanup()

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in some rows, in the table's Arrow schema."""
        self.rows += batch.num_rows
        self._db.register("batch", pa.Table.from_batches([batch]))
        self._db.execute(self._insert).fetchall()
        self._db.unregister("batch")

    def different(self, other: Digest) -> Sequence[int]:
        """The chunks in which the two sides have not the same rows the same number of times."""
        ours, theirs = self._chunks(), other._chunks()
        return sorted(c for c in ours.keys() | theirs.keys() if ours.get(c) != theirs.get(c))

    def examples(self, other: Digest, chunks: Sequence[int]) -> Sequence[str]:
        """Keys of some rows that are on one side only, or not the same on both."""
        found: list[str] = []
        for chunk in chunks:
            ours, theirs = self._keys(chunk), other._keys(chunk)
            found += sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
            if len(found) >= _EXAMPLES:
                break
        return found[:_EXAMPLES]

    def _chunks(self) -> dict[int, tuple[int, int]]:
        rows = self._db.execute(
            "SELECT chunk, count(*), sum(CAST(row AS HUGEINT)) FROM digest GROUP BY chunk"
        ).fetchall()
        return {chunk: (count, total) for chunk, count, total in rows}

    def _keys(self, chunk: int) -> dict[str, tuple[int, int]]:
        rows = self._db.execute(
            "SELECT key, count(*), sum(CAST(row AS HUGEINT)) FROM digest "
            "WHERE chunk = ? GROUP BY key",
            [chunk],
        ).fetchall()
        return {key: (count, total) for key, count, total in rows}
