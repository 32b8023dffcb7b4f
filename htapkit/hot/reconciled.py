"""Tables whose source has no transactions: cells in any order, of which the largest rank is read.

Beside the plain relation lie those of cells (`folded`) and one of deletions, to which changes are
only added.
What a plain row holds is a query over both, so neither order nor repetition matters; after each
change the rows that it touched are made anew by that query. Never begins or commits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from htapkit.errors import StoreError, TableSetAside
from htapkit.hot.celltext import from_text
from htapkit.hot.folded import Folded
from htapkit.hot.folding import fold
from htapkit.hot.names import (
    key_columns,
    leaving,
    name_list,
    quote,
    relation,
    same_key,
    statement,
    touched,
)
from htapkit.hot.packed import Packed
from htapkit.hot.patches import Patches
from htapkit.hot.prepared import Prepared
from htapkit.hot.returning import Returning
from htapkit.hot.seen import Seen
from htapkit.hot.times import in_range, microseconds, time_column
from htapkit.model import (
    DELETIONS,
    CellChanges,
    Column,
    Horizon,
    TableSchema,
    cells_arrow,
    place_key,
    place_keys,
    stays_hot,
)

_COMPACT_CELLS = 200_000  # at one time, in memory
_ASKED = "place IN (SELECT place FROM asked)"


def check_leaves(schema: TableSchema, ordinal: int) -> None:
    """Raise StoreError where rows are made of cells and cannot leave, cut by this column."""
    why = stays_hot(schema) if schema.reconciled else ""
    if not why and schema.reconciled and time_column(schema, ordinal).name not in schema.key:
        why = "its time column is not in the key"
    if why:
        raise StoreError(
            f"{schema.table} is kept cell by cell, and {why}, so its rows stay in the hot store"
        )


@dataclass(frozen=True, slots=True)
class Remade:
    """What became of the rows that were made anew."""

    gone: int  # taken out of the relation
    came: int  # put in
    changed: pa.Table | None = None  # as `Seen.changed`, where somebody watches


class Reconciled:
    """One table's cells, deletions and plain rows, through one cursor."""

    def __init__(
        self, cursor: duckdb.DuckDBPyConnection, schema: TableSchema, generation: int
    ) -> None:
        """Of the copy with that number."""
        self.schema = schema
        self.generation = generation
        self.arrow = cells_arrow(schema)
        self.folded = Folded(schema, generation)
        self._records = self.folded.arrow
        self._cursor = cursor
        place = ("place", *place_keys(schema))
        self._place = pa.schema([self.arrow.field(name) for name in place])
        self._wanted = self._place.append(pa.field("now", pa.int64()))
        self._prepared: dict[str, Prepared] = {}

    def add(self, changes: Sequence[CellChanges]) -> None:
        """Add cells and deletions; the plain rows stay as they are."""
        for change in changes:
            self.load(change.cells)
            self.load(change.deletions)

    def load(self, batch: pa.RecordBatch) -> int:
        """Add cells or deletions; how many. Raises TableSetAside for anything else."""
        if batch.schema not in (self.arrow, DELETIONS):
            raise TableSetAside(self.schema.table, "its cells came with other columns")
        if batch.num_rows and batch.schema == DELETIONS:
            self._insert(self.folded.deletions, batch)
        elif batch.num_rows:
            self._add_cells(self.folded, batch)
        return int(batch.num_rows)

    def _add_cells(self, into: Folded, cells: pa.RecordBatch) -> None:
        records, rest = fold(cells, into.elements, self._records)
        self._insert(into.records, records)
        self._insert(into.cells, rest)

    def _insert(self, into: str, rows: pa.RecordBatch) -> None:
        if rows.num_rows:
            columns, slot = name_list(rows.schema.names), rows.schema
            parts = {"table": into, "columns": columns}
            found = self._over(into, slot, lambda made: statement("insert", rows=made, **parts))
            found.run(rows).fetchall()

    def apply(
        self,
        changes: Sequence[CellChanges],
        now: datetime,
        patches: Patches | None = None,
        horizon: Horizon | None = None,
        *,
        watched: bool = False,
    ) -> Remade:
        """Add changes and make the rows that they touch anew.

        With `patches`, rows may also be in the lake, and a run may have to know what changed. No
        change is of a row below the `horizon`. `watched`: somebody wants to know what changed.
        Raises StoreFailed when the lake cannot be read now.
        """
        returning = None
        if patches is not None and patches.boundary is not None:
            packed = Packed(self.folded)
            at = microseconds(now) if watched else None
            returning = Returning(self._cursor, packed, patches, horizon, watched_at=at)
            if not returning.bring(changes):
                returning = None
        self.add(changes)
        places = self._touched(changes)
        seen = Seen(self._cursor, self.schema) if watched else None
        gone, came = self._make_anew(places, now, seen)
        if returning is not None:
            if seen is not None:
                seen.before.append(returning.former)
            same, taken = returning.settle(microseconds(now))
            places = places.filter(pc.invert(pc.is_in(places["place"], same)))
            came -= taken
        if patches is not None and patches.logs:
            keys = places.select(list(place_keys(self.schema)))
            patches.touch(None, keys.rename_columns(list(self.schema.key)))
        return Remade(gone, came, seen.changed() if seen is not None else None)

    def drop_below(self, horizon: Horizon) -> None:
        """Take out the cells of rows below the horizon, whose column is one of the key."""
        column = time_column(self.schema, horizon.column)
        key = place_key(self.schema, column)
        old = in_range(replace(column, name=key), None, horizon.since)
        for name in (self.folded.records, self.folded.cells):
            self._cursor.execute(f"{statement('delete_all', table=name)} WHERE {old}").fetchall()

    def evict(self) -> int:
        """Take out the rows that were noted, but for those that changed since; how many."""
        table = self.schema.table
        keys = [quote(name) for name, _ in key_columns(self.schema)]
        stays = " AND ".join(f"touched.{name} = leaving.{name}" for name in keys)
        self._delete(leaving(table), "leaving", touched(table), "touched", stays)
        leaves = same_key(self.schema, "leaving", "kept")
        gone = self._delete(relation(table), "kept", leaving(table), "leaving", leaves)
        for name in (self.folded.records, self.folded.cells):
            text = statement("packed_taken", table=name, places=leaving(table))
            self._cursor.execute(text).fetchall()
        return gone

    def _delete(self, table: str, one: str, others: str, other: str, equal: str) -> int:
        """Rows of one relation that another has as well; how many."""
        parts = {"table": table, "one": one, "others": others, "other": other}
        text = statement("delete_matching", equal=equal, **parts)
        return int(self._cursor.execute(text).fetchall()[0][0])

    def expire(self, now: datetime, *, watched: bool = False) -> Remade:
        """Make the rows anew of which a cell is over."""
        moment = [microseconds(now)]
        names = self.folded.names
        text = statement("reconciled_due", **names)
        due = self._cursor.sql(text, params=moment).to_arrow_table().cast(self._place)
        if not due.num_rows:
            return Remade(0, 0)
        for text in (statement("reconciled_over", **names), self.folded.over()):
            self._cursor.execute(text, moment).fetchall()
        seen = Seen(self._cursor, self.schema) if watched else None
        gone, came = self._make_anew(due, now, seen)
        return Remade(gone, came, seen.changed() if seen is not None else None)

    def make_all(self, into: str, now: datetime) -> None:
        """Put all plain rows into an empty relation."""
        for name in self._makers():
            text = self._making(name, into, asked="SELECT $1 AS now", which="true")
            self._cursor.execute(text, [microseconds(now)]).fetchall()

    def compact(self) -> None:
        """Write cells and deletions anew, without what can never be read again."""
        self.close()
        # Names that are free: no other copy has them.
        new = Folded(self.schema, self.generation, new="new")
        new.create(self._cursor)
        won = quote(f"won {self.schema.table}")
        self._cursor.execute(self.folded.won(won)).fetchall()
        text, end = statement("reconciled_part", won=won), 0
        while True:
            begin, end = end, end + _COMPACT_CELLS
            part = self._cursor.sql(text, params=[begin, end]).to_arrow_table()
            for batch in part.cast(self.arrow).combine_chunks().to_batches():
                self._add_cells(new, batch)
            if part.num_rows < _COMPACT_CELLS:
                break
        self._cursor.execute(f"DROP TABLE {won}").fetchall()
        text = statement("reconciled_compact", old=self.folded.deletions, new=new.deletions)
        self._cursor.execute(text).fetchall()
        self.close()
        for old, made in zip(self.folded.all, new.all, strict=True):
            self._cursor.execute(f"DROP TABLE {old}").fetchall()
            last = old.rpartition(".")[2]
            self._cursor.execute(f"ALTER TABLE {made} RENAME TO {last}").fetchall()

    def close(self) -> None:
        """Let go of what is registered."""
        prepared, self._prepared = self._prepared, {}
        for each in prepared.values():
            each.close()

    def _touched(self, changes: Sequence[CellChanges]) -> pa.Table:
        """The places at which something may be another now, with their keys."""
        parts = [pa.table(change.cells.select(self._place.names)) for change in changes]
        written = pc.unique(pa.chunked_array([change.cells["place"] for change in changes]))
        for change in changes:
            # An INSERT of a collection deletes at its own place.
            known = pc.and_(
                pc.is_null(change.deletions["high"]), pc.is_in(change.deletions["low"], written)
            )
            elsewhere = change.deletions.filter(pc.invert(known))
            if elsewhere.num_rows:
                erased = self._statement("reconciled_erased", DELETIONS, **self.folded.names)
                parts.append(erased.found(elsewhere).cast(self._place))
        return pa.concat_tables(parts).group_by(self._place.names).aggregate([])

    def _make_anew(self, places: pa.Table, now: datetime, seen: Seen | None) -> tuple[int, int]:
        """(rows taken out, rows put in); `seen` is told of both."""
        if not places.num_rows:
            return 0, 0
        if self.schema.sharing:
            related = self._statement("reconciled_related", self._place, **self.folded.names)
            places = related.found(places).cast(self._place)
        moment = pa.repeat(microseconds(now), places.num_rows)
        wanted = places.append_column("now", moment).cast(self._wanted)
        into = relation(self.schema.table)
        before, after = (seen.before, seen.after) if seen is not None else (None, None)
        empty = frozenset(key for key, _ in self._keys() if places[key].null_count)
        removal = partial(self._removal, into, empty)
        taken = self._change(f"remove {sorted(empty)}", removal, wanted, before)
        which = self._at(empty)
        makers = [
            (f"{name} at {which}", partial(self._maker, into, name, which))
            for name in self._makers()
        ]
        return taken, sum(self._change(name, made, wanted, after) for name, made in makers)

    def _change(
        self,
        name: str,
        text: Callable[[str], str],
        wanted: pa.Table,
        seen: list[pa.Table] | None,
    ) -> int:
        """Run a statement; how many rows it changed. `seen` is given them."""
        if seen is None:
            return self._over(name, self._wanted, text).count(wanted)
        told = self._over(f"{name} seen", self._wanted, lambda rows: f"{text(rows)} RETURNING *")
        seen.append(told.found(wanted))
        return int(seen[-1].num_rows)

    def _makers(self) -> tuple[str, ...]:
        return ("rows", "shared") if self.schema.sharing else ("rows",)

    def _at(self, empty: frozenset[str]) -> str:
        """Which records and cells are at wanted places: what is compared is their keys, too.

        A place has one key. Keys have types by which a scan leaves out what is of other times, and
        are read in a fraction of the time that places take. `empty`: columns with a NULL there.
        """
        keys = [key for key, column in self._keys() if not column.nullable]
        if not keys or empty.intersection(keys):  # an empty value is shown as NULL
            return _ASKED
        listed = name_list(keys)
        return f"({listed}) IN (SELECT {listed} FROM asked) AND {_ASKED}"  # noqa: S608 - quoted

    def _maker(self, into: str, name: str, which: str, rows: str) -> str:
        """The statement that puts rows of wanted places in."""
        return self._making(name, into, asked=f"FROM {rows}", which=which)

    def _removal(self, into: str, empty: frozenset[str], rows: str) -> str:
        """The statement that takes them out."""
        equal = " AND ".join(
            f"kept.{quote(c.name)} {_same(c, empty=key in empty)} gone.{key}"
            for key, c in self._keys()
        )
        keys = self.folded.names["keys"]
        return statement("reconciled_remove", table=into, keys=keys, equal=equal, rows=rows)

    def _making(self, name: str, into: str, *, asked: str, which: str) -> str:
        """The statement that puts plain rows in: those with a place, or what is shared alone."""
        shared = [c for c in self.schema.columns if c.shared]
        own = [c for c in self.schema.columns if not c.shared and c.name not in self.schema.key]
        columns = name_list(c.name for c in self.schema.columns)
        names = {name: self.folded.names[name] for name in ("keys", "any_keys")}
        parts = {"table": into, "columns": columns, **names}
        if name == "shared":
            pairs = [(key, c) for key, c in self._keys() if not c.nullable]
            return statement(
                "reconciled_shared",
                live=self.folded.live(asked, which),
                shared_values=_values(shared),
                selected=self._selected("s", [], shared),
                same_first=" AND ".join(f"kept.{quote(c.name)} = s.{key}" for key, c in pairs),
                **parts,
            )
        join = statement("reconciled_join", values=_values(shared)) if shared else ""
        return statement(
            "reconciled_rows",
            live=self.folded.live_beside_alone(asked, which),
            own_values=_values(own),
            alone_values="".join(f", {_alone(column)} AS v{column.ordinal}" for column in own),
            selected=self._selected("o", own, shared),
            shared=join,
            **parts,
        )

    def _selected(self, alias: str, own: Iterable[Column], shared: Iterable[Column]) -> str:
        """The columns of the plain relation, in order; those that are not there are NULL."""
        places = {column.name: f"{alias}.{key}" for key, column in self._keys()}
        places |= {c.name: f"o.v{c.ordinal}" for c in own}
        places |= {c.name: f"s.v{c.ordinal}" for c in shared}
        return ", ".join(places.get(c.name, "NULL") for c in self.schema.columns)

    def _keys(self) -> Iterable[tuple[str, Column]]:
        """The key's columns, each behind what a place calls it."""
        return zip(place_keys(self.schema), self.schema.key_columns, strict=True)

    def _statement(self, name: str, slot: pa.Schema, **parts: str) -> Prepared:
        return self._over(name, slot, lambda rows: statement(name, rows=rows, **parts))

    def _over(self, name: str, slot: pa.Schema, text: Callable[[str], str]) -> Prepared:
        found = self._prepared.get(name)
        if found is None:
            found = self._prepared[name] = Prepared.over(self._cursor, slot, text)
        return found


def _same(column: Column, *, empty: bool) -> str:
    return "IS NOT DISTINCT FROM" if column.nullable or empty else "="


def _values(columns: Iterable[Column]) -> str:
    """Expressions over live cells for the values of columns, each after a comma."""
    return "".join(f", {_value(column)} AS v{column.ordinal}" for column in columns)


def _alone(column: Column) -> str:
    """The value of a record's column; elements are in no record."""
    return "NULL" if column.gathered else from_text(column, f"v{column.ordinal}")


def _value(column: Column) -> str:
    chosen = f"FILTER (WHERE ordinal = {column.ordinal})"
    if column.gathered:
        first, last = column.gathered[0], column.gathered[1]
        text = f"'{first}' || string_agg(value, ', ' ORDER BY path) {chosen} || '{last}'"
    else:
        text = f"any_value(value) {chosen}"
    return from_text(column, text)
