"""Arrow batches as PostgreSQL sends them: complete DataRow messages, and array parameters.

Every byte is what PostgreSQL would have sent for the same value under the announced type; a column
that cannot be sent so is not encodable, and a value that does not fit is QueryFailed before
anything of its batch is returned. It never rounds, never guesses a type, and never looks at other
settings than the time zone: DateStyle ISO, IntervalStyle postgres, bytea_output hex and
extra_float_digits >= 1 are assumed, and with others such statements belong to the source.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, tzinfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from htapkit.errors import QueryFailed
from htapkit.serve.pgwire.rows_cells import (
    ROW_BYTES_MAX,
    Cells,
    Varying,
    WireColumn,
    as_varying,
    frame,
    packed,
    pieces,
    valid_mask,
)
from htapkit.serve.pgwire.rows_codecs import ZONED, Codec, codec, is_string, plain, plain_type

__all__ = [
    "WireColumn",
    "array_literal",
    "cells_of",
    "data_rows",
    "encodable",
    "in_zone",
    "text_values",
]

FEW_CELLS = 400
"""Batches up to this many values are rendered one by one: numpy's calls would cost more."""

_NULL_WORD = b"\xff\xff\xff\xff"
_BOX = 603  # the one type whose arrays are separated by a semicolon
_UNQUOTED = frozenset({16, 20, 21, 23, 26, 700, 701, 1700, 2950})


def encodable(arrow: pa.DataType, column: WireColumn, zone: tzinfo | None = None) -> bool:
    """Whether `data_rows` renders this Arrow type as that column.

    `zone` is the session's; None means any. It only matters for zoned values that are kept as text
    (printed in UTC): they can be handed on to sessions in UTC alone.
    """
    return codec(plain_type(arrow), column.oid, binary=column.binary, zone=zone) is not None


def in_zone(column: WireColumn) -> bool:
    """Whether what is sent depends on the session's time zone."""
    return not column.binary and column.oid in ZONED


def data_rows(
    batch: pa.RecordBatch, columns: Sequence[WireColumn], zone: tzinfo, *, kind: bytes = b"D"
) -> bytes | memoryview:
    """The DataRow messages of a batch; QueryFailed if a value or column cannot be sent exactly.

    `kind` is what each begins with: CopyData of COPY's binary format has the same body.
    """
    if len(columns) != batch.num_columns:
        raise QueryFailed(
            f"the result has {batch.num_columns} columns where {len(columns)} were announced"
        )
    if not batch.num_rows:
        return b""
    if batch.num_rows * max(len(columns), 1) <= FEW_CELLS:
        return few_rows(batch, columns, zone, kind=kind)
    return many_rows(batch, columns, zone, kind=kind)


def many_rows(
    batch: pa.RecordBatch, columns: Sequence[WireColumn], zone: tzinfo, *, kind: bytes = b"D"
) -> bytes | memoryview:
    """The column-wise way to do it, for at least one row."""
    return frame(batch.num_rows, cells_of(batch, columns, zone), kind)


def cells_of(batch: pa.RecordBatch, columns: Sequence[WireColumn], zone: tzinfo) -> list[Cells]:
    """Each column's values as they are sent; a NULL has the length -1. Raises QueryFailed."""
    return [
        _nulled(array, renderer.many(array, column, zone))
        for array, column, renderer in _renderers(batch, columns, zone)
    ]


def few_rows(
    batch: pa.RecordBatch, columns: Sequence[WireColumn], zone: tzinfo, *, kind: bytes = b"D"
) -> bytes:
    """The value by value way to do it."""
    rendered = [
        [_NULL_WORD if cell is None else len(cell).to_bytes(4, "big") + cell for cell in cells]
        for cells in (
            renderer.few(array, column, zone)
            for array, column, renderer in _renderers(batch, columns, zone)
        )
    ]
    count = len(columns).to_bytes(2, "big")
    rows = zip(*rendered, strict=True) if rendered else [()] * batch.num_rows
    bodies = [count + b"".join(row) for row in rows]
    if max(map(len, bodies), default=0) > ROW_BYTES_MAX - 5:
        raise QueryFailed(f"a row is longer than {ROW_BYTES_MAX} bytes; select less of it")
    return b"".join(kind + (len(body) + 4).to_bytes(4, "big") + body for body in bodies)


