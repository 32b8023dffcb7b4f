"""Tables whose source has no transactions: cells in any order, of which the largest rank is read.

Beside the plain relation lie one of cells and one of deletions, to which changes are only added.
What a plain row holds is a query over both, so neither order nor repetition matters; after each
change the rows that it touched are made anew by that query. Never begins or commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from htapkit.errors import StoreError, TableSetAside
from htapkit.hot.names import (
    beside,
    duckdb_type,
    name_list,
    quote,
    relation,
    statement,
)
from htapkit.hot.prepared import Prepared
from htapkit.model import DELETIONS, CellChanges, Column, TableId, TableSchema, cells_arrow

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WANTED = pa.schema([pa.field("place", pa.binary()), pa.field("now", pa.int64())])
_ASKED = "place IN (SELECT place FROM asked)"
_CELLS, _DELETIONS = "cells", "deletions"


def check_whole_rows(schema: TableSchema) -> None:
    """Raise StoreError where rows are made of cells: a row that is not there would come again."""
    if schema.reconciled:
        raise StoreError(f"{schema.table} is kept cell by cell, so its rows stay in the hot store")


def microseconds(moment: datetime) -> int:
    """Since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def cells_name(table: TableId, generation: int) -> str:
    """The quoted, qualified name of a table's cells. Each copy has its own."""
    return beside(table, _CELLS, generation)


def deletions_name(table: TableId, generation: int) -> str:
    """The quoted, qualified name of a table's deletions."""
    return beside(table, _DELETIONS, generation)


def create(cursor: duckdb.DuckDBPyConnection, schema: TableSchema, generation: int) -> None:
    """Empty relations of cells and deletions."""
    definitions = ", ".join(
        f"{quote(field.name)} {_arrow_type(schema, field)}" for field in cells_arrow(schema)
    )
    text = statement(
        "reconciled_create",
        cells=cells_name(schema.table, generation),
        deletions=deletions_name(schema.table, generation),
        cell_columns=definitions,
    )
    cursor.execute(text).fetchall()


def _arrow_type(schema: TableSchema, field: pa.Field) -> str:
    numbered = {f"k{number}": column for number, column in enumerate(_keys(schema))}
    if field.name in numbered:
        return duckdb_type(numbered[field.name])
    names = {pa.binary(): "BLOB", pa.string(): "VARCHAR", pa.int32(): "INTEGER"}
    return names.get(field.type, "BIGINT")


def _keys(schema: TableSchema) -> list[Column]:
    return [c for name in schema.key if (c := schema.column(name)) is not None]


