"""Somebody who is sent what becomes of a reconciled table's rows, and has what that makes of them.

Each entry must be a change: what is there is never made, what is not there never changed or taken
away, and nothing changes into what it is already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from htapkit.hot import Asked, Entry, HotStore, last_entry
from htapkit.model import Op, RowChanges, TableId

READER = "watcher"
Rows = Mapping[tuple[Any, ...], tuple[Any, ...]]


class Watcher:
    """Of one table of a store, from now on."""

    def __init__(self, store: HotStore, table: TableId, rows: Asked) -> None:
        """`rows` is the statement of all rows that there are."""
        self.table = table
        self.entries = 0
        self.at = store.journal.follow(table.source, READER, None)
        store.journal.watch(table.source, READER, frozenset({table}))
        self.copy(store, rows)

    def copy(self, store: HotStore, rows: Asked) -> None:
        """All rows, and the last entry that they have."""
        schema = store.catalog.tables[self.table].schema
        self._key = [schema.arrow.names.index(name) for name in schema.key]
        with store.moment() as moment:
            (last,) = moment.batches(last_entry(self.table.source))
            self.rows = {
                self._key_of(row): row
                for batch in moment.batches(rows)
                for row in (tuple(each.values()) for each in batch.to_pylist())
            }
        self._copied_at = max(self.at, int(last.column(0)[0].as_py()))

    def take(self, store: HotStore) -> bool:
        """Apply all new entries; whether the table was copied again: then `copy` it."""
        while found := store.journal.read(self.table.source, self.at, 1):
            for entry in found:
                assert entry.number > self.at, "entries come in order"
                self.at = entry.number
                if not isinstance(entry.change, RowChanges):
                    if not entry.change.faithful:
                        return True
                elif entry.number > self._copied_at:
                    self._apply(entry, entry.change)
        return False

    def taken(self, store: HotStore) -> list[Any]:
        """The rows, with all that was said of them till now."""
        assert not self.take(store), "the table was copied again"
        return sorted(self.rows.values(), key=repr)

    def forget(self, store: HotStore) -> None:
        """Have what was taken removed."""
        store.journal.confirm(self.table.source, READER, self.at)
        assert not store.journal.kept_bytes(self.table.source, READER)

    def _apply(self, entry: Entry, change: RowChanges) -> None:
        assert change.rows.num_rows, f"entry {entry.number} says nothing"
        self.entries += 1
        for op, each in zip(change.ops.to_pylist(), change.rows.to_pylist(), strict=True):
            row = tuple(each.values())
            key = self._key_of(row)
            there = self.rows.get(key)
            if op == Op.DELETE:
                assert there is not None, (entry.number, "gone", row)
                del self.rows[key]
                continue
            assert (there is None) == (op == Op.INSERT), (entry.number, op, row)
            assert repr(there) != repr(row), (entry.number, "no change", row)
            self.rows[key] = row

    def _key_of(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(row[index] for index in self._key)
