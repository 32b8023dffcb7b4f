"""One table's keys beside its rows: those that no longer count in the lake, those a run must know.

A tombstone is a key whose row in the lake version no longer counts. A touched key is one that any
change since the beginning of a run took out or put in. Never begins or ends a transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from htapkit.hot.collapse import NotConsistent
from htapkit.hot.evolve import check_same_key
from htapkit.hot.lakerows import LakeValues
from htapkit.hot.names import (
    duckdb_type,
    key_columns,
    key_definitions,
    quote,
    statement,
    tombstones,
    touched,
)
from htapkit.hot.prepared import Prepared
from htapkit.model import Boundary, TableSchema

_SEEN = "seen"
_WANTED = "htapkit_wanted"


class Patches:
    """The relations of keys of one table, through one cursor, and its rows in the lake."""

    def __init__(
        self, cursor: duckdb.DuckDBPyConnection, schema: TableSchema, values: LakeValues
    ) -> None:
        """Use `Writer.patches`, which sets `boundary` and `logs`."""
        self.schema = schema
        self.boundary: Boundary | None = None  # with one, a key that is not hot is in the lake
        self.logs = False  # a run wants to know which keys change
        self._cursor = cursor
        self._values = values
        keys = [schema.arrow.field(name) for name in schema.key]
        self._slot = pa.schema([field.with_name(f"k{i}") for i, field in enumerate(keys)])
        self._prepared: dict[str, Prepared] = {}

    def bury(self, gone: pa.Table, seen: npt.NDArray[np.uint64]) -> int:
        """Make tombstones of the keys in `gone` that were not hot; how many.

        `seen` has the hashes (DuckDB's) of those that were. A key that has a tombstone already is
        not counted.
        """
        slot = self._slot.append(pa.field(_SEEN, pa.uint64()))
        hashes = pa.array(seen, pa.uint64())
        rows = pa.table(
            [
                pa.chunked_array([*column.chunks, pa.nulls(len(hashes), field.type)], field.type)
                for column, field in zip(gone.columns, self._slot, strict=True)
            ]
            + [pa.chunked_array([pa.nulls(gone.num_rows, pa.uint64()), hashes])],
            schema=slot,
        )
        return self._statement("bury", slot, tombstones(self.schema.table)).count(rows)

    def touch(self, gone: pa.Table | None, came: pa.Table) -> None:
        """Log the keys that were taken out and put in."""
        names = list(self.schema.key)
        parts = [came.select(names)] if gone is None else [gone.select(names), came.select(names)]
        keys = pa.concat_tables(parts).rename_columns(self._slot.names)
        if keys.num_rows:
            self._statement("touch", self._slot, touched(self.schema.table)).count(keys)

    def look_up(self, keys: pa.Table, columns: Sequence[str]) -> pa.Table:
        """Values of rows in the lake: see LakeValues. Raises StoreFailed.

        Tombstones need no look: who asks for the values of a row also takes that row out, and it
        is hot then, unless it became too old to be kept (see `buried`).
        """
        assert self.boundary is not None
        return self._values.look_up(self.schema, self.boundary.pin, keys, columns)

    def lake_rows_at(self, places: pa.Table, times: tuple[int, int]) -> Iterator[pa.RecordBatch]:
        """Of a reconciled table: see LakeValues.at. Raises StoreFailed."""
        assert self.boundary is not None
        return self._values.at(self.schema, self.boundary.pin, places, times)

    def lake_rows_between(self, spans: pa.Table) -> Iterator[pa.RecordBatch]:
        """Of a reconciled table: see LakeValues.between. Raises StoreFailed."""
        assert self.boundary is not None
        return self._values.between(self.schema, self.boundary.pin, spans)

    def buried(self, keys: pa.Table) -> npt.NDArray[np.int64]:
        """The numbers of those `keys` (columns `number`, k0, k1, …) that have a tombstone."""
        pairs = zip(key_columns(self.schema), self._slot.names, strict=True)
        self._cursor.register(_WANTED, keys)
        try:
            text = statement(
                "old_values",
                columns="true",
                table=tombstones(self.schema.table),
                equal=" AND ".join(f"kept.{quote(ours)} = wanted.{k}" for (ours, _), k in pairs),
                rows=quote(_WANTED),
            )
            found = self._cursor.execute(text).fetchall()
        finally:
            self._cursor.unregister(_WANTED)
        return np.array([row[0] for row in found], np.int64)

    def close(self) -> None:
        """Let go of what is registered."""
        prepared, self._prepared = self._prepared, {}
        for each in prepared.values():
            each.close()

    def _statement(self, name: str, slot: pa.Schema, table: str) -> Prepared:
        found = self._prepared.get(name)
        if found is None:
            names = [name for name, _ in key_columns(self.schema)]
            pairs = zip(names, self._slot.names, strict=True)
            found = self._prepared[name] = Prepared(
                self._cursor,
                slot,
                name,
                table=table,
                columns=", ".join(map(quote, names)),
                wanted=", ".join(f"wanted.{key}" for key in self._slot.names),
                equal=" AND ".join(f"gone.{quote(ours)} = wanted.{key}" for ours, key in pairs),
            )
        return found


def create(cursor: duckdb.DuckDBPyConnection, name: str, schema: TableSchema) -> None:
    """Make an empty relation of keys, if it is not there."""
    cursor.execute(f"CREATE TABLE IF NOT EXISTS {name} ({key_definitions(schema)})").fetchall()


def follow_schema(
    cursor: duckdb.DuckDBPyConnection, boundary: Boundary, old: TableSchema, new: TableSchema
) -> None:
    """Let the tombstones follow a change of the schema.

    Raises NotConsistent where only a new copy helps.
    """
    check_same_key(old, new)
    if all(column.ordinal != boundary.column for column in new.columns):
        raise NotConsistent("the column by which its history was cut is gone")
    before = dict(key_columns(old))
    for name, column in key_columns(new):
        kind = duckdb_type(column)
        if kind != duckdb_type(before[name]):
            cursor.execute(
                f"ALTER TABLE {tombstones(new.table)} ALTER COLUMN {quote(name)} TYPE {kind}"
            ).fetchall()
