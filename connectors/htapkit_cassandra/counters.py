"""Counters, which are read over CQL: neither log nor files have the number, only each node's part.

What is read is the row as all of its replicas have it (consistency ALL). It gets a time of ours
from before it was read, so of two readings the later one counts, and no rule of Cassandra's for
deleted counters has to be known. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from htapkit_cassandra.catalog import quoted, quoted_table
from htapkit_cassandra.layout import Layout
from htapkit_cassandra.mutations import Cell, LogChange, PartitionDeletion, RowWrite
from htapkit_cassandra.named import Key, Named, Row, written_rows


def counts(layout: Layout) -> bool:
    """Whether it is a table of counters: then all columns outside of its key are."""
    return any(type_.name == "counter" for type_ in layout.types.values())


def named(change: LogChange) -> Named:
    """What a change may have changed."""
    if isinstance(change, RowWrite):
        return Named(change.key, change.clustering)
    return Named(change.key, whole=True)


def select(layout: Layout) -> str:
    """All columns."""
    schema = layout.schema
    columns = ", ".join(quoted(column.name) for column in schema.columns)
    return f"SELECT {columns} FROM {quoted_table(schema.table)}"  # noqa: S608 - quoted names


def read_again(
    layout: Layout, wanted: Named, rows: Sequence[Row], deleted: int, written: int
) -> list[LogChange]:
    """What a reading says of what was wanted; what is not there is gone."""
    if wanted.whole:
        gone = PartitionDeletion("", wanted.key, deleted)
        return [gone, *counted(layout, rows, written)]
    shared = wanted.clustering is None
    row = rows[0] if rows else [None] * len(layout.schema.columns)
    return [_write(layout, wanted.key, wanted.clustering, row, written, shared=shared)]


def counted(layout: Layout, rows: Iterable[Row], written: int) -> Iterator[LogChange]:
    """All that some rows have, with what their partitions share."""
    schema = layout.schema
    at = [next(n for n, c in enumerate(schema.columns) if c.name == name) for name in schema.key]
    for key, clustering, row in written_rows(layout, rows, at):
        yield _write(layout, key, clustering, row, written, shared=clustering is None)


def _write(
    layout: Layout,
    key: Key,
    clustering: tuple[bytes | None, ...] | None,
    row: Row,
    written: int,
    *,
    shared: bool,
) -> RowWrite:
    cells = [
        Cell(column.name, written, value, expires=None if value is not None else written // 10**6)
        for column, value in zip(layout.schema.columns, row, strict=True)
        if column.shared is shared and column.name not in layout.schema.key
    ]
    return RowWrite("", key, clustering, tuple(cells))
