"""PostgreSQL's types as the model's columns, and how a column is selected so that nothing is lost.

Exists so that the snapshot and the stream agree on every value: the one rule for both is what the
type's output function prints, or the Arrow value that says the same. It never talks to a server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from htapkit.model import Column, SqlType, Storage, TableId, native_arrow

FIRST_USER_OID: Final = 16384
"""Types below it are PostgreSQL's own, the same on every server."""

_CATEGORIES: Final = frozenset({"e", "c", "r"})

_CATEGORY_OUTPUT: Final = {
    # COALESCE makes a domain its base type, which enum_out alone takes; it costs nothing per row.
    "e": "enum_out(coalesce(NULL, {}))",
    "c": "record_out({})",
    "r": "range_out({})",
}

_TEXTS: Final = frozenset({"text", "varchar", "bpchar", "name"})

_OUTPUT: Final = {
    # Their cast to text prints something else than their output function does.
    "bool": "boolout",
    "inet": "inet_out",
    "cidr": "cidr_out",
    "xml": "xml_out",
    "char": "charout",
}

SESSION_SETTINGS: Final = {
    # What our opaque columns are printed under, in the snapshot as in the stream.
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "client_encoding": "UTF8",
}


@dataclass(frozen=True, slots=True)
class Attribute:
    """A column as the catalog has it, domains already followed to their base type.

    The collation is the column's own, or the database's where the column has the default one;
    `collation_provider` is pg_collation.collprovider or pg_database.datlocprovider ("" = not
    collatable).
    """

    name: str
    attnum: int
    not_null: bool
    type_schema: str  # of the base type
    type_name: str  # pg_type.typname of the base type
    type_oid: int  # of the base type
    type_kind: str  # pg_type.typtype of the base type
    typmod: int  # of the column, or of the innermost domain that has one
    collation_provider: str = ""  # c(libc), i(cu), b(uiltin), "" = none
    collation_locale: str = ""  # collcollate or colllocale, datcollate or datlocale
    collation_deterministic: bool = True
    collation: str = ""  # its name with its schema's, "" = the database's own, or none


def quoted(identifier: str) -> str:
    """An identifier for SQL."""
    return '"' + identifier.replace('"', '""') + '"'


def quoted_table(table: TableId) -> str:
    """The schema-qualified name of a table for SQL."""
    return f"{quoted(table.schema)}.{quoted(table.name)}"


def sql_type(attribute: Attribute) -> SqlType:
    """The column's type; one that only shares its name with a built-in type keeps its schema."""
    builtin = attribute.type_oid < FIRST_USER_OID
    name = attribute.type_name
    native = native_arrow(SqlType(name, attribute.type_oid)) is not None or name == "numeric"
    if native and not builtin:
        name = f"{attribute.type_schema}.{name}"
    category = attribute.type_kind if attribute.type_kind in _CATEGORIES else ""
    return SqlType(name, attribute.type_oid, attribute.typmod, category)


def column(attribute: Attribute, storage: Storage = Storage.NATIVE) -> Column:
    """The model's column for a catalog row."""
    type_ = sql_type(attribute)
    return Column(
        name=attribute.name,
        type=type_,
        ordinal=attribute.attnum,
        nullable=not attribute.not_null,
        storage=storage,
        binary_order=_binary_order(type_, attribute),
        deterministic=_deterministic(type_, attribute),
        collation=attribute.collation,
    )


def _binary_order(type_: SqlType, attribute: Attribute) -> bool:
    """Whether the order of the source is the order of the bytes that we keep."""
    if native_arrow(type_) is None and type_.name != "numeric":
        return False  # kept as printed text, whose order is not the type's
    if type_.name == "bpchar":
        return False  # compared without its padding: "a" is before "a\t", with padding it is not
    if type_.name not in _TEXTS:
        return True
    if attribute.collation_provider == "b":
        return True  # every locale of the built-in provider sorts by code point
    return attribute.collation_provider in {"c", "d"} and attribute.collation_locale in {
        "C",
        "POSIX",
    }


def _deterministic(type_: SqlType, attribute: Attribute) -> bool:
    """Whether values are equal at the source exactly when our bytes are."""
    if type_.name == "bpchar" and type_.length is None:
        return False  # nothing pads it, and trailing blanks do not count
    return attribute.collation_deterministic


def projection(column: Column) -> str:
    """The SELECT expression whose result `snapshot` turns into `column.arrow` without loss."""
    name = quoted(column.name)
    type_ = column.type
    if type_.name in _TEXTS:
        return name
    if column.computable and type_.name not in {"numeric", "uuid"}:
        return name
    if type_.category in _CATEGORY_OUTPUT:
        return f"textin({_CATEGORY_OUTPUT[type_.category].format(name)})"
    if type_.oid >= FIRST_USER_OID:
        # Somebody may have made a cast to text; format() always calls the output function. Not IS
        # NULL: that is true for a row of nulls.
        return f"CASE WHEN num_nonnulls({name}) = 1 THEN format('%s', {name}) END"
    if type_.name in _OUTPUT:
        return f"textin({_OUTPUT[type_.name]}({name}))"
    return f"{name}::text"