class Reconciled:
    """One table's cells, deletions and plain rows, through one cursor."""

    def __init__(
        self, cursor: duckdb.DuckDBPyConnection, schema: TableSchema, generation: int
    ) -> None:
        """Of the copy with that number."""
        self.schema = schema
        self.generation = generation
        self.arrow = cells_arrow(schema)
        self._cursor = cursor
        self._cells = cells_name(schema.table, generation)
        self._deletions = deletions_name(schema.table, generation)
        self._prepared: dict[str, Prepared] = {}

    def add(self, changes: Sequence[CellChanges]) -> None:
        """Add cells and deletions; the plain rows stay as they are."""
        for change in changes:
            self.load(change.cells)
            self.load(change.deletions)

    def load(self, batch: pa.RecordBatch) -> int:
        """Add cells or deletions; how many. Raises TableSetAside for anything else."""
        known = {self.arrow: (_CELLS, self._cells), DELETIONS: (_DELETIONS, self._deletions)}
        if batch.schema not in known:
            raise TableSetAside(self.schema.table, "its cells came with other columns")
        if batch.num_rows:
            name, into = known[batch.schema]
            columns = name_list(batch.schema.names)
            insert = self._statement("insert", batch.schema, name, table=into, columns=columns)
            insert.run(batch).fetchall()
        return int(batch.num_rows)

    def apply(self, changes: Sequence[CellChanges], now: datetime) -> tuple[int, int]:
        """Add changes and make the rows that they touch anew; (rows taken out, rows put in)."""
        self.add(changes)
        return self._make_anew(self._touched(changes), now)

    def expire(self, now: datetime) -> tuple[int, int]:
        """Make the rows anew of which a cell is over; (rows taken out, rows put in)."""
        moment = [microseconds(now)]
        due = statement("reconciled_due", cells=self._cells)
        places = _places(self._cursor.execute(due, moment))
        if not len(places):
            return 0, 0
        self._cursor.execute(statement("reconciled_over", cells=self._cells), moment).fetchall()
        return self._make_anew(places, now)

    def make_all(self, into: str, now: datetime) -> None:
        """Put all plain rows into an empty relation."""
        for name in self._makers():
            text = self._making(name, into, asked="SELECT $1 AS now", which="true")
            self._cursor.execute(text, [microseconds(now)]).fetchall()

    def compact(self) -> None:
        """Write cells and deletions anew, without what can never be read again."""
        self.close()
        keys = ", ".join(f"any_value(k{n}) AS k{n}" for n in range(len(self.schema.key)))
        names = {"cells": self._cells, "deletions": self._deletions, "any_keys": keys}
        for purpose, name in ((_CELLS, self._cells), (_DELETIONS, self._deletions)):
            # A name that is free: no other copy has it.
            new = beside(self.schema.table, f"new{purpose}", self.generation)
            text = statement(f"reconciled_compact_{purpose}", new=new, **names)
            self._cursor.execute(text).fetchall()
            self._cursor.execute(f"DROP TABLE {name}").fetchall()
            last = name.rpartition(".")[2]
            self._cursor.execute(f"ALTER TABLE {new} RENAME TO {last}").fetchall()

    def close(self) -> None:
        """Let go of what is registered."""
        prepared, self._prepared = self._prepared, {}
        for each in prepared.values():
            each.close()

    def _touched(self, changes: Sequence[CellChanges]) -> pa.ChunkedArray:
        """The places at which something may be another now."""
        parts = [change.cells["place"] for change in changes]
        for change in changes:
            ranges = change.deletions["high"].is_valid()
            parts.append(change.deletions["low"].filter(pc.invert(ranges)))
            wide = change.deletions.filter(ranges)
            if wide.num_rows:
                erased = self._statement(
                    "reconciled_erased", DELETIONS, "erased", cells=self._cells
                )
                parts.append(_places(erased.run(wide)))
        return pa.chunked_array(parts, pa.binary()).unique()

    def _make_anew(self, places: pa.Array | pa.ChunkedArray, now: datetime) -> tuple[int, int]:
        if not len(places):
            return 0, 0
        moment = pa.array([microseconds(now)], pa.int64())
        wanted = _wanted(places, moment)
        if self.schema.sharing:
            related = self._statement("reconciled_related", _WANTED, "related", cells=self._cells)
            wanted = _wanted(_places(related.run(wanted)), moment)
        into = relation(self.schema.table)
        gone = self._statement("reconciled_remove", _WANTED, "remove", **self._removal(into))
        taken = gone.count(wanted)
        return taken, sum(self._maker(into, name).count(wanted) for name in self._makers())

    def _makers(self) -> tuple[str, ...]:
        return ("rows", "shared") if self.schema.sharing else ("rows",)

    def _maker(self, into: str, name: str) -> Prepared:
        """The statement that puts rows of wanted places in."""
        found = self._prepared.get(name)
        if found is None:

            def text(rows: str) -> str:
                return self._making(name, into, asked=f"FROM {rows}", which=_ASKED)

            found = self._prepared[name] = Prepared.over(self._cursor, _WANTED, text)
        return found

    def _removal(self, into: str) -> Mapping[str, str]:
        pairs = list(enumerate(_keys(self.schema)))
        equal = " AND ".join(
            f"kept.{quote(c.name)} {_same(c)} gone.k{number}" for number, c in pairs
        )
        keys = ", ".join(f"k{number}" for number, _ in pairs)
        return {"table": into, "cells": self._cells, "keys": keys, "equal": equal}

    def _making(self, name: str, into: str, *, asked: str, which: str) -> str:
        """The statement that puts plain rows in: those with a place, or what is shared alone."""
        keys = _keys(self.schema)
        any_keys = ", ".join(f"any_value(k{n}) AS k{n}" for n in range(len(keys)))
        live = statement(
            "reconciled_live",
            cells=self._cells,
            deletions=self._deletions,
            any_keys=any_keys,
            asked=asked,
            which=which,
        )
        shared = [c for c in self.schema.columns if c.shared]
        own = [c for c in self.schema.columns if not c.shared and c.name not in self.schema.key]
        columns = name_list(c.name for c in self.schema.columns)
        parts = {"table": into, "live": live, "any_keys": any_keys, "columns": columns}
        if name == "shared":
            pairs = [(n, c) for n, c in enumerate(keys) if not c.nullable]
            return statement(
                "reconciled_shared",
                shared_values=_values(shared),
                selected=self._selected("s", [], shared),
                same_first=" AND ".join(f"kept.{quote(c.name)} = s.k{n}" for n, c in pairs),
                **parts,
            )
        join = statement("reconciled_join", values=_values(shared)) if shared else ""
        return statement(
            "reconciled_rows",
            own_values=_values(own),
            selected=self._selected("o", own, shared),
            shared=join,
            **parts,
        )

    def _selected(self, alias: str, own: Iterable[Column], shared: Iterable[Column]) -> str:
        """The columns of the plain relation, in order; those that are not there are NULL."""
        places = {name: f"{alias}.k{n}" for n, name in enumerate(self.schema.key)}
        places |= {c.name: f"o.v{c.ordinal}" for c in own}
        places |= {c.name: f"s.v{c.ordinal}" for c in shared}
        return ", ".join(places.get(c.name, "NULL") for c in self.schema.columns)

    def _statement(self, text: str, slot: pa.Schema, name: str, **parts: str) -> Prepared:
        found = self._prepared.get(name)
        if found is None:
            found = self._prepared[name] = Prepared(self._cursor, slot, text, **parts)
        return found


