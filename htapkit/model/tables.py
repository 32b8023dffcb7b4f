"""Tables, columns and types. Types are PostgreSQL's: its SQL and wire are what clients see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

import pyarrow as pa

Position = NewType("Position", str)
"""A point in a source's stream of commits. Opaque: only `Source.covers` compares two of them."""


@dataclass(frozen=True, slots=True, order=True)
class TableId:
    """A table of a source."""

    source: str
    schema: str
    name: str

    def __str__(self) -> str:
        """`shop.public.orders`, as in configuration and messages."""
        return f"{self.source}.{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class SqlType:
    """A column's type: PostgreSQL's own name, OID and modifier.

    `name` is `pg_type.typname` (`int4`, `numeric`, `_text` for an array of text); a domain appears
    as its base type. `category` tells types apart that share no OID between servers.
    """

    name: str
    oid: int
    typmod: int = -1
    category: str = ""  # "e" enum, "c" composite, "r" range (pg_type.typtype), "v" see `dimensions`

    @property
    def decimal(self) -> tuple[int, int] | None:
        """(precision, scale) of a NUMERIC with modifier, as PostgreSQL packs them; else None."""
        if self.name != "numeric" or self.typmod < 4:
            return None
        packed = self.typmod - 4
        scale = packed & 0x7FF
        return (packed >> 16) & 0xFFFF, scale - 0x800 if scale & 0x400 else scale

    @property
    def dimensions(self) -> int:
        """How many float4 a vector has, which is shown as a json array; 0: it is none.

        A type of a source without one of its own name for it; PostgreSQL's extensions' stay text.
        """
        return self.typmod if self.category == "v" else 0

    @property
    def length(self) -> int | None:
        """The n of varchar(n) and char(n), in characters; else None."""
        return self.typmod - 4 if self.name in {"varchar", "bpchar"} and self.typmod >= 4 else None


_NATIVE: Mapping[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "bytea": pa.binary(),
    "text": pa.string(),
    "varchar": pa.string(),
    "bpchar": pa.string(),
    "name": pa.string(),
    "uuid": pa.string(),
}

DECIMAL_DIGITS_MAX = 38
"""The widest NUMERIC that Arrow's decimal128, DuckDB and Iceberg hold."""

TIMESTAMP_INFINITY = 2**63 - 1
"""`infinity` as microseconds in a timestamp column (minus it.

`-infinity`), which is DuckDB's own form.
"""

DATE_INFINITY = 2**31 - 1
"""`infinity` as days in a date column (minus it: `-infinity`), which is DuckDB's own form."""


def native_arrow(type_: SqlType) -> pa.DataType | None:
    """The Arrow type that holds every value of `type_` but rare ones exactly, or None: text.

    Rare ones (NaN in a NUMERIC(p,s), timestamps after 294246) raise UnfaithfulValue where they are
    decoded, and the column is then kept as text. Infinite dates and timestamps fit, see above.
    """
    if type_.name == "numeric":
        if type_.decimal is None:
            return None
        precision, scale = type_.decimal
        fits = 0 <= scale <= precision <= DECIMAL_DIGITS_MAX
        return pa.decimal128(precision, scale) if fits else None
    if type_.dimensions:
        return pa.list_(pa.float32(), type_.dimensions)
    return _NATIVE.get(type_.name)


class Storage(StrEnum):
    """How the hot store keeps a column."""

    NATIVE = "native"  # in the type of native_arrow: the planner may compute with it
    TEXT = "text"  # as PostgreSQL prints it: exact, and only handed on


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    name: str
    type: SqlType
    ordinal: int  # the source's stable number (pg_attribute.attnum): tells rename from drop + add
    nullable: bool = True
    storage: Storage = Storage.NATIVE
    binary_order: bool = True  # text sorts by its bytes (collation C), so that both engines agree
    deterministic: bool = True  # equal text means equal bytes (no nondeterministic collation)
    collation: str = ""  # `schema.name` in SQL, where it is another than the database's own
    shared: bool = False  # of a reconciled table: all rows with the same first key columns have it
    gathered: str = (
        ""  # of a reconciled table: two brackets, around the elements that it is made of
    )
    follows: int | None = None  # of an archive, where it is not `ordinal`: see `followed`

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type of this column wherever rows of the table travel."""
        native = native_arrow(self.type) if self.storage is Storage.NATIVE else None
        return native if native is not None else pa.string()

    @property
    def computable(self) -> bool:
        """Whether the column holds values of its type, and not their printed form."""
        return self.storage is Storage.NATIVE and native_arrow(self.type) is not None


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A table's columns, in order, and what identifies a row."""

    table: TableId
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()  # column names; () means rows have no identity
    whole_rows: bool = False  # no key, but changes carry the whole old row: deletes are by multiset
    append_only: bool = False  # no key and no old rows: inserts and truncates only
    reconciled: bool = False  # changes are CellChanges, in any order: the largest rank is read

    @property
    def sharing(self) -> bool:
        """Whether some column is shared by several rows."""
        return any(column.shared for column in self.columns)

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """The columns of the key, in its order."""
        return tuple(c for name in self.key if (c := self.column(name)) is not None)

    def column(self, name: str) -> Column | None:
        """The column of that exact name."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema in which rows of this table travel."""
        return pa.schema([pa.field(column.name, column.arrow) for column in self.columns])


def hot_relation(table: TableId) -> tuple[str, str]:
    """(schema, name) under which the hot store keeps a table, unquoted."""
    return f"{table.source}.{table.schema}", table.name
