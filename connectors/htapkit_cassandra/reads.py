"""Lookups carried out: CQL at the node, over a session of its own, and its rows in Arrow.

Values are read from the node's own bytes by the same code as those of the log and the files.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
from cassandra import ConsistencyLevel
from cassandra.cluster import NoHostAvailable, Session
from cassandra.query import BoundStatement, PreparedStatement

from htapkit.errors import CatalogChanged, LookupRefused, SourceUnavailable, UnfaithfulValue
from htapkit.lookups import Condition, Lookup
from htapkit.model import TableId, TableSchema
from htapkit.spi import Discovered
from htapkit_cassandra import catalog, cql
from htapkit_cassandra.catalog import quoted, quoted_table
from htapkit_cassandra.cluster import translated
from htapkit_cassandra.keys import Index, Keys, keys_of, read_index
from htapkit_cassandra.layout import maker
from htapkit_cassandra.lookups import Statement
from htapkit_cassandra.lookups import translated as in_cql
from htapkit_cassandra.settings import Settings
from htapkit_cassandra.types import SCALARS
from htapkit_cassandra.undecoded import KeptSession

PAGE_ROWS: Final = 5_000
_EACH_REPLICA = "ALL"  # has what any of them has, as the copy does
_NEAREST = "LOCAL_ONE"  # the node finds the nearest of one replica, or refuses
_SAME: Final = {"varchar": "text"}


def indexes(opened: Session) -> Mapping[tuple[str, str], tuple[Index, ...]]:
    """Those of all tables, by keyspace and table."""
    found: dict[tuple[str, str], tuple[Index, ...]] = {}
    for row in opened.execute("SELECT * FROM system_schema.indexes"):
        index = read_index(row.kind, dict(row.options or {}))
        if index is not None:
            at = row.keyspace_name, row.table_name
            found[at] = (*found.get(at, ()), index)
    return found


class Reads:
    """The LooksUp of the source. Thread-safe: many may read at once."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is connected before the first lookup."""
        self._settings = settings
        self._keys: Mapping[TableId, Keys] = {}
        self._kept = KeptSession(settings)

    def remember(
        self, found: Sequence[Discovered], by_table: Mapping[tuple[str, str], tuple[Index, ...]]
    ) -> None:
        """The tables as they are now."""
        keys = {}
        for each in found:
            table = each.schema.table
            of_table = by_table.get((table.schema, table.name), ())
            keys[table] = keys_of(each, catalog.layout(each), of_table)
        self._keys = keys

    def explain(self, asked: Lookup) -> str:
        """The CQL, with its consistency. Raises LookupRefused."""
        made = in_cql(asked, self._known(asked))
        return f"{made.text} (at {self._consistency(made)})"

    def look_up(self, asked: Lookup) -> Generator[pa.RecordBatch]:
        """See LooksUp."""
        keys = self._known(asked)
        made = in_cql(asked, keys)
        yield from self._batches(made, keys, self._consistency(made))

    def rows(self, wanted: TableSchema, some: pa.Table | None) -> Generator[pa.RecordBatch]:
        """See ReadsRows: at ALL, whatever `read_consistency` says."""
        names = tuple(column.name for column in wanted.columns)
        keys = self._known(Lookup(wanted.table, names))
        if keys.layout.schema != wanted:
            raise CatalogChanged(f"{wanted.table}: its columns are others by now")
        if some is None:
            text = f"SELECT {', '.join(map(quoted, names))} FROM {quoted_table(wanted.table)}"  # noqa: S608
            yield from self._batches(Statement(text, names), keys, _EACH_REPLICA)
            return
        for row in some.to_pylist():
            # A row without a clustering has what its partition shares: that is all of them.
            conditions = [Condition(n, "=", (v,)) for n, v in row.items() if v is not None]
            made = in_cql(Lookup(wanted.table, names, tuple(conditions)), keys)
            yield from self._batches(made, keys, _EACH_REPLICA)

    def _batches(self, made: Statement, keys: Keys, consistency: str) -> Generator[pa.RecordBatch]:
        columns = [c for c in keys.layout.schema.columns if c.name in made.columns]
        schema = pa.schema([pa.field(c.name, c.arrow) for c in columns])
        decoders = [_decoder(keys, c.name) for c in columns]
        yield pa.RecordBatch.from_pylist([], schema=schema)
        if made.empty:
            return
        for rows in filter(len, self._pages(made, keys, consistency)):
            values = zip(*rows, strict=True)
            arrays = [
                pa.array([decode(v) for v in column], field.type)
                for decode, column, field in zip(decoders, values, schema, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def close(self) -> None:
        """Let go of the connection. Safe to call twice."""
        self._kept.close()

    def _known(self, asked: Lookup) -> Keys:
        keys = self._keys.get(asked.table)
        if keys is None:
            raise LookupRefused(f"{asked.table}: nothing is known of its key yet")
        if any(keys.layout.schema.column(name) is None for name in asked.columns):
            raise LookupRefused(f"{asked.table}: its columns are others by now")
        return keys

    def _consistency(self, made: Statement) -> str:
        return _NEAREST if made.approximate else self._settings.read_consistency

    def _pages(
        self, made: Statement, keys: Keys, consistency: str
    ) -> Generator[Sequence[Sequence[bytes | None]]]:
        """The rows as they come. Raises SourceError."""
        opened = self._kept.opened()
        try:
            with translated(self._settings):
                prepared = self._kept.statement(opened, made.text)
                bound = BoundStatement(prepared, fetch_size=PAGE_ROWS)
                bound.consistency_level = getattr(ConsistencyLevel, consistency)
                bound.values = list(made.values)
                result = opened.execute(bound)
            while True:
                _same_types(prepared, keys)
                yield result.current_rows
                if not result.has_more_pages:
                    return
                with translated(self._settings):
                    result.fetch_next_page()
        except SourceUnavailable as error:
            if isinstance(error.__context__, NoHostAvailable):
                self._kept.gone(opened)
            raise


def _same_types(prepared: PreparedStatement, keys: Keys) -> None:
    """Raise LookupRefused where the table is another one than was last looked at."""
    for _, _, name, type_ in prepared.result_metadata:
        known = keys.layout.types[name].name
        told = type_.typename
        if known in SCALARS and _SAME.get(told, told) != _SAME.get(known, known):
            table = keys.layout.schema.table
            raise LookupRefused(f"{table}: {name} is of another type by now")


def _decoder(keys: Keys, name: str) -> Callable[[bytes | None], Any]:
    """From the node's bytes to what Arrow takes. It raises UnfaithfulValue."""
    column, type_ = keys.layout.schema.column(name), keys.layout.types[name]
    assert column is not None
    if pa.types.is_fixed_size_list(column.arrow):
        elements = struct.Struct(f">{column.arrow.list_size}f")
        return lambda value: elements.unpack(value) if value else None
    make = maker(column)

    def decoded(value: bytes | None) -> object:
        try:
            text = None if value is None else cql.as_text(type_, value)
        except ValueError as odd:
            raise UnfaithfulValue(keys.layout.schema.table, name, str(odd)) from None
        return None if text is None else make(text)

    return decoded
