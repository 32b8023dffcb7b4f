"""Rows of the copy as Flight sends them: parameters in, the promised Arrow types out.

What cannot be handed on exactly as the source would is AtSource, before any row is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import tzinfo

import pyarrow as pa

from htapkit.plan.plan import LocalQuery
from htapkit.serve.flight.source_rows import NotRepresentable
from htapkit.serve.flight.statement import Statement, Values
from htapkit.serve.pgwire import ranked
from htapkit.serve.pgwire.bound_values import typed
from htapkit.serve.pgwire.database import Lease
from htapkit.serve.pgwire.messages import Field
from htapkit.serve.pgwire.parameters import OddParameter, decode
from htapkit.serve.pgwire.portal import AtSource
from htapkit.serve.pgwire.rows import WireColumn, encodable, text_values
from htapkit.serve.pgwire.rows_codecs import is_string, plain, plain_type, whole
from htapkit.serve.pgwire.settings import SourceSettings

Convert = Callable[[pa.RecordBatch], pa.RecordBatch]
Complete = Callable[[str, Sequence[bytes], pa.Schema], list[pa.RecordBatch]]
"""Runs a statement with its parameters at the source: the rows, of that schema."""


def values(query: LocalQuery, oids: Sequence[int], given: Values) -> list[object]:
    """The local SQL's parameters from the client's. Raises AtSource, Refused."""
    found: list[object] = []
    for parameter in query.parameters:
        index = parameter.number - 1
        if index >= len(given) or index >= len(oids):
            raise AtSource(f"there is no parameter ${parameter.number}")
        try:
            found.append(typed(decode(given[index], oids[index], 0), parameter))
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


def convertible(lease: Lease, statement: Statement, settings: SourceSettings) -> bool:
    """Whether its rows can be sent as the source announced them; if not, it ends."""
    fields = statement.described.fields or ()
    try:
        converter(lease.schema, fields, statement.schema, settings.zone)
    except AtSource as why:
        lease.end(str(why))
        return False
    return True


def in_order(table: pa.Table, query: LocalQuery, complete: Complete) -> pa.Table:
    """The rows of `query`, sorted by its ranking; `complete` asks the source."""
    assert query.ranking is not None
    sorting = ranked.sorting(table, query.ranking, len(query.columns))
    answers = (complete(each.sql, [each.literal], ranked.RANKS) for each in sorting.questions)
    return sorting.rows(
        [whole(pa.Table.from_batches(each, ranked.RANKS).column(0)) for each in answers]
    )


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
