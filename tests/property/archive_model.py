"""The model's archives: all rows that its commits deleted, each at the time of its commit."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from htapkit.hot import HotStore, table_query
from htapkit.model import DELETED_AT, NUMBER, TableId, TableSchema, TableState, archive_of
from tests.unit.htapkit.hot.lakes import PlainLake, arm

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


Archived = dict[str, Any]


@dataclass
class Erased:
    """What was erased of archives, with the number of the commit that had deleted it."""

    rows: dict[TableId, list[tuple[int, Archived]]] = field(default_factory=dict)

    def erase(
        self, store: HotStore, lake: PlainLake, table: TableId, rng: random.Random
    ) -> Counter[str]:
        """Erase some rows, wherever they lie; how many."""
        chosen = [row for row in _archived(store, lake, table)[0] if rng.random() < 0.3]
        numbers = [row.pop(NUMBER) for row in chosen]
        with store.read(table_query(store.catalog.tables[archive_of(table)].schema)) as read:
            hot = {number for batch in read.batches() for number in batch[NUMBER].to_pylist()}
        store.archives.erase(table, pa.array(numbers, pa.int64()))
        rows = self.rows.setdefault(table, [])
        rows += [(row.pop(DELETED_AT).microsecond, row) for row in chosen]
        return Counter(
            {"erased": len(chosen), "erased in the lake": sum(n not in hot for n in numbers)}
        )


def check_archives(
    store: HotStore,
    lake: PlainLake,
    commits: Sequence[Commit],
    since: Mapping[TableId, int],
    erased: Erased,
) -> Counter[str]:
    """Each deletion since a table first followed is there once, in hot or in the lake, as it was.

    Less what is erased. How many were seen, and how many of them in the lake.
    """
    count: Counter[str] = Counter()
    for table, first in since.items():
        if store.catalog.tables[table].state is TableState.PAUSED:
            continue  # its changes are kept aside
        rows, at = _archived(store, lake, table)
        boundary = store.catalog.tables[archive_of(table)].boundary
        count["in the lake"] += boundary.pin.rows if boundary is not None else 0
        found: dict[int, list[Archived]] = {}
        numbers = Counter(row.pop(NUMBER) for row in rows)
        assert max(numbers.values(), default=1) == 1, (table, numbers.most_common(3))
        for row in rows:
            found.setdefault(row.pop(DELETED_AT).microsecond, []).append(row)
        gone: dict[int, list[Archived]] = {}
        for number, row in erased.rows.get(table, ()):
            gone.setdefault(number, []).append(row)
        for number in range(first + 1, at + 1):
            columns = commits[number].schemas[table].columns
            names = [_names(commits, table, column.ordinal) for column in columns]
            seen = Counter(_valued(row, names) for row in found.pop(number, []))
            less = Counter(_valued(row, names) for row in gone.get(number, []))
            expected = Counter(_deleted(commits[number], table))
            assert seen + less == expected, (table, number, seen, less, expected)
            count["seen"] += seen.total()
        assert not found, (table, found)
    return count


def _archived(store: HotStore, lake: PlainLake, table: TableId) -> tuple[list[Archived], int]:
    """The rows of an archive, hot and in the lake, and the commit that they are as of."""
    status = store.catalog.tables[archive_of(table)]
    sql, arms = table_query(status.schema), []
    if status.boundary is not None:
        arms = [arm(store, lake, status.schema.table)]
        sql += ' UNION ALL SELECT * FROM "htapkit lake 1"'
    with store.read(sql, lake=arms) as read:
        rows = [row for batch in read.batches() for row in batch.to_pylist()]
        return rows, int(read.positions["shop"], 16)


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
