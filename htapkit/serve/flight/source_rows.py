"""Rows from the source as Arrow: DataRow messages in, record batches out.

Types of a fixed width and bytea travel in PostgreSQL's binary format, all else as text. It never
rounds: a value that the announced Arrow type cannot hold is an error that names the column.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from htapkit.errors import QueryFailed
from htapkit.model import DATE_INFINITY, TIMESTAMP_INFINITY

_INT32 = struct.Struct("!i")
_TO_2000_DAYS = 10_957
_TO_2000_US = 946_684_800_000_000

Cells = Sequence[bytes | None]


class NotRepresentable(QueryFailed):
    """A value that its column's Arrow type cannot hold."""

    sqlstate = "22003"


def _shifted(shift: int, infinity: int) -> Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]]:
    """From counts since 2000 to counts since 1970, with both infinities as the copy has them."""

    def shifted(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        never, always = counts == infinity, counts == -infinity - 1
        moved = counts + shift
        moved[never], moved[always] = infinity, -infinity
        return moved

    return shifted


def _as_it_is(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return values


_DAYS = _shifted(_TO_2000_DAYS, DATE_INFINITY)
_MOMENTS = _shifted(_TO_2000_US, TIMESTAMP_INFINITY)

_FIXED: Mapping[pa.DataType, tuple[str, int, Callable[[npt.NDArray[np.int64]], object]]] = {
    pa.int16(): (">i2", 2, _as_it_is),
    pa.int32(): (">i4", 4, _as_it_is),
    pa.int64(): (">i8", 8, _as_it_is),
    pa.float32(): (">f4", 4, _as_it_is),
    pa.float64(): (">f8", 8, _as_it_is),
    pa.date32(): (">i4", 4, lambda days: _DAYS(days.astype(np.int64)).astype(np.int32)),
    pa.time64("us"): (">i8", 8, _as_it_is),
    pa.timestamp("us"): (">i8", 8, _MOMENTS),
    pa.timestamp("us", "UTC"): (">i8", 8, _MOMENTS),
}


def formats(schema: pa.Schema) -> tuple[int, ...]:
    """The result formats to ask for: 1 binary, 0 text."""
    binary = {*_FIXED, pa.bool_(), pa.binary()}
    return tuple(int(column.type in binary) for column in schema)


def batch(rows: Sequence[bytes], schema: pa.Schema) -> pa.RecordBatch:
    """The bodies of DataRow messages, in the formats of `formats`. Raises NotRepresentable."""
    columns = _cells(rows, len(schema))
    arrays = [_array(cells, column) for cells, column in zip(columns, schema, strict=True)]
    if not arrays:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * len(rows), pa.struct([])))
    return pa.record_batch(arrays, schema=schema)


def _cells(rows: Sequence[bytes], width: int) -> list[list[bytes | None]]:
    columns: list[list[bytes | None]] = [[] for _ in range(width)]
    take = [column.append for column in columns]
    unpack = _INT32.unpack_from
    for body in rows:
        position = 2
        for append in take:
            (size,) = unpack(body, position)
            position += 4
            if size < 0:
                append(None)
            else:
                append(body[position : position + size])
                position += size
    return columns


def _array(cells: Cells, column: pa.Field) -> pa.Array:
    if column.type in _FIXED:
        layout, width, finish = _FIXED[column.type]
        missing = np.fromiter((cell is None for cell in cells), np.bool_, len(cells))
        nothing = b"\0" * width
        packed = b"".join(nothing if cell is None else cell for cell in cells)
        values = np.frombuffer(packed, layout)
        made = finish(values.astype(values.dtype.newbyteorder("=")))
        plain = pa.int64() if layout == ">i8" else pa.int32() if layout == ">i4" else None
        if plain is None:
            return pa.array(made, column.type, mask=missing)
        return pa.array(made, plain, mask=missing).view(column.type)
    if column.type == pa.bool_():
        return pa.array([None if cell is None else cell == b"\1" for cell in cells], pa.bool_())
    raw = pa.array(cells, pa.binary())
    if column.type == pa.binary():
        return raw
    try:
        return raw.cast(pa.string()).cast(column.type)
    except pa.ArrowInvalid as error:
        raise NotRepresentable(
            f"column {column.name} has a value that Arrow's {column.type} cannot hold; "
            "cast the column to text"
        ) from error
