"""The keys of a table's history, held against those that its source has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import pyarrow as pa

from htapkit.hot.names import quote
from htapkit.hot.scratch import Scratch


class Keys:
    """Keys of two tables as text. A context manager.

    A table whose key may be equal and look different takes no history.
    """

    def __init__(
        self, history: Sequence[str], source: Sequence[str], memory: str = "256MB"
    ) -> None:
        """The names of the key's columns on either side, in one order."""
        assert len(history) == len(source) > 0
        self._names = {"history": history, "source": source}
        self._columns = [f"k{n}" for n in range(len(history))]
        self._scratch = Scratch("keys", memory)
        for side in self._names:
            columns = ", ".join(f"{column} VARCHAR" for column in self._columns)
            self._scratch.run(f"CREATE TABLE {side} ({columns})")

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file."""
        self._scratch.__exit__()

    def history(self, batch: pa.RecordBatch) -> None:
        """Take in some rows of the history."""
        self._take("history", batch)

    def source(self, batch: pa.RecordBatch) -> None:
        """Take in some rows of the source's table."""
        self._take("source", batch)

    def repeated(self) -> int:
        """How many keys the history has more than once."""
        by = ", ".join(self._columns)
        text = f"SELECT 1 FROM history GROUP BY {by} HAVING count(*) > 1"  # noqa: S608 - our names
        return int(self._scratch.run(f"SELECT count(*) FROM ({text})")[0][0])  # noqa: S608

    def shared(self) -> int:
        """How many rows of the history have a key that the source has."""
        using = ", ".join(self._columns)
        text = f"SELECT count(*) FROM history SEMI JOIN source USING ({using})"  # noqa: S608
        return int(self._scratch.run(text)[0][0])

    def _take(self, side: str, batch: pa.RecordBatch) -> None:
        columns = ", ".join(f"CAST({quote(name)} AS VARCHAR)" for name in self._names[side])
        text = f"INSERT INTO {side} SELECT {columns} FROM batch"  # noqa: S608 - quoted
        self._scratch.run(text, pa.Table.from_batches([batch]))
