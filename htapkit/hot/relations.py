"""Writing rows into one relation of the file: inserts, deletes by key or by row, looked-up values.

Never begins or ends a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa

from htapkit.errors import TableSetAside
from htapkit.hot.collapse import Ints, Net, NotConsistent
from htapkit.hot.horizon import too_old
from htapkit.hot.names import name_list, quote, statement
from htapkit.hot.patches import Patches
from htapkit.hot.prepared import Prepared, Slot
from htapkit.model import Horizon, TableSchema

_GROUP_ROWS = 122_880  # DuckDB's row group
_NUMBER = "number"
_WANTED = "htapkit_wanted"
_LOCAL_ROWS = 36_028_797_018_960_000  # DuckDB numbers rows that are not committed from here on


class Relation:
    """One relation of the file, through one cursor, with the columns of `schema`."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, name: str, schema: TableSchema) -> None:
        """`name` is quoted and qualified."""
        self.schema = schema
        self.name = name
        self.arrow = schema.arrow
        self._cursor = cursor
        self._prepared: dict[str, Prepared] = {}

    def put(
        self, net: Net, patches: Patches | None = None, horizon: Horizon | None = None
    ) -> tuple[int, int]:
        """Bring in the net effect of some changes; (rows taken out, rows put in).

        With `patches`, rows may also be in the lake, and a run may have to know what changed. With
        a `horizon`, rows below it do not come in, and need not be there. Raises NotConsistent when
        a row that must be there is not, StoreFailed when the lake cannot be read.
        """
        old = too_old(self.schema, horizon, net.rows)
        if old is not None:
            net = net.less(old)
        found = None
        if net.lookup is not None and net.lookup.num_rows:
            found = self._look_up(net.lookup, list(net.sources), patches, horizon)
        rows = net.filled(found)
        buried = 0
        if self.schema.whole_rows:
            # Rows that came and went within the batch must be there before they can go.
            self.insert(rows)
            gone = self._delete_whole(net.gone)
        else:
            gone, buried = self._delete_keys(net.gone, patches)
            self.insert(rows)
        there = gone + buried
        missing = net.gone.num_rows - there if net.gone is not None else 0
        if missing < 0 or (missing > 0 and horizon is None):
            assert net.gone is not None
            raise NotConsistent(f"{net.gone.num_rows} rows were to go and {there} are there")
        if patches is not None and patches.logs:
            patches.touch(net.gone, rows)
        return gone, rows.num_rows

    def departed(
        self, net: Net, patches: Patches | None, horizon: Horizon | None
    ) -> tuple[pa.Table, Ints]:
        """The rows that deletions take out of here, of those that are here; and their picks.

        `net` is that of `collapse.departed`. Call it before `put`. Raises StoreFailed.
        """
        assert net.picks is not None
        picks = np.arange(len(net.picks))
        values = None
        if net.lookup is not None and net.lookup.num_rows:
            found = self._find(net.lookup, list(net.sources), patches, horizon)
            numbers, at = np.unique(found[_NUMBER].to_numpy(), return_index=True)
            place = np.full(net.lookup.num_rows, -1, np.int64)
            place[numbers] = at
            here = np.ones(len(picks), np.bool_)
            sources = {}
            for name, source in net.sources.items():
                looked_up = source < 0
                at = place[np.where(looked_up, -1 - source, 0)]
                here &= ~looked_up | (at >= 0)
                sources[name] = np.where(looked_up, -1 - at, source)
            picks = picks[here]
            sources = {name: source[here] for name, source in sources.items()}
            net = replace(net, picks=net.picks[here], sources=sources)
            values = found.drop_columns([_NUMBER]).rename_columns(list(net.sources))
        rows = net.filled(values)
        old = too_old(self.schema, horizon, rows)
        if old is not None:
            rows, picks = rows.filter(pa.array(~old)), picks[~old]
        return rows, picks

    def insert(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Add rows."""
        if rows.num_rows:
            columns = name_list(self.arrow.names)
            self._statement("insert", self.arrow, columns=columns).run(rows).fetchall()

    def insert_all(self, batches: Iterable[pa.RecordBatch]) -> int:
        """Add the rows of many batches, a row group at a time; how many. Raises TableSetAside."""
        held: list[pa.RecordBatch] = []
        size = count = 0
        for batch in batches:
            if not batch.schema.equals(self.arrow):
                raise TableSetAside(
                    self.schema.table, "its rows came with other columns than the copy has"
                )
            held.append(batch)
            size += batch.num_rows
            if size >= _GROUP_ROWS:
                self.insert(pa.Table.from_batches(held))
                count, size, held = count + size, 0, []
        if held:
            self.insert(pa.Table.from_batches(held))
        return count + size

    def remove(self, keys: pa.Table, patches: Patches | None) -> int:
        """Take out the rows with these keys, those in the lake as well; how many were here."""
        gone, _ = self._delete_keys(keys, patches)
        if patches is not None and patches.logs:
            patches.touch(None, keys)
        return gone

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

    def _delete_keys(self, keys: pa.Table | None, patches: Patches | None) -> tuple[int, int]:
        """How many rows went, and how many of the keys are keys of rows in the lake."""
        if keys is None or not keys.num_rows:
            return 0, 0
        names = name_list(self.schema.key)
        key = names if len(self.schema.key) == 1 else f"({names})"
        if patches is None or patches.boundary is None:
            delete = self._statement("delete_keys", keys.schema, key=key, columns=names)
            return delete.count(keys), 0
        delete = self._statement("delete_keys_seen", keys.schema, key=key, columns=names)
        seen = delete.numbers(keys, "seen")
        return len(seen), patches.bury(keys, seen) if len(seen) < keys.num_rows else 0

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

    def _look_up(
        self,
        keys: pa.Table,
        columns: Sequence[str],
        patches: Patches | None,
        horizon: Horizon | None,
    ) -> pa.Table:
        found = self._find(keys, columns, patches, horizon)
        numbers = found[_NUMBER].to_numpy()
        if not np.array_equal(np.sort(numbers), np.arange(keys.num_rows)):
            raise NotConsistent(
                "an update did not resend an unchanged value, and the copy has not exactly "
                "one such row"
            )
        ordered = found.take(pa.array(np.argsort(numbers)))
        return ordered.drop_columns([_NUMBER]).rename_columns(list(columns))

    def _find(
        self,
        keys: pa.Table,
        columns: Sequence[str],
        patches: Patches | None,
        horizon: Horizon | None,
    ) -> pa.Table:
        """Values of the rows that have these keys: `number` of the key, and a column for each."""
        named = pa.table(
            [pa.array(range(keys.num_rows), pa.int64()), *keys.columns],
            names=[_NUMBER, *(f"k{i}" for i in range(keys.num_columns))],
        )
        equal = " AND ".join(
            f"kept.{quote(name)} = wanted.k{i}" for i, name in enumerate(self.schema.key)
        )
        wanted = ", ".join(f"kept.{quote(c)} AS c{i}" for i, c in enumerate(columns))
        slot = Slot(named.schema)
        slot.table = named
        self._cursor.register(_WANTED, slot)
        try:
            text = statement(
                "old_values", columns=wanted, table=self.name, equal=equal, rows=quote(_WANTED)
            )
            found = self._cursor.sql(text).to_arrow_table()
        finally:
            self._cursor.unregister(_WANTED)
        if patches is not None and patches.boundary is not None:
            elsewhere = np.setdiff1d(np.arange(keys.num_rows), found[_NUMBER].to_numpy())
            if len(elsewhere) and horizon is not None:
                # A row that became too old left a tombstone; what the lake has of it is outdated.
                elsewhere = np.setdiff1d(elsewhere, patches.buried(named))
            if len(elsewhere):
                more = patches.look_up(named.take(pa.array(elsewhere)), columns)
                found = pa.concat_tables([found, more.cast(found.schema)])
        return found


def _exact(field: pa.Field) -> str:
    """An expression that differs whenever two values print differently."""
    return "CAST({} AS VARCHAR)" if pa.types.is_floating(field.type) else "{}"
