"""Rows of the copy as Flight sends them: parameters in, the promised Arrow types out.

What cannot be handed on exactly as the source would is AtSource, before any row is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import tzinfo

import pyarrow as pa

from htapkit.plan.plan import LocalQuery
from htapkit.serve.flight.source_rows import NotRepresentable
from htapkit.serve.flight.statement import Values
from htapkit.serve.pgwire.messages import Field
from htapkit.serve.pgwire.parameters import OddParameter, decode
from htapkit.serve.pgwire.portal import AtSource
from htapkit.serve.pgwire.rows import WireColumn, encodable, text_values
from htapkit.serve.pgwire.rows_codecs import is_string, plain, plain_type

Convert = Callable[[pa.RecordBatch], pa.RecordBatch]


def values(query: LocalQuery, oids: Sequence[int], given: Values) -> list[object]:
    """The local SQL's parameters from the client's. Raises AtSource."""
    found: list[object] = []
    for parameter in query.parameters:
        index = parameter.number - 1
        if index >= len(given) or index >= len(oids):
            raise AtSource(f"there is no parameter ${parameter.number}")
        try:
            found.append(decode(given[index], oids[index], 0))
        except OddParameter as odd:
            raise AtSource(str(odd)) from odd
    return found


def converter(
    found: pa.Schema, fields: Sequence[Field], promised: pa.Schema, zone: tzinfo
) -> Convert:
    """From a read's batches to the promised ones. Raises AtSource where some column cannot be."""
    if len(found) != len(promised):
        raise AtSource(f"{len(found)} columns here, {len(promised)} at the source")
    for here, field, column in zip(found, fields, promised, strict=True):
        text = is_string(column.type) or is_string(plain_type(here.type))
        wire = WireColumn(field.oid, field.typmod, binary=False)
        if text and not encodable(here.type, wire, zone):
            raise AtSource(f"column {here.name} has no text of type {field.oid} from {here.type}")

    def convert(batch: pa.RecordBatch) -> pa.RecordBatch:
        arrays = [
            _converted(array, field, column, zone)
            for array, field, column in zip(batch.columns, fields, promised, strict=True)
        ]
        return pa.record_batch(arrays, schema=promised)

    return convert


def _converted(array: pa.Array, field: Field, column: pa.Field, zone: tzinfo) -> pa.Array:
    if array.type == column.type:
        return array
    if is_string(column.type):
        return text_values(array, field.oid, zone).cast(column.type)
    try:
        return plain(array).cast(column.type)
    except pa.ArrowInvalid as error:
        raise NotRepresentable(
            f"column {column.name} has a value that Arrow's {column.type} cannot hold; "
            "cast the column to text"
        ) from error
