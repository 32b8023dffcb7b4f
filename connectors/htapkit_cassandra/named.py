"""Rows that a log names and CQL reads: of counters, of tables that were copied over CQL. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from htapkit_cassandra.layout import Layout

Key = tuple[bytes, ...]
Row = Sequence[bytes | None]


@dataclass(frozen=True, slots=True)
class Named:
    """A row, what all rows of a partition share (`clustering` None), or the whole partition."""

    key: Key
    clustering: tuple[bytes | None, ...] | None = None
    whole: bool = False


def written_rows(
    layout: Layout, rows: Iterable[Row], at: Sequence[int]
) -> Iterator[tuple[Key, tuple[bytes | None, ...] | None, Row]]:
    """Each row of a result with its key, and once what its partition shares (no clustering).

    `at` says where the columns of the key are. The rows of a partition follow one another.
    """
    last, partition = None, len(at) - len(layout.places.clustering)
    for row in rows:
        key = tuple(row[n] or b"" for n in at[:partition])
        clustering = tuple(row[n] for n in at[partition:])
        if layout.schema.sharing and key != last:
            last = key
            yield key, None, row
        if not clustering or any(value is not None for value in clustering):
            yield key, clustering, row
