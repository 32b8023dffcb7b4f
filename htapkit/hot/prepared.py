"""Statements that are prepared once and read their rows from a registered Arrow source.

Most of the time of a small batch would otherwise go into registering, parsing and planning.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from htapkit.hot.names import quote, statement

_numbers = itertools.count()


class Slot:
    """An Arrow source that DuckDB reads anew each time."""

    def __init__(self, schema: pa.Schema) -> None:
        """Empty at first; `table` may be set to rows of this schema."""
        self._empty = schema.empty_table()
        self.table: pa.Table | pa.RecordBatch = self._empty

    def __arrow_c_schema__(self) -> object:
        """The columns."""
        return self._empty.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows that are there now."""
        return self.table.__arrow_c_stream__(requested_schema)

    def empty(self) -> None:
        """Let go of the rows."""
        self.table = self._empty


class Prepared:
    """A statement over a slot, prepared when it is first run."""

    def __init__(
        self, cursor: duckdb.DuckDBPyConnection, schema: pa.Schema, name: str, **parts: str
    ) -> None:
        """The statement `name`; its part `rows` is the slot."""
        self._prepare(cursor, schema, lambda rows: statement(name, rows=rows, **parts))

    @classmethod
    def over(
        cls, cursor: duckdb.DuckDBPyConnection, schema: pa.Schema, text: Callable[[str], str]
    ) -> Prepared:
        """The statement that `text` gives for the slot's quoted name."""
        made = cls.__new__(cls)
        made._prepare(cursor, schema, text)
        return made

    def _prepare(
        self, cursor: duckdb.DuckDBPyConnection, schema: pa.Schema, text: Callable[[str], str]
    ) -> None:
        self._cursor = cursor
        self._name = f"htapkit_{next(_numbers)}"
        self._slot = Slot(schema)
        cursor.register(self._name, self._slot)
        cursor.execute(f"PREPARE {quote(self._name)} AS {text(quote(self._name))}")
        self._execute = f"EXECUTE {quote(self._name)}"

    def run(self, rows: pa.Table | pa.RecordBatch) -> duckdb.DuckDBPyConnection:
        """Run over `rows`; the result must be fetched at once."""
        self._slot.table = rows
        try:
            return self._cursor.execute(self._execute)
        finally:
            self._slot.empty()

    def count(self, rows: pa.Table | pa.RecordBatch) -> int:
        """Run over `rows`; how many rows were changed."""
        return int(self.run(rows).fetchall()[0][0])

    def found(self, rows: pa.Table | pa.RecordBatch) -> pa.Table:
        """Run over `rows`; the result."""
        self._slot.table = rows
        try:
            return self._cursor.sql(self._execute).to_arrow_table()
        finally:
            self._slot.empty()

    def numbers(self, rows: pa.Table, column: str) -> npt.NDArray[np.uint64]:
        """Run over `rows`; one column of the result, of unsigned numbers."""
        self._slot.table = rows
        try:
            found = self._cursor.execute(self._execute).fetchnumpy()
            return np.asarray(found[column], np.uint64)
        finally:
            self._slot.empty()

    def close(self) -> None:
        """Let go of the slot."""
        self._cursor.execute(f"DEALLOCATE {quote(self._name)}")
        self._cursor.unregister(self._name)
