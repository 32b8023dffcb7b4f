"""Questions that a source without SQL may answer itself, and what it must be to do so.

A lookup is one SELECT of one table as far as a key, an index or an order can serve it. Its rows may
be more than the statement's own: whoever asks filters, sorts and computes again, as over the copy.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import pyarrow as pa

from htapkit.model import TableId, TableSchema


@dataclass(frozen=True, slots=True)
class Later:
    """In the place of a value: that of the statement's parameter at this index."""

    at: int


@dataclass(frozen=True, slots=True)
class Condition:
    """`column operator value`, which each row that counts meets; `=` one of several values.

    Values are int, str (also a uuid, in lower case), bool, bytes, date, aware datetime, None (then
    nothing meets it), and Later.
    """

    column: str
    operator: str  # = < <= > >=
    values: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Nearest:
    """Sorted by the distance of a column's vector from another one, the nearest first."""

    column: str
    operator: str  # as pgvector spells it
    vector: object  # a text such as "[1, 2]", of as many elements as the column has; or Later


@dataclass(frozen=True, slots=True)
class Lookup:
    """The rows of a table that meet the conditions.

    `complete`: there is no other condition. `limit`: so many rows do, if they are the first by
    `order` or `nearest`; None: all are needed.
    """

    table: TableId
    columns: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()
    complete: bool = True
    order: tuple[tuple[str, bool], ...] = ()  # columns, and whether descending
    nearest: Nearest | None = None
    limit: object = None


@runtime_checkable
class LooksUp(Protocol):
    """What a Source may be, too: one that answers lookups itself. Thread-safe."""

    def explain(self, asked: Lookup, /) -> str:
        """The question in the source's own language; some values may be Later.

        Raises LookupRefused where no key or index serves it, and says which is missing.
        """
        ...

    def look_up(self, asked: Lookup, /) -> Generator[pa.RecordBatch]:
        """All rows of it as they are now, in `columns`, perhaps others with them.

        At least one batch; types are those of the table's Arrow schema. No value is Later. Raises
        LookupRefused, SourceRefused, SourceUnavailable. Closing it ends it there.
        """
        ...


@runtime_checkable
class ReadsRows(Protocol):
    """What a Source may be, too: one that gives its reconciled tables' rows. Thread-safe."""

    def rows(
        self, schema: TableSchema, keys: pa.Table | None = None, /
    ) -> Generator[pa.RecordBatch]:
        """All rows of a table, each as it was at some moment after the call.

        In the schema's columns, as Arrow has them. What was acknowledged before is in it,
        at whichever consistency. With `keys` (the key's columns) those rows, perhaps with others.
        Raises CatalogChanged (it has other columns by now), LookupRefused, SourceError.
        """
        ...


def settled(asked: Lookup, values: Sequence[object]) -> Lookup:
    """With the parameters' values."""

    def value(given: object) -> object:
        return values[given.at] if isinstance(given, Later) else given

    conditions = tuple(
        replace(each, values=tuple(map(value, each.values))) for each in asked.conditions
    )
    nearest = asked.nearest and replace(asked.nearest, vector=value(asked.nearest.vector))
    return replace(asked, conditions=conditions, nearest=nearest, limit=value(asked.limit))