def text_values(array: pa.Array, oid: int, zone: tzinfo) -> pa.Array:
    """PostgreSQL's text of each value, as strings."""
    array, renderer = _renderer(array, WireColumn(oid, -1, binary=False), zone)
    if is_string(array.type):
        return array
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), pa.large_string())
    cells = renderer.many(array, WireColumn(oid, -1, binary=False), zone)
    offsets, octets = packed(as_varying(_nulled(array, cells)))
    valid = valid_mask(array)
    bitmap = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    buffers = [bitmap, pa.py_buffer(offsets), pa.py_buffer(octets)]
    return pa.Array.from_buffers(pa.large_string(), len(array), buffers)


def array_literal(array: pa.Array, oid: int) -> bytes:
    """The column as the text of one array parameter: `{...}` of elements of type `oid`.

    Instants carry their offset, so the text means the same in any session's zone.
    """
    if not len(array):
        return b"{}"
    quote = "" if oid in _UNQUOTED and not is_string(plain_type(array.type)) else '"'
    separator = ";" if oid == _BOX else ","
    if len(array) <= FEW_CELLS:
        return _few_elements(array, oid, quote.encode(), separator.encode())
    texts = text_values(array, oid, UTC).cast(pa.large_string())
    if quote:
        for special in ("\\", '"'):
            texts = pc.replace_substring(texts, special, "\\" + special)
    around = (pa.scalar(text, pa.large_string()) for text in (quote, quote + separator, ""))
    before, after, nothing = around
    texts = pc.binary_join_element_wise(before, texts, after, nothing)
    # Arrow keeps the values of an array one after another: they are the list, but for its end.
    cells = pieces(texts.fill_null("NULL" + separator))
    first, end = int(cells.start[0]), int(cells.start[-1] + cells.length[-1])
    return b"{" + cells.octets[first : end - 1].tobytes() + b"}"


def _few_elements(array: pa.Array, oid: int, quote: bytes, separator: bytes) -> bytes:
    column = WireColumn(oid, -1, binary=False)
    array, renderer = _renderer(array, column, UTC)
    cells = renderer.few(array, column, UTC)
    if quote:
        cells = [cell and cell.replace(b"\\", b"\\\\").replace(b'"', b'\\"') for cell in cells]
    shown = (b"NULL" if cell is None else quote + cell + quote for cell in cells)
    return b"{" + separator.join(shown) + b"}"


def _renderers(
    batch: pa.RecordBatch, columns: Sequence[WireColumn], zone: tzinfo
) -> Iterable[tuple[pa.Array, WireColumn, Codec]]:
    for array, column in zip(batch.columns, columns, strict=True):
        ready, renderer = _renderer(array, column, zone)
        yield ready, column, renderer


def _renderer(array: pa.Array, column: WireColumn, zone: tzinfo) -> tuple[pa.Array, Codec]:
    array = plain(array)
    renderer = codec(array.type, column.oid, binary=column.binary, zone=zone)
    if renderer is None:
        how = "binary" if column.binary else "text"
        raise QueryFailed(f"cannot send {array.type} as type OID {column.oid} in {how} format")
    return array, renderer


def _nulled(array: pa.Array, cells: Cells) -> Cells:
    """The cells with the nulls of their array marked."""
    valid = valid_mask(array)
    if valid is None:
        return cells
    slices = as_varying(cells)
    length = slices.length.copy()
    length[~valid] = -1
    return Varying(slices.octets, slices.start, length)
