"""Rows of a reconciled table with their cells in a text, as the lake has them: statements. Pure.

The form is that of `htapkit.model.lakecells`. What a row's column shows is not said twice, so most
rows have their largest rank and, for each column, the bytes that decide between equal ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from htapkit.hot.celltext import as_text
from htapkit.hot.folded import Folded
from htapkit.hot.names import (
    duckdb_type,
    key_columns,
    key_definitions,
    leaving,
    name_list,
    quote,
    relation,
    same_key,
    statement,
)
from htapkit.hot.times import in_range, moment, time_column
from htapkit.model import (
    ENDS,
    LAKE_CELLS,
    LAKE_ENDS,
    LAKE_PLACE,
    LAKE_RANK,
    Column,
    TableSchema,
    lake_schema,
    place_key,
    place_keys,
)

OURS: Final = {LAKE_PLACE: "place", LAKE_RANK: "rank", LAKE_CELLS: "cells", LAKE_ENDS: "ends"}
"""What a packed row calls the lake's columns of our own."""

_NOW = "SELECT CAST(0 AS BIGINT) AS now"  # what counts does so whenever it ends


@dataclass(frozen=True, slots=True)
class Packed:
    """The statements for one copy of a table."""

    folded: Folded

    @property
    def schema(self) -> TableSchema:
        """Of the table."""
        return self.folded.schema

    @property
    def keys(self) -> list[tuple[str, str]]:
        """Each column of the key: its name in a relation of keys, and among `c0`, `c1`, …."""
        return [(name, self.called(column)) for name, column in key_columns(self.schema)]

    @property
    def definitions(self) -> str:
        """The inside of CREATE TABLE's parentheses for `c0`, `c1`, …."""
        return ", ".join(f"{self.called(c)} {duckdb_type(c)}" for c in self.schema.columns)

    def called(self, column: Column) -> str:
        """The column's name where the table's are `c0`, `c1`, …, so that they meet no other."""
        return f"c{self.schema.columns.index(column)}"

    def rows(self, which: str, kept: str, held: str) -> str:
        """Packed rows of `kept`, a query of columns `c0`, `c1`, …, at places where `which` is true.

        `held` are more expressions over these columns to select. Rows of which not all that is
        there has one and the same end, or none, are left out.
        """
        places = zip(place_keys(self.schema), self.schema.key_columns, strict=True)
        return statement(
            "packed_rows",
            live=self.folded.live(_NOW, which),
            keys=self.folded.names["keys"],
            shown=self._shown("w.ordinal", "kept.", str),
            kept=kept,
            equal=" AND ".join(f"kept.{self.called(c)} = w.{key}" for key, c in places),
            held=held,
        )

    def leave(self, ordinal: int, below: int, *, ending: bool = True) -> str:
        """Have all rows with a time below that can leave, in a temporary relation.

        Not `ending`: without those that have an end.
        """
        column = time_column(self.schema, ordinal)
        key = place_key(self.schema, column)
        held = ", ".join(f"any_value({name}) AS {quote(key)}" for key, name in self.keys)
        which = in_range(replace(column, name=key), None, below)
        packed = self.rows(which, self._plain(in_range(column, None, below)), held)
        ends = "true" if ending else "ends IS NULL"
        return statement("packed_leave", packing=_packing(self.schema), packed=packed, ends=ends)

    def left(self) -> str:
        """Places and keys of the rows that `leave` has."""
        columns = name_list(["place", *(key for key, _ in self.keys)])
        return statement("select_all", columns=columns, table=_packing(self.schema))

    def exported(self) -> str:
        """The rows that `leave` has, in the columns of `lake_schema`: a query in parentheses."""
        names = [c.name for c in lake_schema(self.schema).columns]
        columns = [
            f"leaving.{OURS[n]} AS {quote(n)}" if n in OURS else f"kept.{quote(n)}" for n in names
        ]
        text = statement(
            "packed_export",
            columns=", ".join(columns),
            table=relation(self.schema.table),
            packing=_packing(self.schema),
            equal=same_key(self.schema, "leaving", "kept"),
        )
        return f"({text})"

    def unpack(self, returned: str) -> str:
        """Add the cells of rows that came back."""
        values = [self.called(column) for column in self.schema.key_columns]
        return statement(
            "returned_unpack",
            cells=self.folded.cells,
            keys=self.folded.names["keys"],
            key_values=", ".join(values),
            shown=self._shown("part[1]", "", lambda number: f"'{number}'"),
            returned=returned,
        )

    def readable(self, returned: str, now: int) -> str:
        """The rows that came back, as whoever read the lake saw them."""
        columns = [f"{self.called(c)} AS {quote(c.name)}" for c in self.schema.columns]
        return statement(
            "returned_rows",
            columns=", ".join(columns),
            returned=returned,
            now=moment(ENDS, now),
        )

    def same(self, returned: str, now: int) -> str:
        """The places of rows that came back and are what they were, also if that has ended."""
        names = [self.called(c) for c in self.schema.columns]
        held = ", ".join(f"any_value({name}) AS {name}" for name in names)
        which = f"place IN (SELECT place FROM {returned})"  # noqa: S608 - quoted
        equal = " AND ".join(f"r.{name} IS NOT DISTINCT FROM p.{name}" for name in names)
        # Of what has ended no plain row is there, unless something else was written to it.
        ended = statement(
            "returned_ended", columns=", ".join(names), returned=returned, now=moment(ENDS, now)
        )
        packed = self.rows(which, f"{self._plain('true')} UNION ALL {ended}", held)
        return statement("returned_same", returned=returned, packed=packed, equal=equal)

    def _plain(self, condition: str) -> str:
        """The plain rows that meet it, with their columns called `c0`, `c1`, …."""
        columns = ", ".join(f"{quote(c.name)} AS {self.called(c)}" for c in self.schema.columns)
        table = relation(self.schema.table)
        return f"SELECT {columns} FROM {table} WHERE {condition}"  # noqa: S608 - quoted

    def _shown(self, ordinal: str, alias: str, literal: Callable[[int], str]) -> str:
        """What a cell holds whose value is what the row's column shows."""
        own = [c for c in self.schema.columns if not c.gathered and c.name not in self.schema.key]
        texts = (
            f"WHEN {literal(c.ordinal)} THEN {as_text(c, alias + self.called(c))}" for c in own
        )
        return f"CASE {ordinal} {' '.join(texts)} END" if own else "NULL"


def leaving_definition(schema: TableSchema) -> str:
    """Make the relation in which a run notes what leaves."""
    return f"CREATE TABLE {leaving(schema.table)} (place BLOB, {key_definitions(schema)})"


def _packing(schema: TableSchema) -> str:
    return quote(f"packing {schema.table}")
