"""A table as the node's bytes of it are read: what one cell becomes in the copy. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from htapkit.model import Column, TableSchema
from htapkit_cassandra import cql
from htapkit_cassandra.cql import Cql
from htapkit_cassandra.mutations import Cell
from htapkit_cassandra.places import ORDERED, Places, timeuuid

_FLIP = 1 << 63
_TTL_END = 1 << 32
_AS_SHOWN = frozenset({"ascii", "blob", "text", "varchar"})  # texts sort as the node's bytes do


@dataclass(frozen=True, slots=True)
class Layout:
    """A table with what it takes to read the node's bytes of it."""

    schema: TableSchema
    types: Mapping[str, Cql]
    places: Places

    @property
    def ordinals(self) -> Mapping[str, int]:
        """Of the columns, by name."""
        return {column.name: column.ordinal for column in self.schema.columns}

    @property
    def key(self) -> list[KeyPart]:
        """How each column of the key is read: the partition key's, then the clustering's."""
        columns = self.schema.key_columns
        return [KeyPart(self.types[column.name], maker(column)) for column in columns]


@dataclass(frozen=True, slots=True)
class KeyPart:
    """A column of the key."""

    type: Cql
    make: Callable[[str], object]  # from a cell's text to what Arrow takes

    def value(self, there: bytes | None) -> object:
        """What Arrow takes for the node's bytes; None: an empty value. Raises ValueError."""
        text = None if there is None else cql.as_text(self.type, there)
        return None if text is None else self.make(text)


def time_rank(written: int) -> bytes:
    """Sorts as the time of a write does."""
    return (written + _FLIP).to_bytes(8, "big")


def cell_rank(cell: Cell) -> bytes:
    """`Cell.rank` less the value; with the value behind it, its bytes sort the same."""
    return rank_of(cell.written, cell.ttl, cell.expires, gone=cell.value is None)


def rank_of(written: int, ttl: int, expires: int | None, *, gone: bool) -> bytes:
    """The same, of a cell's parts."""
    if expires is None:
        return time_rank(written) + bytes([False, gone])
    lives = (_TTL_END - ttl).to_bytes(4, "big") if ttl else b""  # all of this kind have one
    return time_rank(written) + bytes([True, gone]) + expires.to_bytes(8, "big") + lives


def deletion_rank(deleted: int) -> bytes:
    """Above all that was written at that time or before."""
    return time_rank(deleted) + b"\xff"


def ends_at(cell: Cell) -> int | None:
    """When nothing is there any more, in microseconds; None: never by itself."""
    return cell.expires * 1_000_000 if cell.ttl and cell.expires is not None else None


def element(type_: Cql, value: bytes | None, path: bytes) -> tuple[bytes, str | None]:
    """(what orders an element among its column's, its text); None: a tombstone."""
    if type_.user_defined:
        number = int.from_bytes(path, "big")
        return path, None if value is None else cql.field_of(type_, number, value)
    if type_.name == "list":
        shown = None if value is None else cql.as_json(type_.arguments[0], value)
        return timeuuid(path), shown
    order = ORDERED.get(type_.arguments[0].name, bytes)(path)
    if value is None:
        return order, None
    if type_.name == "set":
        return order, cql.as_json(type_.arguments[0], path)
    return order, cql.pair(type_.arguments[0], path, type_.arguments[1], value)


def sorts_as_text(type_: Cql) -> bool:
    """Whether a column's text decides between cells of one rank as the node's bytes do."""
    return type_.name in _AS_SHOWN


def maker(column: Column) -> Callable[[str], object]:
    """From a cell's text to what Arrow takes for the column's type."""
    arrow = column.arrow
    if pa.types.is_boolean(arrow):
        return lambda text: text == "true"
    if pa.types.is_binary(arrow):
        return bytes.fromhex
    if pa.types.is_floating(arrow):
        return float
    return str if pa.types.is_string(arrow) else int
