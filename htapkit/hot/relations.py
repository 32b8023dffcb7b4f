"""Writing rows into one relation of the file: inserts, deletes by key or by row, looked-up values.

Statements are prepared once and read their rows from a `_Slot`, a registered Arrow source whose
content changes from batch to batch: most of the time of a small batch would otherwise go into
registering, parsing and planning. Never begins or ends a transaction.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa

from htapkit.hot.collapse import Net, NotConsistent
from htapkit.hot.names import name_list, quote, statement
from htapkit.model import TableSchema

_numbers = itertools.count()
_NUMBER = "number"
_WANTED = "htapkit_wanted"
_LOCAL_ROWS = 36_028_797_018_960_000  # DuckDB numbers rows that are not committed from here on


class _Slot:
    """An Arrow source that DuckDB reads anew each time."""

    def __init__(self, schema: pa.Schema) -> None:
        self._empty = schema.empty_table()
        self.table: pa.Table | pa.RecordBatch = self._empty

    def __arrow_c_schema__(self) -> object:
        return self._empty.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)

    def empty(self) -> None:
        self.table = self._empty


class Prepared:
    """A statement over a slot, prepared when it is first run."""

    def __init__(
        self, cursor: duckdb.DuckDBPyConnection, schema: pa.Schema, name: str, **parts: str
    ) -> None:
        """The statement `name`; its part `rows` is the slot."""
        self._cursor = cursor
        self._name = f"htapkit_{next(_numbers)}"
        self._slot = _Slot(schema)
        cursor.register(self._name, self._slot)
        text = statement(name, rows=quote(self._name), **parts)
        cursor.execute(f"PREPARE {quote(self._name)} AS {text}")
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

    def close(self) -> None:
        """Let go of the slot."""
        self._cursor.execute(f"DEALLOCATE {quote(self._name)}")
        self._cursor.unregister(self._name)


class Relation:
    """One relation of the file, through one cursor, with the columns of `schema`."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, name: str, schema: TableSchema) -> None:
        """`name` is quoted and qualified."""
        self.schema = schema
        self.name = name
        self.arrow = schema.arrow
        self._cursor = cursor
        self._prepared: dict[str, Prepared] = {}

    def put(self, net: Net) -> tuple[int, int]:
        """Bring in the net effect of some changes; (rows taken out, rows put in).

        Raises NotConsistent when a row that must be there is not.
        """
        found = None
        if net.lookup is not None and net.lookup.num_rows:
            found = self._look_up(net.lookup, list(net.sources))
        rows = net.filled(found)
        if self.schema.whole_rows:
            # Rows that came and went within the batch must be there before they can go.
            self.insert(rows)
            gone = self._delete_whole(net.gone)
        else:
            gone = self._delete_keys(net.gone)
            self.insert(rows)
        if net.gone is not None and gone != net.gone.num_rows:
            raise NotConsistent(f"{net.gone.num_rows} rows were to go and {gone} are there")
        return gone, rows.num_rows

    def insert(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Add rows."""
        if rows.num_rows:
            columns = name_list(self.arrow.names)
            self._statement("insert", self.arrow, columns=columns).run(rows).fetchall()

    def clear(self) -> int:
        """Take out all rows."""
        result = self._cursor.execute(statement("delete_all", table=self.name)).fetchall()
        return int(result[0][0])

    def close(self) -> None:
        """Let go of what is registered."""
        prepared, self._prepared = self._prepared, {}
        for each in prepared.values():
            each.close()

    def _statement(self, name: str, slot: pa.Schema, **parts: str) -> Prepared:
        found = self._prepared.get(name)
        if found is None:
            found = self._prepared[name] = Prepared(
                self._cursor, slot, name, table=self.name, **parts
            )
        return found

    def _delete_keys(self, keys: pa.Table | None) -> int:
        if keys is None or not keys.num_rows:
            return 0
        names = name_list(self.schema.key)
        key = names if len(self.schema.key) == 1 else f"({names})"
        return self._statement("delete_keys", keys.schema, key=key, columns=names).count(keys)

    def _delete_whole(self, rows: pa.Table | None) -> int:
        if rows is None or not rows.num_rows:
            return 0
        exact = [(f"c{i}", _exact(f)) for i, f in enumerate(self.arrow)]
        gone = ", ".join(
            f"{e.format(quote(f.name))} AS {c}" for (c, e), f in zip(exact, self.arrow, strict=True)
        )
        equal = " AND ".join(
            f"{e.format('kept.' + quote(f.name))} IS NOT DISTINCT FROM gone.{c}"
            for (c, e), f in zip(exact, self.arrow, strict=True)
        )
        found = self._statement("whole_rows", self.arrow, gone_columns=gone, equal=equal)
        ids = np.array([row[0] for row in found.run(rows).fetchall()], np.int64)
        # Rows of the file and rows of this transaction never in one statement: DuckDB 2.0.0 then
        # leaves some of them in (seen by the model test).
        count = 0
        for part in (ids[ids < _LOCAL_ROWS], ids[ids >= _LOCAL_ROWS]):
            if len(part):
                table = pa.table({"row_id": pa.array(part)})
                delete = self._statement("delete_row_ids", table.schema)
                count += delete.count(table)
        return count

    def _look_up(self, keys: pa.Table, columns: Sequence[str]) -> pa.Table:
        named = pa.table(
            [pa.array(range(keys.num_rows), pa.int64()), *keys.columns],
            names=[_NUMBER, *(f"k{i}" for i in range(keys.num_columns))],
        )
        equal = " AND ".join(
            f"kept.{quote(name)} = wanted.k{i}" for i, name in enumerate(self.schema.key)
        )
        wanted = ", ".join(f"kept.{quote(c)} AS c{i}" for i, c in enumerate(columns))
        slot = _Slot(named.schema)
        slot.table = named
        self._cursor.register(_WANTED, slot)
        try:
            text = statement(
                "old_values", columns=wanted, table=self.name, equal=equal, rows=quote(_WANTED)
            )
            found = self._cursor.sql(text).to_arrow_table()
        finally:
            self._cursor.unregister(_WANTED)
        numbers = found[_NUMBER].to_numpy()
        if not np.array_equal(np.sort(numbers), np.arange(keys.num_rows)):
            raise NotConsistent(
                "an update did not resend an unchanged value, and the copy has not exactly "
                "one such row"
            )
        ordered = found.take(pa.array(np.argsort(numbers)))
        return ordered.drop_columns([_NUMBER]).rename_columns(list(columns))


def _exact(field: pa.Field) -> str:
    """An expression that differs whenever two values print differently."""
    return "CAST({} AS VARCHAR)" if pa.types.is_floating(field.type) else "{}"
