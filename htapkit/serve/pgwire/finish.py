"""Finishing at the source: a small local result goes there as arrays, PostgreSQL computes the rest.

Builds the messages and reads the replies; `answer` sends them.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from htapkit.plan.plan import OutColumn
from htapkit.serve.pgwire import messages, protocol
from htapkit.serve.pgwire.messages import Field
from htapkit.serve.pgwire.portal import AtSource, Rows
from htapkit.serve.pgwire.protocol import Captured
from htapkit.serve.pgwire.rows import array_literal
from htapkit.serve.pgwire.rows_codecs import whole


def parameters(
    batches: Sequence[pa.RecordBatch], schema: pa.Schema, columns: Sequence[OutColumn]
) -> list[bytes]:
    """One array literal for each column of the local result."""
    if len(schema) != len(columns):
        raise AtSource(f"{len(schema)} local columns, {len(columns)} planned")
    table = pa.Table.from_batches(list(batches), schema=schema)
    literals = []
    for index, column in enumerate(columns):
        literals.append(array_literal(whole(table.column(index)), column.type.oid))
    return literals


def messages_for(
    name: bytes, text: str, literals: Sequence[bytes], results: Sequence[int]
) -> list[bytes]:
    """The hidden messages, which leave nothing behind."""
    return [
        messages.close(b"S", name),
        messages.parse(name, text),
        messages.bind(name, name, literals, results),
        messages.describe(b"P", name),
        messages.execute(name),
        messages.close(b"P", name),
        messages.close(b"S", name),
    ]


def rows(replies: Captured, announced: Sequence[Field]) -> Rows:
    """The rows as the source made them. Raises AtSource where they are of other types."""
    found: list[bytes] = []
    for kind, body in replies:
        if kind == protocol.ROWS:
            made = messages.read_fields(body)
            if [field.oid for field in made] != [field.oid for field in announced]:
                raise AtSource("the finished columns are of other types than announced")
        elif kind == protocol.ROW:
            found.append(messages.message(b"D", body))
    return Rows(rows=found)
