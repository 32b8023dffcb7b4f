"""Cells of many rows, column by column, as the reader of a table's files prints them. Pure."""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Numbers = npt.NDArray[np.int64]

MARKER: Final = -1
"""The column of a row's own marker, which an INSERT makes."""
NEVER: Final = -1
"""The `expires` of what does not end."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Writes of cells; what the rows deleted is not in it.

    Of each row: the parts of its key. Of each cell: the number of its `row`, its `column` (a place
    in `columns`, or MARKER), its times as `mutations.Cell` has them (`ttl` 0: none), `value` (null:
    a tombstone) and `path` (null: no element of a collection).
    """

    table: str  # its id
    columns: tuple[str, ...]
    key: tuple[pa.BinaryArray, ...]
    clustering: tuple[pa.BinaryArray, ...]
    row: Numbers
    column: Numbers
    written: Numbers
    ttl: Numbers
    expires: Numbers
    value: pa.BinaryArray
    path: pa.BinaryArray


def block(found: Mapping[str, Any]) -> Block:
    """From a line of the reader (java/CommitLogTail.java, `Block`)."""
    return Block(
        table=found["table"],
        columns=tuple(found["columns"]),
        key=_several(found["key"]),
        clustering=_several(found["clustering"]),
        row=_numbers(found["row"], "<i4"),
        column=_numbers(found["column"], "<i4"),
        written=_numbers(found["written"], "<i8"),
        ttl=_numbers(found["ttl"], "<i4"),
        expires=_numbers(found["expires"], "<i8"),
        value=_values(found["value"]),
        path=_values(found["path"]),
    )


def _numbers(text: str, form: str) -> Numbers:
    return np.frombuffer(a2b_base64(text), form).astype(np.int64)


def _several(columns: Sequence[Mapping[str, str]]) -> tuple[pa.BinaryArray, ...]:
    return tuple(_values(column) for column in columns)


def _values(column: Mapping[str, str]) -> pa.BinaryArray:
    there = np.frombuffer(a2b_base64(column["there"]), np.uint8)
    bits = np.packbits(there, bitorder="little")
    offsets, data = a2b_base64(column["offsets"]), a2b_base64(column["data"])
    buffers = [pa.py_buffer(bits), pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.binary(), len(there), buffers)
