"""CQL's types as PostgreSQL's: exact in its own type, or as text that says the same.

Pure. The rule: a native type only where it holds every value but rare ones (which raise
UnfaithfulValue); CQL's time and duration have nanoseconds, PostgreSQL's have not, so they are text.
A vector of floats is kept as its elements, so that distances can be computed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from htapkit.model import Column, SqlType, native_arrow

_JSON: Final = SqlType("json", 114)
_VECTOR: Final = re.compile(r"vector<float, *([1-9][0-9]*)>")
DIMENSIONS_MAX: Final = 16_000

SCALARS: Final[Mapping[str, SqlType]] = {
    "ascii": SqlType("text", 25),
    "bigint": SqlType("int8", 20),
    "blob": SqlType("bytea", 17),
    "boolean": SqlType("bool", 16),
    "counter": SqlType("int8", 20),
    "date": SqlType("date", 1082),
    "decimal": SqlType("numeric", 1700),
    "double": SqlType("float8", 701),
    "duration": SqlType("text", 25),
    "float": SqlType("float4", 700),
    "inet": SqlType("inet", 869),
    "int": SqlType("int4", 23),
    "smallint": SqlType("int2", 21),
    "text": SqlType("text", 25),
    "time": SqlType("text", 25),
    "timestamp": SqlType("timestamptz", 1184),
    "timeuuid": SqlType("uuid", 2950),
    "tinyint": SqlType("int2", 21),
    "uuid": SqlType("uuid", 2950),
    "varint": SqlType("numeric", 1700),
}


def sql_type(cql: str) -> SqlType:
    """The type of a column, from how `system_schema.columns` names it.

    Collections, tuples and user-defined types, frozen or not, are json, and so are vectors of
    anything but float.
    """
    vector = _VECTOR.fullmatch(cql)
    if vector is not None and int(vector[1]) <= DIMENSIONS_MAX:
        return SqlType("vector", _JSON.oid, int(vector[1]), "v")
    return SCALARS.get(cql, _JSON)


def column(
    name: str,
    cql: str,
    ordinal: int,
    *,
    nullable: bool,
    shared: bool = False,
    gathered: str = "",
    identifies: bool = False,
) -> Column:
    """The model's column; `identifies`: of a key. CQL compares text by its bytes."""
    type_ = sql_type(cql)
    if identifies and type_.dimensions:
        type_ = _JSON
    ordered = native_arrow(type_) is not None or type_.name == "numeric"
    return Column(
        name,
        type_,
        ordinal,
        nullable=nullable,
        binary_order=ordered,
        shared=shared,
        gathered=gathered,
    )
