"""A reconciled table's cells as they are kept: what one write says of one place is one record.

An INSERT writes all cells of a row with one time, so place, rank and end are kept once for all of
them. Only elements of collections stay cells. Texts of statements and names of relations; it
never decides which cell is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from htapkit.hot.names import beside, duckdb_type, quote, statement
from htapkit.model import TableSchema, cells_arrow, place_keys

_RECORDS, _CELLS, _DELETIONS = "records", "cells", "deletions"
_TIE = "coalesce(tie, encode(value), CAST('' AS BLOB))"


@dataclass(frozen=True, slots=True)
class Folded:
    """The relations beside one copy of a table; `new` while they are written anew."""

    schema: TableSchema
    generation: int
    new: str = ""

    @property
    def records(self) -> str:
        """The quoted, qualified name of the records."""
        return self._name(_RECORDS)

    @property
    def cells(self) -> str:
        """The quoted, qualified name of the cells that are in no record."""
        return self._name(_CELLS)

    @property
    def deletions(self) -> str:
        """The quoted, qualified name of the deletions."""
        return self._name(_DELETIONS)

    @property
    def all(self) -> tuple[str, str, str]:
        """All of them."""
        return self.records, self.cells, self.deletions

    @property
    def names(self) -> dict[str, str]:
        """All of them as parts of a statement, with the columns of the key."""
        keys = place_keys(self.schema)
        return {
            "records": self.records,
            "cells": self.cells,
            "deletions": self.deletions,
            "keys": ", ".join(keys),
            "any_keys": ", ".join(f"any_value({key}) AS {key}" for key in keys),
        }

    @property
    def elements(self) -> dict[int | None, str]:
        """The end of the names of its two columns, for the ordinal of each element that folds."""
        mine = (c for c in self.schema.columns if not c.gathered and c.name not in self.schema.key)
        return {None: "", **{column.ordinal: str(column.ordinal) for column in mine}}

    @property
    def arrow(self) -> pa.Schema:
        """Of records."""
        cells = cells_arrow(self.schema)
        names = ("place", "within", *place_keys(self.schema), "rank", "expires")
        shared = [*(cells.field(name) for name in names), pa.field("gone", pa.bool_())]
        kinds = {"v": pa.string(), "t": pa.binary()}
        ends = self.elements.values()
        held = [pa.field(kind + end, type_) for end in ends for kind, type_ in kinds.items()]
        return pa.schema([*shared, *held])

    def create(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Make them, empty."""
        arrow = cells_arrow(self.schema)
        keys = place_keys(self.schema)
        types = dict(zip(keys, map(duckdb_type, self.schema.key_columns), strict=True))
        types |= {f.name: _cell_type(f) for f in arrow if f.name not in types}
        definitions = {name: f"{quote(name)} {types[name]}" for name in arrow.names}
        text = statement(
            "reconciled_create",
            **self.names,
            cell_columns=", ".join(definitions.values()),
            key_columns=", ".join(definitions[key] for key in keys),
            folded_columns=", ".join(f"v{e} VARCHAR, t{e} BLOB" for e, _ in self._elements()),
        )
        cursor.execute(text).fetchall()

    def follow(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Have what the schema's new columns need."""
        for element, _ in self._elements():
            for column in (f"v{element} VARCHAR", f"t{element} BLOB"):
                text = f"ALTER TABLE {self.records} ADD COLUMN IF NOT EXISTS {column}"
                cursor.execute(text).fetchall()

    def every(self, which: str, held: str = "") -> str:
        """A query of all cells at places for which `which` is true; `held`: of these records."""
        cells = (
            f"struct_pack(ordinal := {ordinal}, value := v{element}, tie := t{element})"
            for element, ordinal in self._elements()
        )
        parts = {"held": held or f"{self.records} WHERE {which}", **self.names}
        return statement("reconciled_every", which=which, folded_cells=", ".join(cells), **parts)

    def winners(self, which: str, held: str = "") -> str:
        """A query of the cell that counts of each element."""
        parts = self.names
        return statement("reconciled_winners", every=self.every(which, held), tie=_TIE, **parts)

    def live(self, asked: str, which: str) -> str:
        """The parts of a WITH up to `counted` and `live`; `asked` gives `now` (microseconds)."""
        parts = {"winners": self.winners(which), "deletions": self.deletions, "alone": ""}
        return statement("reconciled_live", asked=asked, **parts)

    def live_beside_alone(self, asked: str, which: str) -> str:
        """The same of rows that are made of several writes; `alone` has the records of the others.

        Most rows of a series are written once, and taking their cells apart is most of the work.
        """
        # What is shared is looked for in `live`.
        rows_only = " AND within IS NOT NULL" if self.schema.sharing else ""
        alone = statement("reconciled_alone", which=which, rows_only=rows_only, **self.names)
        winners = self.winners(which, "mine ANTI JOIN alone USING (place)")
        parts = {"winners": winners, "deletions": self.deletions, "alone": alone}
        return statement("reconciled_live", asked=asked, **parts)

    def won(self, into: str) -> str:
        """Put the winners of all places, as cells, into a new temporary relation."""
        return statement("reconciled_won", won=into, winners=self.winners("true"), **self.names)

    def over(self) -> str:
        """Make what is over into tombstones, in records."""
        emptied = (
            f"v{element} = CASE WHEN v{element} IS NULL THEN NULL ELSE '' END"
            for element, _ in self._elements()
        )
        parts = self.names
        return statement("reconciled_over_records", emptied=", ".join(emptied), **parts)

    def _name(self, purpose: str) -> str:
        return beside(self.schema.table, self.new + purpose, self.generation)

    def _elements(self) -> Iterator[tuple[str, str]]:
        """(the end of its columns' names, its ordinal in SQL) of each element that folds."""
        for ordinal, ending in self.elements.items():
            yield ending, _ITSELF if ordinal is None else str(ordinal)


_ITSELF = "CAST(NULL AS INTEGER)"  # the ordinal of a row's own existence


def _cell_type(held: pa.Field) -> str:
    names = {pa.binary(): "BLOB", pa.string(): "VARCHAR", pa.int32(): "INTEGER"}
    return names.get(held.type, "BIGINT")
