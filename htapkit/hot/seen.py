"""What became of rows that were made anew, for those who watch them."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from htapkit.hot.names import quote, statement
from htapkit.model import Column, Op, TableSchema

_BEFORE, _AFTER = "htapkit_before", "htapkit_after"
OP = "htapkit op"


class Seen:
    """The rows at some places, before and after. Of each key there is at most one in either."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, schema: TableSchema) -> None:
        """Nothing was seen yet: `before` and `after` are added to."""
        self._cursor = cursor
        self._schema = schema
        self.before: list[pa.Table] = []
        self.after: list[pa.Table] = []

    def changed(self) -> pa.Table:
        """The rows that are others now, by key: OP (int8), and the row; of one gone, its key.

        Rows are compared by what is printed of them: a zero that lost its sign is another.
        """
        before, after = self._rows(self.before), self._rows(self.after)
        wanted = pa.schema([pa.field(OP, pa.int8()), *self._schema.arrow])
        if before.num_rows:
            return self._compared(before, after).cast(wanted)
        inserted = pa.repeat(pa.scalar(int(Op.INSERT), pa.int8()), after.num_rows)
        order = [(name, "ascending") for name in self._schema.key]
        return after.add_column(0, wanted.field(0), inserted).sort_by(order)

    def _rows(self, parts: Sequence[pa.Table]) -> pa.Table:
        arrow = self._schema.arrow
        return pa.concat_tables([arrow.empty_table(), *(part.cast(arrow) for part in parts)])

    def _compared(self, before: pa.Table, after: pa.Table) -> pa.Table:
        columns, key = self._schema.columns, self._schema.key
        text = statement(
            "changed_rows",
            op=quote(OP),
            before=_BEFORE,
            after=_AFTER,
            now_columns=", ".join(f"now.{quote(c.name)}" for c in columns),
            gone_columns=", ".join(
                f"was.{quote(c.name)}" if c.name in key else "NULL" for c in columns
            ),
            equal=" AND ".join(_pair(name, "IS NOT DISTINCT FROM") for name in key),
            differ=" OR ".join(map(_differs, columns)),
            order=", ".join(quote(name) for name in key),
        )
        self._cursor.register(_BEFORE, before)
        self._cursor.register(_AFTER, after)
        try:
            return self._cursor.sql(text).to_arrow_table()
        finally:
            self._cursor.unregister(_BEFORE)
            self._cursor.unregister(_AFTER)


def _differs(column: Column) -> str:
    if pa.types.is_floating(column.arrow) or pa.types.is_fixed_size_list(column.arrow):
        return _pair(column.name, "IS DISTINCT FROM", "CAST({} AS VARCHAR)")
    return _pair(column.name, "IS DISTINCT FROM")


def _pair(name: str, comparison: str, form: str = "{}") -> str:
    was, now = (form.format(f"{alias}.{quote(name)}") for alias in ("was", "now"))
    return f"{was} {comparison} {now}"
