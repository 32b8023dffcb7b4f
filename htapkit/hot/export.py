"""What leaves for the lake in one run: rows, tombstones and digests of exactly one position."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from htapkit.errors import StoreError
from htapkit.hot.database import Database, translated
from htapkit.hot.folded import Folded
from htapkit.hot.names import (
    key_columns,
    name_list,
    quote,
    relation,
    statement,
    tombstones,
)
from htapkit.hot.packed import Packed
from htapkit.hot.records import Record
from htapkit.hot.runs import Run
from htapkit.hot.times import in_range, time_column
from htapkit.model import Boundary, TableId, TableSchema, TieringRun, lake_schema

_BATCH_ROWS = 122_880
DIGEST_MODULUS = 2**64

Note = Callable[[TableId, Iterable[pa.RecordBatch]], None]
"""Notes which rows of a reconciled table leave: their places and keys."""


class Export:
    """One read transaction of the hot store, open until `close`. Used by one thread at a time.

    Rows of `rows` must be read to their end before anything else is asked. Everything raises
    StoreFailed when the file was opened anew meanwhile: drop the run and begin another.
    """

    def __init__(
        self,
        database: Database,
        run: Run,
        records: Mapping[TableId, Record],
        note: Note,
        watched: frozenset[TableId],
    ) -> None:
        """Open it now; the caller sees to it that nothing is committed meanwhile.

        Who watches a table is told when a row of it ends, so that one ends in the hot store.
        """
        self._database = database
        self._run = run
        self._records = records
        self._note = note
        self._watched = watched
        self._packed: dict[TableId, Packed] = {}
        self._cursor: duckdb.DuckDBPyConnection | None = database.cursor()
        with self._calling() as cursor:
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            # A snapshot is taken when the file is first read.
            cursor.execute(statement("head")).fetchall()

    @property
    def run(self) -> TieringRun:
        """The run, with its position."""
        return self._run.tiering

    def schema(self, table: TableId) -> TableSchema:
        """The schema of `rows`, which is `lake_schema` of the table's."""
        return lake_schema(self._records[table].schema)

    def boundary(self, table: TableId) -> Boundary | None:
        """The boundary when the run began: its pin is what the lake's commit starts from."""
        return self._records[table].boundary

    def rows(self, table: TableId, order: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
        """All rows that leave below the run's line, in the Arrow schema of `schema`, in order."""
        schema = self.schema(table)
        text = statement(
            "export",
            columns=name_list(c.name for c in schema.columns),
            table=self._leaving(table),
            range=self._range(table, None),
            order=name_list(order or schema.key),
        )
        for batch in self._read(text):
            yield batch if batch.schema.equals(schema.arrow) else batch.cast(schema.arrow)

    def tombstones(self, table: TableId) -> pa.Table:
        """The keys whose rows in the lake no longer count, each once; the key's own columns."""
        schema = self.schema(table)
        arrow = pa.schema([schema.arrow.field(name) for name in schema.key])
        if self._records[table].boundary is None:
            return arrow.empty_table()
        columns = ", ".join(
            f"{quote(ours)} AS {quote(column.name)}" for ours, column in key_columns(schema)
        )
        text = statement("select_all", columns=columns, table=tombstones(table))
        with self._calling() as cursor:
            return cursor.sql(text).to_arrow_table().cast(arrow)

    def count(self, table: TableId) -> int:
        """How many `rows` there are."""
        return self.digest(table)[0]

    def digest(self, table: TableId, lower: int | None = None) -> tuple[int, int]:
        """How many `rows` have a time of at least `lower`, and their digest: see `digest_query`."""
        schema = self.schema(table)
        text = digest_query(schema, self._leaving(table), self._range(table, lower))
        with self._calling() as cursor:
            return digest_of(cursor.execute(text).fetchall())

    def close(self) -> None:
        """End the transaction. Safe to call twice."""
        cursor, self._cursor = self._cursor, None
        if cursor is not None:
            self._database.release(cursor)

    def __enter__(self) -> Export:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the transaction."""
        self.close()

    def _leaving(self, table: TableId) -> str:
        """Where all rows are that leave. Of a reconciled table they are packed when first asked."""
        record = self._records[table]
        if not record.schema.reconciled:
            return relation(table)
        packed = self._packed.get(table)
        if packed is None:
            packed = Packed(Folded(record.schema, record.generation))
            line, ending = self.run.below[table], table not in self._watched
            text = packed.leave(self._run.columns[table], line, ending=ending)
            with self._calling() as cursor:
                cursor.execute(text).fetchall()
            # What leaves must be known after a restart, too; only then it is given out.
            self._note(table, self._read(packed.left()))
            self._packed[table] = packed
        return packed.exported()

    def _read(self, text: str) -> Iterator[pa.RecordBatch]:
        with self._calling() as cursor:
            reader = cursor.sql(text).to_arrow_reader(_BATCH_ROWS)
        while True:
            with self._calling():
                try:
                    batch = reader.read_next_batch()
                except StopIteration:
                    return
            if batch.num_rows:
                yield batch

    def _range(self, table: TableId, lower: int | None) -> str:
        column = time_column(self.schema(table), self._run.columns[table])
        return in_range(column, lower, self.run.below[table])

    @contextmanager
    def _calling(self) -> Iterator[duckdb.DuckDBPyConnection]:
        if self._cursor is None:
            raise StoreError("the export is closed")
        try:
            yield self._cursor
        except (duckdb.Error, pa.ArrowException) as error:
            raise translated(error) from error


def digest_query(schema: TableSchema, rows: str, condition: str) -> str:
    """How many `rows` (a relation, or a query in parentheses) there are, and a sum of their hashes.

    The hashes are DuckDB's, of all columns in their hot types: two places that hold the same rows
    have the same digest, and the digests of disjoint parts add up (modulo 2**64). They are compared
    within one process only, never stored.
    """
    return statement(
        "digest", columns=name_list(c.name for c in schema.columns), rows=rows, range=condition
    )


def digest_of(found: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The result of `digest_query`."""
    count, total = found[0]
    return count, total % DIGEST_MODULUS