def _wanted(places: pa.Array | pa.ChunkedArray, moment: pa.Array) -> pa.Table:
    if isinstance(places, pa.ChunkedArray):
        places = places.combine_chunks()
    return pa.table([places, moment.take(pa.array([0] * len(places), pa.int32()))], _WANTED)


def _places(found: duckdb.DuckDBPyConnection) -> pa.BinaryArray:
    return pa.array([place for (place,) in found.fetchall()], pa.binary())


def _same(column: Column) -> str:
    return "IS NOT DISTINCT FROM" if column.nullable else "="


def _values(columns: Iterable[Column]) -> str:
    """Expressions over live cells for the values of columns, each after a comma."""
    return "".join(f", {_value(column)} AS v{column.ordinal}" for column in columns)


def _value(column: Column) -> str:
    chosen = f"FILTER (WHERE ordinal = {column.ordinal})"
    if column.gathered:
        first, last = column.gathered[0], column.gathered[1]
        text = f"'{first}' || string_agg(value, ', ' ORDER BY path) {chosen} || '{last}'"
    else:
        text = f"any_value(value) {chosen}"
    return _from_text(column, text)


def _from_text(column: Column, text: str) -> str:
    """A value of the column's type from how cells hold it."""
    arrow = column.arrow
    if pa.types.is_binary(arrow):
        return f"from_hex({text})"
    if pa.types.is_date(arrow):
        return f"CAST('1970-01-01' AS DATE) + CAST({text} AS INTEGER)"
    if pa.types.is_timestamp(arrow):
        make = "make_timestamp" if arrow.tz is None else "make_timestamptz"
        return f"{make}(CAST({text} AS BIGINT))"
    return text if pa.types.is_string(arrow) else f"CAST({text} AS {duckdb_type(column)})"
