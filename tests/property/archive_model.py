"""The model's archives: all rows that its commits deleted, each at the time of its commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from htapkit.hot import HotStore, table_query
from htapkit.model import DELETED_AT, NUMBER, TableId, TableSchema, TableState, archive_of

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Event:
    """One change: `old` and `new` rows; a truncate has neither."""

    table: TableId
    old: Row | None = None
    new: Row | None = None
    skip: tuple[str, ...] = ()
    gone: tuple[Row, ...] = ()  # what a truncate took away


@dataclass
class Commit:
    events: list[Event]
    rows: dict[TableId, list[Row]]  # of every table, after it
    schemas: dict[TableId, TableSchema]


def check_archives(store: HotStore, commits: Sequence[Commit], since: Mapping[TableId, int]) -> int:
    """Each deletion since a table first followed is there once, as the row was; how many."""
    count = 0
    for table, first in since.items():
        if store.catalog.tables[table].state is TableState.PAUSED:
            continue  # its changes are kept aside
        schema = store.catalog.tables[archive_of(table)].schema
        found: dict[int, list[dict[str, Any]]] = {}
        with store.read(table_query(schema)) as read:
            for row in (r for batch in read.batches() for r in batch.to_pylist()):
                del row[NUMBER]
                found.setdefault(row.pop(DELETED_AT).microsecond, []).append(row)
            at = int(read.positions["shop"], 16)
        for number in range(first + 1, at + 1):
            columns = commits[number].schemas[table].columns
            names = [_names(commits, table, column.ordinal) for column in columns]
            seen = Counter(_valued(row, names) for row in found.pop(number, []))
            assert seen == Counter(_deleted(commits[number], table)), (table, number)
            count += seen.total()
        assert not found, (table, found)
    return count


def _deleted(commit: Commit, table: TableId) -> Iterator[Row]:
    for event in commit.events:
        if event.table == table and event.new is None:
            yield from event.gone if event.old is None else (event.old,)


def _names(commits: Sequence[Commit], table: TableId, ordinal: int) -> set[str]:
    """Each name that a column has ever had; no two had the same."""
    return {
        column.name
        for commit in commits
        for column in commit.schemas[table].columns
        if column.ordinal == ordinal
    }


def _valued(row: dict[str, Any], names: list[set[str]]) -> Row:
    """The values of these columns, by whatever name; None where nothing is known of one."""
    return tuple(next((v for n, v in row.items() if n in each), None) for each in names)
