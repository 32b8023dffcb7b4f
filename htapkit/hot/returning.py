"""Rows of a reconciled table that are in the lake, and that a batch writes to or deletes from.

Which write of a cell is read is decided cell by cell, and the lake has the cells of its rows alone:
so they come back, once, before the batch counts. What is then as it was is forgotten again; of
repairs and repetition nothing stays. Never begins or commits.

Of each row in the lake that counts, nothing is here; and no deletion that is here reaches any cell
of it. Both hold from the run that took it on, and are what keeps the looks into the lake few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from htapkit.hot.horizon import less_old
from htapkit.hot.names import name_list, quote, relation, same_key, statement, tombstones
from htapkit.hot.packed import OURS, Packed
from htapkit.hot.patches import Patches
from htapkit.hot.times import time_column
from htapkit.model import (
    DELETIONS,
    LAKE_PLACE,
    CellChanges,
    Horizon,
    lake_schema,
    place_key,
    place_keys,
)

_ROWS = "htapkit_returning"
_DAY = 86_400_000_000


class Returning:
    """Those of one batch, in a relation of the transaction's own."""

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        packed: Packed,
        patches: Patches,
        horizon: Horizon | None,
        *,
        watched_at: int | None = None,
    ) -> None:
        """The boundary is that of `patches`; rows below the horizon do not come back.

        `watched_at`: somebody wants to know what changed, as of that moment (microseconds).
        """
        self._cursor = cursor
        self._packed = packed
        self._schema = packed.schema
        self._patches = patches
        self._horizon = horizon
        self._watched_at = watched_at
        self.former = self._schema.arrow.empty_table()  # where watched: the rows as they were
        self._returned = quote(f"returned {self._schema.table}")

    def bring(self, changes: Sequence[CellChanges]) -> bool:
        """Bring back the cells of the rows that these changes meet; whether any may have come.

        Before the changes are added. Of a row of which a deletion leaves nothing only the key
        comes, as a tombstone. Raises StoreFailed when the lake cannot be read now.
        """
        places, times = self._written(changes)
        deletions = pa.Table.from_batches([c.deletions for c in changes], DELETIONS)
        spans = self._deleted(deletions, changes) if deletions.num_rows else deletions
        if not places.num_rows and not spans.num_rows:
            return False
        self._run("returned_create", columns=self._packed.definitions)
        if places.num_rows:
            self._take(self._patches.lake_rows_at(places, times))
        if spans.num_rows:
            self._take(self._patches.lake_rows_between(spans))
        if self._watched_at is not None:
            text = self._packed.readable(self._returned, self._watched_at)
            self.former = self._cursor.sql(text).to_arrow_table()
        if spans.num_rows:
            self._bury_dead(deletions)
        self._cursor.execute(self._packed.unpack(self._returned)).fetchall()
        return True

    def settle(self, now: int) -> tuple[pa.Array, int]:
        """Forget what is as it was, and let the others count here.

        The places of the former, and how many plain rows of them went. After the rows were made
        anew, at `now` (microseconds).
        """
        folded, table = self._packed.folded, self._schema.table
        same = self._cursor.sql(self._packed.same(self._returned, now)).to_arrow_table()
        gone = 0
        if same.num_rows:
            with self._over(same) as rows:
                for name in (folded.records, folded.cells):
                    self._run("packed_taken", table=name, places=rows)
                which = f"(SELECT * FROM {self._returned} WHERE place IN (FROM {rows}))"  # noqa: S608 - quoted
                equal = " AND ".join(
                    f"same.{self._packed.called(c)} = kept.{quote(c.name)}"
                    for c in self._schema.key_columns
                )
                named = {"one": "kept", "others": which, "other": "same"}
                text = statement("delete_matching", table=relation(table), equal=equal, **named)
                gone = int(self._cursor.execute(text).fetchall()[0][0])
                self._run("packed_taken", table=self._returned, places=rows)
        keys = self._packed.keys
        self._run(
            "returned_bury",
            tombstones=tombstones(table),
            columns=name_list(name for name, _ in keys),
            keys=", ".join(name for _, name in keys),
        )
        self._cursor.execute(f"DROP TABLE {self._returned}").fetchall()
        return same["place"].combine_chunks(), gone

    def _written(self, changes: Sequence[CellChanges]) -> tuple[pa.Table, tuple[int, int]]:
        """Places below the boundary of which nothing is here, and their first and last time."""
        boundary = self._patches.boundary
        assert boundary is not None
        column = time_column(self._schema, boundary.column)
        names = ["place", *place_keys(self._schema)]
        cells = pa.Table.from_batches([c.cells.select(names) for c in changes])
        days = pa.types.is_date(column.arrow)
        times = cells[place_key(self._schema, column)].cast(pa.int32() if days else pa.int64())
        times = times.cast(pa.int64())
        times = pc.multiply(times, _DAY if days else 1)
        below = pc.less(times, boundary.below)
        cells, times = cells.filter(below), times.filter(below)
        if not cells.num_rows:
            return cells, (0, 0)
        span = (pc.min(times).as_py(), pc.max(times).as_py() + 1)
        places = cells.group_by(cells.column_names).aggregate([])
        with self._over(places) as rows:
            text = statement("returned_wanted", rows=rows, **self._packed.folded.names)
            return self._cursor.sql(text).to_arrow_table().cast(places.schema), span

    def _deleted(self, deletions: pa.Table, changes: Sequence[CellChanges]) -> pa.Table:
        """[low, high) of what is newly deleted, and may reach the lake.

        A single place with a cell in this batch needs no look for its deletion: it is not below
        the boundary, or it is here, or it is looked for as a written one. So it is with the
        deletion of a collection that each INSERT of one brings along.
        """
        with self._over(deletions) as rows:
            text = statement("returned_deleted", rows=rows, **self._packed.folded.names)
            found = self._cursor.sql(text).to_arrow_table()
        single = pc.is_null(found["high"])
        written = pa.chunked_array([c.cells["place"] for c in changes])
        asked = pc.is_in(found["low"], pc.unique(written))
        return found.filter(pc.invert(pc.and_(single, asked)))

    def _take(self, batches: Iterator[pa.RecordBatch]) -> None:
        """Keep those rows of the lake that still count."""
        columns = [*OURS, *(c.name for c in self._schema.columns)]
        for batch in batches:
            young = less_old(self._schema, self._horizon, pa.Table.from_batches([batch]))
            with self._over(young) as rows:
                self._run(
                    "returned_add",
                    columns=", ".join(f"kept.{quote(name)}" for name in columns),
                    place=quote(LAKE_PLACE),
                    rows=rows,
                    tombstones=tombstones(self._schema.table),
                    equal=same_key(lake_schema(self._schema), "gone", "kept"),
                )

    def _bury_dead(self, deletions: pa.Table) -> None:
        keys = self._packed.keys
        with self._over(deletions) as rows:
            text = statement(
                "returned_dead",
                returned=self._returned,
                rows=rows,
                keys=", ".join(f"{ours} AS {quote(name)}" for name, ours in keys),
            )
            dead = self._cursor.sql(text).to_arrow_table()
        if not dead.num_rows:
            return
        columns = name_list(name for name, _ in keys)
        with self._over(dead) as rows:
            gone = tombstones(self._schema.table)
            self._run("insert", table=gone, columns=columns, rows=rows)
            self._run("packed_taken", table=self._returned, places=rows)
        if self._patches.logs:
            found = dead.drop_columns(["place"])
            self._patches.touch(None, found.rename_columns(list(self._schema.key)))

    def _run(self, name: str, **parts: str) -> None:
        text = statement(name, **{"returned": self._returned, **parts})
        self._cursor.execute(text).fetchall()

    @contextmanager
    def _over(self, rows: pa.Table) -> Iterator[str]:
        """The quoted name under which these rows are read."""
        self._cursor.register(_ROWS, rows)
        try:
            yield quote(_ROWS)
        finally:
            self._cursor.unregister(_ROWS)
