"""Cells of many rows, column by column, as the reader of logs and files prints them. Pure."""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from htapkit_cassandra.mutations import Cell, RowWrite

Numbers = npt.NDArray[np.int64]

MARKER: Final = -1
"""The column of a row's own marker, which an INSERT makes."""
NEVER: Final = -1
"""The `expires` of what does not end."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Writes of cells; what the rows deleted is not in it.

    Of each row: the parts of its key, and in a log the offset at which its mutation ends, which
    never goes back. Of each cell, row by row: the number of its `row`, its `column` (a place
    in `columns`, or MARKER), its times as `mutations.Cell` has them (`ttl` 0: none), `value` (null:
    a tombstone) and `path` (null: no element of a collection).
    """

    table: str  # its id
    columns: tuple[str, ...]
    key: tuple[pa.BinaryArray, ...]
    clustering: tuple[pa.BinaryArray, ...]
    end: Numbers  # of a copy there are none
    row: Numbers
    column: Numbers
    written: Numbers
    ttl: Numbers
    expires: Numbers
    value: pa.BinaryArray
    path: pa.BinaryArray

    def since(self, first: int) -> Block:
        """The same without the rows before that one."""
        cells = int(np.searchsorted(self.row, first))
        return replace(
            self,
            key=tuple(column[first:] for column in self.key),
            clustering=tuple(column[first:] for column in self.clustering),
            end=self.end[first:],
            row=self.row[cells:] - first,
            column=self.column[cells:],
            written=self.written[cells:],
            ttl=self.ttl[cells:],
            expires=self.expires[cells:],
            value=self.value[cells:],
            path=self.path[cells:],
        )

    def writes(self) -> Iterator[RowWrite]:
        """The same, row by row."""
        rows = len(self.key[0])
        keys = zip(*(column.to_pylist() for column in self.key), strict=True)
        within = zip(*(column.to_pylist() for column in self.clustering), strict=True)
        clusterings = within if self.clustering else repeat((), rows)
        cells: list[list[Cell]] = [[] for _ in range(rows)]
        markers: dict[int, Cell] = {}
        numbers = (self.row, self.column, self.written, self.ttl, self.expires)
        told = (*(n.tolist() for n in numbers), self.value.to_pylist(), self.path.to_pylist())
        for row, column, written, ttl, expires, value, path in zip(*told, strict=True):
            ends = None if expires == NEVER else expires
            if column == MARKER:
                markers[row] = Cell("", written, value, path, ttl, ends)
            else:
                cells[row].append(Cell(self.columns[column], written, value, path, ttl, ends))
        for row, (key, clustering) in enumerate(zip(keys, clusterings, strict=True)):
            made = RowWrite(self.table, key, clustering, tuple(cells[row]))
            marker = markers.get(row)
            yield (
                made
                if marker is None
                else replace(made, written=marker.written, ttl=marker.ttl, expires=marker.expires)
            )


def block(found: Mapping[str, Any]) -> Block:
    """From a line of the reader (java/CommitLogTail.java, `Block`)."""
    return Block(
        table=found["table"],
        columns=tuple(found["columns"]),
        key=_several(found["key"]),
        clustering=_several(found["clustering"]),
        end=_numbers(found["end"], "<i4"),
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
