"""Changes applied one by one to plain Python rows: the slow, obvious meaning of a RowChanges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from htapkit.model import Change, Op, RowChanges, SchemaChange, TableId, TableSchema, Truncate
from tests.typed_rows import told

Row = tuple[str | None, ...]


class Replay:
    """Tables as multisets of rows, every value told as text."""

    def __init__(self, schemas: Iterable[TableSchema]) -> None:
        """Empty tables."""
        self.schemas: dict[TableId, TableSchema] = {schema.table: schema for schema in schemas}
        self.rows: dict[TableId, Counter[Row]] = {table: Counter() for table in self.schemas}

    def apply(self, changes: Iterable[Change]) -> None:
        """In order."""
        for change in changes:
            if isinstance(change, Truncate):
                for table in change.tables:
                    self.rows[table].clear()
            elif isinstance(change, SchemaChange):
                self._widen(change)
            elif isinstance(change, RowChanges):
                self._rows(change)

    def _widen(self, change: SchemaChange) -> None:
        table, new = change.schema.table, change.schema
        ordinals = [column.ordinal for column in self.schemas[table].columns]
        places = [
            ordinals.index(column.ordinal) if column.ordinal in ordinals else None
            for column in new.columns
        ]
        self.rows[table] = Counter(
            tuple(None if place is None else row[place] for place in places)
            for row in self.rows[table].elements()
        )
        self.schemas[table] = new

    def _rows(self, change: RowChanges) -> None:
        schema = self.schemas[change.table]
        names = [column.name for column in schema.columns]
        identity = names if schema.whole_rows else list(schema.key)
        columns = [told(column) for column in change.rows.columns]
        before = change.before
        old = {} if before is None else {n: told(before[n]) for n in before.schema.names}
        moved = [False] * len(change.ops) if change.moved is None else change.moved.to_pylist()
        unchanged = {name: mask.to_pylist() for name, mask in change.unchanged.items()}
        for at, op in enumerate(change.ops.to_pylist()):
            row = {name: column[at] for name, column in zip(names, columns, strict=True)}
            where = {name: old[name][at] if moved[at] else row[name] for name in identity}
            gone: Mapping[str, str | None] = {}
            if op != Op.INSERT:
                gone = self._take(change.table, names, where)
            if op != Op.DELETE:
                for name, mask in unchanged.items():
                    if mask[at]:
                        assert row[name] is None
                        row[name] = gone[name]
                self.rows[change.table][tuple(row.values())] += 1

    def _take(
        self, table: TableId, names: list[str], where: Mapping[str, str | None]
    ) -> Mapping[str, str | None]:
        """Remove the one row that is meant."""
        rows = self.rows[table]
        for row in rows:
            found = dict(zip(names, row, strict=True))
            if all(found[name] == value for name, value in where.items()):
                rows[row] -= 1
                if not rows[row]:
                    del rows[row]
                return found
        raise AssertionError(f"no row of {table} is {where}")
