"""Vectors: float4 of a fixed number, shown as a json array, with distances between two of them.

The text of one is read as strictly as a literal is; what pgvector calls an error is one, with its
SQLSTATE.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence

from htapkit.model import Column, SqlType, TableId
from htapkit.plan.expr import Expr, Vector
from htapkit.plan.names import quote
from htapkit.plan.types import NAMES
from htapkit.plan.unproven import LocalOnlyError, UnprovenError

_TEXTS = frozenset({"text", "varchar", "json"})
_ARRAYS = {1021: "_float4", 1022: "_float8"}
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?\Z", re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf(?:inity)?)\Z", re.ASCII | re.IGNORECASE)
_BLANKS = " \t\n\r\v\f"


def column(table: TableId, found: Column, alias: str) -> Expr:
    """A column of a table under a local alias: the json text, and the elements behind it."""
    elements = f"{alias}.{quote(found.name)}"
    shown = f"CAST({elements} AS VARCHAR)"
    # DuckDB's words for what is no number are not json's.
    for word, text in (("nan", "NaN"), ("-inf", "-Infinity"), ("inf", "Infinity")):
        shown = f"replace({shown}, '{word}', '\"{text}\"')"
    return Expr(
        shown,
        "json",
        opaque=True,
        oid=found.type.oid,
        binary=False,
        origin=(table, found.name),
        vector=Vector(found.type.dimensions, elements, shown),
    )


def parameter_type(oid: int, dimensions: int) -> SqlType:
    """The type of a parameter that is read as a vector: with its length, as one of its own.

    Raises UnprovenError where the client's type is neither a text nor an array of floats.
    """
    if oid in _ARRAYS:
        return SqlType(_ARRAYS[oid], oid, dimensions, "v")
    name = NAMES.get(oid, "")
    if name not in _TEXTS:
        raise UnprovenError("a parameter", "beside a vector, and neither text nor float[]")
    return SqlType(name, oid, dimensions, "v")


def read_vector(given: str | Sequence[object], dimensions: int) -> str:
    """A vector as text that DuckDB casts to FLOAT[dimensions], from `[1,2,3]` or its elements.

    Raises LocalOnlyError, with pgvector's SQLSTATE.
    """
    if isinstance(given, str):
        text = given.strip(_BLANKS)
        if not (text.startswith("[") and text.endswith("]")):
            raise LocalOnlyError(f'invalid vector "{_cut(given)}": not [1,2,3]', "22P02")
        parts = [part.strip(_BLANKS) for part in text[1:-1].split(",")]
    else:
        parts = [repr(float(str(element))) for element in given]
    if parts in ([], [""]):
        raise LocalOnlyError("a vector has at least 1 dimension", "22000")
    for part in parts:
        _check(part)
    if len(parts) != dimensions:
        raise LocalOnlyError(f"different vector dimensions {dimensions} and {len(parts)}", "22000")
    return f"[{', '.join(parts)}]"


def _check(part: str) -> None:
    if _NOT_FINITE.match(part):
        raise LocalOnlyError(f"{part} is not allowed in a vector to compare with", "22000")
    if not _NUMBER.match(part):
        raise LocalOnlyError(f'invalid vector element "{_cut(part)}"', "22P02")
    try:
        struct.pack("<f", float(part))
    except OverflowError:
        raise LocalOnlyError(f'"{_cut(part)}" is out of range for a vector', "22003") from None


def _cut(text: str) -> str:
    return text[:40]
