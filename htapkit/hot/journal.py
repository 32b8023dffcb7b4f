"""What becomes of the rows of reconciled tables, in order, for those who are sent it.

Their sources have no order of their own. The copy has one: each entry is written in the transaction
that changed the rows, so nothing is in it twice, however often a source says it, and nothing is
missing. It is kept until all who read it have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from htapkit.errors import PositionLost
from htapkit.hot.core import Core
from htapkit.hot.names import statement
from htapkit.hot.noting import COPIED
from htapkit.hot.reads import Asked
from htapkit.hot.staging import from_row, unpacked
from htapkit.model import RowChanges, SchemaChange, TableId


def last_entry(source: str) -> Asked:
    """The number of a source's last entry, in whichever snapshot it is asked."""
    return Asked(statement("journal_last"), [source])


@dataclass(frozen=True, slots=True)
class Entry:
    """What one transaction of the copy did to a table's rows, or a part of it."""

    number: int
    noted_at: int  # microseconds since 1970, by our clock
    change: RowChanges | SchemaChange  # not faithful: all rows were copied anew


class Journal:
    """The journals of one store, one for each source."""

    def __init__(self, core: Core) -> None:
        """Use `HotStore.journal`."""
        self._core = core

    def fingerprint(self, table: TableId) -> str:
        """Another one after each new copy of the table; "" = it is not known."""
        record = self._core.state.records.get(table)
        return str(record.generation) if record is not None else ""

    def follow(self, source: str, reader: str, after: int | None) -> int:
        """Keep what comes behind an entry for a reader; None: from now on. The entry.

        Raises PositionLost: the journal has not all that came behind it.
        """
        with self._core.operation(source) as transaction:
            cursor, who = transaction.cursor, [source, reader]
            last = _number(cursor, statement("journal_last"), [source]) or 0
            if after is None:
                _forget(cursor, who)
                cursor.execute("INSERT INTO htapkit.readers VALUES ($1, $2, $3)", [*who, last])
                cursor.execute(statement("journal_forget"), [source]).fetchall()
                transaction.watched[source, reader] = frozenset()
                return last
            confirmed = _number(cursor, statement("journal_confirmed"), who)
            if confirmed is None or not confirmed <= after <= last:
                raise PositionLost(
                    f"the copy of {source} keeps nothing for {reader} from entry {after} on: its "
                    "file was made anew or restored, or the sink was detached"
                )
            return after

    def watch(self, source: str, reader: str, tables: frozenset[TableId]) -> None:
        """Write down from now on what becomes of these tables, and no others, for a reader."""
        core, who = self._core, [source, reader]
        if core.state.watched.get((source, reader)) == tables:
            return
        with core.operation(source) as transaction:
            _clear(transaction.cursor, "watched", who)
            for table in sorted(tables):
                row = [*who, table.schema, table.name]
                transaction.cursor.execute(
                    "INSERT INTO htapkit.watched VALUES ($1, $2, $3, $4)", row
                ).fetchall()
            transaction.watched[source, reader] = tables

    def read(self, source: str, after: int, bytes_max: int) -> Sequence[Entry]:
        """The oldest entries behind one: about so many bytes of them, or a single larger one."""
        return [
            Entry(number, at, self._change(TableId(source, schema, name), kind, payload))
            for number, schema, name, kind, at, payload in self._rows(
                "journal_read", [source, after, bytes_max]
            )
        ]

    def kept_bytes(self, source: str, reader: str) -> int:
        """How much is kept for a reader."""
        return int(self._rows("journal_kept", [source, reader])[0][0])

    def bytes_after(self, source: str, number: int) -> int:
        """How much there is behind an entry."""
        return int(self._rows("journal_after", [source, number])[0][0])

    def confirm(self, source: str, reader: str, number: int) -> None:
        """A reader has all up to this entry: what all readers have is removed."""
        with self._core.operation(source) as transaction:
            cursor = transaction.cursor
            cursor.execute(statement("journal_confirm"), [source, reader, number]).fetchall()
            cursor.execute(statement("journal_forget"), [source]).fetchall()

    def let_go(self, source: str, reader: str) -> None:
        """Keep nothing for a reader any more. Safe when nothing is kept."""
        with self._core.operation(source) as transaction:
            _forget(transaction.cursor, [source, reader])
            transaction.cursor.execute(statement("journal_forget"), [source]).fetchall()
            transaction.watched[source, reader] = None

    def keep(self, source: str, readers: frozenset[str]) -> frozenset[str]:
        """Keep nothing for any other reader; who they were."""
        known = {reader for of, reader in self._core.state.watched if of == source}
        for reader in known - readers:
            self.let_go(source, reader)
        return frozenset(known - readers)

    def _rows(self, name: str, values: list[Any]) -> list[tuple[Any, ...]]:
        core = self._core
        with core.guarded():
            cursor = core.database.cursor()
            try:
                return cursor.execute(statement(name), values).fetchall()
            finally:
                core.database.release(cursor)

    def _change(self, table: TableId, kind: str, payload: bytes) -> RowChanges | SchemaChange:
        copied = kind == COPIED
        change = unpacked(from_row(table, "schema" if copied else kind, "[]", payload))
        assert isinstance(change, RowChanges | SchemaChange)
        if copied and isinstance(change, SchemaChange):
            why, fingerprint = "it was copied again", self.fingerprint(table)
            return replace(change, faithful=False, why=why, fingerprint=fingerprint)
        return change


def _forget(cursor: duckdb.DuckDBPyConnection, who: list[str]) -> None:
    _clear(cursor, "readers", who)
    _clear(cursor, "watched", who)


def _clear(cursor: duckdb.DuckDBPyConnection, relation: str, who: list[str]) -> None:
    text = f"DELETE FROM htapkit.{relation} WHERE source = $1 AND reader = $2"  # noqa: S608 - ours
    cursor.execute(text, who).fetchall()


def _number(cursor: duckdb.DuckDBPyConnection, text: str, values: list[Any]) -> int | None:
    rows = cursor.execute(text, values).fetchall()
    return int(rows[0][0]) if rows else None
