"""The lake's part of one statement: the rows of a version that count, as a query. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from htapkit.hot.horizon import horizon_column
from htapkit.hot.lakerows import RestRows, lake_query, rest_rows
from htapkit.hot.names import key_columns, name_list, quote, statement, tombstones
from htapkit.hot.times import in_range, moment
from htapkit.model import ENDS, Horizon, LakeFiles, TableSchema


@dataclass(frozen=True, slots=True)
class LakeArm:
    """A table's rows in the lake, for one statement: `name` (unquoted) is a view of them."""

    name: str
    schema: TableSchema  # as the hot store has it now
    files: LakeFiles
    patched: bool = True  # without the rows that a tombstone covers; False: the version as it was
    horizon: Horizon | None = None  # without the rows below it

    def rest(self) -> RestRows | None:
        """What has to be registered for `query`, if anything."""
        return rest_rows(self._read, self.files)

    def query(self, rest: str, now: int, *, buried: bool) -> str:
        """The rows that count: young enough, not ended at `now`, without a tombstone.

        `rest` is the unquoted name under which `rest()` is registered; `buried` says whether there
        are tombstones.
        """
        rows = lake_query(self._read, self.files, rest)
        conditions = [each for each in (self._young(), self._lasting(now)) if each]
        if conditions or self._read is not self.schema:
            columns = name_list(c.name for c in self.schema.columns)
            where = " AND ".join(conditions) or "true"
            rows = f"SELECT {columns} FROM ({rows}) AS aged WHERE {where}"  # noqa: S608 - quoted
        if not buried or not self.patched:
            return rows
        pairs = key_columns(self.schema)
        key = ", ".join(f"kept.{quote(column.name)}" for _, column in pairs)
        gone = name_list(name for name, _ in pairs)
        return statement(
            "lake_rows",
            columns=", ".join(f"kept.{quote(c.name)}" for c in self.schema.columns),
            rows=rows,
            key=key if len(pairs) == 1 else f"({key})",
            gone=gone if len(pairs) == 1 else f"({gone})",
            tombstones=tombstones(self.schema.table),
        )

    @property
    def _read(self) -> TableSchema:
        """What is read of the files: also when each row ends, where any does."""
        if self.files.first_end is None:
            return self.schema
        return replace(self.schema, columns=(*self.schema.columns, ENDS))

    def _young(self) -> str | None:
        """The condition that keeps out what is too old; None where the files have no such rows."""
        column, first = horizon_column(self.schema, self.horizon), self.files.first
        if column is None or self.horizon is None:
            return None
        if first is not None and first >= self.horizon.since:
            return None
        return in_range(column, self.horizon.since, None)

    def _lasting(self, now: int) -> str | None:
        """The condition that keeps out what has ended; None where nothing has."""
        if self.files.first_end is None or self.files.first_end > now:
            return None
        return f"({quote(ENDS.name)} IS NULL OR {quote(ENDS.name)} > {moment(ENDS, now)})"
