"""Several readings of one table, row by row as digests: which keys they do not have in common.

Neither is held in memory, and a digest is never compared with one that was made elsewhere.
"""

from __future__ import annotations

from typing import Final, Self

import pyarrow as pa

from htapkit.hot.names import column_definitions, quote, statement
from htapkit.hot.scratch import Scratch
from htapkit.model import TableSchema

_ROW: Final = "row"


class Sides:
    """Readings by their names. A context manager."""

    def __init__(
        self, schema: TableSchema, keys: pa.Table | None = None, memory: str = "256MB"
    ) -> None:
        """Of a table with a key; with `keys` no more than those rows are taken in."""
        self._schema = schema
        self._arrow = pa.schema([schema.arrow.field(name) for name in schema.key])
        self._keys = [f"k{number}" for number in range(len(schema.key))]
        self._scratch = Scratch("sides", memory)
        self._rows: dict[str, int] = {}
        self._wanted = ""
        if keys is not None:
            renamed = keys.rename_columns(self._keys)
            self._scratch.run("CREATE TABLE wanted AS SELECT DISTINCT * FROM batch", renamed)
            same = (
                f"wanted.{key} IS NOT DISTINCT FROM batch.{quote(name)}"
                for key, name in zip(self._keys, schema.key, strict=True)
            )
            self._wanted = f" SEMI JOIN wanted ON {' AND '.join(same)}"

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file."""
        self._scratch.__exit__()

    def begin(self, side: str) -> None:
        """A reading that has no row yet."""
        columns = column_definitions(self._schema)
        every = ", ".join(
            f"{quote(name)} AS {key}"
            for name, key in zip(self._schema.key, self._keys, strict=True)
        )
        self._scratch.run(f"CREATE OR REPLACE TABLE shape ({columns})")
        text = f"CREATE TABLE {side} AS SELECT {every}, hash(0) AS row FROM shape"  # noqa: S608
        self._scratch.run(text)
        self._rows[side] = 0

    def take(self, side: str, batch: pa.RecordBatch) -> None:
        """Some rows of a reading, which may have others than are wanted with them."""
        names = self._schema.arrow.names
        rows = pa.Table.from_batches([batch]).select(names).cast(self._schema.arrow)
        keys = ", ".join(f"batch.{quote(name)}" for name in self._schema.key)
        hashed = ", ".join(f"batch.{quote(name)}" for name in names)
        text = f"INSERT INTO {side} SELECT {keys}, hash({hashed}) FROM batch{self._wanted}"  # noqa: S608
        ((count,),) = self._scratch.run(text, rows)
        self._rows[side] += count

    def rows(self, side: str) -> int:
        """How many it has."""
        return self._rows[side]

    def unequal(self, one: str, other: str, most: int) -> pa.Table:
        """Keys of rows that are in one of two readings only, or not the same; so many at most."""
        parts = {"one": one, "other": other, "most": str(most), "keys": ", ".join(self._keys)}
        found = self._scratch.db.sql(statement("sides_unequal", **parts)).to_arrow_table()
        return found.rename_columns(list(self._schema.key)).cast(self._arrow)
